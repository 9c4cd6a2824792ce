"""The tables that the data gate looks at, made from the catalog's facts: no image is decoded.

Expectations know columns of numbers and words, not lists, pixels or pictures that look alike. What
they need is derived here: one row a poster, and one row a genre, an era and a source.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from marquee.agreement import LabelStatus
from marquee.catalog import SCHEMA
from marquee.duplicates import near_duplicates
from marquee.eras import ERAS
from marquee.genres import GENRES, VISUAL_GENRES
from marquee.licences import Obstacle
from marquee.settings import ValidateSettings

COLUMNS: tuple[str, ...] = (
    "poster_id",
    "film_id",
    "imdb_id",
    "tmdb_id",
    "year",
    "era",
    "genres",
    "agreement",
    "source",
    "licence",
    "label_licences",
    "retrieved_at",
    "expires_at",
    "sha256",
    "perceptual_hash",
    "mode",
    "width",
    "height",
    "brightness",
    "contrast",
    "saturation",
    "hue",
)
"""Columns of the catalog that the gate reads."""

_ROWS_AT_A_TIME = 4096
_COMPARED = (LabelStatus.AGREE, LabelStatus.TMDB_ONLY, LabelStatus.IMDB_ONLY)


@dataclass(frozen=True, kw_only=True)
class Tables:
    """What is judged. The first column of a table names its rows."""

    posters: pd.DataFrame
    genres: pd.DataFrame
    eras: pd.DataFrame
    sources: pd.DataFrame
    catalog: pd.DataFrame
    mix: pd.DataFrame
    """Posters of each source (rows) with each genre (columns); only shown."""


def column_types(frame: pd.DataFrame) -> pd.DataFrame:
    """Compare the columns of a catalog with its schema.

    Args:
        frame: Rows of a catalog.

    Returns:
        One row a column of `COLUMNS`: `column`, the type it is to have (`wanted`), and its type or
        what is wrong with it (`found`).
    """
    rows = [(name, str(SCHEMA.field(name).type), _type_of(frame, name)) for name in COLUMNS]
    return pd.DataFrame(rows, columns=["column", "wanted", "found"])


def _type_of(frame: pd.DataFrame, name: str) -> str:
    if name not in frame:
        return "missing"
    wanted = SCHEMA.field(name).type
    try:
        for start in range(0, len(frame), _ROWS_AT_A_TIME):
            rows = frame[name].iloc[start : start + _ROWS_AT_A_TIME]
            pa.array(rows, type=wanted, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        return str(error)
    return str(wanted)


def derive(
    frame: pd.DataFrame,
    obstacles: Sequence[Obstacle],
    quarantined: int,
    settings: ValidateSettings,
    near_duplicate_bits: int,
    now: datetime,
) -> Tables:
    """Make the tables.

    Args:
        frame: One row a poster with `COLUMNS`, of the catalog's types.
        obstacles: Why rows must not train a model.
        quarantined: How many rows were refused.
        settings: What counts as blank, as a placeholder, and as too few to compare.
        near_duplicate_bits: Hashes that differ in so many bits or fewer are of one picture.
        now: The time to count ages from.

    Returns:
        The tables.
    """
    genres = frame["genres"].map(lambda names: () if names is None else names)
    source = frame["source"].fillna("unknown").astype(str)
    posters = _posters(frame, genres, settings, now).assign(
        source=source,
        obstacle=_obstacles(frame["poster_id"], obstacles),
        looks_like=_looks_like(frame, settings.blank_contrast, near_duplicate_bits),
    )
    mix = _mix(source, genres)
    rows = len(frame) + quarantined
    return Tables(
        posters=posters,
        genres=pd.DataFrame(
            {
                "genre": VISUAL_GENRES,
                "posters": mix.sum().to_numpy(),
                "agreement": _agreement(frame["agreement"], settings.min_slice),
                "source_bias": _cramers_v(mix.to_numpy(), source.value_counts()[mix.index]),
            }
        ),
        eras=pd.DataFrame(
            {"era": ERAS, "posters": frame["era"].value_counts().reindex(ERAS, fill_value=0)}
        ).reset_index(drop=True),
        sources=_sources(posters, settings.min_slice),
        catalog=pd.DataFrame(
            {"catalog": ["all rows"], "quarantined_share": [quarantined / max(rows, 1)]}
        ),
        mix=mix,
    )


def _posters(
    frame: pd.DataFrame, genres: pd.Series, settings: ValidateSettings, now: datetime
) -> pd.DataFrame:
    """What can be said of a poster by itself, and of those with the same hash."""
    sides = frame[["width", "height"]]
    blank = frame["contrast"] < settings.blank_contrast
    return pd.DataFrame(
        {
            "poster_id": frame["poster_id"],
            "film_id": _given(frame["film_id"]),
            "shared_id": _shared_id(frame),
            "year": frame["year"],
            "genre_count": genres.map(len),
            "unknown_genre": genres.map(_unknown),
            "sha256": frame["sha256"],
            "unmeasured": _unmeasured(frame),
            "short_side": sides.min(axis=1),
            "pixels": sides.prod(axis=1, skipna=False),
            "aspect": frame["width"] / frame["height"],
            "mode": frame["mode"],
            "contrast": frame["contrast"],
            "copies": frame["sha256"].map(frame["sha256"].value_counts()),
            "placeholder_share": _placeholder_share(frame, ~blank, settings.placeholder_films),
            "age_days": -_days_from(now, frame["retrieved_at"]),
            "days_left": _days_from(now, frame["expires_at"]),
            "licence": _given(frame["licence"]),
        }
    )


def _given(texts: pd.Series) -> pd.Series:
    """Take a text of nothing but spaces for none."""
    return texts.where(texts.astype("string").str.strip().fillna("") != "")


def _days_from(now: datetime, moments: pd.Series) -> pd.Series:
    return (pd.to_datetime(moments, utc=True) - now).dt.total_seconds() / 86_400


def _unknown(names: Sequence[str]) -> str | None:
    return next((name for name in names if name not in GENRES), None)


def _unmeasured(frame: pd.DataFrame) -> pd.Series:
    """Name what ingestion did not measure: a side, an attribute (0..1), or the perceptual hash."""
    found = pd.Series(None, index=frame.index, dtype=object)
    hashed = frame["perceptual_hash"].astype("string").str.fullmatch("[0-9a-f]{16}")
    found[~hashed.fillna(False).astype(bool)] = "perceptual_hash"
    for name in ("brightness", "contrast", "saturation", "hue"):
        found[~frame[name].between(0, 1)] = name
    for name in ("width", "height"):
        found[frame[name].isna()] = name
    return found


def _shared_id(frame: pd.DataFrame) -> pd.Series:
    """Name the IMDb or TMDB id that a row shares with another film."""
    found = pd.Series(None, index=frame.index, dtype=object)
    for column in ("imdb_id", "tmdb_id"):
        ids = frame[column]
        repeated = frame[ids.notna() & ids.duplicated(keep=False)]
        films = repeated.groupby(column)["film_id"].transform("nunique")
        shared = repeated.loc[films > 1, column]
        found[shared.index] = shared.map(lambda value: str(value).removesuffix(".0"))
    return found


def _placeholder_share(frame: pd.DataFrame, shown: pd.Series, least_films: int) -> pd.Series:
    """Give the share of posters with the same picture, where that stands for many films.

    Blank pictures hash alike without being one picture: they are left to their own check.
    """
    hashes = frame["perceptual_hash"].where(shown)
    repeated = hashes[hashes.notna() & hashes.duplicated(keep=False)]
    films = frame.loc[repeated.index, "film_id"].groupby(repeated)
    share = films.transform("size") / len(frame)
    share = share.where(films.transform("nunique") >= least_films, 0.0)
    return share.astype(float).reindex(frame.index, fill_value=0.0)


def _looks_like(frame: pd.DataFrame, blank_contrast: float, bits: int) -> pd.Series:
    """Name a poster of another film that looks nearly the same; same bytes are no near duplicate.

    Posters are joined through look-alikes of look-alikes.
    """
    usable = frame[_unmeasured(frame).isna() & (frame["contrast"] >= blank_contrast)]
    usable = usable[["poster_id", "film_id", "sha256", "perceptual_hash"]]
    codes, hashes = pd.factorize(usable["perceptual_hash"])
    pictures = _connect(np.array([int(value, 16) for value in hashes], dtype=np.uint64), bits)
    usable = usable.assign(picture=pictures[codes])
    usable = usable[usable["picture"].duplicated(keep=False)]
    groups = usable.groupby("picture")
    of_first_film = usable["film_id"] == groups["film_id"].transform("first")
    second = usable[~of_first_film].groupby("picture")["poster_id"].first()
    other = (
        usable["picture"].map(second).where(of_first_film, groups["poster_id"].transform("first"))
    )
    return other[groups["sha256"].transform("nunique") > 1].reindex(frame.index)


def _connect(hashes: NDArray[np.uint64], bits: int) -> NDArray[np.int64]:
    """Number the pictures that different hashes show."""
    edges = [np.empty((2, 0), dtype=np.int64), *near_duplicates(hashes, bits)]
    left, right = np.concatenate(edges, axis=1)
    shape = (len(hashes), len(hashes))
    graph = coo_array((np.ones(len(left), dtype=np.int8), (left, right)), shape=shape)
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def _obstacles(poster_ids: pd.Series, obstacles: Sequence[Obstacle]) -> pd.Series:
    """Say of each row why it must not train a model."""
    found = pd.Series(0, index=poster_ids.index)
    for bit, obstacle in enumerate(obstacles):
        found += poster_ids.isin(obstacle.poster_ids) * 2**bit
    texts = {
        bits: "\n".join(item.reason for bit, item in enumerate(obstacles) if bits >> bit & 1)
        for bits in found[found > 0].unique()
    }
    return found.map(texts).astype(object)


def _mix(source: pd.Series, genres: pd.Series) -> pd.DataFrame:
    """Count posters of each source and visual genre."""
    labels = pd.DataFrame({"source": source, "genre": genres}).explode("genre")
    counts = pd.crosstab(labels["source"], labels["genre"])
    return counts.reindex(
        index=sorted(source.unique()), columns=list(VISUAL_GENRES), fill_value=0
    ).astype(int)


def _agreement(statuses: pd.Series, least: int) -> list[float]:
    """Give each genre's Jaccard agreement of TMDB and IMDb; NaN where few can be compared."""
    counts = Counter(item for of_poster in statuses for item in (of_poster or {}).items())
    shares = []
    for genre in VISUAL_GENRES:
        agree, *differ = (counts[genre, status] for status in _COMPARED)
        judged = agree + sum(differ)
        shares.append(agree / judged if judged >= max(least, 1) else np.nan)
    return shares


