"""Predict the posters of a catalog, some at a time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from marquee.catalog import Catalog
from marquee.engine import Engine
from marquee.images import Preprocessing, resize
from marquee.log import progress

PLACE = ("poster_id", "part", "shard_offset", "size", "sha256")
"""The columns that tell where a poster's bytes are, and that they are the right ones."""
_BATCH = 8


@dataclass(frozen=True)
class Seen:
    """Some posters as they were predicted."""

    rows: list[int]
    """Their numbers [B]."""
    data: list[bytes]
    images: NDArray[np.uint8]
    """Preprocessed [B, H, W, 3]."""
    maps: NDArray[np.float32] | None
    """Evidence [B, G, h, w]; None if the bundle has no maps, or nobody asked."""


def predict_posters(
    engine: Engine,
    catalog: Catalog,
    frame: pd.DataFrame,
    watch: Callable[[Seen], None] | None = None,
) -> NDArray[np.float64]:
    """Predict posters, streaming them shard by shard.

    Args:
        engine: Runs the bundle.
        catalog: Holds the posters.
        frame: N rows with poster_id, part, shard_offset, size and sha256.
        watch: Is shown every poster once.

    Returns:
        Probabilities [N, G] in the order of the rows.

    Raises:
        DataError: A shard is missing, or a poster in it is damaged.
    """
    info = engine.bundle.info
    outputs = ["logits", *(["maps"] if watch and info.explanation == "maps" else [])]
    result = np.zeros((len(frame), len(info.genres)))
    posters = _posters(catalog, frame, info.preprocessing)
    with progress("evaluate", len(frame)) as advance:
        while batch := list(islice(posters, _BATCH)):
            rows, data, inputs = (list(column) for column in zip(*batch, strict=True))
            images = np.stack(inputs)
            found = engine.infer(images, outputs)
            result[rows] = info.calibration.probabilities(found["logits"])
            if watch:
                watch(Seen(rows, data, images, found.get("maps")))
            advance(len(rows))
    return result


def _posters(
    catalog: Catalog, frame: pd.DataFrame, preprocessing: Preprocessing
) -> Iterator[tuple[int, bytes, NDArray[np.uint8]]]:
    """Give each poster's row number, its bytes, and what the network gets of it [H, W, 3]."""
    places = frame[list(PLACE)].reset_index(drop=True)
    # In the order of the stream, so that no table from id to row is needed.
    places = places.sort_values(["part", "shard_offset"])
    stream = catalog.stream_images(places)
    facts = places.index, places["part"], places["sha256"]
    for row, part, sha256, (poster_id, data) in zip(*facts, stream, strict=True):
        pixels = catalog.pixels(poster_id, part, sha256, data)
        yield int(row), data, resize(pixels, preprocessing)
