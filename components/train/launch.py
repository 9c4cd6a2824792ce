"""Starts a training: in this process, or in several on this machine through torchrun.

On a cluster a TrainJob starts torchrun, and that this module, in every pod.
"""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from components.train.settings import TrainSettings, resolve_settings
from components.train.train import Order, PeerLost, TrainReport
from components.train.train import train as train_here
from marquee import log, storage
from marquee.errors import InfrastructureError, MarqueeError, Stopped, explain
from marquee.processes import postponed_stop, stoppable
from marquee.settings import Settings

_REPORT_FILE = "report.json"
_ERROR_FILES = "error-*.json"


def train(order: Order, settings: Settings) -> TrainReport:
    """Train an architecture in as many processes as `train.processes` says.

    Args:
        order: What is to be trained.
        settings: The settings of this process.

    Returns:
        The report.

    Raises:
        MarqueeError: As `components.train.train.train`; of several processes, what one says that
            did not fail because another had.
    """
    processes = resolve_settings(order.architecture, settings).processes
    if processes == 1 or "WORLD_SIZE" in os.environ:
        with stoppable():
            return train_here(order, settings)
    with tempfile.TemporaryDirectory() as folder:
        return _train_together(order, settings, processes, Path(folder))


def _train_together(order: Order, settings: Settings, processes: int, folder: Path) -> TrainReport:
    spec = {"order": dataclasses.asdict(order), "settings": settings.to_dict()}
    (folder / "spec.json").write_text(json.dumps(spec))
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
        *(f"--nproc-per-node={processes}", "-m", "components.train.launch", str(folder)),
    ]
    with postponed_stop() as asked_to_stop, subprocess.Popen(command) as torchrun:
        while _still_runs(torchrun):
            if asked_to_stop():
                # It asks each of its processes, and waits for them.
                torchrun.terminate()
                torchrun.wait()
    if (folder / _REPORT_FILE).exists():
        return _read_report(json.loads((folder / _REPORT_FILE).read_text()))
    errors = [json.loads(file.read_text()) for file in sorted(folder.glob(_ERROR_FILES))]
    if errors:
        raise _Reported(min(errors, key=lambda error: bool(error["is_consequence"])))
    if asked_to_stop():
        raise Stopped("training was stopped", remedy="run the same command again")
    raise InfrastructureError(
        f"one of {processes} processes that train together was lost (torchrun ended with "
        f"{torchrun.returncode})",
        remedy="see its log above; the same command goes on from the last checkpoint",
    )


def _still_runs(process: "subprocess.Popen[bytes]") -> bool:
    try:
        process.wait(timeout=0.2)
    except subprocess.TimeoutExpired:
        return True
    return False


class _Reported(MarqueeError):
    """An error of ours that another process wrote down."""

    def __init__(self, document: dict[str, Any]) -> None:
        super().__init__(document["message"], remedy=document["remedy"])
        self.exit_code = document["exit_code"]


def _read_report(document: dict[str, Any]) -> TrainReport:
    return TrainReport(**{**document, "settings": TrainSettings(**document["settings"])})


def main(folder: Path) -> None:
    """Train as one of several processes.

    Args:
        folder: Holds `spec.json`; the report, or what went wrong, is written there.
    """
    leads = os.environ.get("RANK", "0") == "0"
    log.configure("INFO" if leads else "WARNING")
    spec = json.loads((folder / "spec.json").read_text())
    try:
        report = train_here(Order(**spec["order"]), Settings.from_dict(spec["settings"]))
    except Exception as fault:
        error = explain(fault)
        if error is None:
            raise
        _write_error(folder, error)
        sys.exit(error.exit_code)
    if leads:
        (folder / _REPORT_FILE).write_text(json.dumps(dataclasses.asdict(report)))


def _write_error(folder: Path, error: MarqueeError) -> None:
    document = {
        "message": error.message,
        "remedy": error.remedy,
        "exit_code": error.exit_code,
        "is_consequence": isinstance(error, PeerLost),
    }
    rank = os.environ.get("RANK", "0")
    storage.write_text(str(folder / _ERROR_FILES.replace("*", rank)), json.dumps(document))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
