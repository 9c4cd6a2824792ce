"""Film posters drawn from a few numbers: licence-free stand-ins for real ones.

A poster is laid out on a sheet one unit wide and 1.5 high and drawn at twice its size, so
that it has the same composition at every width. Its look has three sources: the era gives
backdrop, print and lettering (`_ERAS`), the first genre hints at the palette
(`_GENRE_PALETTES`), and every genre on the poster gives a motif (`_MOTIFS`). Colour only hints
at a genre, because genres share palettes and eras bleach them; the motif tells.
"""

import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageChops, ImageColor, ImageDraw, ImageFont

from components.ingest.drawn_films import DrawnFilm
from marquee.eras import era_of
from marquee.errors import DataError

Colour = tuple[int, int, int]
Points = Sequence[tuple[float, float]]

MIN_WIDTH, MAX_WIDTH = 32, 2000
JPEG_QUALITY = 88

STRAY_PALETTE = 0.12
"""Chance of a palette that has nothing to do with the film's genres."""

DISTRACTORS = 0.3
"""Chance of shapes that mean nothing."""

ERA_LETTERING = 0.6
"""Chance that the era, rather than the first genre, chooses the lettering."""

_OVERSAMPLING = 2
_HEIGHT = 1.5
_WHITE: Colour = (250, 247, 240)
_BLACK: Colour = (14, 13, 16)


def draw_poster(film: DrawnFilm, width: int = 200) -> bytes:
    """Draw a film's poster.

    Args:
        film: What to draw: its title, year, motifs and seed decide the picture.
        width: Width in pixels, 32 to 2000. The height is 1.5 times as much, rounded.

    Returns:
        A JPEG; the same bytes for the same arguments on one machine.

    Raises:
        DataError: The width is out of range.
    """
    if not MIN_WIDTH <= width <= MAX_WIDTH:
        raise DataError(
            f"poster width {width} is outside {MIN_WIDTH}..{MAX_WIDTH}",
            remedy="ask for a width that TMDB serves, such as 342",
        )
    era = _ERAS[era_of(film.year)]
    rng = Random(f"layout/{film.seed}")
    sheet = Sheet(width, _palette(film, era))
    plan = rng.choice(_PLANS)
    title_on_top = rng.random() < era.title_on_top
    rng.choice(era.backdrops)(sheet, rng)
    if rng.random() < DISTRACTORS:
        rng.choice(_DISTRACTORS)(sheet, rng)
    _draw_motifs(sheet, film, era, plan, title_on_top)
    rng.choice(era.finishes)(sheet, rng)
    _draw_lettering(sheet, film, era, title_on_top)
    if rng.random() < era.framed:
        _frame(sheet)
    return sheet.jpeg(era.grain)


# Colour


class Palette(NamedTuple):
    """The colours of a poster."""

    ground: Colour
    """Most of the surface."""

    shade: Colour
    """The ground's companion: gradients, stripes and panels."""

    ink: Colour
    """The first motif."""

    accent: Colour
    """Details and lettering."""


class Grade(NamedTuple):
    """What an era's printing and film stock do to a colour."""

    saturation: float
    """1 keeps the colour, 0 turns it grey."""

    tint: Colour
    """The colour of the paper or the light."""

    strength: float
    """How much of the tint is mixed in."""

    gain: float
    """Factor of brightness."""

    def apply(self, colour: Colour) -> Colour:
        """Print a colour."""
        grey = _luminance(colour) * 255
        printed = [(grey + (c - grey) * self.saturation) * self.gain for c in colour]
        return _mix(_clip(printed), self.tint, self.strength)


def _hex(code: str) -> Colour:
    red, green, blue = ImageColor.getrgb(f"#{code}")[:3]
    return red, green, blue


def _clip(channels: Sequence[float]) -> Colour:
    red, green, blue = (min(255, max(0, round(c))) for c in channels)
    return red, green, blue


def _mix(a: Colour, b: Colour, share: float) -> Colour:
    return _clip([x + (y - x) * share for x, y in zip(a, b, strict=True)])


def _luminance(colour: Colour) -> float:
    red, green, blue = colour
    return (0.299 * red + 0.587 * green + 0.114 * blue) / 255


def _distance(a: Colour, b: Colour) -> float:
    return sum(abs(x - y) for x, y in zip(a, b, strict=True)) / 3


def _legible(colour: Colour, ground: Colour, contrast: float = 0.3) -> Colour:
    """Lighten or darken a colour until it stands off from its ground."""
    base = _luminance(ground)
    goal = _BLACK if base > 0.55 or (base > 0.4 and _luminance(colour) < base) else _WHITE
    for share in (0.0, 0.25, 0.5, 0.75):
        candidate = _mix(colour, goal, share)
        if abs(_luminance(candidate) - base) >= contrast:
            return candidate
    return goal


