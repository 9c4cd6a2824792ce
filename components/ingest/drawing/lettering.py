"""Lettering: how a poster's title and credits are set."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random

from PIL import Image, ImageDraw, ImageFont

from components.ingest.drawing.colour import Colour, legible
from components.ingest.drawing.sheet import Sheet
from components.ingest.drawn_films import DrawnFilm
from marquee.errors import DataError

ERA_LETTERING = 0.6
"""Chance that the era, rather than the first genre, chooses the lettering."""


@dataclass(frozen=True)
class Lettering:
    """How a title is set."""

    case: Callable[[str], str] = str.upper
    """Turns the title into its letters."""

    tracking: float = 0.04
    """Extra space between letters, in ems."""

    weight: float = 0.0
    """Thickness added to the strokes, in ems."""

    squeeze: float = 1.0
    """Width of the letters relative to the font's."""

    slant: float = 0.0
    """Lean to the right: 0.25 is a strong italic."""

    bounce: float = 0.0
    """How far letters hop off the line, in ems."""

    stacked: bool = False
    """One word a line, each as wide as the block."""

    block: bool = False
    """A bar of colour behind the title."""

    size: float = 0.2
    """Largest size, in units."""

    left: bool = False
    """Aligned left rather than centred."""

    @property
    def leading(self) -> float:
        """Distance between lines, in ems: capitals have no descenders."""
        return 0.84 if self.case is str.upper else 1.0

    @property
    def ascent(self) -> float:
        """Distance from the top of a line to its baseline, in ems."""
        return 0.76 if self.case is str.upper else 0.85


LETTERINGS: dict[str, Lettering] = {
    "engraved": Lettering(tracking=0.18, weight=0.012, squeeze=0.8, size=0.13),
    "broadside": Lettering(weight=0.045, squeeze=0.62, stacked=True, size=0.2),
    "brush": Lettering(str.title, tracking=0.0, weight=0.05, slant=0.28, squeeze=0.85, size=0.2),
    "banner": Lettering(weight=0.03, squeeze=0.75, block=True, size=0.14),
    "cutout": Lettering(str.lower, tracking=0.0, weight=0.06, bounce=0.05, size=0.19, left=True),
    "swiss": Lettering(str.lower, tracking=-0.03, weight=0.02, size=0.17, left=True),
    "airbrush": Lettering(tracking=0.02, weight=0.055, slant=0.15, size=0.2),
    "wide": Lettering(tracking=0.4, weight=0.008, size=0.1),
    "classic": Lettering(tracking=0.22, squeeze=0.9, size=0.11),
    "impact": Lettering(tracking=0.01, weight=0.06, squeeze=0.7, slant=0.12, size=0.22),
    "quiet": Lettering(str.lower, tracking=0.12, size=0.09),
    "tower": Lettering(weight=0.035, squeeze=0.48, stacked=True, size=0.28),
    "hop": Lettering(str.title, weight=0.06, bounce=0.1, squeeze=0.9, size=0.19),
    "stencil": Lettering(tracking=0.08, weight=0.04, squeeze=0.68, block=True, size=0.16),
    "script": Lettering(str.title, tracking=0.0, weight=0.004, slant=0.32, size=0.17),
}
"""The ways to set a title, by name."""

_GENRE_LETTERING: dict[str, tuple[str, ...]] = {
    "Action": ("impact", "tower"),
    "Adventure": ("brush", "impact"),
    "Animation": ("hop", "cutout"),
    "Comedy": ("hop", "swiss"),
    "Crime": ("stencil", "banner"),
    "Documentary": ("swiss", "quiet"),
    "Drama": ("classic", "quiet"),
    "Family": ("hop", "brush"),
    "Fantasy": ("engraved", "script"),
    "History": ("engraved", "classic"),
    "Horror": ("broadside", "tower"),
    "Music": ("cutout", "wide"),
    "Mystery": ("classic", "wide"),
    "Romance": ("script", "quiet"),
    "Science Fiction": ("wide", "airbrush"),
    "Thriller": ("tower", "stencil"),
    "War": ("stencil", "broadside"),
    "Western": ("broadside", "banner"),
}
"""Letterings of each genre."""

_STICKY = re.compile(r"\b(a|at|and|in|of|one|the|salt|sable) ", re.IGNORECASE)
"""Words that stay on the line of the next one."""

_NAMES = ("Marlow", "Sable", "Okafor", "Lindqvist", "Varga", "Ito", "Moreau", "Castellan", "Roy")
"""Who made the films."""


