"""What every pipeline step does around its work: set up logs, and say why it failed.

The exit handler and the command line learn of a failure only that it happened, so a step writes
its reason, remedy and exit code below the run's URI.
"""

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from marquee import log, storage
from marquee.errors import MarqueeError, explain
from marquee.run_layout import RunLayout

FAILURE_FILE = "failure.json"
JUDGES = ("gate", "rollout")
"""The steps that may say no to models that are there."""

logger = logging.getLogger(__name__)


class StepFailed(MarqueeError):
    """A step of a run failed; carries the step's own exit code.

    Args:
        step: The step's name.
        message: What went wrong.
        remedy: What to do next.
        exit_code: What the command line exits with.
    """

    def __init__(self, step: str, message: str, remedy: str, exit_code: int) -> None:
        super().__init__(f"{step}: {message}", remedy=remedy)
        self.step = step
        self.exit_code = exit_code


@contextmanager
def step(name: str, run_uri: str) -> Iterator[RunLayout]:
    """Run a step's work; an error of ours ends the process with a message and its exit code.

    Args:
        name: The step's name, such as `train-vgg16`.
        run_uri: Where the run leaves what it makes.

    Yields:
        The places below that URI.
    """
    log.configure()
    try:
        yield RunLayout(run_uri)
    except Exception as fault:
        error = explain(fault)
        if error is None:
            raise
        failure = {
            "step": name,
            "message": error.message,
            "remedy": error.remedy,
            "exit_code": error.exit_code,
        }
        storage.write_text(storage.join(run_uri, FAILURE_FILE), json.dumps(failure) + "\n")
        logger.error("%s: %s", name, error)
        sys.exit(error.exit_code)


def read_failure(run_uri: str) -> StepFailed | None:
    """Tell why a run failed, if one of its steps said so."""
    uri = storage.join(run_uri, FAILURE_FILE)
    return StepFailed(**json.loads(storage.read_text(uri))) if storage.exists(uri) else None


def forget_failure(run_uri: str) -> None:
    """Drop what an earlier try of the same run said."""
    storage.remove(storage.join(run_uri, FAILURE_FILE))