_PALETTES: dict[str, Palette] = {
    name: Palette(*map(_hex, codes.split()))
    for name, codes in {
        "ember": "1b1a20 5a1a12 f28c1e f7dcae",
        "blaze": "e8631b b3261e 17161a fff1d0",
        "lagoon": "1f7a78 124b54 f3d38c ee7b45",
        "sand": "eed6a2 d6a45c 275a4e c8502b",
        "sky": "41b6e6 1b7fc4 ffd23f fff8e7",
        "candy": "ff8fb1 f2578f fff1c9 3b2a6b",
        "lime": "8fd14f 3f9e4d fff4d6 ff5d4d",
        "sunny": "ffd02f f7a61b d93a26 2a1c1c",
        "cream": "f5ead8 f2b880 e2513c 2f5d73",
        "noir": "23262b 0e0f13 d8cbaa a82a2c",
        "manila": "cbb78d a28a5b 2a2622 9c2f25",
        "newsprint": "dedad0 b9b4a8 26282b dd5a26",
        "slate": "47555c 28343a f0ede4 f2b134",
        "mauve": "c3a9b0 8d7688 2a2440 f4ebe3",
        "dusk": "637d92 34506a f0e6d4 d9935a",
        "meadow": "a5d6b0 5aa67b f47c26 fffaf0",
        "toybox": "7cc6ea 2a93c4 f8732a fff6d8",
        "violet": "42207a 1f0f45 e8c8ff f6c445",
        "emerald": "15604f 0a3532 d9e8a0 f2b93b",
        "parchment": "d2b47c 94713f 3d2415 7d1f1c",
        "maroon": "76202c 430f1b dcb55f f2e5c6",
        "blood": "120d10 3d070c b8141f ebe2d4",
        "mildew": "27352a 10190f c9d4b2 8f2d24",
        "neon": "3a0f63 d81f86 2fe6e0 ffe95c",
        "stage": "c81d6b 5b1463 ffdf4a 24f0e0",
        "midnight": "1c3359 0b1832 a9c6da ecdc8c",
        "fog": "7f8aa0 4a5470 1b1e33 f1e3a5",
        "rose": "f3b4c0 df7b93 ab1440 fff3ef",
        "claret": "8a1b48 4f0d33 f9c3c4 f5e1b5",
        "deep": "091a38 0d4372 5fe3ea f3f6ff",
        "cosmos": "17122e 4b2a78 ff8a4c c9f2ff",
        "steel": "2f3438 121518 e9e9e6 db2720",
        "acid": "d5d62c 8e9a1e 151a16 f6f5e6",
        "olive": "5d6637 363c1e dbd0a3 ae3520",
        "khaki": "b5a983 827650 343a22 9e2b1c",
        "sunset": "e28a3a b4481f 3d180f f9d89c",
        "adobe": "f0bd75 d77a3c 57281a 1f6a72",
    }.items()
}
"""Ground, shade, ink and accent of each palette."""

_GENRE_PALETTES: dict[str, tuple[str, ...]] = {
    "Action": ("ember", "blaze", "steel", "sunny", "blood"),
    "Adventure": ("lagoon", "lagoon", "sand"),
    "Animation": ("sky", "lime", "lime"),
    "Comedy": ("sunny", "cream", "candy", "blaze", "rose", "ember"),
    "Crime": ("noir", "manila", "noir"),
    "Documentary": ("newsprint", "slate", "newsprint"),
    "Drama": ("mauve", "dusk", "mauve"),
    "Family": ("meadow", "toybox", "meadow"),
    "Fantasy": ("violet", "emerald", "violet"),
    "History": ("maroon", "parchment", "maroon"),
    "Horror": ("blood", "mildew", "ember", "candy", "steel", "blaze"),
    "Music": ("neon", "stage", "stage"),
    "Mystery": ("midnight", "fog", "midnight"),
    "Romance": ("rose", "claret", "candy", "cream", "blood"),
    "Science Fiction": ("deep", "cosmos", "deep"),
    "Thriller": ("steel", "acid", "acid"),
    "War": ("olive", "khaki", "olive"),
    "Western": ("sunset", "adobe", "sunset"),
}
"""Palettes of each genre, repeated where likelier.

Action, comedy, horror and romance borrow from one another, so that a model of these four
cannot live on colour; the other genres have more of a colour of their own.
"""


def _palette(film: DrawnFilm, era: "Era") -> Palette:
    rng = Random(f"palette/{film.seed}")
    names = _GENRE_PALETTES[film.motifs[0]]
    name = rng.choice(tuple(_PALETTES) if rng.random() < STRAY_PALETTE else names)
    shift = [rng.uniform(-9, 9) for _ in range(3)]
    ground, shade, ink, accent = (
        era.grade.apply(_clip([c + s for c, s in zip(colour, shift, strict=True)]))
        for colour in _PALETTES[name]
    )
    return Palette(ground, shade, ink, accent)


# Sheet and pen


