"""Palettes, and how an era prints them."""

from random import Random
from typing import NamedTuple

from PIL import ImageColor

from components.ingest.drawing.colour import Colour, clip, luminance, mix
from components.ingest.drawn_films import DrawnFilm

STRAY_PALETTE = 0.12
"""Chance of a palette that has nothing to do with the film's genres."""


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

    def between(self, share: float) -> Colour:
        """Mix the ground and a share of its shade."""
        return mix(self.ground, self.shade, share)


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
        grey = luminance(colour) * 255
        printed = [(grey + (c - grey) * self.saturation) * self.gain for c in colour]
        return mix(clip(printed), self.tint, self.strength)


def _hex(code: str) -> Colour:
    red, green, blue = ImageColor.getrgb(f"#{code}")[:3]
    return red, green, blue


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


def choose_palette(film: DrawnFilm, grade: Grade) -> Palette:
    """Choose a poster's palette: most often one of the first genre's, shifted a little.

    Args:
        film: Its first motif and seed decide.
        grade: What the era does to the colours.
    """
    rng = Random(f"palette/{film.seed}")
    names = _GENRE_PALETTES[film.motifs[0]]
    name = rng.choice(tuple(_PALETTES) if rng.random() < STRAY_PALETTE else names)
    shift = [rng.uniform(-9, 9) for _ in range(3)]
    shifted = (
        clip([c + s for c, s in zip(colour, shift, strict=True)]) for colour in _PALETTES[name]
    )
    return Palette(*map(grade.apply, shifted))


def genre_palette(genre: str, grade: Grade, rng: Random) -> Palette:
    """Choose one of a genre's own palettes and print it."""
    return Palette(*map(grade.apply, _PALETTES[rng.choice(_GENRE_PALETTES[genre])]))
