"""Motifs of far places and times: adventure, fantasy, history, science fiction, western."""

import numpy as np

from components.ingest.drawing.motifs.motif import Inks, Motif
from components.ingest.drawing.pen import CIRCLE, Pen


def _compass(pen: Pen, c: Inks) -> None:
    pen.ring(0, 0, (0.8, 0.7), c.ink)
    pen.polygon(((-0.13, 0), (0, -1), (0.13, 0), (0, 1)), c.ink)
    pen.polygon(((0, -0.13), (1, 0), (0, 0.13), (-1, 0)), c.ink)
    pen.polygon(((0, -1), (0.13, 0), (0, 0)), c.accent)
    pen.polygon(((0, 1), (-0.13, 0), (0, 0)), c.accent)
    pen.disc(0, 0, 0.09, c.ground)


def _ship(pen: Pen, c: Inks) -> None:
    pen.blob(((0.02, -0.95), (0.55, -0.35), (0.5, 0.3), (0.02, 0.3)), c.ink)
    pen.blob(((-0.06, -0.75), (-0.06, 0.3), (-0.6, 0.3), (-0.4, -0.2)), c.accent)
    pen.bar(-0.03, -1, 0.03, 0.5, c.ink)
    pen.polygon(((-0.85, 0.42), (0.85, 0.42), (0.55, 0.85), (-0.55, 0.85)), c.ink)
    for x in (-0.6, 0.0, 0.6):
        pen.ring(x, 0.82, (0.34, 0.24), c.accent, (15, 165))


def _castle(pen: Pen, c: Inks) -> None:
    for x, top, half in ((-0.66, -0.2, 0.2), (0.66, -0.2, 0.2), (0.0, -0.45, 0.26)):
        pen.bar(x - half, top, x + half, 0.9, c.ink)
        pen.polygon(((x - half * 1.3, top), (x + half * 1.3, top), (x, top - 0.5)), c.accent)
    pen.bar(-0.7, 0.25, 0.7, 0.9, c.ink)
    pen.ring(0, 0.6, (0.16, 0.0), c.ground, (180, 360), 1.4)
    pen.bar(-0.16, 0.58, 0.16, 0.9, c.ground)
    for x in (-0.66, 0.0, 0.66):
        pen.bar(x - 0.05, -0.08, x + 0.05, 0.12, c.ground)


def _sword(pen: Pen, c: Inks) -> None:
    pen.star(0, -0.05, (0.8, 0.12), 8, c.accent)
    pen.polygon(((-0.1, 0.45), (-0.1, -0.75), (0, -1), (0.1, -0.75), (0.1, 0.45)), c.ink)
    pen.line(((0, -0.8), (0, 0.4)), 0.03, c.ground)
    pen.blob(((-0.5, 0.38), (0, 0.46), (0.5, 0.38), (0.46, 0.56), (0, 0.6), (-0.46, 0.56)), c.ink)
    pen.bar(-0.07, 0.5, 0.07, 0.88, c.ink)
    pen.disc(0, 0.9, 0.12, c.ink)


def _temple(pen: Pen, c: Inks) -> None:
    pen.polygon(((0, -0.92), (1, -0.42), (-1, -0.42)), c.ink)
    pen.polygon(((0, -0.76), (0.55, -0.49), (-0.55, -0.49)), c.accent)
    pen.bar(-0.9, -0.38, 0.9, -0.24, c.ink)
    for x in (-0.72, -0.24, 0.24, 0.72):
        pen.bar(x - 0.12, -0.2, x + 0.12, 0.6, c.ink)
        pen.bar(x + 0.03, -0.2, x + 0.06, 0.6, c.accent)
    pen.bar(-0.9, 0.64, 0.9, 0.76, c.ink)
    pen.bar(-1, 0.8, 1, 0.94, c.ink)


def _crown(pen: Pen, c: Inks) -> None:
    spikes = ((-0.95, -0.35), (-0.45, 0.05), (0, -0.7), (0.45, 0.05), (0.95, -0.35))
    pen.polygon((*spikes, (0.72, 0.6), (-0.72, 0.6)), c.ink)
    for x, y in spikes[::2]:
        pen.disc(x, y - 0.06, 0.12, c.accent)
    pen.bar(-0.72, 0.66, 0.72, 0.84, c.ink)
    for x in (-0.4, 0.0, 0.4):
        pen.polygon(((x - 0.1, 0.4), (x, 0.25), (x + 0.1, 0.4), (x, 0.55)), c.accent)


def _planet(pen: Pen, c: Inks) -> None:
    for x, y, r in ((-0.8, -0.75, 0.13), (0.75, -0.85, 0.1), (0.85, 0.7, 0.13), (-0.7, 0.85, 0.09)):
        pen.star(x, y, (r, r * 0.3), 4, c.accent)
    tilt = np.array([[0.93, -0.36], [0.36, 0.93]])
    rim, hole = CIRCLE * (1.05, 0.3), CIRCLE * (0.8, 0.18)
    pen.polygon(np.vstack([rim, hole[::-1]]) @ tilt, c.accent)
    pen.disc(0, 0, 0.58, c.ink)
    pen.polygon(np.vstack([rim[:24], hole[23::-1]]) @ tilt, c.accent)


def _saucer(pen: Pen, c: Inks) -> None:
    pen.polygon(((-0.3, 0.05), (0.3, 0.05), (0.75, 1.0), (-0.75, 1.0)), c.accent)
    pen.ring(0, -0.25, (0.44, 0.0), c.accent, (180, 360), 1.1)
    pen.oval(0, -0.1, 1.0, 0.28, c.ink)
    for x in (-0.6, -0.2, 0.2, 0.6):
        pen.disc(x, -0.06 + 0.05 * (abs(x) < 0.4), 0.08, c.ground)


def _mesa(pen: Pen, c: Inks) -> None:
    pen.disc(0.05, -0.25, 0.66, c.accent)
    butte = np.array(
        [(-0.5, 0), (-0.34, -0.22), (-0.3, -0.8), (0.26, -0.8), (0.32, -0.25), (0.5, 0)]
    )
    for x, y, scale in ((-0.45, 0.5, 0.95), (0.58, 0.55, 0.72)):
        pen.polygon(butte * scale + np.array((x, y)), c.ink)
    pen.polygon(((-1, 0.45), (1, 0.5), (0.9, 0.85), (-0.9, 0.85)), c.ink)


def _cactus(pen: Pen, c: Inks) -> None:
    pen.disc(0, -0.2, 0.6, c.accent)
    pen.bar(-0.14, -0.7, 0.14, 1, c.ink)
    pen.disc(0, -0.7, 0.14, c.ink)
    for x, elbow, tip in ((-0.55, 0.3, -0.3), (0.5, 0.05, -0.5)):
        pen.line(((0, elbow), (x, elbow), (x, tip)), 0.24, c.ink)
        pen.disc(x, tip, 0.12, c.ink)
    pen.oval(0, 0.96, 0.9, 0.1, c.ink)


MOTIFS: dict[str, tuple[Motif, ...]] = {
    "Adventure": (_compass, _ship),
    "Fantasy": (_castle, _sword),
    "History": (_temple, _crown),
    "Science Fiction": (_planet, _saucer),
    "Western": (_mesa, _cactus),
}
