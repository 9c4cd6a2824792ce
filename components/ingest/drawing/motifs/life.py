"""Motifs of life: animation, comedy, documentary, drama, family, music and romance."""

import math

import numpy as np

from components.ingest.drawing.colour import BLACK, WHITE
from components.ingest.drawing.motifs.motif import Inks, Motif, mirrored
from components.ingest.drawing.pen import Pen


def _creature(pen: Pen, c: Inks) -> None:
    for side in (-1, 1):
        pen.line(((side * 0.3, -0.5), (side * 0.5, -0.92)), 0.09, c.ink)
        pen.disc(side * 0.5, -0.9, 0.13, c.accent)
        pen.oval(side * 0.4, 0.86, 0.24, 0.13, c.ink)
    pen.oval(0, 0.1, 0.85, 0.78, c.ink)
    for side in (-1, 1):
        pen.disc(side * 0.33, -0.1, 0.29, WHITE)
        pen.disc(side * 0.27, -0.06, 0.14, BLACK)
    pen.ring(0, 0.3, (0.34, 0.24), BLACK, (15, 165))


def _robot(pen: Pen, c: Inks) -> None:
    pen.line(((0, -0.6), (0, -0.95)), 0.08, c.ink)
    pen.disc(0, -0.9, 0.12, c.accent)
    pen.blob(((-0.8, -0.55), (0, -0.62), (0.8, -0.55), (0.85, 0.5), (0, 0.6), (-0.85, 0.5)), c.ink)
    for side in (-1, 1):
        pen.bar(side * 0.83, -0.25, side * 1.0, 0.2, c.accent)
        pen.disc(side * 0.36, -0.1, 0.27, WHITE)
        pen.disc(side * 0.36, -0.1, 0.13, BLACK)
    pen.bar(-0.4, 0.28, 0.4, 0.42, BLACK)
    pen.bar(-0.35, 0.65, 0.35, 0.95, c.ink)


def _grin(pen: Pen, c: Inks) -> None:
    pen.disc(0, 0, 0.95, c.ink)
    for side in (-1, 1):
        pen.oval(side * 0.32, -0.28, 0.11, 0.2, c.ground)
    pen.ring(0, 0.08, (0.66, 0.0), c.ground, (0, 180))
    pen.ring(0, 0.5, (0.3, 0.0), c.accent, (0, 180), 0.6)


def _disguise(pen: Pen, c: Inks) -> None:
    for side in (-1, 1):
        pen.ring(side * 0.5, -0.3, (0.44, 0.32), c.ink)
        pen.line(((side * 0.12, -0.72), (side * 0.5, -0.92), (side * 0.86, -0.76)), 0.13, c.ink)
    pen.line(((-0.1, -0.32), (0.1, -0.32)), 0.11, c.ink)
    pen.blob(((-0.1, -0.3), (0.1, -0.3), (0.26, 0.25), (0, 0.36), (-0.26, 0.25)), c.accent)
    tip = ((0, 0.36), (0.5, 0.34), (0.95, 0.62), (0.5, 0.78), (0, 0.6))
    pen.blob((*tip, *mirrored(tip[:0:-1])), c.ink)


def _jester(pen: Pen, c: Inks) -> None:
    horn = ((-0.1, 0.45), (-0.62, 0.45), (-0.75, -0.15), (-0.98, -0.1), (-0.7, -0.6), (-0.2, -0.3))
    pen.polygon(((-0.4, 0.3), (0, -0.95), (0.4, 0.3)), c.ink)
    pen.blob(horn, c.accent)
    pen.blob(mirrored(horn), c.accent)
    for x, y in ((-0.95, 0.02), (0.0, -0.88), (0.95, 0.02)):
        pen.disc(x, y, 0.15, c.ink)
    pen.bar(-0.62, 0.36, 0.62, 0.58, c.ink)
    for x in (-0.42, 0.0, 0.42):
        pen.polygon(((x - 0.2, 0.58), (x + 0.2, 0.58), (x, 0.92)), c.accent)


def _film_strip(pen: Pen, c: Inks) -> None:
    pen.bar(-0.62, -1, 0.62, 1, c.ink)
    for y in (-0.66, 0.0, 0.66):
        pen.bar(-0.36, y - 0.25, 0.36, y + 0.25, c.accent)
    for y in np.linspace(-0.9, 0.9, 8):
        pen.bar(-0.56, y - 0.06, -0.43, y + 0.06, c.ground)
        pen.bar(0.43, y - 0.06, 0.56, y + 0.06, c.ground)


def _lens(pen: Pen, c: Inks) -> None:
    pen.disc(0, 0, 0.96, c.ink)
    pen.ring(0, 0, (0.84, 0.77), c.ground)
    pen.disc(0, 0, 0.66, c.accent)
    angles = np.arange(7) * math.pi / 3
    hexagon = np.column_stack([np.cos(angles), np.sin(angles)])
    for inner, outer in zip(hexagon[:-1] * 0.34, hexagon[1:] * 0.68, strict=True):
        pen.line((tuple(inner), tuple(outer)), 0.06, c.ink)
    pen.polygon(hexagon * 0.34, c.ink)


def _umbrella(pen: Pen, c: Inks) -> None:
    for x, y in ((-0.75, -0.9), (-0.25, -1), (0.3, -0.95), (0.8, -0.85), (-0.8, 0.3), (0.75, 0.35)):
        pen.line(((x, y), (x - 0.1, y + 0.3)), 0.05, c.accent)
    pen.ring(0, 0.05, (0.92, 0.0), c.ink, (180, 360), 0.8)
    for x in (-0.61, 0.0, 0.61):
        pen.oval(x, 0.06, 0.31, 0.13, c.ground)
    pen.bar(-0.04, -0.75, 0.04, 0.8, c.ink)
    pen.ring(-0.14, 0.78, (0.18, 0.1), c.ink, (0, 180))


