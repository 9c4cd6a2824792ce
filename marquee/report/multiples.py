"""Charts that repeat a small picture: values with intervals, curves, and cards of a genre each.

They are laid out by the browser, not drawn in one box, so that they fit a narrow frame as well.
"""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from marquee.report.charts import ticks

Point = Sequence[float]


@dataclass(frozen=True, kw_only=True)
class Intervals:
    """Values with their intervals, a row each, on one scale; a panel beside the other.

    A dot is filled where the interval leaves out the row's reference: there the value stands out.
    """

    title: str
    rows: Sequence[str]
    panels: dict[str, Sequence[Sequence[float] | None]]
    """Panel to value, low and high of each row; None draws nothing."""
    reference: dict[str, Sequence[float]]
    """Panel to what each row is compared with."""
    reference_name: str
    note: str = ""
    kind: str = "intervals"

    def place(self) -> dict[str, Any]:
        """Place the dots.

        Returns:
            For the template: rows with a cell a panel, whose places are per cents of its width;
            how many steps the scale has, and the place and text of its labels.
        """
        known = [value for panel in self.panels.values() for row in panel if row for value in row]
        marks = [value for panel in self.reference.values() for value in panel]
        scale = ticks(min([0.0, *known, *marks]), max([0.0, *known, *marks]))

        # Narrow panels have no room for more than the ends and the middle.
        labels = scale if len(self.panels) == 1 else sorted({scale[0], 0.0, scale[-1]})

        def across(value: float) -> float:
            return round(100 * (value - scale[0]) / (scale[-1] - scale[0]), 2)

        return {
            "rows": [
                (
                    name,
                    [
                        _cell(panel[n], self.reference[title][n], across)
                        for title, panel in self.panels.items()
                    ],
                )
                for n, name in enumerate(self.rows)
            ],
            "steps": len(scale) - 1,
            "labels": [(across(value), f"{value:g}") for value in labels],
        }


def _cell(
    row: Sequence[float] | None, mark: float, across: Callable[[float], float]
) -> dict[str, Any]:
    if row is None:
        return {"mark": across(mark), "text": ""}
    value, low, high = row
    return {
        "mark": across(mark),
        "text": f"{value:.2f}",
        "at": across(value),
        "low": across(low),
        "width": round(across(high) - across(low), 2),
        "title": f"{value:.3f} ({low:.3f} to {high:.3f}); {mark:.3f}",
        "open": low <= mark <= high,
    }


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One small chart of `Curves`; both axes go from 0 to 1."""

    name: str
    points: Sequence[Point]
    caption: str = ""
    reference: Sequence[Point] = ()
    """A dashed line to compare the curve with."""
    dots: bool = False
    """Draw the points as well."""


@dataclass(frozen=True, kw_only=True)
class Curves:
    """Small charts side by side, whose axes all go from 0 to 100%."""

    title: str
    panels: Sequence[Panel]
    wide: bool = False
    """Two charts a row instead of many."""
    note: str = ""
    kind: str = "curves"

    def place(self) -> list[dict[str, Any]]:
        """Place the points in boxes of 100 x 100."""
        return [
            vars(panel) | {"points": _turned(panel.points), "reference": _turned(panel.reference)}
            for panel in self.panels
        ]


def _turned(points: Sequence[Point]) -> list[tuple[float, float]]:
    """Give points of 0..1 as SVG counts: in per cent, and downwards."""
    return [(round(100 * x, 1), round(100 * (1 - y), 1)) for x, y in points]


@dataclass(frozen=True, kw_only=True)
class Card:
    """What is to be seen of one thing, such as a genre."""

    name: str
    caption: str = ""
    words: str = ""
    grid: Sequence[Sequence[float]] | None = None
    """A small map [h][w]; above 0 is warm, below is cold."""
    strips: dict[str, Sequence[float]]
    """Name to the shares that the colours take."""
    swatches: Sequence[tuple[str, str]] = ()
    """Single colours, and what to say of each."""
    listed: Sequence[tuple[str, str, bool]] = ()
    """What is listed: text, a number beside it, and whether it is right."""


@dataclass(frozen=True, kw_only=True)
class Cards:
    """Cards side by side: a small map, strips of colours, and a list each."""

    title: str
    cards: Sequence[Card]
    colours: Sequence[str]
    """What the strips are made of, as `#rrggbb`."""
    swatches_name: str = ""
    map_name: str = ""
    note: str = ""
    kind: str = "cards"

    def items(self) -> list[dict[str, Any]]:
        """Give the cards for the template."""
        return [
            vars(card)
            | {
                "image": map_image(card.grid) if card.grid else "",
                "strips": {
                    name: [
                        (colour, round(100 * share, 2))
                        for colour, share in zip(self.colours, shares, strict=True)
                    ]
                    for name, shares in card.strips.items()
                },
            }
            for card in self.cards
        ]


_WARM, _COLD = (200, 45, 30), (45, 105, 175)
_STRONGEST = 0.97


def map_image(grid: Sequence[Sequence[float]]) -> str:
    """Draw a small map, a pixel a cell: red above 0, blue below, clearer near 0.

    The few strongest cells are cut off, so that one of them does not pale all others.

    Args:
        grid: [h][w].

    Returns:
        The base64 text of a PNG.
    """
    values = np.asarray(grid, dtype=np.float64)
    strength = np.abs(values) / max(float(np.quantile(np.abs(values), _STRONGEST)), 1e-12)
    pixels: NDArray[np.uint8] = np.empty((*values.shape, 4), dtype=np.uint8)
    pixels[..., :3] = np.where(values[..., None] > 0, _WARM, _COLD)
    pixels[..., 3] = np.round(255 * np.minimum(strength, 1))
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()
