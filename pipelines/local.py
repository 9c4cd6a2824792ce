"""Runs a pipeline on this machine: the same function that is compiled for Kubeflow."""

import contextlib
import copy
import io
import os
import re
import signal
import sys
import warnings
from pathlib import Path
from typing import Any, TextIO

from kfp import local

from marquee.errors import InfrastructureError, Stopped
from marquee.processes import family
from marquee.step import forget_failure, read_failure

LOG_FILE = "kfp.log"
_EXECUTOR = b"kfp.dsl.executor_main"
"""The module that KFP runs a step by; shells above it have it amid a longer word."""
_STEP_LINE = re.compile(r"\s*\d\d:\d\d:\d\d \S")
"""How our steps begin a log line; KFP's own have milliseconds."""


class _StepLog(io.TextIOBase):
    """Keeps all that KFP prints in a file, and shows people what our steps say.

    Args:
        file: Takes everything.
        screen: Takes the steps' own lines.
    """

    def __init__(self, file: TextIO, screen: TextIO) -> None:
        self._file = file
        self._screen = screen
        self._line = ""

    def write(self, text: str) -> int:
        self._file.write(text)
        self._file.flush()
        *lines, self._line = (self._line + text).split("\n")
        for line in filter(_STEP_LINE.match, lines):
            print(line.strip(), file=self._screen, flush=True)
        return len(text)


def run_locally(pipeline: Any, arguments: dict[str, Any], run_folder: Path) -> None:
    """Run a pipeline in processes of this machine, without a network or Docker.

    Args:
        pipeline: A KFP pipeline.
        arguments: Its parameters.
        run_folder: Where KFP's artifacts (`kfp/`) and log (`kfp.log`) go; also the run's URI.

    Raises:
        Stopped: SIGTERM came.
        StepFailed: A step failed with an error of ours; it has the step's exit code.
        InfrastructureError: The run failed otherwise.
    """
    run_folder.mkdir(parents=True, exist_ok=True)
    forget_failure(str(run_folder))
    with warnings.catch_warnings():
        # KFP doubts images without `python` in their name, and says what it ignores locally.
        warnings.simplefilter("ignore")
        local.init(
            runner=local.SubprocessRunner(use_venv=False),
            pipeline_root=str(run_folder / "kfp"),
            raise_on_error=True,
        )
        previous = signal.signal(signal.SIGTERM, _stop)
        try:
            with (run_folder / LOG_FILE).open("a", encoding="utf-8") as file:
                screen: TextIO = sys.stderr
                with contextlib.redirect_stdout(_StepLog(file, screen)):
                    _without_retries(pipeline)(**arguments)
        except RuntimeError as error:
            failure = read_failure(str(run_folder))
            if failure:
                raise failure from None
            raise InfrastructureError(
                f"the run failed ({error})", remedy=f"see {run_folder / LOG_FILE}"
            ) from error
        finally:
            signal.signal(signal.SIGTERM, previous)


def _stop(*_: object) -> None:
    """On SIGTERM, end the step that runs as well: it would go on writing without us.

    What the step has started is left to it: a pool of processes may hang when they are killed.
    """
    processes = family("self")[1:]
    steps = filter(_is_step, processes)
    of_steps = {below for step in steps for below in family(step)[1:]}
    for process in processes:
        if process not in of_steps:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM)
    raise Stopped("stopped on request", remedy="run the same command again")


def _is_step(process: int) -> bool:
    try:
        words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return _EXECUTOR in words


def _without_retries(pipeline: Any) -> Any:
    """Give the pipeline for one machine: no pod is preempted here, what fails would fail again."""
    patient = copy.deepcopy(pipeline)
    spec = patient.pipeline_spec
    for component in (spec.root, *spec.components.values()):
        for task in component.dag.tasks.values():
            task.ClearField("retry_policy")
    return patient
