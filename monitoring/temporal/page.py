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
    Gallery,
    Heatmap,
    Intervals,
    Table,
    Tiles,
    render,
)
from monitoring.temporal.aging_page import aging_blocks
from monitoring.temporal.films import FEWEST
from monitoring.temporal.report import Period, TemporalReport
from monitoring.temporal.trends import SMALL, Interval, Trend, strongest
from monitoring.temporal.words import TOO_FEW, era_words, interval_text, looks_words, short

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
_ENLARGED = 8


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
        *_looks(report),
        _numbers(report),
        *_genres(report),
        *aging_blocks(report),
        _limits(),
    ]
    years = f"{report.first_year} to {report.last_year}"
    return render("Posters over time", f"{report.catalog} · {years}", blocks, report.attributions)


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
        missing=f"{TOO_FEW} (under {FEWEST})",
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


def _looks(report: TemporalReport) -> Iterator[Block]:
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
    if not panels:
        return
    yield Bands(
        title="Light, colour and composition, decade by decade",
        panels=panels,
        note="Means with their 95 % intervals; blue lines have a clear trend. Brightness, contrast "
        "and saturation: 0 to 1. Warmth: above 0 towards orange, below towards blue. Blue: share "
        "of pixels. Busyness: mean steepness of edges. Top: top third less bottom third. Middle: "
        "middle less margin. Symmetry: correlation of left and right. The first four are of all "
        f"films, the others of the sample. Decades of fewer than {FEWEST} films are left out.",
    )
    yield _strength(report)


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
        for trend in strongest(trends)
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
                *(interval_text(_value(era, name)) for name in columns),
                _hue_text(era),
            )
            for era in report.eras
        ],
        note="After ±, half the 95 % interval. The mean hue is one of directions around the circle "
        "(0° red, 120° green, 240° blue), each film weighted by its saturation; agreement: 0 hues "
        "point everywhere, 1 all are the same.",
    )


def _hue_text(era: Period) -> str:
    if era.hue is None:
        return TOO_FEW if era.films < FEWEST else "no colour"
    if era.hue.half is None:
        return "no direction"
    return f"{era.hue.degrees:.0f}° ± {era.hue.half:.0f}°, agreement {short(era.hue.agreement)}"


def _genres(report: TemporalReport) -> Iterator[Block]:
    trends = {trend.name: trend for trend in report.genre_trends}
    order = sorted(
        VISUAL_GENRES, key=lambda genre: -trends[genre].slope[0] if genre in trends else 0.0
    )
    panels = [
        Band(
            name=genre,
            points=points,
            caption=_caption(trends.get(genre), True),
            percent=True,
            stressed=_clear(trends.get(genre)),
        )
        for genre in order
        if len(points := _points(report.decades, genre)) > 1
    ]
    if panels:
        yield _rise_and_fall(panels)
    yield _mix(report, order)


def _rise_and_fall(panels: Sequence[Band]) -> Bands:
    return Bands(
        title="Which genres rose, which fell",
        panels=panels,
        note="Share of a decade's films that have the genre, with Wilson's 95 % interval; from "
        "the one that rose most to the one that fell most. Each on a scale of its own.",
    )


def _mix(report: TemporalReport, order: Sequence[str]) -> Heatmap:
    eras = [era for era in report.eras if era.films >= FEWEST]
    shares = [
        [interval[0] if (interval := era.genres[genre]) else 0.0 for era in eras] for genre in order
    ]
    return Heatmap(
        title="Genre mix, by era",
        rows=order,
        columns=[era_words(era.name) for era in eras],
        values=shares,
        totals=[1.0] * len(order),
        shades=[[min(1.0, 2 * value) for value in row] for row in shares],
        percent=True,
        note="Share of the era's films that have the genre; films have one or more.",
    )


def _limits() -> Table:
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