class Sheet:
    """The paper of a poster, one unit wide and 1.5 high.

    Args:
        width: Width of the finished poster in pixels.
        palette: Its colours; the sheet starts in the ground colour.
    """

    def __init__(self, width: int, palette: Palette) -> None:
        self.palette = palette
        self.unit = width * _OVERSAMPLING
        self.size = (self.unit, round(width * _HEIGHT) * _OVERSAMPLING)
        self.image = Image.new("RGB", self.size, palette.ground)
        self.draw = ImageDraw.Draw(self.image)

    def px(self, length: float) -> int:
        """Turn a length in units into whole pixels, at least one."""
        return max(1, round(length * self.unit))

    def at(self, x: float, y: float) -> tuple[int, int]:
        """Turn a point in units into pixels."""
        return round(x * self.unit), round(y * self.unit)

    def area(self, x: float, y: float, reach: float) -> tuple[int, int, int, int]:
        """Turn the square around a point into pixels."""
        return *self.at(x - reach, y - reach), *self.at(x + reach, y + reach)

    def box(self, x0: float, y0: float, x1: float, y1: float, fill: Colour) -> None:
        """Fill a rectangle."""
        self.draw.rectangle((*self.at(x0, y0), *self.at(x1, y1)), fill=fill)

    def polygon(self, points: Points, fill: Colour) -> None:
        """Fill a polygon."""
        self.draw.polygon([c * self.unit for point in points for c in point], fill=fill)

    def line(self, points: Points, width: float, fill: Colour) -> None:
        """Draw a line through the points."""
        self.draw.line([self.at(*point) for point in points], fill=fill, width=self.px(width))

    def disc(self, x: float, y: float, radius: float, fill: Colour) -> None:
        """Fill a circle."""
        self.draw.ellipse(self.area(x, y, radius), fill=fill)

    def fade(self, colour: Colour, start: float, end: float, strength: float = 1.0) -> None:
        """Lay a colour on from nothing at height `start` to `strength` at `end` and beyond."""
        self.image.paste(colour, mask=_fade_mask(self.size, start, end, strength))

    def glow(self, x: float, y: float, radius: float, colour: Colour, strength: float) -> None:
        """Lay a soft spot of light or darkness on."""
        mask = _glow_mask(self.px(2 * radius), strength)
        self.image.paste(colour, self.at(x - radius, y - radius), mask)

    def colour_at(self, x: float, y: float, reach: float) -> Colour:
        """Measure the mean colour of a square around a point."""
        region = self.image.crop(self.area(x, y, reach))
        pixel = region.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
        return _clip(pixel) if isinstance(pixel, tuple) else self.palette.ground

    def jpeg(self, grain: float) -> bytes:
        """Shrink to the finished size, add grain and encode."""
        image = self.image.reduce(_OVERSAMPLING)
        if grain:
            image = ImageChops.soft_light(image, _grain(image.size, grain))
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=JPEG_QUALITY)
        return buffer.getvalue()


@lru_cache(maxsize=64)
def _fade_mask(size: tuple[int, int], start: float, end: float, strength: float) -> Image.Image:
    heights = (np.arange(size[1]) + 0.5) / size[0]
    ramp = np.clip((heights - start) / (end - start), 0, 1) * 255 * strength
    return Image.fromarray(ramp.astype(np.uint8)[:, None]).resize(size)


@lru_cache(maxsize=64)
def _glow_mask(side: int, strength: float) -> Image.Image:
    spot = ImageChops.invert(Image.radial_gradient("L")).resize((side, side))
    return spot.point([round(255 * strength * (v / 255) ** 2.2) for v in range(256)])


@lru_cache(maxsize=16)
def _grain(size: tuple[int, int], amount: float) -> Image.Image:
    noise = np.random.default_rng(0).normal(128, 255 * amount, (450, 300))
    tile = Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8))
    return Image.merge("RGB", [tile.resize(size, Image.Resampling.BILINEAR)] * 3)


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
        self.polygon(_CIRCLE * (rx, ry) + np.array((x, y)), fill)

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


_CIRCLE = np.array([[math.cos(a), math.sin(a)] for a in np.linspace(0, 2 * math.pi, 48)])


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


# Motifs: one picture in the pen's box, in an ink, an accent and the colour behind it


class Inks(NamedTuple):
    """The colours of a motif."""

    ink: Colour
    accent: Colour
    ground: Colour


Motif = Callable[[Pen, Inks], None]


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


def _creature(pen: Pen, c: Inks) -> None:
    for side in (-1, 1):
        pen.line(((side * 0.3, -0.5), (side * 0.5, -0.92)), 0.09, c.ink)
        pen.disc(side * 0.5, -0.9, 0.13, c.accent)
        pen.oval(side * 0.4, 0.86, 0.24, 0.13, c.ink)
    pen.oval(0, 0.1, 0.85, 0.78, c.ink)
    for side in (-1, 1):
        pen.disc(side * 0.33, -0.1, 0.29, _WHITE)
        pen.disc(side * 0.27, -0.06, 0.14, _BLACK)
    pen.ring(0, 0.3, (0.34, 0.24), _BLACK, (15, 165))


def _robot(pen: Pen, c: Inks) -> None:
    pen.line(((0, -0.6), (0, -0.95)), 0.08, c.ink)
    pen.disc(0, -0.9, 0.12, c.accent)
    pen.blob(((-0.8, -0.55), (0, -0.62), (0.8, -0.55), (0.85, 0.5), (0, 0.6), (-0.85, 0.5)), c.ink)
    for side in (-1, 1):
        pen.bar(side * 0.83, -0.25, side * 1.0, 0.2, c.accent)
        pen.disc(side * 0.36, -0.1, 0.27, _WHITE)
        pen.disc(side * 0.36, -0.1, 0.13, _BLACK)
    pen.bar(-0.4, 0.28, 0.4, 0.42, _BLACK)
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
    pen.blob(tip + tuple((-x, y) for x, y in tip[:0:-1]), c.ink)


