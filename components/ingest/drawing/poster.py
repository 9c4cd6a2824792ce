"""Draws a poster, from backdrop to border."""

from random import Random

from components.ingest.drawing.eras import ERAS
from components.ingest.drawing.layout import PLANS, draw_motifs
from components.ingest.drawing.lettering import draw_lettering
from components.ingest.drawing.overlays import DISTRACTORS, frame
from components.ingest.drawing.palettes import choose_palette
from components.ingest.drawing.sheet import Sheet
from components.ingest.drawn_films import DrawnFilm
from marquee.eras import era_of
from marquee.errors import DataError

MIN_WIDTH, MAX_WIDTH = 32, 2000

DISTRACTED = 0.3
"""Chance of shapes that mean nothing."""


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
    era = ERAS[era_of(film.year)]
    rng = Random(f"layout/{film.seed}")
    sheet = Sheet(width, choose_palette(film, era.grade))
    plan = rng.choice(PLANS)
    title_on_top = rng.random() < era.title_on_top
    rng.choice(era.backdrops)(sheet, rng)
    if rng.random() < DISTRACTED:
        rng.choice(DISTRACTORS)(sheet, rng)
    draw_motifs(sheet, film, era.grade, plan, title_on_top)
    rng.choice(era.finishes)(sheet, rng)
    draw_lettering(sheet, film, era.letterings, title_on_top)
    if rng.random() < era.framed:
        frame(sheet)
    return sheet.jpeg(era.grain)