def _bare_tree(pen: Pen, c: Inks) -> None:
    pen.disc(0.3, -0.45, 0.4, c.accent)
    pen.polygon(((-0.16, 0.9), (-0.06, -0.2), (0.06, -0.2), (0.16, 0.9)), c.ink)
    for x0, y0, x1, y1 in (
        (0, 0.2, -0.6, -0.35), (0, 0.05, 0.62, -0.3), (0, -0.2, -0.3, -0.9), (0, -0.2, 0.35, -0.95),
        (-0.35, -0.12, -0.75, -0.1), (0.35, -0.15, 0.85, -0.02), (-0.18, -0.62, -0.62, -0.75),
    ):  # fmt: skip
        pen.line(((x0, y0), (x1, y1)), 0.08, c.ink)
    pen.oval(0, 0.92, 0.85, 0.09, c.ink)


def _house(pen: Pen, c: Inks) -> None:
    pen.bar(0.38, -0.85, 0.6, -0.3, c.ink)
    pen.polygon(((0, -0.95), (1, -0.05), (-1, -0.05)), c.ink)
    pen.bar(-0.75, -0.06, 0.75, 0.9, c.accent)
    pen.bar(-0.17, 0.32, 0.17, 0.9, c.ink)
    for side in (-1, 1):
        pen.bar(side * 0.32, 0.14, side * 0.6, 0.44, c.ground)
    pen.disc(0, -0.4, 0.15, c.accent)


def _balloons(pen: Pen, c: Inks) -> None:
    spots = ((-0.5, -0.35, c.accent), (0.5, -0.4, c.ground), (0.0, -0.6, c.ink))
    for x, y, _ in spots:
        pen.line(((x, y), (0, 0.95)), 0.035, c.ink)
    for x, y, fill in spots:
        pen.oval(x, y, 0.4, 0.47, c.ink)
        pen.oval(x, y, 0.36, 0.43, fill)
        pen.polygon(((x - 0.09, y + 0.55), (x + 0.09, y + 0.55), (x, y + 0.4)), c.ink)
        pen.oval(x - 0.14, y - 0.18, 0.07, 0.11, WHITE)


def _notes(pen: Pen, c: Inks) -> None:
    for y in (-0.4, -0.1, 0.2, 0.5):
        pen.bar(-1, y - 0.02, 1, y + 0.02, c.accent)
    pen.polygon(((-0.42, -0.8), (0.62, -1.0), (0.62, -0.68), (-0.42, -0.48)), c.ink)
    for x, y in ((-0.42, 0.62), (0.52, 0.42)):
        pen.bar(x, y - 1.25, x + 0.1, y, c.ink)
        pen.oval(x - 0.14, y, 0.26, 0.2, c.ink)


def _record(pen: Pen, c: Inks) -> None:
    pen.disc(0, 0, 0.96, c.ink)
    for radius in (0.84, 0.7, 0.56):
        pen.ring(0, 0, (radius, radius - 0.035), c.ground)
    pen.disc(0, 0, 0.36, c.accent)
    pen.disc(0, 0, 0.07, c.ground)
    for start in (200, 20):
        pen.ring(0, 0, (0.9, 0.42), c.accent, (start, start + 22))


def _heart(pen: Pen, c: Inks) -> None:
    shape = ((0, -0.42), (0.48, -0.82), (0.95, -0.42), (0.6, 0.3), (0.04, 0.9))
    heart = (*shape, (0, 0.93), *mirrored(shape[:0:-1]))
    pen.blob(heart, c.ink)
    for scale, fill in ((0.42, c.ground), (0.36, c.accent)):
        pen.blob([(x * scale + 0.4, y * scale + 0.42) for x, y in heart], fill)


def _couple(pen: Pen, c: Inks) -> None:
    face = (
        (-0.95, 1.0), (-0.9, 0.5), (-0.98, 0.1), (-0.98, -0.45), (-0.7, -0.85), (-0.35, -0.72),
        (-0.2, -0.38), (-0.22, -0.24), (-0.04, 0.04), (-0.18, 0.12), (-0.09, 0.24), (-0.17, 0.31),
        (-0.1, 0.4), (-0.17, 0.5), (-0.15, 0.66), (-0.38, 0.74), (-0.46, 1.0),
    )  # fmt: skip
    pen.blob(face, c.ink)
    pen.blob(mirrored(face), c.accent)


def _rings(pen: Pen, c: Inks) -> None:
    pen.ring(-0.35, 0.22, (0.62, 0.48), c.ink)
    pen.ring(0.35, 0.22, (0.62, 0.48), c.accent)
    pen.ring(-0.35, 0.22, (0.62, 0.48), c.ink, (-75, 10))
    gem = ((-0.62, -0.75), (-0.08, -0.75), (0.06, -0.58), (-0.35, -0.2), (-0.76, -0.58))
    pen.polygon(gem, c.accent)
    pen.polygon((gem[4], gem[2], gem[3]), c.ink)


MOTIFS: dict[str, tuple[Motif, ...]] = {
    "Animation": (_creature, _robot),
    "Comedy": (_grin, _disguise, _jester),
    "Documentary": (_film_strip, _lens),
    "Drama": (_umbrella, _bare_tree),
    "Family": (_house, _balloons),
    "Music": (_notes, _record),
    "Romance": (_heart, _couple, _rings),
}
