"""Trains in processes of this machine, through torchrun; also what a TrainJob's pods run.

In a pod, `python -m components.train.torchrun URI` runs the torchrun that the `PET_*` variables of
Kubeflow Trainer describe, and ends with our exit code: the Job's failure policy tells a preempted
pod from a wrong setting by it.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

from components.train.exchange import Exchange
from components.train.order import Order, TrainReport
from marquee import log
from marquee.errors import InfrastructureError, MarqueeError, Stopped
from marquee.processes import postponed_stop
from marquee.settings import Settings

GRACE_SECONDS = 110
"""How long processes that are asked to stop may take to write their checkpoint; pods are given a
little more."""
_DEAF_SECONDS = 10.0
_DONE_SECONDS = 15.0
"""How often a pod looks whether the training has ended without it."""


class Torchrun:
    """Trains on this machine.

    Args:
        processes: How many processes train together.
    """

    def __init__(self, processes: int) -> None:
        self._processes = processes

    def train(self, order: Order, settings: Settings) -> TrainReport:
        """Train an architecture and seal its bundle.

        Args:
            order: What is to be trained.
            settings: The settings of this process.

        Returns:
            The report.

        Raises:
            MarqueeError: What a process says that did not fail because another had.
        """
        with tempfile.TemporaryDirectory() as folder:
            exchange = Exchange(folder)
            exchange.begin(order, settings)
            options = ["--standalone", f"--nproc-per-node={self._processes}"]
            code, stopped = run_torchrun(options, folder)
            report = exchange.report()
            if report:
                return report
            raise exchange.error() or _lost(self._processes, code, stopped)


def run_torchrun(
    options: Sequence[str], uri: str, done: Callable[[], bool] = lambda: False
) -> tuple[int, bool]:
    """Run torchrun until its processes have ended; pass a wish to stop on to them.

    Args:
        options: Torchrun's; what it is not told here it reads from `PET_*`.
        uri: Of the exchange.
        done: Tells whether there is nothing left to wait for.

    Returns:
        What it ended with, and whether this process was asked to stop.
    """
    command = [
        *(sys.executable, "-m", "torch.distributed.run", *options),
        *(f"--shutdown-timeout={GRACE_SECONDS}", "-m", "components.train.worker", uri),
    ]
    with postponed_stop() as asked_to_stop, subprocess.Popen(command) as torchrun:
        while _still_runs(torchrun):
            if asked_to_stop():
                # It asks each of its processes, and waits for them.
                torchrun.terminate()
                torchrun.wait()
            elif done():
                torchrun.terminate()
                # While it waits for other nodes it hears nothing.
                with contextlib.suppress(subprocess.TimeoutExpired):
                    torchrun.wait(_DEAF_SECONDS)
                torchrun.kill()
        return torchrun.returncode, asked_to_stop()


def _still_runs(process: "subprocess.Popen[bytes]") -> bool:
    try:
        process.wait(timeout=0.2)
    except subprocess.TimeoutExpired:
        return True
    return False


def _lost(processes: int, code: int, stopped: bool) -> MarqueeError:
    if stopped:
        return Stopped("training was stopped", remedy="run the same command again")
    return InfrastructureError(
        f"one of {processes} processes that train together was lost (torchrun ended with {code})",
        remedy="see its log above; the same command goes on from the last checkpoint",
    )


class _Done:
    """Tells whether the whole training has ended, from time to time.

    torchrun waits 5 minutes for the nodes that are not done; one that was lost at the very end
    begins anew, and waits in turn for this one.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._asked_at = time.monotonic()

    def __call__(self) -> bool:
        if time.monotonic() - self._asked_at < _DONE_SECONDS:
            return False
        self._asked_at = time.monotonic()
        return self._exchange.report() is not None


def main(uri: str) -> int:
    """Train as one node of a TrainJob.

    Args:
        uri: Of the exchange.

    Returns:
        This pod's exit code.
    """
    log.configure()
    exchange = Exchange(uri)
    done = _Done(exchange)
    node, processes = (int(os.environ[f"PET_{name}"]) for name in ("NODE_RANK", "NPROC_PER_NODE"))
    if exchange.report():
        return 0
    code, stopped = run_torchrun([], uri, done)
    if code == 0 or exchange.report():
        return 0
    ranks = range(node * processes, (node + 1) * processes)
    error = exchange.error(ranks) or _lost(processes, code, stopped)
    return error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
