"""The pen that draws motifs, in a box that lies anywhere on a sheet."""

import math
from functools import lru_cache

import numpy as np

from components.ingest.drawing.colour import Colour
from components.ingest.drawing.sheet import Points, Sheet

CIRCLE = np.array([[math.cos(a), math.sin(a)] for a in np.linspace(0, 2 * math.pi, 48)])
"""A circle of radius 1 around the origin."""


class Pen:
    """Draws in a box from -1 to 1 (x right, y down) that lies anywhere on a sheet.

    Args:
        sheet: Where to draw.
        x: Centre of the box on the sheet, in units.
        y: Centre of the box on the sheet, in units.
        size: Half the side of the box, in units.
        degrees: Turn of the box, clockwise.
        flip: Mirror left and right.
    """

    def __init__(
        self, sheet: Sheet, x: float, y: float, size: float, degrees: float, flip: bool
    ) -> None:
        self._draw = sheet.draw
        self._scale = size * sheet.unit
        self._centre = np.array([x, y]) * sheet.unit
        cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        mirror = -1 if flip else 1
        self._turn = np.array([[mirror * cos, mirror * sin], [-sin, cos]]) * self._scale

    def _place(self, points: Points | np.ndarray) -> list[float]:
        placed: list[float] = (np.asarray(points) @ self._turn + self._centre).ravel().tolist()
        return placed

    def polygon(self, points: Points | np.ndarray, fill: Colour) -> None:
        """Fill a polygon."""
        self._draw.polygon(self._place(points), fill=fill)

    def bar(self, x0: float, y0: float, x1: float, y1: float, fill: Colour) -> None:
        """Fill a rectangle."""
        self.polygon(((x0, y0), (x1, y0), (x1, y1), (x0, y1)), fill)

    def blob(self, points: Points, fill: Colour) -> None:
        """Fill a smooth closed shape through the points (Catmull-Rom spline)."""
        self.polygon(_spline(tuple(points)), fill)

    def oval(self, x: float, y: float, rx: float, ry: float, fill: Colour) -> None:
        """Fill an ellipse."""
        self.polygon(CIRCLE * (rx, ry) + np.array((x, y)), fill)

    def disc(self, x: float, y: float, radius: float, fill: Colour) -> None:
        """Fill a circle."""
        self.oval(x, y, radius, radius, fill)

    def ring(
        self,
        x: float,
        y: float,
        radii: tuple[float, float],
        fill: Colour,
        span: tuple[float, float] = (0, 360),
        tall: float = 1.0,
    ) -> None:
        """Fill a ring or a part of one; `span` in degrees, clockwise from the right."""
        angles = np.radians(np.linspace(*span, 41))
        arc = np.column_stack([np.cos(angles), np.sin(angles) * tall])
        outer, inner = radii
        self.polygon(np.vstack([arc * outer, arc[::-1] * inner]) + np.array((x, y)), fill)

    def line(self, points: Points, width: float, fill: Colour) -> None:
        """Draw a line through the points."""
        width_px = max(1, round(width * self._scale))
        self._draw.line(self._place(points), fill=fill, width=width_px, joint="curve")

    def star(
        self, x: float, y: float, radii: tuple[float, float], points: int, fill: Colour
    ) -> None:
        """Fill a star with its first point up."""
        angles = np.pi * np.arange(2 * points) / points
        reach = np.where(np.arange(2 * points) % 2, radii[1], radii[0])
        star = np.column_stack([np.sin(angles) * reach, -np.cos(angles) * reach])
        self.polygon(star + np.array((x, y)), fill)


@lru_cache(maxsize=256)
def _spline(points: tuple[tuple[float, float], ...]) -> np.ndarray:
    knots = np.array(points, dtype=float)
    before, after, far = (np.roll(knots, shift, axis=0) for shift in (1, -1, -2))
    t = np.linspace(0, 1, 8, endpoint=False)[None, :, None]
    p0, p1, p2, p3 = (p[:, None, :] for p in (before, knots, after, far))
    curve: np.ndarray = p1 + 0.5 * t * (
        p2 - p0 + t * (2 * p0 - 5 * p1 + 4 * p2 - p3 + t * (3 * (p1 - p2) + p3 - p0))
    )
    return curve.reshape(-1, 2)
