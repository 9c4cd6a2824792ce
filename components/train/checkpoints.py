"""Checkpoints: what a training that was stopped or killed goes on from."""

import hashlib
import io
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from marquee import storage
from marquee.errors import InfrastructureError

logger = logging.getLogger(__name__)

_NAME = re.compile(r"(?P<phase>.+)-(?P<epoch>\d{5})-(?P<step>\d{7})\.pt")


@dataclass(frozen=True)
class Checkpoint:
    """Where a training stood, and all it needs to go on."""

    epoch: int
    """Epochs that were finished."""
    step: int
    """Steps of the next one that were."""
    state: dict[str, Any]


class Checkpoints:
    """The checkpoints of one phase of a training.

    A checkpoint is one file that is written whole or not at all. The newest ones are kept, and each
    holds the best weights so far too.

    Args:
        uri: A folder or URI.
        training: All that decides how the training goes: that of another one is not taken up.
        phase: The phase's name.
        keep: How many are kept.
    """

    def __init__(self, uri: str, training: Mapping[str, Any], phase: str, keep: int) -> None:
        name = hashlib.sha256(json.dumps(training, sort_keys=True).encode()).hexdigest()[:16]
        self._uri = storage.join(uri, name)
        self._phase = phase
        self._keep = keep

    def save(self, epoch: int, step: int, state: Mapping[str, Any]) -> None:
        """Write a checkpoint, and drop those that are too many.

        Args:
            epoch: Epochs that are finished.
            step: Steps of the next one that are.
            state: Tensors and plain values.

        Raises:
            InfrastructureError: It could not be written; the ones before it are untouched.
        """
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        uri = storage.join(self._uri, f"{self._phase}-{epoch:05}-{step:07}.pt")
        try:
            storage.write_bytes(uri, buffer.getvalue())
        except OSError as error:
            raise InfrastructureError(
                f"could not write the checkpoint {uri} ({error})",
                remedy="make room, and run the same command again: it goes on from the checkpoint "
                "before this one",
            ) from error
        # Later ones are damaged: training would have gone on from them.
        earlier = [old for *place, old in self._found() if place <= [epoch, step]]
        for old in earlier[self._keep :]:
            storage.remove(old)

    def newest(self) -> Checkpoint | None:
        """Read the newest checkpoint that is whole; None if there is none.

        Raises:
            OSError: One could not be fetched: that is no reason to begin anew.
        """
        for epoch, step, uri in self._found():
            data = io.BytesIO(storage.read_bytes(uri))
            try:
                state = torch.load(data, map_location="cpu", weights_only=True)
            except Exception as error:
                # torch raises a dozen types for a damaged file.
                logger.warning("train: the checkpoint %s is damaged (%s); trying the one before "
                               "it", uri, error)  # fmt: skip
                continue
            return Checkpoint(epoch, step, state)
        return None

    def _found(self) -> list[tuple[int, int, str]]:
        """List epoch, step and URI of this phase's checkpoints, the newest first."""
        found = []
        for name in storage.list_files(self._uri):
            match = _NAME.fullmatch(name)
            if match and match["phase"] == self._phase:
                uri = storage.join(self._uri, name)
                found.append((int(match["epoch"]), int(match["step"]), uri))
        return sorted(found, reverse=True)
