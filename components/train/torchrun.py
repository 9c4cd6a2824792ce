"""Trains in processes of this machine, through torchrun; also what a TrainJob's pods run.

In a pod, `python -m components.train.torchrun URI` runs the torchrun that the `PET_*` variables of
Kubeflow Trainer describe, and ends with our exit code: the Job's failure policy tells a preempted
pod from a wrong setting by it.
"""

import contextlib
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from components.train.exchange import Exchange
from components.train.order import Order, TrainReport
from marquee import log
from marquee.errors import InfrastructureError, MarqueeError, Stopped, UsageError, explain
from marquee.processes import postponed_stop
from marquee.settings import Settings

GRACE_SECONDS = 110
"""How long processes that are asked to stop may take to write their checkpoint; pods are given a
little more."""
_DEAF_SECONDS = 10.0
_LOOK_SECONDS = 15.0
"""How often a pod looks what the exchange says of the whole training."""
_ABANDONED_SECONDS = 600.0
"""How long a launcher may give no sign of life: storage may be slow, or its pod begun anew."""
_ABANDONED = UsageError.exit_code
"""What a pod of a training that nobody follows ends with: one of the codes after which the
runtimes' failure policy does not begin anew."""

logger = logging.getLogger(__name__)


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
    options: Sequence[str], uri: str, watch: "_Watch | None" = None
) -> tuple[int, bool]:
    """Run torchrun until its processes have ended; pass a wish to stop on to them.

    Args:
        options: Torchrun's; what it is not told here it reads from `PET_*`.
        uri: Of the exchange.
        watch: Tells whether there is nothing left to wait for, or nobody who waits.

    Returns:
        What it ended with, and whether this process was asked to stop.
    """
    command = [
        *(sys.executable, "-m", "torch.distributed.run", *options),
        *(f"--shutdown-timeout={GRACE_SECONDS}", "-m", "components.train.worker", uri),
    ]
    with postponed_stop() as asked_to_stop, subprocess.Popen(command) as torchrun:
        try:
            while _still_runs(torchrun):
                if watch:
                    watch.look()
                if asked_to_stop() or (watch and watch.abandoned):
                    # It asks each of its processes, and waits for them.
                    _end(torchrun, GRACE_SECONDS + _DEAF_SECONDS)
                elif watch and watch.done:
                    _end(torchrun, _DEAF_SECONDS)
        finally:
            # After an error: Popen would wait until the training ends, and hear no SIGTERM.
            _end(torchrun, GRACE_SECONDS + _DEAF_SECONDS)
        return torchrun.returncode, asked_to_stop()


def _still_runs(process: "subprocess.Popen[bytes]") -> bool:
    try:
        process.wait(timeout=0.2)
    except subprocess.TimeoutExpired:
        return True
    return False


def _end(torchrun: "subprocess.Popen[bytes]", patience: float) -> None:
    torchrun.terminate()
    # While it waits for other nodes it hears nothing.
    with contextlib.suppress(subprocess.TimeoutExpired):
        torchrun.wait(patience)
    torchrun.kill()


def _lost(processes: int, code: int, stopped: bool) -> MarqueeError:
    if stopped:
        return Stopped("training was stopped", remedy="run the same command again")
    return InfrastructureError(
        f"one of {processes} processes that train together was lost (torchrun ended with {code})",
        remedy="see its log above; the same command goes on from the last checkpoint",
    )


class _Watch:
    """Looks from time to time what the exchange says of the whole training.

    Args:
        exchange: The files.
        judges: Whether this pod decides that nobody follows the training.

    Attributes:
        done: The training has ended. torchrun waits 5 minutes for the nodes that are not done; one
            that was lost at the very end begins anew, and waits in turn for this one.
        abandoned: Nobody follows the training.
    """

    def __init__(self, exchange: Exchange, judges: bool) -> None:
        self._exchange, self._judges = exchange, judges
        self.done = self.abandoned = False
        self._heartbeat = ""
        self._looked_at = self._renewed_at = time.monotonic()

    def look(self) -> None:
        """Look, if it is time."""
        now = time.monotonic()
        if now - self._looked_at < _LOOK_SECONDS:
            return
        self._looked_at = now
        try:
            self.done = self._exchange.report() is not None
            if self._judges and not self.done:
                self._judge(self._exchange.heartbeat(), now)
        except Exception as fault:
            if explain(fault) is None:
                raise
            # As little as this pod can read, the launcher may be able to write.
            self._renewed_at = now

    def _judge(self, heartbeat: str, now: float) -> None:
        # By what is new, not by its time: clocks differ.
        if heartbeat != self._heartbeat:
            self._heartbeat, self._renewed_at = heartbeat, now
        # An older launcher gives none at all.
        if heartbeat and now - self._renewed_at > _ABANDONED_SECONDS:
            logger.warning(
                "train: the launcher gave its last sign of life at %s: training stops", heartbeat
            )
            self._exchange.abandon()
            self.abandoned = True


def main(uri: str) -> int:
    """Train as one node of a TrainJob.

    Args:
        uri: Of the exchange.

    Returns:
        This pod's exit code.
    """
    log.configure()
    exchange = Exchange(uri)
    node, processes = (int(os.environ[f"PET_{name}"]) for name in ("NODE_RANK", "NPROC_PER_NODE"))
    if exchange.report():
        return 0
    if exchange.is_abandoned():
        # A pod that ended with 7 before the one that judges: all were begun anew.
        return _ABANDONED
    ranks = range(node * processes, (node + 1) * processes)
    for rank in ranks:
        # Not the processes themselves: torchrun may end before it starts them.
        exchange.forget_error(rank)
    code, stopped = run_torchrun([], uri, _Watch(exchange, judges=node == 0))
    if code == 0 or exchange.report():
        return 0
    if exchange.is_abandoned():
        return _ABANDONED
    error = exchange.error(ranks) or _lost(processes, code, stopped)
    return error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
