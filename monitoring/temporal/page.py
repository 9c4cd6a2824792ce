"""The page of pictures: eras side by side, lines over decades, and how models age."""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from marquee.genres import VISUAL_GENRES
from marquee.report import (
    Band,
    Bands,
    Banner,
    Block,
    Cell,
    Gallery,
    Heatmap,
    Intervals,
    Table,
    Tiles,
    render,
)
from monitoring.temporal.aging import FEWEST_TRAINED, Aging
from monitoring.temporal.bundle import BundleTest
from monitoring.temporal.films import FEWEST
from monitoring.temporal.ranking import FEWEST_TESTED, Ranking
from monitoring.temporal.report import Period, TemporalReport, age_words, looks_words, strongest
from monitoring.temporal.trends import SMALL, Interval, Trend

_NAMES = {
    "brightness": "Brightness",
    "contrast": "Contrast",
    "saturation": "Saturation",
    "warmth": "Warmth",
    "blue": "Blue",
    "busyness": "Busyness",
    "light_top": "Light at the top",
    "busy_top": "Busy at the top",
    "light_centre": "Light in the middle",
    "symmetry": "Symmetry",
}
_PERCENT = ("blue",)
_TOO_FEW = "too few"
_ENLARGED = 8
_LEAST_AREA, _MOST_AREA = 0.5, 0.75
"""Areas from which on, and up to which, a cell is coloured."""


def temporal_page(report: TemporalReport) -> str:
    """Render a report.

    Args:
        report: What was found.

    Returns:
        HTML that stands alone. Posters are on it as means of many only.
    """
    blocks: list[Block] = [
        Banner(outcome="note", sentence=report.sentence()),
        _tiles(report),
        _gallery(report),
        _looks(report),
        _strength(report),
        _numbers(report),
        *_genres(report),
        *_aging(report),
    ]
    if report.bundle:
        blocks.append(_bundle(report.bundle))
    blocks.append(_limits(report))
    years = f"{report.first_year} to {report.last_year}"
    return render("Posters over time", f"{report.catalog} · {years}", blocks, report.attributions)


def era_words(name: str) -> str:
    """Write an era's name for people."""
    return name.replace("_", " ")


def _tiles(report: TemporalReport) -> Tiles:
    left_out = sum(report.left_out.values())
    reasons = "; ".join(f"{count:,} {reason}" for reason, count in report.left_out.items() if count)
    darker = next((trend for trend in report.trends if trend.name == "brightness"), None)
    return Tiles(
        tiles=[
            ("films", f"{report.films:,}", f"{report.first_year} to {report.last_year}"),
            ("posters looked at", f"{report.sampled:,}", "a sample of each era, by its pixels"),
            (
                "brightness a decade",
                f"{darker.slope[0]:+.3f}" if darker else "n/a",
                f"{darker.slope[1]:+.3f} to {darker.slope[2]:+.3f}" if darker else "",
            ),
            ("posters left out", f"{left_out:,}", reasons or "all have a year, and one film each"),
        ]
    )


def _gallery(report: TemporalReport) -> Gallery:
    looks = [report.looks[era.name] for era in report.eras]
    return Gallery(
        title="What posters of each era look like together",
        columns=[(era_words(era.name), f"{era.films:,} films") for era in report.eras],
        pictures={
            "mean poster": [seen.poster if seen else None for seen in looks],
            "where it is bright": _maps([seen.light if seen else None for seen in looks]),
            "where it is busy": _maps([seen.edges if seen else None for seen in looks]),
        },
        palettes=[seen.palette if seen else () for seen in looks],
        palettes_name="colours, by how much they cover",
        missing=f"{_TOO_FEW} (under {FEWEST})",
        note="Means of a sample of each era's posters, all stretched to 2:3; no single poster can "
        "be made out. Maps are on one scale for all eras: white is where posters are brightest, or "
        "have most edges (lettering, faces, detail). Colours: k-means in CIE Lab over the sample's "
        "pixels.",
    )


