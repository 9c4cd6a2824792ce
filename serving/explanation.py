"""Explanations: where on a poster a genre is seen, and which training posters are like it.

Where the model has evidence maps, they come with the prediction, from one run. A model without them
is asked again and again with a part of the poster covered.
"""

import base64
import io
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from marquee.engine import Engine, Prediction
from marquee.errors import DataError
from marquee.neighbours import SHOWN, Neighbours

LONG_SIDE = 384
"""Of an overlay, in px at most: it has no detail that would need more."""

CELLS = (6, 4)
"""Rows and columns of the grid of an occlusion; each patch covers two by two of them."""

_BATCH = 8
_SPREAD = 0.8
"""Standard deviation of an overlay's smoothing, in cells of the grid.

A cell's evidence comes from more than its own pixels: smoothed, maps tell better which ones matter
(docs/explanations.md has the figures).
"""
_LEVELS = 64
_DECIMALS = 6


def _palette() -> tuple[bytes, bytes]:
    """Give colours and opacities of 256 levels of evidence.

    The upper part of matplotlib's inferno, from dark red to light yellow: its lightness rises
    evenly, so that people who do not tell red from green read it as well.
    """
    levels = np.arange(256)
    colours = cv2.applyColorMap((110 + levels * 145 // 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    # The poster stays visible under the strongest evidence.
    opacities = np.clip(levels * 2, 0, 170).astype(np.uint8)
    return colours.reshape(-1, 3)[:, ::-1].tobytes(), opacities.tobytes()


_COLOURS, _OPACITIES = _palette()


@dataclass(frozen=True)
class Heatmap:
    """Where on a poster a genre is seen."""

    genre: str
    grid: NDArray[np.float32]
    """Evidence for the genre (against it, where negative) in cells of equal size [h, w]."""
    overlay: bytes
    """A transparent PNG to lay over the poster, in its proportions."""

    def document(self) -> dict[str, Any]:
        """Give an entry of the endpoint's `explanations`."""
        return {
            "genre": self.genre,
            "grid": np.round(self.grid.astype(np.float64), _DECIMALS).tolist(),
            "overlay_png_b64": base64.b64encode(self.overlay).decode(),
        }


@dataclass(frozen=True)
class Explanation:
    """A prediction, and what explains it."""

    prediction: Prediction
    heatmaps: list[Heatmap]

    def documents(self) -> list[dict[str, Any]]:
        """Give the endpoint's `explanations`."""
        return [heatmap.document() for heatmap in self.heatmaps]


class Explainer:
    """Explains what a bundle's model says.

    Args:
        engine: Runs the model.
        neighbours: The bundle's index of similar posters, if it has one.
    """

    def __init__(self, engine: Engine, neighbours: Neighbours | None = None) -> None:
        self._engine = engine
        self._info = engine.bundle.info
        self._neighbours = neighbours
        self._has_maps = self._info.explanation == "maps"

    def explain(
        self,
        pixels: NDArray[np.uint8],
        genres: Sequence[str] = (),
        size: tuple[int, int] | None = None,
    ) -> Explanation:
        """Predict a poster's genres, and show where they are seen.

        Args:
            pixels: The preprocessed poster [H, W, 3].
            genres: Which genres to show; the chosen ones without them.
            size: Width and height of the poster as it was sent, whose proportions the overlays
                get; those of `pixels` without it.

        Returns:
            The prediction and a heatmap a genre, in the order of `genres`.

        Raises:
            DataError: The model does not know one of the genres.
        """
        unknown = [genre for genre in genres if genre not in self._info.genres]
        if unknown:
            raise DataError(
                f"the model knows no genre {unknown[0]!r}",
                remedy=f"use {', '.join(self._info.genres)}",
            )
        wanted = (*self._engine.prediction_outputs, *(["maps"] if self._has_maps else []))
        outputs = self._engine.infer(pixels[None], wanted)
        prediction = self._engine.predictions(outputs)[0]
        maps = outputs["maps"][0] if self._has_maps else self._occlude(pixels, outputs["logits"][0])
        shown = {
            genre: maps[self._info.genres.index(genre)] for genre in genres or prediction.genres
        }
        size = size or (pixels.shape[1], pixels.shape[0])
        return Explanation(
            prediction, [Heatmap(genre, grid, paint(grid, size)) for genre, grid in shown.items()]
        )

    def _occlude(
        self, pixels: NDArray[np.uint8], logits: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Tell by how much the logits fall where the poster is covered.

        Args:
            pixels: The preprocessed poster [H, W, 3].
            logits: Of the poster as it is [G].

        Returns:
            [G, h, w]: the mean fall over the four patches that cover a cell.
        """
        patches = _patches()
        falls = []
        for start in range(0, len(patches), _BATCH):
            covered = np.stack([_cover(pixels, patch) for patch in patches[start : start + _BATCH]])
            falls.append(logits - self._engine.infer(covered, ("logits",))["logits"])
        weights = patches / patches.sum(axis=0)
        maps: NDArray[np.float32] = np.einsum("pg,phw->ghw", np.concatenate(falls), weights)
        return maps

    def similar(
        self,
        embedding: NDArray[np.float32],
        count: int = SHOWN,
        *,
        film_id: str | None = None,
        hidden: Collection[str] = frozenset(),
    ) -> list[dict[str, Any]]:
        """Find the training posters that are most similar to a poster.

        Args:
            embedding: Of the poster [64].
            count: How many to find.
            film_id: The poster's film, if it is known: its other posters are left out.
            hidden: Ids of posters that must not be shown, such as a registry's tombstones.

        Returns:
            Entries of the endpoint's `similar`, the most similar first; none if the bundle has no
            index.
        """
        if self._neighbours is None:
            return []
        found = self._neighbours.nearest(embedding, count, film_id=film_id, hidden=hidden)
        return [asdict(neighbour) for neighbour in found]


def paint(grid: NDArray[Any], size: tuple[int, int]) -> bytes:
    """Paint the evidence for a genre as an overlay; evidence against it stays transparent.

    Args:
        grid: Evidence in cells of equal size [h, w].
        size: Width and height of the poster, in any unit.

    Returns:
        A PNG with the poster's proportions. Its colours are relative to the strongest place of
        this grid: they tell where, not how much.
    """
    smooth = smoothed(grid)
    strongest = float(smooth.max())
    scaled = smooth * (255 / strongest) if strongest > 0 else np.zeros_like(smooth)
    scale = LONG_SIDE / max(size)
    sides = [max(1, round(scale * side)) for side in size]
    levels = np.clip(cv2.resize(scaled, sides, interpolation=cv2.INTER_CUBIC), 0, 255)
    # With a palette the file is a fifth as large, and made in a third of the time.
    image = Image.fromarray(levels.astype(np.uint8) // (256 // _LEVELS) * (256 // _LEVELS), "P")
    image.putpalette(_COLOURS)
    file = io.BytesIO()
    image.save(file, "PNG", transparency=_OPACITIES, compress_level=1)
    return file.getvalue()


def smoothed(grid: NDArray[Any]) -> NDArray[np.float32]:
    """Smooth evidence [h, w] as overlays show it."""
    values = grid.astype(np.float32)
    return np.asarray(
        cv2.GaussianBlur(values, (0, 0), _SPREAD, borderType=cv2.BORDER_REFLECT), "f4"
    )


def _patches() -> NDArray[np.float32]:
    """Give the patches of an occlusion [P, h, w]: ones where a patch lies.

    They overlap by half, and reach over the edges, so that each cell is covered by four.
    """
    rows, columns = CELLS
    patches = np.zeros((rows + 1, columns + 1, rows, columns), np.float32)
    for row in range(rows + 1):
        for column in range(columns + 1):
            patches[row, column, max(0, row - 1) : row + 1, max(0, column - 1) : column + 1] = 1
    return patches.reshape(-1, rows, columns)


def _cover(pixels: NDArray[np.uint8], patch: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Give a poster [H, W, 3] its own mean colour where a patch [h, w] lies."""
    height, width = pixels.shape[:2]
    covered = cv2.resize(patch, (width, height), interpolation=cv2.INTER_NEAREST) > 0
    mean = pixels.mean(axis=(0, 1)).round().astype(np.uint8)
    return np.where(covered[..., None], mean, pixels)