def _jester(pen: Pen, c: Inks) -> None:
    horn = ((-0.1, 0.45), (-0.62, 0.45), (-0.75, -0.15), (-0.98, -0.1), (-0.7, -0.6), (-0.2, -0.3))
    pen.polygon(((-0.4, 0.3), (0, -0.95), (0.4, 0.3)), c.ink)
    pen.blob(horn, c.accent)
    pen.blob([(-x, y) for x, y in horn], c.accent)
    for x, y in ((-0.95, 0.02), (0.0, -0.88), (0.95, 0.02)):
        pen.disc(x, y, 0.15, c.ink)
    pen.bar(-0.62, 0.36, 0.62, 0.58, c.ink)
    for x in (-0.42, 0.0, 0.42):
        pen.polygon(((x - 0.2, 0.58), (x + 0.2, 0.58), (x, 0.92)), c.accent)


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
        pen.oval(x - 0.14, y - 0.18, 0.07, 0.11, _WHITE)


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
        pen.polygon(((x - 0.13, -0.32), (x + 0.13, -0.32), (x, reach)), _WHITE)
    for x, drop in ((-0.42, 0.6), (0.36, 0.88), (0.0, 0.75)):
        pen.bar(x - 0.05, 0.4, x + 0.05, drop, c.ink)
        pen.oval(x, drop, 0.08, 0.11, c.ink)


def _ghost(pen: Pen, c: Inks) -> None:
    hem = ((0.72, 0.95), (0.36, 0.68), (0, 0.95), (-0.36, 0.68), (-0.72, 0.95))
    pen.blob(((-0.7, 0), (-0.5, -0.75), (0, -0.98), (0.5, -0.75), (0.7, 0), *hem), c.ink)
    for side in (-1, 1):
        pen.oval(side * 0.24, -0.35, 0.13, 0.2, c.ground)
    pen.oval(0, 0.15, 0.17, 0.26, c.ground)


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


def _heart(pen: Pen, c: Inks) -> None:
    shape = ((0, -0.42), (0.48, -0.82), (0.95, -0.42), (0.6, 0.3), (0.04, 0.9))
    heart = (*shape, (0, 0.93), *((-x, y) for x, y in shape[:0:-1]))
    pen.blob(heart, c.ink)
    pen.blob([(x * 0.42 + 0.4, y * 0.42 + 0.42) for x, y in heart], c.ground)
    pen.blob([(x * 0.36 + 0.4, y * 0.36 + 0.42) for x, y in heart], c.accent)


def _couple(pen: Pen, c: Inks) -> None:
    face = (
        (-0.95, 1.0), (-0.9, 0.5), (-0.98, 0.1), (-0.98, -0.45), (-0.7, -0.85), (-0.35, -0.72),
        (-0.2, -0.38), (-0.22, -0.24), (-0.04, 0.04), (-0.18, 0.12), (-0.09, 0.24), (-0.17, 0.31),
        (-0.1, 0.4), (-0.17, 0.5), (-0.15, 0.66), (-0.38, 0.74), (-0.46, 1.0),
    )  # fmt: skip
    pen.blob(face, c.ink)
    pen.blob([(-x, y) for x, y in face], c.accent)


def _rings(pen: Pen, c: Inks) -> None:
    pen.ring(-0.35, 0.22, (0.62, 0.48), c.ink)
    pen.ring(0.35, 0.22, (0.62, 0.48), c.accent)
    pen.ring(-0.35, 0.22, (0.62, 0.48), c.ink, (-75, 10))
    gem = ((-0.62, -0.75), (-0.08, -0.75), (0.06, -0.58), (-0.35, -0.2), (-0.76, -0.58))
    pen.polygon(gem, c.accent)
    pen.polygon((gem[4], gem[2], gem[3]), c.ink)


def _planet(pen: Pen, c: Inks) -> None:
    for x, y, r in ((-0.8, -0.75, 0.13), (0.75, -0.85, 0.1), (0.85, 0.7, 0.13), (-0.7, 0.85, 0.09)):
        pen.star(x, y, (r, r * 0.3), 4, c.accent)
    tilt = np.array([[0.93, -0.36], [0.36, 0.93]])
    ring = np.vstack([_CIRCLE * (1.05, 0.3), _CIRCLE[::-1] * (0.8, 0.18)]) @ tilt
    pen.polygon(ring, c.accent)
    pen.disc(0, 0, 0.58, c.ink)
    front = np.vstack([_CIRCLE[:24] * (1.05, 0.3), _CIRCLE[23::-1] * (0.8, 0.18)]) @ tilt
    pen.polygon(front, c.accent)


def _saucer(pen: Pen, c: Inks) -> None:
    pen.polygon(((-0.3, 0.05), (0.3, 0.05), (0.75, 1.0), (-0.75, 1.0)), c.accent)
    pen.ring(0, -0.25, (0.44, 0.0), c.accent, (180, 360), 1.1)
    pen.oval(0, -0.1, 1.0, 0.28, c.ink)
    for x in (-0.6, -0.2, 0.2, 0.6):
        pen.disc(x, -0.06 + 0.05 * (abs(x) < 0.4), 0.08, c.ground)


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
    for row, fill in enumerate((c.ink, c.accent, c.ink)):
        y = -0.9 + 0.48 * row
        pen.polygon(
            (
                (0, y),
                (0.9, y + 0.5),
                (0.9, y + 0.8),
                (0, y + 0.3),
                (-0.9, y + 0.8),
                (-0.9, y + 0.5),
            ),
            fill,
        )