def _maps(maps: Sequence[NDArray[np.float64] | None]) -> list[NDArray[np.uint8] | None]:
    """Draw maps in grey, on one scale."""
    known = [values for values in maps if values is not None]
    low, high = min(map(np.min, known)), max(map(np.max, known))
    return [
        None if values is None else _grey((values - low) / max(high - low, 1e-9)) for values in maps
    ]


def _grey(shares: NDArray[np.float64]) -> NDArray[np.uint8]:
    size = (shares.shape[1] * _ENLARGED, shares.shape[0] * _ENLARGED)
    bytes_ = np.round(255 * shares).astype(np.uint8)
    smooth = cv2.resize(bytes_, size, interpolation=cv2.INTER_CUBIC)
    return np.repeat(smooth[..., np.newaxis], 3, axis=2)


def _looks(report: TemporalReport) -> Bands:
    trends = {trend.name: trend for trend in report.trends}
    panels = []
    for name, words in _NAMES.items():
        points = _points(report.decades, name)
        if len(points) > 1:
            panels.append(
                Band(
                    name=words,
                    points=points,
                    caption=_caption(trends.get(name), name in _PERCENT),
                    percent=name in _PERCENT,
                    stressed=_clear(trends.get(name)),
                )
            )
    return Bands(
        title="Light, colour and composition, decade by decade",
        panels=panels,
        note="Means with their 95 % intervals; blue lines have a clear trend. Brightness, contrast "
        "and saturation: 0 to 1. Warmth: above 0 towards orange, below towards blue. Blue: share "
        "of pixels. Busyness: mean steepness of edges. Top: top third less bottom third. Middle: "
        "middle less margin. Symmetry: correlation of left and right. The first four are of all "
        f"films, the others of the sample. Decades of fewer than {FEWEST} films are left out.",
    )


def _value(period: Period, name: str) -> Interval | None:
    """Give what a period has of an attribute, a figure or a genre."""
    return {**period.attributes, **period.figures, **period.genres}[name]


def _points(periods: Sequence[Period], name: str) -> list[tuple[float, float, float, float]]:
    found = ((period, _value(period, name)) for period in periods)
    return [(float(period.name), *values) for period, values in found if values]


def _clear(trend: Trend | None) -> bool:
    return trend is not None and trend.direction in ("rises", "falls")


def _caption(trend: Trend | None, percent: bool) -> str:
    if trend is None:
        return "nothing varies, or too few films"
    value, low, high = trend.slope
    half = (high - low) / 2
    said = (
        f"{100 * value:+.1f} ± {100 * half:.1f} points" if percent else f"{value:+.4f} ± {half:.4f}"
    )
    said += " a decade"
    if trend.direction == "hardly":
        return f"{said}: sure, but small"
    return said if _clear(trend) else f"{said}: no clear trend"


def _strength(report: TemporalReport) -> Intervals:
    found, held = "as found", "same genres and sources"
    return Intervals(
        title="How strong is each trend?",
        rows=[_NAMES[trend.name] for trend in report.trends],
        panels={
            found: [trend.standard for trend in report.trends],
            held: [trend.held for trend in report.trends],
        },
        reference={name: [0.0] * len(report.trends) for name in (found, held)},
        reference_name="no change",
        note=_trends_in_words(report.trends),
    )


def _trends_in_words(trends: Sequence[Trend]) -> str:
    said = [
        f"posters grew {looks_words(trend)} (rank correlation {trend.rank[0]:+.2f}, "
        f"{trend.rank[1]:+.2f} to {trend.rank[2]:+.2f}"
        f"{'' if trend.holds else '; not shown with genres and sources held fixed'})"
        for trend in strongest(tuple(trends))
    ]
    words = "; ".join(said) + ". " if said else ""
    return (
        f"{words[:1].upper()}{words[1:]}Dots: change a decade in standard deviations of all "
        "posters, by least squares. Right: the same among films of the same genres and source. A "
        "trend is called clear if its chance, corrected for all that were looked at, is below 5 % "
        f"and its rank correlation is {SMALL} or more."
    )


