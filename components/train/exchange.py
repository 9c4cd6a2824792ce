"""What a launcher and the processes that train tell each other: a few files below a URI.

On a cluster they share no disk, so this is below the run's URI.
"""

import dataclasses
import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from components.train.order import Order, PeerLost, TrainReport
from components.train.settings import TrainSettings
from marquee import storage
from marquee.errors import MarqueeError, Stopped
from marquee.settings import Settings

_RETRIED_WITHIN = timedelta(minutes=10)
"""A try that comes later is taken for a person's, who may have mended what was wrong."""


class Exchange:
    """The files of one training.

    Args:
        uri: A folder or URI of its own.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def begin(self, order: Order, settings: Settings) -> None:
        """Say what is to be trained; what an earlier training left goes."""
        for name in storage.list_files(self.uri):
            storage.remove(storage.join(self.uri, name))
        storage.write_text(self._file("spec"), _specification(order, settings))

    def specification(self) -> tuple[Order, Settings]:
        """Read what is to be trained."""
        document = json.loads(storage.read_text(self._file("spec")))
        return Order(**document["order"]), Settings.from_dict(document["settings"])

    def write_report(self, report: TrainReport) -> None:
        """Say how it went; for the process that leads."""
        storage.write_text(self._file("report"), json.dumps(dataclasses.asdict(report)))

    def write_error(self, rank: int, error: MarqueeError) -> None:
        """Say why a process failed."""
        document = {
            "message": error.message,
            "remedy": error.remedy,
            "exit_code": error.exit_code,
            "is_consequence": isinstance(error, PeerLost),
        }
        storage.write_text(self._file(f"error-{rank}"), json.dumps(document))

    def forget_error(self, rank: int) -> None:
        """Drop what a process said when it was tried before."""
        storage.remove(self._file(f"error-{rank}"))

    def report(self) -> TrainReport | None:
        """Read how it went; None if it did not come to an end."""
        if not storage.exists(self._file("report")):
            return None
        document = json.loads(storage.read_text(self._file("report")))
        return TrainReport(**{**document, "settings": TrainSettings(**document["settings"])})

    def error(self, ranks: range | None = None) -> "Reported | None":
        """Read why it failed, of what several processes say the one that began it.

        Args:
            ranks: Of which processes; of all without it.
        """
        names = [name for name in storage.list_files(self.uri) if name.startswith("error-")]
        if ranks is not None:
            names = [name for name in names if int(name[len("error-") : -len(".json")]) in ranks]
        errors = [json.loads(storage.read_text(storage.join(self.uri, name))) for name in names]
        return min(map(Reported, errors), key=Reported.distance) if errors else None

    def beat(self) -> None:
        """Leave a sign of life; for the launcher that follows the training."""
        self._write("heartbeat", at=datetime.now(UTC).isoformat())

    def heartbeat(self) -> str:
        """Read the launcher's last sign of life; empty if there never was one."""
        return self._read("heartbeat").get("at", "")

    def abandon(self) -> None:
        """Say that the launcher is gone, so that all nodes end the training."""
        self._write("abandoned", since=self.heartbeat())

    def is_abandoned(self) -> bool:
        """Tell whether a node said that the launcher is gone, and none has come since."""
        return bool(self.heartbeat()) and self._read("abandoned").get("since") == self.heartbeat()

    def refuse(self, training: str, task: str) -> None:
        """Say that another try of a training would end like this one.

        Args:
            training: Its digest.
            task: Whose tries they are.
        """
        self._write("refused", training=training, task=task, at=datetime.now(UTC).isoformat())

    def refusal(self, training: str, task: str) -> "Reported | None":
        """Read why a try of the same task a moment ago failed, if another one would too.

        Args:
            training: Its digest.
            task: Whose tries they are.
        """
        found = self._read("refused")
        if not task or (found.get("training"), found.get("task")) != (training, task):
            return None
        age = datetime.now(UTC) - datetime.fromisoformat(found["at"])
        return self.error() if age < _RETRIED_WITHIN else None

    def _write(self, name: str, **document: str) -> None:
        storage.write_text(self._file(name), json.dumps(document))

    def _read(self, name: str) -> dict[str, str]:
        """Read a document; empty if there is none."""
        try:
            document: dict[str, str] = json.loads(storage.read_text(self._file(name)))
        except FileNotFoundError:
            return {}
        return document

    def _file(self, name: str) -> str:
        return storage.join(self.uri, f"{name}.json")


class Reported(MarqueeError):
    """An error of ours that another process wrote down."""

    def __init__(self, document: dict[str, Any]) -> None:
        super().__init__(document["message"], remedy=document["remedy"])
        self.exit_code = document["exit_code"]
        self._is_consequence = document["is_consequence"]

    def distance(self) -> int:
        """How far it is from the cause: 0 is the cause.

        One who was asked to stop may have been so before, when a pod was preempted.
        """
        return 2 * self._is_consequence + (self.exit_code == Stopped.exit_code)


def _specification(order: Order, settings: Settings) -> str:
    spec = {"order": dataclasses.asdict(order), "settings": settings.to_dict()}
    return json.dumps(spec, sort_keys=True)


def digest(order: Order, settings: Settings, *others: Any) -> str:
    """Name a training, and what else makes it another one."""
    text = _specification(order, settings) + json.dumps(others, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
