"""Catalogs of drawn posters whose eras differ in a way that is known, or do not differ at all."""

import numpy as np
from helpers import encode
from PIL import Image

from marquee.catalog import CatalogWriter, Facts, Poster
from marquee.images import measure

YEARS = {"golden_age": 1930, "new_hollywood": 1960, "painted_blockbuster": 1980, "current": 2020}
COUNTS = {"golden_age": 260, "new_hollywood": 120, "painted_blockbuster": 120, "current": 20}
"""The last era has too few."""
RED = (200, 30, 30)
MARKS = (((110, 110, 110), (180, 30, 180)), ((180, 30, 180), (30, 160, 30)))
"""The colours of the mark on posters of other films and of comedies: until 1980, and since."""


def write_films(uri, changing=True, licence="CC0-1.0", counts=COUNTS, seed=0):
    """Write a catalog.

    In one whose eras change, posters lose 0.1 of their brightness each era and Horror gains .25 of
    the films; from 1960 on the top third is brighter, and from 1980 on the lower third is red. All
    posters have a mark on the left that tells whether the film is a Comedy, as half of them are:
    the colour that means so until 1980 means the opposite since.
    """
    random = np.random.default_rng(seed)
    writer = CatalogWriter(str(uri), "drawn", part_rows=200)
    for number, (era, count) in enumerate(counts.items()):
        step = number if changing else 0
        for film in range(count):
            year = YEARS[era] + film % (30 if number == 0 else 20 if number == 1 else 5)
            has = {
                "Comedy": random.random() < 0.5,
                "Horror": random.random() < 0.2 + 0.25 * step,
                "Drama": random.random() < 0.4,
            }
            pixels = _draw(step, has["Comedy"], random)
            genres = tuple(genre for genre, there in has.items() if there)
            writer.add(_poster(f"{era}-{film:03d}", year, genres, pixels, licence, random))
    writer.publish()
    return str(uri)


def _draw(step, comedy, random):
    level = 180 - 25.5 * step + random.normal(0, 10)
    image = level + random.normal(0, 25, (12, 8, 1)) + np.zeros((12, 8, 3))
    if step >= 1:
        image[:4] += 60
        image[4:] -= 30
    if step >= 2:
        image[8:] = RED
    image[4:8, :2] = MARKS[step >= 2][comedy]
    return np.clip(image, 0, 255).astype(np.uint8).repeat(8, axis=0).repeat(8, axis=1)


def _poster(poster_id, year, genres, pixels, licence, random):
    return Poster(
        facts=Facts(
            poster_id=poster_id,
            film_id=poster_id,
            title="A film",
            year=year,
            genres=genres,
            source="drawn",
            licence=licence,
        ),
        data=encode(Image.fromarray(pixels), "PNG"),
        perceptual_hash=f"{random.integers(0, 2**63):016x}",
        mode="RGB",
        width=64,
        height=96,
        attributes=measure(pixels),
    )