def _numbers(report: TemporalReport) -> Table:
    columns = ("brightness", "contrast", "saturation", "blue", "busyness")
    return Table(
        title="The figures, by era",
        columns=("era", "films", *columns, "mean hue"),
        rows=[
            (
                era_words(era.name),
                f"{era.films:,}",
                *(_interval_text(_value(era, name)) for name in columns),
                _hue_text(era),
            )
            for era in report.eras
        ],
        note="After ±, half the 95 % interval. The mean hue is that of directions around the circle "
        "(0° red, 120° green, 240° blue), each film weighted by its saturation; agreement: 0 hues "
        "point everywhere, 1 all are the same.",
    )


def _interval_text(values: Interval | None) -> str:
    """Write a value and half its interval, such as `.526 ± .009`."""
    if values is None:
        return _TOO_FEW
    return f"{_short(values[0])} ± {_short((values[2] - values[1]) / 2)}"


def _short(value: float) -> str:
    return f"{value:.3f}".replace("0.", ".", 1)


def _hue_text(era: Period) -> str:
    if era.hue is None:
        return _TOO_FEW if era.films < FEWEST else "no colour"
    if era.hue.half is None:
        return "no direction"
    return f"{era.hue.degrees:.0f}° ± {era.hue.half:.0f}°, agreement {_short(era.hue.agreement)}"


def _genres(report: TemporalReport) -> Iterator[Block]:
    trends = {trend.name: trend for trend in report.genre_trends}
    order = sorted(
        VISUAL_GENRES, key=lambda genre: -trends[genre].slope[0] if genre in trends else 0.0
    )
    yield Bands(
        title="Which genres rose, which fell",
        panels=[
            Band(
                name=genre,
                points=points,
                caption=_caption(trends.get(genre), True),
                percent=True,
                stressed=_clear(trends.get(genre)),
            )
            for genre in order
            if len(points := _points(report.decades, genre)) > 1
        ],
        note="Share of a decade's films that have the genre, with Wilson's 95 % interval; from "
        "the one that rose most to the one that fell most. Each on a scale of its own.",
    )
    eras = [era for era in report.eras if era.films >= FEWEST]
    shares = [
        [interval[0] if (interval := era.genres[genre]) else 0.0 for era in eras] for genre in order
    ]
    yield Heatmap(
        title="Genre mix, by era",
        rows=order,
        columns=[era_words(era.name) for era in eras],
        values=shares,
        totals=[1.0] * len(order),
        shades=[[min(1.0, 2 * value) for value in row] for row in shares],
        percent=True,
        note="Share of the era's films that have the genre; films have one or more.",
    )


def _aging(report: TemporalReport) -> Iterator[Block]:
    if report.aging is None:
        yield Banner(
            outcome="note",
            sentence="No head was trained to see how models age: "
            + (
                f"{report.obstacle}."
                if report.obstacle
                else f"no era has {FEWEST_TRAINED} films before it and {FEWEST_TESTED} of its own."
            ),
        )
        return
    yield _grid(report.aging)
    yield _costs(report.aging)
    yield _grid_numbers(report.aging)


def _costs(aging: Aging) -> Intervals:
    name = "learnt ..., ROC area less that of a head that has seen the era"
    rows = [age_words(number) for number in range(len(aging.by_age))]
    return Intervals(
        title="What it costs not to have seen an era",
        rows=rows,
        panels={name: list(aging.by_age)},
        reference={name: [0.0] * len(rows)},
        reference_name="as good as having seen it",
        note="Means over the cells of the grid above, on the same films and with equally many to "
        "learn from (paired bootstrap by film). The rows are of different eras: only the newest "
        "have heads that are many eras old.",
    )


def _grid(aging: Aging) -> Heatmap:
    heads = ["", *aging.cuts]
    found = {(cell.before, cell.era): cell.ranking for cell in aging.cells}
    areas = [[_area(found.get((head, era))) for era in aging.eras] for head in heads]
    return Heatmap(
        title="Train before, test after",
        rows=[_head_words(head) for head in heads],
        columns=[era_words(era) for era in aging.eras],
        values=areas,
        totals=[1.0] * len(heads),
        shades=[[_shade(value) for value in row] for row in areas],
        note=f"Area under the ROC curve, the mean of {len(aging.genres)} "
        f"genres ({', '.join(aging.genres)}): .5 is guessing. Read a column downwards: the same "
        f"films, by heads that learnt from {aging.trained:,} films each, so that only their age "
        "differs. The first row has seen other films of the era. n/a: before the cut, or too few.",
    )


