"""Backdrops: what lies under everything else on a poster."""

import math
from collections.abc import Callable
from random import Random

import numpy as np

from components.ingest.drawing.colour import BLACK, Colour, mix
from components.ingest.drawing.sheet import HEIGHT, Sheet

Layer = Callable[[Sheet, Random], None]
"""Draws something across a whole sheet, a little differently each time."""


def plain(sheet: Sheet, rng: Random) -> None:
    """Leave the sheet as it is."""


def gradient(sheet: Sheet, rng: Random) -> None:
    """Let the shade come in from below."""
    sheet.fade(sheet.palette.shade, rng.choice((0.0, 0.3)), rng.choice((1.1, 1.5)))


def arch(sheet: Sheet, rng: Random) -> None:
    """Draw a panel with a round top."""
    left, top = rng.uniform(0.08, 0.13), rng.uniform(0.12, 0.2)
    sheet.disc(0.5, top + 0.5 - left, 0.5 - left, sheet.palette.shade)
    sheet.box(left, top + 0.5 - left, 1 - left, rng.uniform(1.1, 1.2), sheet.palette.shade)


def rays(sheet: Sheet, rng: Random) -> None:
    """Draw a sunburst."""
    x, y, count = rng.uniform(0.3, 0.7), rng.uniform(0.4, 1.0), rng.choice((10, 14, 18))
    fill = sheet.palette.between(rng.uniform(0.45, 0.9))
    angles = np.arange(2 * count) * math.pi / count + rng.random()
    rim = [(x + 2 * math.cos(a), y + 2 * math.sin(a)) for a in angles]
    for start, end in zip(rim[::2], rim[1::2], strict=True):
        sheet.polygon(((x, y), start, end), fill)


def blinds(sheet: Sheet, rng: Random) -> None:
    """Draw stripes of light, as through a blind."""
    slope, step = rng.uniform(-0.25, 0.25), rng.uniform(0.09, 0.14)
    fill = sheet.palette.between(0.7)
    for y in np.arange(-0.3, 1.8, step):
        right = y + slope
        _band(sheet, (y, y + step / 2), (right, right + step / 2), fill)


def cut_paper(sheet: Sheet, rng: Random) -> None:
    """Draw three sheets of paper, one above the other."""
    edges = [0.0, rng.uniform(0.3, 0.6), rng.uniform(0.8, 1.1), HEIGHT]
    fills = (sheet.palette.ground, sheet.palette.shade, sheet.palette.between(0.4))
    lean = [rng.uniform(-0.07, 0.07) for _ in edges]
    for row, fill in enumerate(fills):
        top, bottom = edges[row], edges[row + 1]
        right = top + lean[row], bottom + lean[row + 1] + 0.02
        _band(sheet, (top, bottom), right, fill)


def stripes(sheet: Sheet, rng: Random) -> None:
    """Draw three stripes, level or rising."""
    y, step = rng.uniform(0.55, 0.95), rng.uniform(0.05, 0.08)
    colours = (sheet.palette.shade, sheet.palette.accent, sheet.palette.between(0.5))
    rise = rng.choice((0.0, 0.0, 0.35, -0.35))
    for row, fill in enumerate(colours):
        left = y + row * step
        right = left - rise
        _band(sheet, (left, left + step * 0.8), (right, right + step * 0.8), fill)


def arcs(sheet: Sheet, rng: Random) -> None:
    """Draw a rainbow of two colours."""
    x, y = rng.choice((0.0, 0.5, 1.0)), rng.choice((0.6, 1.5))
    fills = (sheet.palette.shade, sheet.palette.between(0.5), sheet.palette.shade)
    for radius, fill in zip((0.85, 0.68, 0.51), fills, strict=True):
        sheet.disc(x, y, radius, fill)
    sheet.disc(x, y, 0.36, sheet.palette.ground)


def horizon_glow(sheet: Sheet, rng: Random) -> None:
    """Draw a light behind the horizon."""
    sheet.fade(sheet.palette.shade, 0.0, 1.0)
    sheet.glow(0.5, rng.uniform(0.6, 1.0), 0.75, sheet.palette.accent, 0.6)


def neon_grid(sheet: Sheet, rng: Random) -> None:
    """Draw a grid that runs to the horizon."""
    y = rng.uniform(0.9, 1.0)
    sheet.fade(sheet.palette.shade, 0.0, y)
    sheet.box(0, y, 1, HEIGHT, mix(sheet.palette.ground, BLACK, 0.5))
    line = mix(sheet.palette.accent, sheet.palette.shade, 0.5)
    for x in np.linspace(-1.5, 2.5, 17):
        sheet.line(((0.5 + (x - 0.5) * 0.3, y), (x, HEIGHT)), 0.006, line)
    for depth in (0, 0.03, 0.08, 0.16, 0.28, 0.45):
        sheet.line(((0, y + depth), (1, y + depth)), 0.006, line)


def spotlight(sheet: Sheet, rng: Random) -> None:
    """Draw a pool of light."""
    sheet.fade(mix(sheet.palette.shade, BLACK, 0.35), 0.2, 1.5)
    light = mix(sheet.palette.ground, sheet.palette.accent, 0.45)
    sheet.glow(rng.uniform(0.35, 0.65), rng.uniform(0.4, 0.7), 0.7, light, 0.9)


def bokeh(sheet: Sheet, rng: Random) -> None:
    """Draw lights out of focus."""
    sheet.fade(sheet.palette.shade, 0.1, 1.4)
    for _ in range(9):
        x, y, radius = rng.random(), rng.uniform(0, 1.4), rng.choice((0.08, 0.12, 0.2))
        sheet.glow(x, y, radius, sheet.palette.accent, 0.5)


def split(sheet: Sheet, rng: Random) -> None:
    """Draw two halves."""
    x, lean = rng.uniform(0.35, 0.65), rng.uniform(-0.3, 0.3)
    sheet.polygon(((x + lean, 0), (1, 0), (1, HEIGHT), (x - lean, HEIGHT)), sheet.palette.shade)


def low_horizon(sheet: Sheet, rng: Random) -> None:
    """Draw a horizon."""
    y = rng.uniform(0.95, 1.1)
    sheet.box(0, y, 1, HEIGHT, sheet.palette.shade)


def _band(
    sheet: Sheet, left: tuple[float, float], right: tuple[float, float], fill: Colour
) -> None:
    """Fill a band across the sheet, given its top and bottom at either side."""
    sheet.polygon(((0, left[0]), (1, right[0]), (1, right[1]), (0, left[1])), fill)
