"""Rows of a catalog as the data gate reads them: sound ones, and ways to corrupt them."""

from datetime import UTC, datetime

import numpy as np
import pandas as pd

from marquee.eras import era_of
from marquee.genres import VISUAL_GENRES
from marquee.settings import Settings, ValidateSettings

NOW = datetime.now(UTC)
BOUNDS = ValidateSettings(
    min_posters=20,
    min_era_posters=10,
    min_genre_posters=5,
    min_slice=5,
    max_placeholder_share=0.05,
)
SETTINGS = Settings(validate=BOUNDS)
YEARS = (1925, 1945, 1970, 1985, 1995, 2005, 2015, 2022)


def genres_of(number):
    return np.array([VISUAL_GENRES[number % 18]], dtype=object)


def sound_frame(count=144):
    """Posters of all eras, genres and two sources, spread evenly: nothing to complain about."""
    random = np.random.default_rng(0)
    years = [YEARS[number % 8] for number in range(count)]
    frame = pd.DataFrame(
        {
            "poster_id": [f"p{number}" for number in range(count)],
            "film_id": [f"f{number}" for number in range(count)],
            "imdb_id": [f"tt{number}" for number in range(count)],
            "tmdb_id": np.arange(count, dtype=float),
            "year": pd.array(years, dtype="Int16"),
            "era": [era_of(year) for year in years],
            "genres": [genres_of(number) for number in range(count)],
            "agreement": [{genres_of(number)[0]: "agree"} for number in range(count)],
            "source": ["one" if number // 18 % 2 else "two" for number in range(count)],
            "licence": "CC0-1.0",
            "label_licences": [{}] * count,
            "retrieved_at": pd.Timestamp(NOW),
            "expires_at": pd.Series(pd.NaT, index=range(count)).dt.tz_localize("UTC"),
            "sha256": [random.bytes(32).hex() for _ in range(count)],
            "perceptual_hash": [random.bytes(8).hex() for _ in range(count)],
            "mode": "RGB",
            "width": 240,
            "height": 360,
        }
    )
    attributes = dict.fromkeys(("brightness", "contrast", "saturation", "hue"), 0.3)
    return frame.assign(**attributes)


def put(count=2, **values):
    """Corrupt the first `count` rows."""

    def corrupt(frame):
        for name, value in values.items():
            cells = frame[name].astype(object).tolist()
            cells[:count] = [value] * count
            frame = frame.assign(**{name: pd.Series(cells, dtype=object).infer_objects()})
        return frame

    return corrupt
