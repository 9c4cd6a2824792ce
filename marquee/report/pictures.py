"""Blocks that show change over time: pictures side by side, and lines with their intervals."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from marquee.report.charts import ticks

_LEFT, _RIGHT, _TOP, _BOTTOM = 36, 254, 8, 96
"""Where the lines of a panel of 260 x 114 lie."""


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Small pictures in columns, such as one an era, with the colours of each below."""

    title: str
    columns: Sequence[tuple[str, str]]
    """Name and caption of each."""
    pictures: dict[str, Sequence[NDArray[np.uint8] | None]]
    """Row to a picture a column [h, w, 3]; None is a column without one."""
    palettes: Sequence[Sequence[tuple[str, float]]] = ()
    """Colours (`#rrggbb`) of each column and the shares (0..1) that they take."""
    palettes_name: str = ""
    missing: str = ""
    """What stands where there is no picture."""
    note: str = ""
    kind: str = "gallery"

    def place(self) -> dict[str, Any]:
        """Encode the pictures.

        Returns:
            For the template: rows of base64 texts of PNGs, and heights of colours in per cent.
        """
        return {
            "rows": [
                (name, [None if picture is None else _png(picture) for picture in row])
                for name, row in self.pictures.items()
            ],
            "palettes": [
                [(colour, round(100 * share, 1)) for colour, share in palette]
                for palette in self.palettes
            ],
        }


def _png(picture: NDArray[np.uint8]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


@dataclass(frozen=True, kw_only=True)
class Band:
    """One small chart of `Bands`."""

    name: str
    points: Sequence[tuple[float, float, float, float]]
    """x (a whole number, such as a year, rising), value, and the ends of its interval."""
    caption: str = ""
    percent: bool = False
    stressed: bool = False
    """Draw it in the stronger colour."""

    def place(self) -> dict[str, Any]:
        """Place the points.

        Returns:
            For the template: the line, the band around it, ticks of both axes.
        """
        xs = [x for x, *_ in self.points]
        marks = ticks(min(row[2] for row in self.points), max(row[3] for row in self.points), 3)

        def across(x: float) -> float:
            share = (x - xs[0]) / (xs[-1] - xs[0]) if len(xs) > 1 else 0.5
            return round(_LEFT + (_RIGHT - _LEFT) * share, 1)

        def down(y: float) -> float:
            return round(_BOTTOM - (_BOTTOM - _TOP) * (y - marks[0]) / (marks[-1] - marks[0]), 1)

        low = [(across(x), down(end)) for x, _, end, _ in self.points]
        high = [(across(x), down(end)) for x, _, _, end in self.points]
        return vars(self) | {
            "line": [(across(x), down(value)) for x, value, _, _ in self.points],
            "band": [*low, *reversed(high)],
            "y_ticks": [
                (down(mark), f"{mark:.0%}" if self.percent else f"{mark:g}") for mark in marks
            ],
            "x_ticks": [(across(x), f"{x:g}") for x in sorted({xs[0], xs[len(xs) // 2], xs[-1]})],
        }


@dataclass(frozen=True, kw_only=True)
class Bands:
    """Small line charts side by side, each on a scale of its own, with bands of uncertainty."""

    title: str
    panels: Sequence[Band]
    note: str = ""
    kind: str = "bands"
