"""A pipeline on this machine: how it is stopped."""

import subprocess
import sys
import time

STEP = """
import pathlib, signal, subprocess, sys, time
folder, name = pathlib.Path(sys.argv[1]), sys.argv[3]

def note(*_):
    (folder / name).write_text("asked")
    if name == "step":
        time.sleep(1)
        below.kill()
    sys.exit(0)

signal.signal(signal.SIGTERM, note)
if name == "step":
    command = [sys.executable, "-c", folder.joinpath("code").read_text(), str(folder), "-", "below"]
    below = subprocess.Popen(command)
(folder / f"{name} runs").touch()
time.sleep(60)
"""

RUN = """
import pathlib, signal, subprocess, sys, time
from pipelines.local import _stop
folder = pathlib.Path(sys.argv[1])
shell = f'"{sys.executable}" -c "$0" "$1" kfp.dsl.executor_main step; true'
step = ["sh", "-c", shell, (folder / "code").read_text(), str(folder)]
signal.signal(signal.SIGTERM, _stop)
with subprocess.Popen(step):
    time.sleep(60)
"""


def test_a_stop_ends_the_step_and_leaves_to_it_what_it_has_started(tmp_path):
    (tmp_path / "code").write_text(STEP)
    run = subprocess.Popen([sys.executable, "-c", RUN, tmp_path], stderr=subprocess.PIPE)
    while not (tmp_path / "below runs").exists():
        assert run.poll() is None
        time.sleep(0.01)
    time.sleep(0.5)  # the step may not wait for it yet
    run.terminate()
    _, said = run.communicate(timeout=30)  # nobody is left to write there
    assert b"Stopped: stopped on request" in said
    assert (tmp_path / "step").exists()
    assert not (tmp_path / "below").exists()