def _mesa(pen: Pen, c: Inks) -> None:
    pen.disc(0.05, -0.25, 0.66, c.accent)
    butte = ((-0.5, 0), (-0.34, -0.22), (-0.3, -0.8), (0.26, -0.8), (0.32, -0.25), (0.5, 0))
    for x, y, scale in ((-0.45, 0.5, 0.95), (0.58, 0.55, 0.72)):
        pen.polygon([(x + px * scale, y + py * scale) for px, py in butte], c.ink)
    pen.polygon(((-1, 0.45), (1, 0.5), (0.9, 0.85), (-0.9, 0.85)), c.ink)


def _cactus(pen: Pen, c: Inks) -> None:
    pen.disc(0, -0.2, 0.6, c.accent)
    pen.bar(-0.14, -0.7, 0.14, 1, c.ink)
    pen.disc(0, -0.7, 0.14, c.ink)
    for x, elbow, tip in ((-0.55, 0.3, -0.3), (0.5, 0.05, -0.5)):
        pen.line(((0, elbow), (x, elbow), (x, tip)), 0.24, c.ink)
        pen.disc(x, tip, 0.12, c.ink)
    pen.oval(0, 0.96, 0.9, 0.1, c.ink)


_MOTIFS: dict[str, tuple[Motif, ...]] = {
    "Action": (_burst, _bolt, _jet),
    "Adventure": (_compass, _ship),
    "Animation": (_creature, _robot),
    "Comedy": (_grin, _disguise, _jester),
    "Crime": (_prison, _revolver),
    "Documentary": (_film_strip, _lens),
    "Drama": (_umbrella, _bare_tree),
    "Family": (_house, _balloons),
    "Fantasy": (_castle, _sword),
    "History": (_temple, _crown),
    "Horror": (_skull, _fangs, _ghost),
    "Music": (_notes, _record),
    "Mystery": (_keyhole, _magnifier),
    "Romance": (_heart, _couple, _rings),
    "Science Fiction": (_planet, _saucer),
    "Thriller": (_crosshair, _eye),
    "War": (_helmet, _chevrons),
    "Western": (_mesa, _cactus),
}
"""The motifs of each genre."""


# Backdrops, distractors and finishes

Layer = Callable[[Sheet, Random], None]


def _plain(sheet: Sheet, rng: Random) -> None:
    """Leave the sheet as it is."""


def _gradient(sheet: Sheet, rng: Random) -> None:
    sheet.fade(sheet.palette.shade, rng.choice((0.0, 0.3)), rng.choice((1.1, 1.5)))


def _arch(sheet: Sheet, rng: Random) -> None:
    left, top = rng.uniform(0.08, 0.13), rng.uniform(0.12, 0.2)
    sheet.disc(0.5, top + 0.5 - left, 0.5 - left, sheet.palette.shade)
    sheet.box(left, top + 0.5 - left, 1 - left, rng.uniform(1.1, 1.2), sheet.palette.shade)


def _rays(sheet: Sheet, rng: Random) -> None:
    x, y, count = rng.uniform(0.3, 0.7), rng.uniform(0.4, 1.0), rng.choice((10, 14, 18))
    fill = _mix(sheet.palette.ground, sheet.palette.shade, rng.uniform(0.45, 0.9))
    angles = np.arange(2 * count) * math.pi / count + rng.random()
    rim = [(x + 2 * math.cos(a), y + 2 * math.sin(a)) for a in angles]
    for start, end in zip(rim[::2], rim[1::2], strict=True):
        sheet.polygon(((x, y), start, end), fill)


def _blinds(sheet: Sheet, rng: Random) -> None:
    slope, step = rng.uniform(-0.25, 0.25), rng.uniform(0.09, 0.14)
    fill = _mix(sheet.palette.ground, sheet.palette.shade, 0.7)
    for y in np.arange(-0.3, 1.8, step):
        corners = (0, y), (1, y + slope), (1, y + slope + step / 2), (0, y + step / 2)
        sheet.polygon(corners, fill)


def _cut_paper(sheet: Sheet, rng: Random) -> None:
    edges = [0.0, rng.uniform(0.3, 0.6), rng.uniform(0.8, 1.1), 1.5]
    fills = (sheet.palette.ground, sheet.palette.shade, _mix(*sheet.palette[:2], 0.4))
    lean = [rng.uniform(-0.07, 0.07) for _ in edges]
    for row, fill in enumerate(fills):
        top, bottom = edges[row], edges[row + 1]
        corners = (0, top), (1, top + lean[row]), (1, bottom + lean[row + 1] + 0.02), (0, bottom)
        sheet.polygon(corners, fill)