def _cramers_v(counts: NDArray[np.int64], totals: Sequence[int] | Any) -> NDArray[np.float64]:
    """Measure how well the source tells whether a poster has a genre.

    Cramér's V of the table source x (has it, has it not), corrected for the bias that many small
    sources bring (W. Bergsma, A bias-correction for Cramér's V and Tschuprow's T, 2013).

    Args:
        counts: K sources x G genres: posters with the genre.
        totals: K sources: posters.

    Returns:
        G values from 0 (the source says nothing) to 1 (it says all); NaN where all posters are of
        one source, or where all or none have the genre.
    """
    sizes = np.asarray(totals, dtype=float)[:, None]
    n, k = sizes.sum(), len(sizes)
    share = counts.sum(axis=0) / max(n, 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        phi2 = ((counts - sizes * share) ** 2 / sizes).sum(axis=0) / (n * share * (1 - share))
        corrected = np.maximum(0, phi2 - (k - 1) / (n - 1))
        # The smaller side of the table is having the genre or not, less its own correction.
        value = np.sqrt(corrected / (1 - 1 / (n - 1)))
    return np.where(k > 1, np.minimum(value, 1), np.nan)


def _sources(posters: pd.DataFrame, least: int) -> pd.DataFrame:
    """How large the posters of each source are, and how far that is from the catalog."""
    groups = posters.groupby("source")["short_side"]
    table = groups.agg(posters="size", short_side="median").reset_index()
    gap = (table["short_side"] / posters["short_side"].median() - 1).abs()
    return table.assign(resolution_gap=gap.where(table["posters"] >= least))
