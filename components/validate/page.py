"""The data gate as a page for people."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd

from components.validate.tables import Tables
from components.validate.validate import DOCS_FOLDER, FAILURES_FILE, VERDICT_FILE, Validation
from marquee.eras import FIRST_YEAR, LAST_YEAR
from marquee.report import (
    Banner,
    Bars,
    Block,
    Checks,
    Heatmap,
    Links,
    StackedBars,
    Table,
    Tiles,
    ToDo,
    render,
)
from marquee.settings import ValidateSettings
from marquee.verdict import Severity

_SOURCES, _GENRES = 12, 12
"""The largest sources that are shown, and the genres on which they differ most."""
_STEPS = (0.5, 0.75, 1, 1.5, 2, 3)
"""Where the resolutions are cut, in multiples of what is good."""


def validation_page(validation: Validation, settings: ValidateSettings, beside: str = "") -> str:
    """Render what the data gate found.

    Args:
        validation: What it found.
        settings: The bounds it judged by.
        beside: Where `Validation.write` put its files, as seen from the page; empty if beside it.

    Returns:
        HTML that stands alone.
    """
    verdict, tables = validation.verdict, validation.tables
    blocks: list[Block] = [Banner(outcome=verdict.outcome.value, sentence=verdict.sentence())]
    blocks.append(_tiles(validation))
    todo = ToDo.of(verdict, note=f"All rows that break an expectation are in {FAILURES_FILE}.")
    if todo.checks:
        blocks.append(todo)
    if tables is not None and len(tables.posters):
        blocks += _charts(tables, settings)
    blocks += [_checks(validation), _links(validation, beside)]
    return render("Data gate", verdict.subject, blocks, validation.attributions)


def _tiles(validation: Validation) -> Tiles:
    verdict = validation.verdict
    broken = {severity: len(verdict.broken(severity)) for severity in Severity}
    asked = {
        severity: sum(check.severity is severity for check in verdict.checks)
        for severity in Severity
    }
    posters = len(validation.tables.posters) if validation.tables is not None else 0
    films = validation.tables.posters["film_id"].nunique() if validation.tables is not None else 0
    return Tiles(
        tiles=[
            ("posters", f"{posters:,}", f"of {films:,} films"),
            ("in quarantine", f"{validation.quarantined:,}", "rows refused at ingestion"),
            *(
                (name, str(broken[severity]), f"of {asked[severity]} checks")
                for severity, name in (
                    (Severity.CRITICAL, "critical"),
                    (Severity.WARNING, "warnings"),
                    (Severity.INFO, "notes"),
                )
            ),
        ]
    )


def _charts(tables: Tables, settings: ValidateSettings) -> list[Block]:
    blocks: list[Block] = []
    years = tables.posters["year"]
    years = years[years.between(FIRST_YEAR, LAST_YEAR)].astype(int).value_counts().sort_index()
    if len(years):
        blocks.append(
            StackedBars(
                title="Posters by release year",
                x_label="year",
                x=[int(year) for year in years.index],
                series={"posters": years.tolist()},
            )
        )
    blocks += [
        _counts("Posters of each era", tables.eras, settings.min_era_posters),
        _counts(
            "Posters of each genre",
            tables.genres.sort_values("posters", ascending=False),
            settings.min_genre_posters,
        ),
        _resolution(tables.posters["short_side"], settings.good_side),
    ]
    if tables.genres[["agreement", "source_bias"]].notna().any(axis=None):
        blocks.append(_labels(tables.genres))
    if len(tables.sources) > 1:
        blocks += [_mix(tables), _sources(tables.sources, settings.max_resolution_gap)]
    return blocks


def _counts(title: str, table: pd.DataFrame, least: int) -> Bars:
    return Bars(
        title=title,
        rows=[str(name).replace("_", " ") for name in table.iloc[:, 0]],
        panels={"posters": [float(count) for count in table["posters"]]},
        strong="posters",
        reference=[float(least)] * len(table),
        reference_name=f"asked: {least:,}",
        percent=False,
    )


def _resolution(sides: pd.Series, good: int) -> Bars:
    cuts = [round(good * step) for step in _STEPS]
    bins = pd.cut(sides, [-np.inf, *cuts, np.inf], right=False, labels=False)
    counts = bins.value_counts().reindex(range(len(cuts) + 1), fill_value=0)
    spans = [f"{low} to {high - 1}" for low, high in pairwise(cuts)]
    return Bars(
        title="Shorter side in pixels",
        rows=[f"under {cuts[0]}", *spans, f"{cuts[-1]} or more"],
        panels={"posters": [float(count) for count in counts]},
        strong="posters",
        percent=False,
        note=f"Asked: {good} or more. The shortest has {sides.min():.0f}, the median "
        f"{sides.median():.0f}, the longest {sides.max():.0f}.",
    )


def _labels(genres: pd.DataFrame) -> Table:
    ordered = genres.sort_values(["agreement", "source_bias"], ascending=[True, False])
    columns = ("genre", "agreement", "source_bias")
    return Table(
        title="How far labels can be trusted",
        columns=("genre", "agreement", "source bias"),
        rows=ordered[list(columns)].values.tolist(),
        bars=(1, 2),
        note="Agreement: of the films that TMDB or IMDb gives the genre, the share that both do "
        "(Jaccard). Source bias: Cramér's V of source and genre; at 1 the source alone tells it.",
    )


def _mix(tables: Tables) -> Heatmap:
    totals = tables.sources.set_index("source")["posters"].nlargest(_SOURCES)
    shares = tables.mix.loc[totals.index].div(totals, axis=0)
    bias = tables.genres.set_index("genre")["source_bias"].fillna(0).sort_values(ascending=False)
    shares = shares[bias.index[:_GENRES]]
    return Heatmap(
        title="Genres by source",
        rows=[str(name) for name in shares.index],
        columns=[str(name) for name in shares.columns],
        values=shares.to_numpy().tolist(),
        totals=[1.0] * len(shares),
        percent=True,
        note="Share of a source's posters that have the genre. The more the shares of a column "
        "differ, the better the source alone tells the genre; those that differ most are shown.",
    )


def _sources(sources: pd.DataFrame, most: float) -> Table:
    largest = sources.nlargest(_SOURCES, "posters")
    rows: Sequence[Sequence[str | int]] = [
        (str(name), int(posters), round(side), "" if gap != gap else f"{gap:.0%}")
        for name, posters, side, gap in largest.itertuples(index=False)
    ]
    return Table(
        title="Sources",
        columns=("source", "posters", "median shorter side (px)", "off the catalog's median"),
        rows=rows,
        strong=np.flatnonzero(largest["resolution_gap"] > most).tolist(),
        note="" if len(sources) <= _SOURCES else f"The {_SOURCES} largest of {len(sources):,}.",
    )


def _checks(validation: Validation) -> Checks:
    themes = dict.fromkeys(found.theme for found in validation.findings)
    return Checks(
        title="All checks",
        groups={
            theme: [found.check for found in validation.findings if found.theme == theme]
            for theme in themes
        },
    )


def _links(validation: Validation, beside: str) -> Links:
    files = {
        FAILURES_FILE: (FAILURES_FILE, "every row that breaks an expectation"),
        VERDICT_FILE: (VERDICT_FILE, "the verdict for machines"),
        "Data Docs": (
            f"{DOCS_FOLDER}/index.html",
            "Great Expectations' own site (it needs a network)",
        ),
        **{
            f"Data Docs: {table}": (f"{DOCS_FOLDER}/{page}", "its expectations and their results")
            for table, page in validation.suite.pages.items()
        },
    }
    return Links(
        title="Beside this page",
        links=[
            (name, f"{beside}/{place}" if beside else place, what)
            for name, (place, what) in files.items()
        ],
    )
