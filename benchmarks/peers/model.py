"""What every peer serves: a bundle, run by our engine on posters that `marquee.images` decodes."""

import base64
import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from marquee.bundle import load
from marquee.engine import Engine
from marquee.images import preprocess

PORT = int(os.environ.get("PORT", "0"))
BATCH = 8
"""Posters a run of the model at most, for peers that batch: more gains nothing on a CPU."""
BATCH_SECONDS = 0.01
"""How long a poster waits for others at most."""

Pixels = NDArray[np.uint8]


class PosterModel:
    """The bundle at `$BUNDLE`, in its default precision."""

    def __init__(self) -> None:
        self._engine = Engine(load(os.environ["BUNDLE"]))
        self._info = self._engine.bundle.info

    def decode(self, text: str) -> Pixels:
        """Turn a JPEG file in base64 into the model's input [H, W, 3]."""
        return self.read(base64.b64decode(text))

    def read(self, data: bytes) -> Pixels:
        """Turn a JPEG file into the model's input [H, W, 3]."""
        return preprocess(data, self._info.preprocessing)

    def predict(self, posters: Sequence[Pixels]) -> list[dict[str, float]]:
        """Give the probabilities of all genres, for each poster."""
        rows = self._engine.probabilities(np.stack(posters)).tolist()
        return [dict(zip(self._info.genres, row, strict=True)) for row in rows]