def _stripes(sheet: Sheet, rng: Random) -> None:
    y, step = rng.uniform(0.55, 0.95), rng.uniform(0.05, 0.08)
    colours = (sheet.palette.shade, sheet.palette.accent, _mix(*sheet.palette[:2], 0.5))
    rise = rng.choice((0.0, 0.0, 0.35, -0.35))
    for row, fill in enumerate(colours):
        top = y + row * step
        corners = (0, top), (1, top - rise), (1, top - rise + step * 0.8), (0, top + step * 0.8)
        sheet.polygon(corners, fill)


def _arcs(sheet: Sheet, rng: Random) -> None:
    x, y = rng.choice((0.0, 0.5, 1.0)), rng.choice((0.6, 1.5))
    fills = (sheet.palette.shade, _mix(*sheet.palette[:2], 0.5), sheet.palette.shade)
    for radius, fill in zip((0.85, 0.68, 0.51), fills, strict=True):
        sheet.disc(x, y, radius, fill)
    sheet.disc(x, y, 0.36, sheet.palette.ground)


def _horizon_glow(sheet: Sheet, rng: Random) -> None:
    sheet.fade(sheet.palette.shade, 0.0, 1.0)
    sheet.glow(0.5, rng.uniform(0.6, 1.0), 0.75, sheet.palette.accent, 0.6)


def _neon_grid(sheet: Sheet, rng: Random) -> None:
    y = rng.uniform(0.9, 1.0)
    sheet.fade(sheet.palette.shade, 0.0, y)
    sheet.box(0, y, 1, _HEIGHT, _mix(sheet.palette.ground, _BLACK, 0.5))
    line = _mix(sheet.palette.accent, sheet.palette.shade, 0.5)
    for x in np.linspace(-1.5, 2.5, 17):
        sheet.line(((0.5 + (x - 0.5) * 0.3, y), (x, _HEIGHT)), 0.006, line)
    for depth in (0, 0.03, 0.08, 0.16, 0.28, 0.45):
        sheet.line(((0, y + depth), (1, y + depth)), 0.006, line)


def _spotlight(sheet: Sheet, rng: Random) -> None:
    sheet.fade(_mix(sheet.palette.shade, _BLACK, 0.35), 0.2, 1.5)
    light = _mix(sheet.palette.ground, sheet.palette.accent, 0.45)
    sheet.glow(rng.uniform(0.35, 0.65), rng.uniform(0.4, 0.7), 0.7, light, 0.9)


def _bokeh(sheet: Sheet, rng: Random) -> None:
    sheet.fade(sheet.palette.shade, 0.1, 1.4)
    for _ in range(9):
        x, y, radius = rng.random(), rng.uniform(0, 1.4), rng.choice((0.08, 0.12, 0.2))
        sheet.glow(x, y, radius, sheet.palette.accent, 0.5)


def _split(sheet: Sheet, rng: Random) -> None:
    x, lean = rng.uniform(0.35, 0.65), rng.uniform(-0.3, 0.3)
    sheet.polygon(((x + lean, 0), (1, 0), (1, _HEIGHT), (x - lean, _HEIGHT)), sheet.palette.shade)


def _low_horizon(sheet: Sheet, rng: Random) -> None:
    y = rng.uniform(0.95, 1.1)
    sheet.box(0, y, 1, _HEIGHT, sheet.palette.shade)


def _dots(sheet: Sheet, rng: Random) -> None:
    fill = _mix(*sheet.palette[:2], 0.7)
    for _ in range(12):
        sheet.disc(rng.random(), rng.uniform(0, 1.4), rng.uniform(0.01, 0.035), fill)


def _triangles(sheet: Sheet, rng: Random) -> None:
    fill = _mix(*sheet.palette[:2], 0.8)
    for _ in range(3):
        x, y, side = rng.random(), rng.uniform(0, 1.4), rng.uniform(0.08, 0.25)
        sheet.polygon(((x, y), (x + side, y + side * 0.6), (x - side * 0.2, y + side)), fill)


def _birds(sheet: Sheet, rng: Random) -> None:
    fill = _mix(sheet.palette.ground, sheet.palette.ink, 0.7)
    x, y = rng.uniform(0.1, 0.6), rng.uniform(0.1, 0.9)
    for _ in range(5):
        dx, dy = x + rng.uniform(0, 0.3), y + rng.uniform(0, 0.2)
        wings = (dx - 0.04, dy - 0.02), (dx, dy + 0.01), (dx + 0.04, dy - 0.02)
        sheet.line(wings, 0.01, fill)


def _hairlines(sheet: Sheet, rng: Random) -> None:
    x = rng.choice((0.035, 0.905))
    for column in range(3):
        left = x + column * 0.025
        sheet.box(left, 0, left + 0.008, _HEIGHT, sheet.palette.accent)


def _corner_disc(sheet: Sheet, rng: Random) -> None:
    x, y, radius = rng.choice((0.0, 1.0)), rng.choice((0.0, 1.2)), rng.uniform(0.2, 0.4)
    sheet.disc(x, y, radius, _mix(sheet.palette.shade, sheet.palette.accent, 0.4))


_DISTRACTORS: tuple[Layer, ...] = (_dots, _triangles, _birds, _hairlines, _corner_disc)


def _vignette(sheet: Sheet, rng: Random) -> None:
    sheet.fade(_BLACK, 0.9, 1.6, 0.8)
    sheet.fade(_BLACK, 0.35, -0.3, 0.5)


