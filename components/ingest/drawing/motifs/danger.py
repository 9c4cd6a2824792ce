"""Motifs of danger: action, crime, horror, mystery, thriller and war."""

import numpy as np

from components.ingest.drawing.colour import WHITE
from components.ingest.drawing.motifs.motif import Inks, Motif
from components.ingest.drawing.pen import Pen


def _burst(pen: Pen, c: Inks) -> None:
    pen.star(0, 0, (1.0, 0.55), 11, c.ink)
    pen.star(0.03, 0.02, (0.62, 0.34), 9, c.accent)
    pen.star(0.03, 0.02, (0.3, 0.17), 7, c.ground)


def _bolt(pen: Pen, c: Inks) -> None:
    bolt = np.array([(0.3, -1), (-0.6, 0.15), (-0.05, 0.15), (-0.3, 1), (0.62, -0.3), (0.08, -0.3)])
    pen.polygon(bolt + np.array((0.14, 0.06)), c.accent)
    pen.polygon(bolt, c.ink)


def _jet(pen: Pen, c: Inks) -> None:
    for x in (-0.5, 0.0, 0.5):
        pen.bar(x - 0.05, 0.5 - abs(x) * 0.3, x + 0.05, 1.0 - abs(x) * 0.3, c.accent)
    pen.polygon(((0, -0.35), (1, 0.35), (1, 0.52), (0, 0.3), (-1, 0.52), (-1, 0.35)), c.ink)
    pen.polygon(((0, 0.3), (0.42, 0.68), (0.42, 0.82), (-0.42, 0.82), (-0.42, 0.68)), c.ink)
    pen.blob(((0, -1), (0.17, -0.5), (0.15, 0.6), (0, 0.8), (-0.15, 0.6), (-0.17, -0.5)), c.ink)
    pen.oval(0, -0.48, 0.08, 0.2, c.accent)


def _prison(pen: Pen, c: Inks) -> None:
    pen.disc(0, -0.28, 0.36, c.accent)
    pen.blob(((-0.75, 0.95), (-0.6, 0.35), (0, 0.1), (0.6, 0.35), (0.75, 0.95)), c.accent)
    for x in (-0.84, -0.42, 0.0, 0.42, 0.84):
        pen.bar(x - 0.075, -1, x + 0.075, 1, c.ink)
    pen.bar(-1, -0.72, 1, -0.58, c.ink)
    pen.bar(-1, 0.62, 1, 0.76, c.ink)


def _revolver(pen: Pen, c: Inks) -> None:
    pen.bar(-1, -0.5, 0.35, -0.22, c.ink)
    pen.bar(-0.55, -0.24, 0.2, -0.1, c.ink)
    pen.polygon(((-0.92, -0.5), (-0.86, -0.62), (-0.8, -0.5)), c.ink)
    pen.blob(
        ((0.1, -0.58), (0.55, -0.5), (0.72, -0.15), (0.98, 0.75), (0.5, 0.85), (0.3, 0)), c.ink
    )
    pen.bar(-0.12, -0.6, 0.3, -0.06, c.accent)
    pen.ring(0.08, 0.12, (0.27, 0.18), c.ink, (0, 200))
    pen.polygon(((0.5, -0.5), (0.72, -0.75), (0.78, -0.6), (0.64, -0.38)), c.ink)


def _skull(pen: Pen, c: Inks) -> None:
    pen.oval(0, -0.22, 0.8, 0.74, c.ink)
    pen.blob(((-0.48, 0.2), (0.48, 0.2), (0.42, 0.85), (0, 0.92), (-0.42, 0.85)), c.ink)
    for side in (-1, 1):
        pen.oval(side * 0.34, -0.1, 0.24, 0.27, c.ground)
        pen.disc(side * 0.34, -0.06, 0.07, c.accent)
    pen.polygon(((0, 0.14), (0.12, 0.38), (-0.12, 0.38)), c.ground)
    for x in (-0.24, -0.08, 0.08, 0.24):
        pen.bar(x - 0.022, 0.56, x + 0.022, 0.92, c.ground)


