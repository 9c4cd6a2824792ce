"""What posters look like: measured one after the other, added up by era, and then dropped."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from marquee.catalog import Catalog
from marquee.images import Preprocessing, resize
from marquee.log import progress
from monitoring.temporal.films import FEWEST

Array = NDArray[np.float64]
Plane = NDArray[np.float32]

SMALL = Preprocessing(height=96, width=64)
"""What is looked at of a poster: no face and no word can be made out, light and colour can."""
CELLS = (24, 16)
"""Height and width of the maps of light and of edges."""
COLOURS = 8
"""Colours of an era's palette."""

_FEATURE_CELLS = (6, 4)
_LEVELS, _COARSE = 16, 4
"""Levels a channel in which colours are counted: for palettes, and for features."""
_FEATURES = 5 * _FEATURE_CELLS[0] * _FEATURE_CELLS[1] + _COARSE**3
"""Mean colour (CIE Lab), edges and spread of luma of each cell, and how frequent colours are."""
_COLOURFUL = 10.0
"""Chroma (CIE Lab) from which on a pixel has a colour."""
_BLUE = (210.0, 310.0)
"""The angles of CIE Lab that are called blue, from cyan to violet."""
_STEEPEST = 4.0
"""What Sobel's filter makes of a step from black to white."""

FIGURES: tuple[str, ...] = ("blue", "busyness", "light_top", "busy_top", "light_centre", "symmetry")


@dataclass(frozen=True)
class Look:
    """What was measured on one poster."""

    figures: tuple[float, ...]
    """In the order of `FIGURES`; see `look`."""
    features: Plane
    """Colours and edges of 6 x 4 cells, and how frequent 64 colours are [F]."""
    light: Plane
    """Mean luma of the cells (0..1) [24, 16]."""
    edges: Plane
    """Mean steepness of luma in the cells (0..1) [24, 16]."""


def look(small: NDArray[np.uint8]) -> Look:
    """Measure a poster: nothing here was learnt from posters.

    The figures are: the share of pixels that are blue; the mean steepness of luma, 1 being a step
    from black to white; luma of the top third less that of the bottom third; the same of steepness;
    luma of the middle (half as high and wide) less that of what is around it; and the correlation
    of luma with its mirror image.

    Args:
        small: A poster of the size `SMALL` [96, 64, 3].

    Returns:
        What was measured.
    """
    lab = np.asarray(cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), np.float32)
    luma = np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY) / 255, np.float32)
    slopes = [cv2.Sobel(luma, cv2.CV_32F, *by) for by in ((1, 0), (0, 1))]
    steep = np.asarray(np.hypot(*slopes) / _STEEPEST, np.float32)
    light, edges = _cells(luma, CELLS), _cells(steep, CELLS)
    third = CELLS[0] // 3
    figures = (
        _blue(lab),
        float(edges.mean()),
        float(light[:third].mean() - light[-third:].mean()),
        float(edges[:third].mean() - edges[-third:].mean()),
        _middle(light),
        _symmetry(light),
    )
    variance = _cells(luma**2, _FEATURE_CELLS) - _cells(luma, _FEATURE_CELLS) ** 2
    parts = (
        _cells(lab, _FEATURE_CELLS) / 100,
        _cells(steep, _FEATURE_CELLS),
        np.sqrt(np.maximum(variance, 0)),
        np.sqrt(np.bincount(colour_bins(small, _COARSE), minlength=_COARSE**3) / luma.size),
    )
    features = np.concatenate([part.ravel() for part in parts]).astype(np.float32)
    return Look(figures, features, light, edges)


def _cells(values: Plane, cells: tuple[int, int]) -> Plane:
    return np.asarray(cv2.resize(values, cells[::-1], interpolation=cv2.INTER_AREA), np.float32)


def _blue(lab: Plane) -> float:
    a, b = lab[..., 1], lab[..., 2]
    angle = np.degrees(np.arctan2(b, a)) % 360
    blue = (np.hypot(a, b) >= _COLOURFUL) & (angle >= _BLUE[0]) & (angle <= _BLUE[1])
    return float(blue.mean())


