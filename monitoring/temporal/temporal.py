"""The temporal analysis of a catalog: how posters and genres changed from era to era."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from marquee import storage
from marquee.catalog import Catalog
from marquee.errors import UsageError
from marquee.genres import VISUAL_GENRES
from marquee.settings import LicenceSettings
from monitoring.temporal.aging import age
from monitoring.temporal.bundle import Candidate
from monitoring.temporal.films import FEWEST, Films, read_films
from monitoring.temporal.look import FIGURES, Looks, look_at
from monitoring.temporal.page import temporal_page
from monitoring.temporal.report import Period, TemporalReport
from monitoring.temporal.trends import Trend, judge, mean, mean_hue, share, trend

PAGE_FILE, REPORT_FILE = "temporal.html", "temporal.json"

_ORANGE = 30 / 360
_SOURCES = 12
"""Sources that are held fixed at most; the others count as one."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is analysed."""

    catalog: str
    out: str
    """The folder of the page and the report."""
    bundle: str = ""
    """A bundle to test era by era; none without it."""
    split: str = ""
    """The split plan that the bundle was trained with."""
    sample: int = 1000
    """Films of an era whose pixels are looked at, at most."""
    seed: int = 0
    licence: LicenceSettings = field(default_factory=LicenceSettings)

    def __post_init__(self) -> None:
        if self.sample < FEWEST:
            raise UsageError(
                f"the sample of {self.sample} films an era is too small",
                remedy=f"give {FEWEST} or more",
            )
        if self.split and not self.bundle:
            raise UsageError(
                "a split plan says nothing without its bundle", remedy="give --bundle as well"
            )


def temporal(order: Order) -> TemporalReport:
    """Analyse a catalog, and write the page and the report.

    Args:
        order: What, and where to.

    Returns:
        The report.

    Raises:
        DataError: There is no catalog or bundle, or no era has enough films.
        DataGateFailed: The terms of some posters are over.
    """
    catalog = Catalog(order.catalog)
    films = read_films(catalog, order.licence)
    rows = films.sample(order.sample, order.seed)
    candidate = None
    if order.bundle:
        candidate = Candidate(order.bundle, order.split, catalog, films, rows, order.seed)
    looks = look_at(
        catalog,
        films.frame.iloc[rows],
        films.eras(),
        candidate.watch if candidate else _ignore,
    )
    report = _report(order, catalog, films, rows, looks, candidate)
    storage.write_text(storage.join(order.out, REPORT_FILE), report.to_json())
    storage.write_text(storage.join(order.out, PAGE_FILE), temporal_page(report))
    logger.info("temporal: %s", report.sentence())
    return report


def _ignore(row: int, pixels: NDArray[np.uint8]) -> None:
    """Do nothing with a poster: there is no bundle to show it to."""


def _report(
    order: Order,
    catalog: Catalog,
    films: Films,
    rows: NDArray[np.int64],
    looks: Looks,
    candidate: Candidate | None,
) -> TemporalReport:
    frame, years = films.frame, films.frame["year"].to_numpy()
    measured = _attributes(frame)
    eras = films.eras()
    periods = _Periods(films, measured, rows, looks)
    return TemporalReport(
        catalog=order.catalog,
        digest=catalog.manifest.digest,
        films=len(frame),
        sampled=len(rows),
        first_year=int(years.min()),
        last_year=int(years.max()),
        left_out=films.left_out,
        eras=tuple(periods.of(era, (frame["era"] == era).to_numpy()) for era in eras),
        decades=tuple(
            periods.of(str(decade), years // 10 * 10 == decade)
            for decade in np.unique(years // 10 * 10)
        ),
        looks=looks.eras,
        trends=tuple(judge([*_trends(films, measured, looks.figures, rows)])),
        genre_trends=tuple(judge([*_genre_trends(films)])),
        obstacle=films.obstacle,
        aging=None
        if films.obstacle
        else age(looks.features, films.labels[rows], frame["era"].iloc[rows].to_list(), order.seed),
        bundle=candidate.result(eras, order.seed) if candidate else None,
        attributions=films.attributions,
        seed=order.seed,
    )


def _attributes(frame: pd.DataFrame) -> pd.DataFrame:
    """Give what was measured at ingestion; a hue has no mean, so its warmth stands in.

    Warmth is the cosine of the hue's distance from orange, times the saturation: grey has none.
    """
    names = ("brightness", "contrast", "saturation")
    values = {name: frame[name].to_numpy(np.float64) for name in names}
    distance = 2 * np.pi * (frame["hue"].to_numpy(np.float64) - _ORANGE)
    values["warmth"] = np.cos(distance) * values["saturation"]
    return pd.DataFrame(values)


@dataclass(frozen=True)
class _Periods:
    """Sums films up by era or decade."""

    films: Films
    measured: pd.DataFrame
    rows: NDArray[np.int64]
    looks: Looks

    def of(self, name: str, chosen: NDArray[np.bool_]) -> Period:
        frame = self.films.frame[chosen]
        measured, labels = self.measured[chosen], self.films.labels[chosen]
        figures = self.looks.figures[chosen[self.rows]]
        return Period(
            name=name,
            films=len(frame),
            attributes={str(of): mean(column.to_numpy()) for of, column in measured.items()},
            hue=mean_hue(
                frame["hue"].to_numpy(np.float64), frame["saturation"].to_numpy(np.float64)
            ),
            genres={genre: share(labels[:, g]) for g, genre in enumerate(VISUAL_GENRES)},
            figures={of: mean(figures[of].to_numpy()) for of in FIGURES},
        )


def _trends(
    films: Films, measured: pd.DataFrame, figures: pd.DataFrame, rows: NDArray[np.int64]
) -> Iterator[Trend]:
    years = films.frame["year"].to_numpy()
    fixed = np.column_stack([films.labels, _sources(films.frame)]).astype(np.float64)
    for name in measured:
        if found := trend(str(name), measured[name].to_numpy(), years, fixed):
            yield found
    for name in FIGURES:
        if found := trend(name, figures[name].to_numpy(), years[rows], fixed[rows]):
            yield found


def _genre_trends(films: Films) -> Iterator[Trend]:
    years, sources = films.frame["year"].to_numpy(), _sources(films.frame)
    for genre, having in zip(VISUAL_GENRES, films.labels.T, strict=True):
        if found := trend(genre, having.astype(np.float64), years, sources):
            yield found


def _sources(frame: pd.DataFrame) -> NDArray[np.float64]:
    """Mark which of the most frequent sources, but for the first, films are from [N, S]."""
    names = frame["source"].value_counts().index[1:_SOURCES]
    marks = [(frame["source"] == name).to_numpy(np.float64) for name in names]
    return np.column_stack(marks) if marks else np.empty((len(frame), 0))
