"""Visual patterns: where the evidence for a genre lies, its colours, and what was measured."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from components.evaluate.predict import Seen

COLOURS = 12
"""Colours of the palette that all genres share."""
FEWEST = 10
"""A genre of fewer posters has no attributes and no palette."""
_LEVELS = 16
"""Levels a channel in which colours are counted."""
_SAMPLES = 24
"""Rows of a poster's pixels that are counted, at least."""
_NORMAL = 1.96
"""Half the width of a 95% interval, in standard errors."""

Map = list[list[float]]

# Linear light to OKLab: B. Ottosson, "A perceptual color space for image processing" (2020).
_TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


class PatternWatch:
    """Adds up what is to be seen on posters that pass by; its size does not grow with them.

    Args:
        labels: Which genres each of the posters has [N, G].
    """

    def __init__(self, labels: NDArray[np.int8]) -> None:
        self._labels = labels
        # The last row is for all posters.
        self._colours = np.zeros((labels.shape[1] + 1, _LEVELS**3))
        self._maps: NDArray[np.float64] | None = None
        """Sums of the maps [2, G, h, w]: over the posters of the genre, and over all."""

    def see(self, seen: Seen) -> None:
        """Add some posters."""
        labels = self._labels[seen.rows].astype(np.float64)
        counted = np.stack([_count_colours(image) for image in seen.images])
        self._colours[:-1] += labels.T @ counted
        self._colours[-1] += counted.sum(axis=0)
        if seen.maps is not None:
            if self._maps is None:
                self._maps = np.zeros((2, *seen.maps.shape[1:]))
            self._maps[0] += np.einsum("bg,bghw->ghw", labels, seen.maps)
            self._maps[1] += seen.maps.sum(axis=0)

    def evidence(self, genres: Sequence[str]) -> dict[str, dict[str, Map]] | None:
        """Give the mean evidence map of each genre.

        Args:
            genres: The G names.

        Returns:
            Genre to `with` [h][w], the mean over the posters that have it, which adds up, but for
            a constant, to their mean logit, and `all`, the mean over all posters. A genre that no
            poster has is left out. None if the bundle has no maps.
        """
        if self._maps is None:
            return None
        counts = self._labels.sum(axis=0)
        having, everyone = self._maps
        return {
            genre: {
                "with": np.round(having[g] / counts[g], 5).tolist(),
                "all": np.round(everyone[g] / len(self._labels), 5).tolist(),
            }
            for g, genre in enumerate(genres)
            if counts[g]
        }

    def palette(self, genres: Sequence[str]) -> dict[str, Any]:
        """Find the colours of the posters, and how much of each a genre has.

        The colours are found by k-means in OKLab, weighted by how often each occurs on all posters.

        Args:
            genres: The G names.

        Returns:
            `colours` (`#rrggbb`, from dark to light), `all` (the share of the pixels that each
            takes on all posters), and `genres`: the same of each; None if it has few posters.
        """
        bins = np.flatnonzero(self._colours[-1])
        colours, weights = _bin_colours(bins), self._colours[-1, bins]
        clusters = KMeans(min(COLOURS, len(bins)), n_init=4, random_state=0)
        members = clusters.fit_predict(oklab(colours), sample_weight=weights)
        belongs = members[:, None] == np.argsort(clusters.cluster_centers_[:, 0])
        means = (weights[:, None] * belongs).T @ colours / (weights @ belongs)[:, None]
        posters = np.append(self._labels.sum(axis=0), len(self._labels))
        shares = self._colours[:, bins] @ belongs / np.maximum(posters, 1)[:, None]
        *found, overall = np.round(shares, 5).tolist()
        return {
            "colours": [_hex(mean) for mean in means],
            "all": overall,
            "genres": {
                genre: share if count >= FEWEST else None
                for genre, share, count in zip(genres, found, posters[:-1], strict=True)
            },
        }


def _count_colours(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Give the share of each colour [_LEVELS ** 3] on some evenly spread pixels."""
    step = max(1, image.shape[0] // _SAMPLES)
    levels = image[::step, ::step].reshape(-1, 3).astype(np.int64) * _LEVELS // 256
    bins = (levels * (_LEVELS**2, _LEVELS, 1)).sum(axis=1)
    return np.bincount(bins, minlength=_LEVELS**3) / len(bins)


def _bin_colours(bins: NDArray[np.int64]) -> NDArray[np.float64]:
    levels = np.stack([bins // _LEVELS**2, bins // _LEVELS % _LEVELS, bins % _LEVELS], axis=1)
    return (levels + 0.5) / _LEVELS


def _hex(colour: NDArray[np.float64]) -> str:
    return "#" + "".join(f"{round(255 * value):02x}" for value in colour)


def oklab(colours: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn sRGB colours [N, 3] in 0..1 into OKLab, where distances are as the eye sees them."""
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    lab: NDArray[np.float64] = np.cbrt(linear @ _TO_LMS.T) @ _TO_LAB.T
    return lab


def attribute_effects(
    frame: pd.DataFrame, labels: NDArray[np.int8], genres: Sequence[str]
) -> dict[str, dict[str, list[float] | None]]:
    """Tell how posters of a genre differ from the others in what was measured at ingestion.

    The effect size is Cohen's d = (mean with the genre - mean without it) / s, s being the pooled
    standard deviation, with the interval d +- 1.96 sqrt((n + m) / (n m) + d^2 / (2 (n + m))) of
    Hedges and Olkin, "Statistical methods for meta-analysis" (1985); n posters have the genre, m do
    not. A hue is an angle and has no mean to compare, so its warmth stands in: the cosine of its
    distance from orange (30 degrees).

    Args:
        frame: N posters with brightness, contrast, saturation and hue.
        labels: [N, G].
        genres: The G names.

    Returns:
        Genre to attribute to d and the ends of its interval; None where either side has fewer than
        `FEWEST` posters or nothing varies.
    """
    values = {name: frame[name].to_numpy(np.float64) for name in ("brightness", "contrast")}
    values["saturation"] = frame["saturation"].to_numpy(np.float64)
    values["warmth"] = np.cos(2 * np.pi * (frame["hue"].to_numpy(np.float64) - 30 / 360))
    return {
        genre: {
            name: cohens_d(column[labels[:, g] == 1], column[labels[:, g] == 0])
            for name, column in values.items()
        }
        for g, genre in enumerate(genres)
    }


def cohens_d(first: NDArray[np.float64], second: NDArray[np.float64]) -> list[float] | None:
    """Compute the effect size of `attribute_effects`: d, and the ends of its 95% interval."""
    n, m = len(first), len(second)
    if min(n, m) < FEWEST:
        return None
    squares = n * first.var() + m * second.var()
    if not squares > 0:
        return None
    d = float((first.mean() - second.mean()) / np.sqrt(squares / (n + m - 2)))
    half = _NORMAL * float(np.sqrt((n + m) / (n * m) + d**2 / (2 * (n + m))))
    return [round(value, 4) for value in (d, d - half, d + half)]
