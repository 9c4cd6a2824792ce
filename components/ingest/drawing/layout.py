"""Where a poster's motifs go, and in which colours."""

from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from components.ingest.drawing.colour import BLACK, WHITE, Colour, distance, legible, mix
from components.ingest.drawing.motifs import MOTIFS, Inks
from components.ingest.drawing.palettes import Grade, Palette, genre_palette
from components.ingest.drawing.pen import Pen
from components.ingest.drawing.sheet import Sheet
from components.ingest.drawn_films import DrawnFilm


class Slot(NamedTuple):
    """A place for a motif, in units on a sheet whose title is at the bottom."""

    x: float
    y: float
    size: float

    def alone(self) -> "Slot":
        """Enlarge a place and move it most of the way to the middle."""
        return Slot(0.5 + (self.x - 0.5) * 0.4, 0.55 + (self.y - 0.55) * 0.5, self.size * 1.25)


@dataclass(frozen=True)
class Plan:
    """Where a poster's first, second and third motifs go."""

    slots: tuple[Slot, Slot, Slot]
    halo: bool = False
    """A disc behind the first motif."""

    roundels: bool = False
    """Discs behind the others."""


PLANS: tuple[Plan, ...] = (
    Plan((Slot(0.5, 0.46, 0.33), Slot(0.75, 0.86, 0.21), Slot(0.23, 0.87, 0.19)), roundels=True),
    Plan((Slot(0.5, 0.36, 0.26), Slot(0.28, 0.86, 0.22), Slot(0.74, 0.87, 0.2)), halo=True),
    Plan((Slot(0.37, 0.37, 0.3), Slot(0.71, 0.82, 0.24), Slot(0.23, 0.87, 0.19))),
    Plan((Slot(0.62, 0.62, 0.32), Slot(0.25, 0.24, 0.21), Slot(0.21, 0.88, 0.18)), roundels=True),
    Plan((Slot(0.5, 0.72, 0.31), Slot(0.3, 0.22, 0.21), Slot(0.76, 0.22, 0.19))),
    Plan((Slot(0.3, 0.5, 0.28), Slot(0.75, 0.46, 0.23), Slot(0.52, 0.87, 0.2))),
)
"""The compositions that posters are made from."""


def draw_motifs(
    sheet: Sheet, film: DrawnFilm, grade: Grade, plan: Plan, title_on_top: bool
) -> None:
    """Draw the motifs of a film's genres, the first one the largest.

    Args:
        sheet: Where to draw.
        film: Its motifs and seed decide.
        grade: What the era does to colours that are not the sheet's.
        plan: Where the motifs go.
        title_on_top: The title is above the motifs, which move down.
    """
    rng = Random(f"motifs/{film.seed}")
    slots = plan.slots if len(film.motifs) > 1 else (plan.slots[0].alone(),)
    drop = 0.31 if title_on_top else 0.0
    for rank, (genre, slot) in enumerate(zip(film.motifs, slots, strict=False)):
        x, y = slot.x + rng.uniform(-0.03, 0.03), slot.y + drop + rng.uniform(-0.03, 0.03)
        size = slot.size * rng.uniform(0.85, 1.12)
        if plan.roundels if rank else plan.halo:
            sheet.disc(x, y, size * 1.25, _halo_colour(sheet, x, y, rank))
        ground = sheet.colour_at(x, y, size * 0.6)
        palette = genre_palette(genre, grade, rng) if rank else sheet.palette
        pen = Pen(sheet, x, y, size, rng.gauss(0, 5), rng.random() < 0.5)
        rng.choice(MOTIFS[genre])(pen, _inks(palette, ground))


def _halo_colour(sheet: Sheet, x: float, y: float, rank: int) -> Colour:
    colour = sheet.palette.shade if rank else sheet.palette.accent
    return legible(colour, sheet.colour_at(x, y, 0.1), 0.18)


def _inks(palette: Palette, ground: Colour) -> Inks:
    """Choose an ink that shows on the ground, and an accent that shows on both."""
    ink = legible(palette.ink, ground)
    for accent in (palette.accent, palette.shade, palette.ground, WHITE, BLACK):
        if min(distance(accent, ink), distance(accent, ground)) >= 40:
            return Inks(ink, accent, ground)
    return Inks(ink, mix(ink, ground, 0.5), ground)
