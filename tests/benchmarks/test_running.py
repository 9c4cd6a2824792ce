"""Servers that are measured."""

import sys
import time
from pathlib import Path

import pytest

from benchmarks.running import running
from marquee.processes import family

POLLING = """
import os, socket, subprocess, sys
listening = socket.create_server(("127.0.0.1", int(os.environ["PORT"])))
subprocess.run([sys.executable, "-c", "while True: pass"])
"""


@pytest.fixture
def polling():
    """A server whose child never rests."""
    with running([sys.executable, "-c", POLLING]) as server:
        yield server


def cpu_share(server):
    before = server.cpu_seconds()
    time.sleep(1)
    return server.cpu_seconds() - before


def is_running(pid):
    """A process that nobody waits for stays as a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_frozen_server_takes_no_cpu_from_those_that_are_measured(polling):
    assert cpu_share(polling) > 0.2
    polling.freeze()
    assert cpu_share(polling) == 0
    polling.thaw()
    assert cpu_share(polling) > 0.2


def test_a_frozen_server_can_be_stopped(polling):
    polling.freeze()
    started = time.monotonic()
    polling.stop()
    assert time.monotonic() - started < 10


def test_a_server_whose_first_process_died_leaves_nothing_behind(polling):
    (child,) = family(polling.process.pid)[1:]
    polling.process.kill()
    polling.process.wait()
    polling.stop()
    while is_running(child):  # a signal takes a moment
        time.sleep(0.01)
