"""Predict the posters of a catalog, some at a time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from marquee.catalog import Catalog
from marquee.engine import Engine
from marquee.images import preprocess
from marquee.log import progress

PLACE = ("poster_id", "part", "shard_offset", "size")
"""The columns that tell where a poster's bytes are."""
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
        frame: N rows with poster_id, part, shard_offset and size.
        watch: Is shown every poster once.

    Returns:
        Probabilities [N, G] in the order of the rows.
    """
    info = engine.bundle.info
    outputs = ["logits", *(["maps"] if watch and info.explanation == "maps" else [])]
    result = np.zeros((len(frame), len(info.genres)))
    with progress("evaluate", len(frame)) as advance:
        for rows, data in _batches(catalog, frame):
            images = np.stack([preprocess(item, info.preprocessing) for item in data])
            found = engine.infer(images, outputs)
            result[rows] = info.calibration.probabilities(found["logits"])
            if watch:
                watch(Seen(rows, data, images, found.get("maps")))
            advance(len(rows))
    return result


def _batches(catalog: Catalog, frame: pd.DataFrame) -> Iterator[tuple[list[int], list[bytes]]]:
    """Give posters some at a time: their row numbers, and their bytes."""
    places = frame[list(PLACE)].reset_index(drop=True)
    # In the order of the stream, so that no table from id to row is needed.
    places = places.sort_values(["part", "shard_offset"])
    rows: list[int] = []
    data: list[bytes] = []
    for row, (_, item) in zip(places.index, catalog.stream_images(places), strict=True):
        rows.append(int(row))
        data.append(item)
        if len(rows) == _BATCH:
            yield rows, data
            rows, data = [], []
    if rows:
        yield rows, data
