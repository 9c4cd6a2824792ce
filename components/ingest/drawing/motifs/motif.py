"""What a motif is: one picture in the pen's box."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from components.ingest.drawing.colour import Colour
from components.ingest.drawing.pen import Pen


class Inks(NamedTuple):
    """The colours of a motif."""

    ink: Colour
    """Most of it."""

    accent: Colour
    """Its details."""

    ground: Colour
    """What is behind it."""


Motif = Callable[[Pen, Inks], None]
"""Draws itself in the pen's box."""


def mirrored(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Mirror points left and right."""
    return [(-x, y) for x, y in points]
