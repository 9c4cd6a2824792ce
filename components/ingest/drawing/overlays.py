"""What lies over a backdrop: shapes that mean nothing, and the finish of the print."""

from random import Random

from components.ingest.drawing.backdrops import Layer
from components.ingest.drawing.colour import BLACK, WHITE, mix
from components.ingest.drawing.sheet import HEIGHT, Sheet


def _dots(sheet: Sheet, rng: Random) -> None:
    """Draw scattered dots."""
    fill = sheet.palette.between(0.7)
    for _ in range(12):
        sheet.disc(rng.random(), rng.uniform(0, 1.4), rng.uniform(0.01, 0.035), fill)


def _triangles(sheet: Sheet, rng: Random) -> None:
    """Draw three triangles."""
    fill = sheet.palette.between(0.8)
    for _ in range(3):
        x, y, side = rng.random(), rng.uniform(0, 1.4), rng.uniform(0.08, 0.25)
        sheet.polygon(((x, y), (x + side, y + side * 0.6), (x - side * 0.2, y + side)), fill)


def _birds(sheet: Sheet, rng: Random) -> None:
    """Draw a flock of birds."""
    fill = mix(sheet.palette.ground, sheet.palette.ink, 0.7)
    x, y = rng.uniform(0.1, 0.6), rng.uniform(0.1, 0.9)
    for _ in range(5):
        dx, dy = x + rng.uniform(0, 0.3), y + rng.uniform(0, 0.2)
        wings = (dx - 0.04, dy - 0.02), (dx, dy + 0.01), (dx + 0.04, dy - 0.02)
        sheet.line(wings, 0.01, fill)


def _hairlines(sheet: Sheet, rng: Random) -> None:
    """Draw three thin lines along a side."""
    x = rng.choice((0.035, 0.905))
    for column in range(3):
        left = x + column * 0.025
        sheet.box(left, 0, left + 0.008, HEIGHT, sheet.palette.accent)


def _corner_disc(sheet: Sheet, rng: Random) -> None:
    """Draw a disc in a corner."""
    x, y, radius = rng.choice((0.0, 1.0)), rng.choice((0.0, 1.2)), rng.uniform(0.2, 0.4)
    sheet.disc(x, y, radius, mix(sheet.palette.shade, sheet.palette.accent, 0.4))


DISTRACTORS: tuple[Layer, ...] = (_dots, _triangles, _birds, _hairlines, _corner_disc)
"""Shapes that mean nothing."""


def vignette(sheet: Sheet, rng: Random) -> None:
    """Darken top and bottom."""
    sheet.fade(BLACK, 0.9, 1.6, 0.8)
    sheet.fade(BLACK, 0.35, -0.3, 0.5)


def shade_below(sheet: Sheet, rng: Random) -> None:
    """Darken the bottom."""
    sheet.fade(mix(sheet.palette.shade, BLACK, 0.5), 0.6, 1.5, 0.7)


def light_above(sheet: Sheet, rng: Random) -> None:
    """Brighten the top."""
    sheet.fade(mix(sheet.palette.accent, WHITE, 0.4), 0.6, -0.2, 0.5)


def flare(sheet: Sheet, rng: Random) -> None:
    """Draw a flare of light, with the bottom darkened."""
    x, y = rng.uniform(0.15, 0.85), rng.uniform(0.15, 0.7)
    for radius, strength in ((0.4, 0.4), (0.12, 0.8)):
        sheet.glow(x, y, radius, mix(sheet.palette.accent, WHITE, 0.6), strength)
    sheet.fade(BLACK, 0.9, 1.6, 0.6)


def frame(sheet: Sheet) -> None:
    """Leave a border of bare paper."""
    paper = mix(sheet.palette.accent, WHITE, 0.6)
    right, bottom = sheet.size
    edge = (0, 0, right - 1, bottom - 1)
    sheet.draw.rectangle(edge, outline=paper, width=sheet.px(0.035))