def draw_lettering(
    sheet: Sheet, film: DrawnFilm, era_letterings: tuple[str, ...], on_top: bool
) -> None:
    """Set a poster's title and credits.

    Args:
        sheet: Where to draw.
        film: Its title, first motif and seed decide.
        era_letterings: What the era offers, as names in `LETTERINGS`.
        on_top: The title is above the motifs rather than below.
    """
    rng = Random(f"lettering/{film.seed}")
    by_era = rng.random() < ERA_LETTERING
    style = LETTERINGS[rng.choice(era_letterings if by_era else _GENRE_LETTERING[film.motifs[0]])]
    top, height = (0.06, 0.26) if on_top else (1.08, 0.3)
    _draw_title(sheet, _wrap(film.title, style), style, top, height)
    _draw_credits(sheet, rng)


def _draw_title(
    sheet: Sheet, lines: Sequence[str], style: Lettering, top: float, height: float
) -> None:
    sizes = _fitted(lines, style, height)
    depth = sum(sizes) * style.leading
    y = top + (height - depth) / 2
    under = sheet.colour_at(0.5, y + depth / 2, 0.1)
    if style.block:
        under = legible(sheet.palette.ink, under, 0.2)
        sheet.box(0, y - 0.035, 1, y + depth + 0.02, under)
    colour = legible(sheet.palette.accent, under, 0.5)
    for line, size in zip(lines, sizes, strict=True):
        _print_line(sheet, line, style, size, y + size * style.ascent - size, colour)
        y += size * style.leading


def _draw_credits(sheet: Sheet, rng: Random) -> None:
    style = Lettering(squeeze=0.6, tracking=0.06, size=0.032)
    initials = [f"{rng.choice('ABCDEGHJKLMNRST')}. {name}" for name in rng.sample(_NAMES, 3)]
    text = "Directed by {}   Written by {}   Music by {}".format(*initials).upper()
    size = min(style.size, 0.8 / _extent(text, style))
    colour = legible(sheet.palette.accent, sheet.colour_at(0.5, 1.44, 0.03), 0.3)
    _print_line(sheet, text, style, size, 1.42, colour)


def _fitted(lines: Sequence[str], style: Lettering, height: float) -> list[float]:
    """Choose each line's size, so that the lines fit the sheet's width and a height."""
    fits = [0.84 / _extent(line, style) for line in lines]
    sizes = [min(style.size, fit if style.stacked else min(fits)) for fit in fits]
    scale = min(1.0, height / (sum(sizes) * style.leading))
    return [size * scale for size in sizes]


def _print_line(
    sheet: Sheet, text: str, style: Lettering, size: float, top: float, colour: Colour
) -> None:
    mask = _line_mask(text, round(size * sheet.unit), style)
    x = 0.08 if style.left else 0.5 - mask.width / sheet.unit / 2
    sheet.image.paste(colour, sheet.at(x, top), mask)


@lru_cache(maxsize=128)
def _font(pixels: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size=pixels)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise DataError(
            "Pillow has no FreeType, so it has no font of any size",
            remedy="install a Pillow wheel from PyPI",
        )
    return font


def _extent(text: str, style: Lettering) -> float:
    """Width of a line in ems."""
    letters = _font(64).getlength(text) / 64
    return (letters + len(text) * (style.tracking + style.weight)) * style.squeeze + style.slant


def _wrap(title: str, style: Lettering) -> list[str]:
    """Break a title into lines: words alone if stacked, else one line or two even ones."""
    words = _STICKY.sub(r"\1_", title).split(" ")
    if not style.stacked and len(title) < 12:
        words = [title]
    elif not style.stacked and len(words) > 1:
        halves = [(" ".join(words[:i]), " ".join(words[i:])) for i in range(1, len(words))]
        words = list(min(halves, key=lambda two: max(map(len, two))))
    return [style.case(line.replace("_", " ")) for line in words]


def _line_mask(text: str, pixels: int, style: Lettering) -> Image.Image:
    font, stroke = _font(max(4, pixels)), round(pixels * style.weight)
    width = math.ceil(font.getlength(text) + len(text) * pixels * (style.tracking + style.weight))
    mask = Image.new("L", (width + 2 * stroke + 2, round(pixels * 1.4)))
    draw, x = ImageDraw.Draw(mask), float(stroke)
    for index, letter in enumerate(text):
        hop = pixels * style.bounce * (-1) ** index
        draw.text((x, pixels + hop), letter, 255, font, anchor="ls", stroke_width=stroke)
        x += font.getlength(letter) + pixels * (style.tracking + style.weight)
    size = (max(1, round(mask.width * style.squeeze)), mask.height)
    mask = mask.resize(size) if style.squeeze != 1 else mask
    if not style.slant:
        return mask
    lean = (1, style.slant, -style.slant * pixels, 0, 1, 0)
    grown = (size[0] + round(pixels * style.slant), size[1])
    return mask.transform(grown, Image.Transform.AFFINE, lean, Image.Resampling.BILINEAR)