def _fangs(pen: Pen, c: Inks) -> None:
    lips = ((-1, -0.2), (-0.4, -0.62), (0, -0.5), (0.4, -0.62), (1, -0.2), (0.5, 0.5), (-0.5, 0.5))
    pen.blob(lips, c.ink)
    pen.blob(tuple((x * 0.8, y * 0.66) for x, y in lips), c.ground)
    for x, reach in ((-0.42, 0.42), (-0.16, 0.02), (0.16, 0.02), (0.42, 0.42)):
        pen.polygon(((x - 0.13, -0.32), (x + 0.13, -0.32), (x, reach)), WHITE)
    for x, drop in ((-0.42, 0.6), (0.36, 0.88), (0.0, 0.75)):
        pen.bar(x - 0.05, 0.4, x + 0.05, drop, c.ink)
        pen.oval(x, drop, 0.08, 0.11, c.ink)


def _ghost(pen: Pen, c: Inks) -> None:
    hem = ((0.72, 0.95), (0.36, 0.68), (0, 0.95), (-0.36, 0.68), (-0.72, 0.95))
    pen.blob(((-0.7, 0), (-0.5, -0.75), (0, -0.98), (0.5, -0.75), (0.7, 0), *hem), c.ink)
    for side in (-1, 1):
        pen.oval(side * 0.24, -0.35, 0.13, 0.2, c.ground)
    pen.oval(0, 0.15, 0.17, 0.26, c.ground)


def _keyhole(pen: Pen, c: Inks) -> None:
    pen.oval(0, 0, 0.7, 0.98, c.ink)
    pen.ring(0, 0, (0.6, 0.55), c.accent, tall=1.45)
    pen.disc(0, -0.25, 0.32, c.ground)
    pen.polygon(((-0.13, -0.1), (0.13, -0.1), (0.3, 0.58), (-0.3, 0.58)), c.ground)


def _magnifier(pen: Pen, c: Inks) -> None:
    pen.line(((0.3, 0.3), (0.9, 0.9)), 0.26, c.ink)
    pen.disc(-0.2, -0.2, 0.76, c.ink)
    pen.disc(-0.2, -0.2, 0.6, c.ground)
    pen.ring(-0.2, -0.34, (0.25, 0.11), c.accent, (170, 395))
    pen.bar(-0.25, -0.24, -0.11, 0.02, c.accent)
    pen.disc(-0.18, 0.16, 0.09, c.accent)


def _crosshair(pen: Pen, c: Inks) -> None:
    pen.ring(0, 0, (0.82, 0.7), c.ink)
    for x, y in ((1, 0), (0, 1), (-1, 0), (0, -1)):
        pen.line(((x, y), (x * 0.28, y * 0.28)), 0.09, c.ink)
    pen.ring(0, 0, (0.44, 0.38), c.accent)
    pen.disc(0, 0, 0.12, c.accent)


def _eye(pen: Pen, c: Inks) -> None:
    lid = ((-1, 0.02), (-0.55, -0.4), (0, -0.56), (0.55, -0.4), (1, 0.02))
    pen.blob((*lid, (0.55, 0.42), (0, 0.56), (-0.55, 0.42)), c.ink)
    pen.disc(0, 0, 0.44, c.ground)
    pen.disc(0, 0, 0.34, c.accent)
    pen.disc(0, 0, 0.16, c.ground)
    for x, y in ((-0.6, -0.5), (0, -0.68), (0.6, -0.5)):
        pen.line(((x, y), (x * 1.35, y * 1.4)), 0.08, c.ink)


def _helmet(pen: Pen, c: Inks) -> None:
    pen.ring(0, 0.2, (0.82, 0.0), c.ink, (180, 360), 1.1)
    pen.blob(((-1, 0.3), (-0.7, 0.12), (0.7, 0.12), (1, 0.3), (0.7, 0.36), (-0.7, 0.36)), c.ink)
    pen.star(0, -0.25, (0.3, 0.125), 5, c.accent)
    pen.line(((-0.62, 0.34), (-0.35, 0.85), (0.35, 0.85), (0.62, 0.34)), 0.08, c.accent)


def _chevrons(pen: Pen, c: Inks) -> None:
    chevron = np.array([(0, 0), (0.9, 0.5), (0.9, 0.8), (0, 0.3), (-0.9, 0.8), (-0.9, 0.5)])
    for row, fill in enumerate((c.ink, c.accent, c.ink)):
        pen.polygon(chevron + np.array((0, -0.9 + 0.48 * row)), fill)


MOTIFS: dict[str, tuple[Motif, ...]] = {
    "Action": (_burst, _bolt, _jet),
    "Crime": (_prison, _revolver),
    "Horror": (_skull, _fangs, _ghost),
    "Mystery": (_keyhole, _magnifier),
    "Thriller": (_crosshair, _eye),
    "War": (_helmet, _chevrons),
}