def _middle(light: Plane) -> float:
    height, width = light.shape
    middle = light[height // 4 : -(height // 4), width // 4 : -(width // 4)]
    around = (light.sum() - middle.sum()) / (light.size - middle.size)
    return float(middle.mean() - around)


def _symmetry(light: Plane) -> float:
    centred = light - light.mean()
    power = float((centred**2).sum())
    return float((centred * centred[:, ::-1]).sum()) / power if power > 1e-6 else 1.0


def colour_bins(small: NDArray[np.uint8], levels: int) -> NDArray[np.int64]:
    """Number the colours of pixels [N], of `levels` levels a channel."""
    steps = small.reshape(-1, 3).astype(np.int64) * levels // 256
    return np.asarray(steps @ np.array([levels**2, levels, 1]))


@dataclass(frozen=True)
class EraLook:
    """What the posters of an era look like together: only means, so that no poster is shown."""

    films: int
    poster: NDArray[np.uint8]
    """The mean poster [96, 64, 3]."""
    light: Array
    """Mean of the maps of light [24, 16]."""
    edges: Array
    """Mean of the maps of edges [24, 16]."""
    palette: list[tuple[str, float]]
    """Colours (`#rrggbb`) from dark to light, and the shares of the pixels that they take."""


class _Sums:
    """Adds up the posters of an era."""

    def __init__(self) -> None:
        self.films = 0
        self.poster = np.zeros((SMALL.height, SMALL.width, 3))
        self.light, self.edges = np.zeros(CELLS), np.zeros(CELLS)
        self.colours = np.zeros(_LEVELS**3)

    def add(self, small: NDArray[np.uint8], seen: Look) -> None:
        self.films += 1
        self.poster += small
        self.light += seen.light
        self.edges += seen.edges
        self.colours += np.bincount(colour_bins(small, _LEVELS), minlength=_LEVELS**3)

    def look(self) -> EraLook | None:
        if self.films < FEWEST:
            return None
        return EraLook(
            films=self.films,
            poster=np.round(self.poster / self.films).astype(np.uint8),
            light=self.light / self.films,
            edges=self.edges / self.films,
            palette=palette(self.colours),
        )


def palette(counts: Array) -> list[tuple[str, float]]:
    """Find the colours that stand for many, by k-means in CIE Lab.

    Args:
        counts: How frequent each colour is, numbered as by `colour_bins` [16 ** 3].

    Returns:
        `#rrggbb` from dark to light, and the share (0..1) of each.
    """
    bins = np.flatnonzero(counts)
    levels = np.stack([bins // _LEVELS**2, bins // _LEVELS % _LEVELS, bins % _LEVELS], axis=1)
    colours = ((levels + 0.5) / _LEVELS).astype(np.float32)
    lab = cv2.cvtColor(colours[np.newaxis], cv2.COLOR_RGB2LAB)[0]
    clusters = KMeans(min(COLOURS, len(bins)), n_init=4, random_state=0)
    members = clusters.fit_predict(lab, sample_weight=counts[bins])
    shares = np.bincount(members, counts[bins]) / counts.sum()
    centres = clusters.cluster_centers_.astype(np.float32)
    found = np.clip(cv2.cvtColor(centres[np.newaxis], cv2.COLOR_LAB2RGB)[0], 0, 1)
    return [
        ("#" + "".join(f"{round(255 * float(value)):02x}" for value in found[n]), float(shares[n]))
        for n in np.argsort(centres[:, 0])
    ]


@dataclass(frozen=True)
class Looks:
    """What was seen of n posters."""

    figures: pd.DataFrame
    """n rows with the columns of `FIGURES`."""
    features: Plane
    """[n, F]."""
    eras: dict[str, EraLook | None]
    """None of an era of too few films."""


Watch = Callable[[int, NDArray[np.uint8]], None]
"""Is shown a poster's row among those looked at, and its pixels [H, W, 3]."""


def look_at(catalog: Catalog, frame: pd.DataFrame, eras: Sequence[str], watch: Watch) -> Looks:
    """Look at posters, shard by shard, one at a time.

    Args:
        catalog: Holds them.
        frame: n rows with era, poster_id, part, shard_offset, size and sha256.
        eras: The eras to add up.
        watch: Is shown every poster once.

    Returns:
        What was measured, in the order of the rows.

    Raises:
        DataError: A shard is missing, or a poster in it is damaged.
    """
    sums = {era: _Sums() for era in eras}
    of_era = frame["era"].to_list()
    figures = np.zeros((len(frame), len(FIGURES)))
    features = np.zeros((len(frame), _FEATURES), np.float32)
    with progress("temporal", len(frame)) as advance:
        for row, pixels in _posters(catalog, frame):
            small = resize(pixels, SMALL)
            seen = look(small)
            sums[of_era[row]].add(small, seen)
            figures[row], features[row] = seen.figures, seen.features
            watch(row, pixels)
            advance(1)
    return Looks(
        pd.DataFrame(figures, columns=list(FIGURES)),
        features,
        {era: of.look() for era, of in sums.items()},
    )


def _posters(catalog: Catalog, frame: pd.DataFrame) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Give each poster's row number and its pixels [H, W, 3], in the order of the shards."""
    places = frame[["poster_id", "part", "shard_offset", "size", "sha256"]].reset_index(drop=True)
    places = places.sort_values(["part", "shard_offset"])
    facts = places.index, places["part"], places["sha256"]
    stream = catalog.stream_images(places)
    for row, part, sha256, (poster_id, data) in zip(*facts, stream, strict=True):
        yield int(row), catalog.pixels(poster_id, part, sha256, data)
