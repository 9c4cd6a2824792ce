"""Evidently's UI: there before the first report, and told of models that come later."""

import socket
import subprocess
import sys
import time

import pytest
import requests

from marquee.processes import free_port, is_running
from monitoring import evidently_ui

WAIT = 90


def projects(url):
    """Give the names of the UI's projects; None while it is not there."""
    try:
        return [
            project["name"] for project in requests.get(f"{url}/api/projects", timeout=5).json()
        ]
    except requests.ConnectionError:
        return None


def wait_for(wanted, url):
    deadline = time.monotonic() + WAIT
    while (found := projects(url)) != wanted:
        assert time.monotonic() < deadline, found
        time.sleep(0.5)


@pytest.mark.slow
def test_it_shows_a_model_whose_first_report_comes_later(tmp_path):
    from evidently.ui.workspace import Workspace

    port = free_port()
    command = [sys.executable, "-m", "marquee", "reports", "serve", tmp_path / "out"]
    with subprocess.Popen([*command, "--wait", "--port", str(port)]) as server:
        try:
            wait_for([], f"http://127.0.0.1:{port}")
            # `marquee monitor` has its reports in a folder of their own.
            workspace = Workspace.create(str(tmp_path / "out/drift/workspace"))
            workspace.create_project("all18")
            wait_for(["all18"], f"http://127.0.0.1:{port}")
        finally:
            server.terminate()
    assert server.returncode == 0
    assert projects(f"http://127.0.0.1:{port}") is None


@pytest.mark.slow
def test_it_says_that_the_ui_ended(tmp_path):
    """Another has its port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "marquee", "reports", "serve", tmp_path, "--wait"]
        done = subprocess.run(
            [*command, "--port", str(port)], capture_output=True, text=True, timeout=WAIT
        )
    assert done.returncode == 5
    assert "UI ended" in done.stderr


def test_the_ui_ends_with_a_storage_that_fails(monkeypatch, tmp_path):
    pid = tmp_path / "pid"
    program = f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    monkeypatch.setattr(evidently_ui, "_COMMAND", (sys.executable, "-c", program))
    monkeypatch.setattr(evidently_ui, "_LOOK_EVERY_S", 0.0)

    def projects(out):
        if pid.exists() and pid.read_text():
            raise OSError("the bucket is away")
        return []

    monkeypatch.setattr(evidently_ui, "_projects", projects)
    with pytest.raises(OSError, match="the bucket is away"):
        evidently_ui.serve_workspace(str(tmp_path), "127.0.0.1", free_port())
    assert not is_running(int(pid.read_text()))
