"""The reference profile: how posters and predictions were distributed when a model was made.

Sealed in the bundle, so that drift can be measured without the training data. It is drawn from
the validation split: the model did not train on it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

SCHEMA_VERSION = 1
ATTRIBUTES: tuple[str, ...] = ("brightness", "contrast", "saturation", "hue")
BINS = 20
"""Equal bins over 0..1, of probabilities and of attributes alike."""


def reference_profile(
    frame: pd.DataFrame,
    probabilities: NDArray[Any],
    chosen: NDArray[Any],
    genres: Sequence[str],
) -> dict[str, Any]:
    """Summarise posters and what a model says of them.

    Args:
        frame: N posters with `era` and the attributes.
        probabilities: [N, G] in 0..1.
        chosen: Which genres were chosen [N, G].
        genres: The G names.

    Returns:
        Plain values: `all`, and `eras` by name; each has the number of posters, a histogram
        (`BINS` counts) of every attribute, and of every genre the share of posters it was chosen
        for, and a histogram of its probability.
    """
    slices = {str(era): np.flatnonzero(frame["era"] == era) for era in sorted(set(frame["era"]))}
    everything = np.arange(len(frame))
    return {
        "schema_version": SCHEMA_VERSION,
        "bins": BINS,
        "all": _slice(frame, probabilities, chosen, genres, everything),
        "eras": {
            era: _slice(frame, probabilities, chosen, genres, rows) for era, rows in slices.items()
        },
    }


def _slice(
    frame: pd.DataFrame,
    probabilities: NDArray[Any],
    chosen: NDArray[Any],
    genres: Sequence[str],
    rows: NDArray[np.int64],
) -> dict[str, Any]:
    return {
        "posters": len(rows),
        "attributes": {
            name: _histogram(frame[name].to_numpy(dtype=np.float64)[rows]) for name in ATTRIBUTES
        },
        "genres": {
            genre: {
                "chosen": round(float(chosen[rows, g].mean()), 6),
                "probability": _histogram(probabilities[rows, g]),
            }
            for g, genre in enumerate(genres)
        },
    }


def _histogram(values: NDArray[Any]) -> list[int]:
    counts, _ = np.histogram(np.clip(values, 0, 1), bins=BINS, range=(0, 1))
    return [int(count) for count in counts]