def _area(ranking: Ranking | None) -> float:
    return ranking.area[0] if ranking else float("nan")


def _shade(area: float) -> float:
    return (
        float(np.clip((area - _LEAST_AREA) / (_MOST_AREA - _LEAST_AREA), 0, 1))
        if (area == area)
        else 0.0
    )


def _head_words(before: str) -> str:
    return f"before {era_words(before)}" if before else "all eras, other films"


def _grid_numbers(aging: Aging) -> Table:
    costs = {(cost.before, cost.era): cost.area for cost in aging.costs}
    rows: list[Sequence[Cell]] = []
    for cell in aging.cells:
        line: list[Cell] = [era_words(cell.era), _head_words(cell.before)]
        cost = costs.get((cell.before, cell.era))
        line += _ranking_cells(cell.ranking)
        line.append(_interval_text(cost) if cost else "")
        rows.append(line)
    rows.sort(key=lambda line: [era_words(era) for era in aging.eras].index(str(line[0])))
    return Table(
        title="The same in figures",
        columns=(
            "tested on",
            "learnt from",
            "films",
            "macro mAP",
            "without looking",
            "mAP, prior fixed",
            "ROC area",
            "against having seen it",
        ),
        rows=rows,
        note="Macro mAP rises with how frequent genres are: compare it with what the prior alone "
        "gets (without looking). With the prior fixed, every genre counts as if it were as "
        "frequent as on all tested films, so eras can be compared. After ±, half the 95 % interval "
        "by film (bootstrap). The heads are linear, on colours and edges of 6 x 4 cells: they have "
        "seen no poster of later years, and know far less than a network. What they show is how "
        "fast such looks age, not how good a model can be."
        + (
            f" Too few films to learn from before: {', '.join(map(era_words, aging.too_early))}."
            if aging.too_early
            else ""
        ),
    )


def _ranking_cells(ranking: Ranking | None) -> list[Cell]:
    if ranking is None:
        return ["", _TOO_FEW, "", "", ""]
    return [
        f"{ranking.films:,}",
        _interval_text(ranking.precision),
        _short(ranking.prevalence),
        _interval_text(ranking.fixed_precision),
        _interval_text(ranking.area),
    ]


def _bundle(test: BundleTest) -> Table:
    newest = f" Its newest film is of {test.newest}." if test.newest else ""
    if test.cost:
        value, low, high = test.cost
        newest += (
            f" On films later than that its ROC area is {value:+.3f} ({low:+.3f} to {high:+.3f}) "
            "against unseen earlier ones; part of that may be that newer films are easier or "
            "harder by themselves (compare the first row of the grid above)."
        )
    return Table(
        title=f"The bundle {test.version[:12]} ({test.architecture}), era by era",
        columns=(
            "era",
            "it learnt from",
            "unseen",
            "tested",
            "macro mAP",
            "without looking",
            "mAP, prior fixed",
            "ROC area",
        ),
        rows=[
            (
                era_words(era.era),
                f"{era.trained:,} films" if era.trained else "none: it never saw this era",
                f"{era.unseen:,}",
                *_ranking_cells(era.ranking),
            )
            for era in test.eras
        ],
        note=f"Unseen: {test.rule}; nothing else is scored.{newest} Means over "
        f"{len(test.genres)} genres ({', '.join(test.genres) or 'none is frequent enough'}).",
    )


def _limits(report: TemporalReport) -> Table:
    return Table(
        title="What this cannot tell",
        columns=("", ""),
        rows=[
            (
                "the catalog",
                "Shares and means are those of the films in this catalog. If films "
                "were chosen by decade or genre, that choice is in them.",
            ),
            (
                "the year",
                "It is the film's, not the poster's: an old film with a modern poster "
                "counts as old.",
            ),
            (
                "sources",
                "Sources differ in size, sharpness and in which films they have; the right "
                "column of trends holds them fixed, the lines do not.",
            ),
            (
                "labels",
                "Genres are as the label source gave them; a genre that a source does not "
                "know in old films seems to rise.",
            ),
        ],
    )