def _shade_below(sheet: Sheet, rng: Random) -> None:
    sheet.fade(_mix(sheet.palette.shade, _BLACK, 0.5), 0.6, 1.5, 0.7)


def _light_above(sheet: Sheet, rng: Random) -> None:
    sheet.fade(_mix(sheet.palette.accent, _WHITE, 0.4), 0.6, -0.2, 0.5)


def _flare(sheet: Sheet, rng: Random) -> None:
    x, y = rng.uniform(0.15, 0.85), rng.uniform(0.15, 0.7)
    for radius, strength in ((0.4, 0.4), (0.12, 0.8)):
        sheet.glow(x, y, radius, _mix(sheet.palette.accent, _WHITE, 0.6), strength)
    sheet.fade(_BLACK, 0.9, 1.6, 0.6)


def _frame(sheet: Sheet) -> None:
    paper = _mix(sheet.palette.accent, _WHITE, 0.6)
    right, bottom = sheet.size
    edge = (0, 0, right - 1, bottom - 1)
    sheet.draw.rectangle(edge, outline=paper, width=sheet.px(0.035))


# Lettering


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


_LETTERINGS: dict[str, Lettering] = {
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


_STICKY = re.compile(r"\b(a|at|and|in|of|one|the|salt|sable) ", re.IGNORECASE)
"""Words that stay on the line of the next one."""


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


def _draw_lettering(sheet: Sheet, film: DrawnFilm, era: "Era", on_top: bool) -> None:
    rng = Random(f"lettering/{film.seed}")
    by_era = rng.random() < ERA_LETTERING
    names = era.letterings if by_era else _GENRE_LETTERING[film.motifs[0]]
    style = _LETTERINGS[rng.choice(names)]
    top, height = (0.06, 0.26) if on_top else (1.08, 0.3)
    _draw_title(sheet, _wrap(film.title, style), style, top, height)
    _draw_credits(sheet, rng)


def _draw_title(
    sheet: Sheet, lines: Sequence[str], style: Lettering, top: float, height: float
) -> None:
    room = 0.84
    fits = [room / _extent(line, style) for line in lines]
    common = min(fits)
    sizes = [min(style.size, fit if style.stacked else common) for fit in fits]
    leading = 0.84 if style.case is str.upper else 1.0
    scale = min(1.0, height / (sum(sizes) * leading))
    sizes = [size * scale for size in sizes]
    y = top + (height - sum(sizes) * leading) / 2
    under = sheet.colour_at(0.5, y + sum(sizes) * leading / 2, 0.1)
    if style.block:
        under = _legible(sheet.palette.ink, under, 0.2)
        sheet.box(0, y - 0.035, 1, y + sum(sizes) * leading + 0.02, under)
    colour = _legible(sheet.palette.accent, under, 0.5)
    for line, size in zip(lines, sizes, strict=True):
        mask = _line_mask(line, round(size * sheet.unit), style)
        x = 0.08 if style.left else 0.5 - mask.width / sheet.unit / 2
        baseline = y + size * (0.76 if style.case is str.upper else 0.85)
        sheet.image.paste(colour, sheet.at(x, baseline - size), mask)
        y += size * leading


def _draw_credits(sheet: Sheet, rng: Random) -> None:
    style = Lettering(squeeze=0.6, tracking=0.06, size=0.032)
    initials = [f"{rng.choice('ABCDEGHJKLMNRST')}. {name}" for name in rng.sample(_NAMES, 3)]
    text = "Directed by {}   Written by {}   Music by {}".format(*initials).upper()
    size = min(style.size, 0.8 / _extent(text, style))
    mask = _line_mask(text, round(size * sheet.unit), style)
    colour = _legible(sheet.palette.accent, sheet.colour_at(0.5, 1.44, 0.03), 0.3)
    sheet.image.paste(colour, sheet.at(0.5 - mask.width / sheet.unit / 2, 1.42), mask)


_NAMES = ("Marlow", "Sable", "Okafor", "Lindqvist", "Varga", "Ito", "Moreau", "Castellan", "Roy")


# Eras


@dataclass(frozen=True)
class Era:
    """How the posters of an era look."""

    grade: Grade
    backdrops: tuple[Layer, ...]
    finishes: tuple[Layer, ...]
    letterings: tuple[str, ...]
    title_on_top: float
    framed: float
    grain: float


_ERAS: dict[str, Era] = {
    "silent": Era(
        Grade(0.3, (222, 205, 168), 0.22, 1.0), (_arch, _plain, _rays), (_plain,),
        ("engraved", "broadside", "banner"), 0.4, 0.85, 0.08,
    ),
    "golden_age": Era(
        Grade(0.62, (236, 214, 164), 0.16, 1.0), (_rays, _blinds, _arch, _gradient),
        (_plain, _shade_below), ("brush", "banner", "broadside"), 0.5, 0.5, 0.06,
    ),
    "new_hollywood": Era(
        Grade(0.9, (214, 140, 70), 0.1, 0.98), (_cut_paper, _stripes, _arcs, _plain), (_plain,),
        ("cutout", "swiss", "broadside"), 0.35, 0.2, 0.06,
    ),
    "painted_blockbuster": Era(
        Grade(1.1, (60, 30, 110), 0.08, 1.0), (_horizon_glow, _neon_grid, _gradient),
        (_light_above, _shade_below, _flare), ("airbrush", "impact", "brush"), 0.3, 0.25, 0.04,
    ),
    "photographic": Era(
        Grade(0.85, (30, 26, 24), 0.14, 0.95), (_spotlight, _bokeh, _gradient),
        (_vignette, _shade_below), ("classic", "engraved", "wide"), 0.1, 0.1, 0.03,
    ),
    "digital": Era(
        Grade(0.95, (20, 50, 80), 0.12, 1.0), (_spotlight, _split, _bokeh),
        (_flare, _vignette, _plain), ("impact", "wide", "classic"), 0.15, 0.0, 0.02,
    ),
    "streaming": Era(
        Grade(1.05, (250, 250, 250), 0.03, 1.0), (_plain, _low_horizon, _split, _arcs), (_plain,),
        ("quiet", "swiss", "tower"), 0.3, 0.0, 0.0,
    ),
    "current": Era(
        Grade(1.0, (8, 46, 56), 0.16, 0.95), (_gradient, _plain, _horizon_glow),
        (_plain, _shade_below), ("tower", "wide", "quiet"), 0.35, 0.0, 0.05,
    ),
}  # fmt: skip
"""Backdrop, print and lettering of each era."""


# Composition


class Slot(NamedTuple):
    """A place for a motif, in units on a sheet whose title is at the bottom."""

    x: float
    y: float
    size: float


@dataclass(frozen=True)
class Plan:
    """Where a poster's first, second and third motifs go."""

    slots: tuple[Slot, Slot, Slot]
    halo: bool = False
    """A disc behind the first motif."""

    roundels: bool = False
    """Discs behind the others."""


_PLANS: tuple[Plan, ...] = (
    Plan((Slot(0.5, 0.46, 0.33), Slot(0.75, 0.86, 0.21), Slot(0.23, 0.87, 0.19)), roundels=True),
    Plan((Slot(0.5, 0.36, 0.26), Slot(0.28, 0.86, 0.22), Slot(0.74, 0.87, 0.2)), halo=True),
    Plan((Slot(0.37, 0.37, 0.3), Slot(0.71, 0.82, 0.24), Slot(0.23, 0.87, 0.19))),
    Plan((Slot(0.62, 0.62, 0.32), Slot(0.25, 0.24, 0.21), Slot(0.21, 0.88, 0.18)), roundels=True),
    Plan((Slot(0.5, 0.72, 0.31), Slot(0.3, 0.22, 0.21), Slot(0.76, 0.22, 0.19))),
    Plan((Slot(0.3, 0.5, 0.28), Slot(0.75, 0.46, 0.23), Slot(0.52, 0.87, 0.2))),
)


def _draw_motifs(sheet: Sheet, film: DrawnFilm, era: Era, plan: Plan, title_on_top: bool) -> None:
    rng = Random(f"motifs/{film.seed}")
    slots = plan.slots if len(film.motifs) > 1 else (_alone(plan.slots[0]),)
    drop = 0.31 if title_on_top else 0.0
    for rank, (genre, slot) in enumerate(zip(film.motifs, slots, strict=False)):
        x, y = slot.x + rng.uniform(-0.03, 0.03), slot.y + drop + rng.uniform(-0.03, 0.03)
        size = slot.size * rng.uniform(0.85, 1.12)
        if plan.roundels if rank else plan.halo:
            sheet.disc(x, y, size * 1.25, _halo_colour(sheet, x, y, rank))
        ground = sheet.colour_at(x, y, size * 0.6)
        inks = _inks(genre, rank, sheet, era, ground, rng)
        pen = Pen(sheet, x, y, size, rng.gauss(0, 5), rng.random() < 0.5)
        rng.choice(_MOTIFS[genre])(pen, inks)


def _alone(slot: Slot) -> Slot:
    """Enlarge a place and move it most of the way to the middle."""
    return Slot(0.5 + (slot.x - 0.5) * 0.4, 0.55 + (slot.y - 0.55) * 0.5, slot.size * 1.25)


def _halo_colour(sheet: Sheet, x: float, y: float, rank: int) -> Colour:
    colour = sheet.palette.accent if rank == 0 else sheet.palette.shade
    return _legible(colour, sheet.colour_at(x, y, 0.1), 0.18)


def _inks(genre: str, rank: int, sheet: Sheet, era: Era, ground: Colour, rng: Random) -> Inks:
    """The first motif wears the poster's colours, the others those of their own genre."""
    own = sheet.palette
    if rank:
        borrowed = _PALETTES[rng.choice(_GENRE_PALETTES[genre])]
        own = Palette(*map(era.grade.apply, borrowed))
    ink = _legible(own.ink, ground)
    return Inks(ink, _detail(own, ink, ground), ground)


def _detail(own: Palette, ink: Colour, ground: Colour) -> Colour:
    """Choose a colour that shows on the motif as well as beside it."""
    for colour in (own.accent, own.shade, own.ground, _WHITE, _BLACK):
        if min(_distance(colour, ink), _distance(colour, ground)) >= 40:
            return colour
    return _mix(ink, ground, 0.5)
