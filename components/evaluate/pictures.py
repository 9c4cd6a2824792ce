"""The part of the page about posters: what genres look like, and where the model goes wrong."""

from collections.abc import Sequence
from typing import Any

from components.evaluate.document import Evaluation
from components.evaluate.patterns import FEWEST, Map
from marquee.report import Block, Card, Cards, Cell, Checks, Intervals, Table
from marquee.verdict import Check

_SMALL = 0.2
"""Cohen's own bound of a small effect; lesser ones are not put in words."""
_CLEAR_LIFT, _CLEAR_SHARE = 1.25, 0.02
"""How much more of a colour a genre must have, and how much of it, for the colour to be named."""
_COLOURS = 3
_EFFECTS = {
    "brightness": ("brighter", "darker"),
    "contrast": ("more contrast", "less contrast"),
    "saturation": ("more colourful", "paler"),
    "warmth": ("warmer", "colder"),
}


def pattern_blocks(evaluation: Evaluation) -> list[Block]:
    """Show what posters of each genre look like."""
    patterns = evaluation.patterns
    known = [row for row in evaluation.per_genre if row["posters"] >= FEWEST]
    rows = sorted(known, key=lambda row: -row["average_precision"])
    if not rows:
        return []
    maps = (
        "Left: where these posters hold more evidence for the genre than posters do on average "
        "(red) or less (blue). "
        if patterns["evidence"]
        else "This architecture has no evidence maps. "
    )
    return [
        Cards(
            title="What does each genre look like?",
            cards=[_card(row["genre"], row["posters"], evaluation) for row in rows],
            colours=patterns["palette"]["colours"],
            swatches_name="more of",
            map_name="mean evidence map",
            note=f"{maps}Words: how the posters differ clearly from the others (more below). "
            "Strips: the colours of the genre's posters and of all. List: the posters to which the "
            "model gives the genre most surely; ✗ marks films that do not have it.",
        ),
        _attributes(evaluation, [row["genre"] for row in rows]),
    ]


def _card(genre: str, posters: int, evaluation: Evaluation) -> Card:
    patterns = evaluation.patterns
    palette = patterns["palette"]
    shares = palette["genres"][genre]
    return Card(
        name=genre,
        caption=f"{posters:,} posters",
        words=_words(patterns["attributes"][genre]),
        grid=_difference(patterns["evidence"][genre]) if patterns["evidence"] else None,
        strips={"genre": shares, "all": palette["all"]},
        swatches=_typical_colours(palette["colours"], shares, palette["all"]),
        listed=[
            (_title(entry), f"{entry['probability']:.0%}", entry["has_genre"])
            for entry in evaluation.typical[genre]
        ],
    )


def _difference(maps: dict[str, Map]) -> Map:
    return [
        [own - other for own, other in zip(*rows, strict=True)]
        for rows in zip(maps["with"], maps["all"], strict=True)
    ]


def _typical_colours(
    colours: Sequence[str], shares: Sequence[float], overall: Sequence[float]
) -> list[tuple[str, str]]:
    """Name the colours of which a genre has clearly more than all posters, the clearest first."""
    lifts = [
        (share / other, colour)
        for colour, share, other in zip(colours, shares, overall, strict=True)
        if share >= _CLEAR_SHARE and share >= _CLEAR_LIFT * other
    ]
    return [(colour, f"{lift:.1f} times") for lift, colour in sorted(lifts)[::-1][:_COLOURS]]


def _words(effects: dict[str, Sequence[float] | None]) -> str:
    """Say which attributes differ clearly, the strongest first."""
    clear = [
        (abs(effect[0]), _EFFECTS[name][effect[0] < 0])
        for name, effect in effects.items()
        if effect and abs(effect[0]) >= _SMALL and effect[1] * effect[2] > 0
    ]
    words = [f"{'much ' if size >= 0.8 else ''}{word}" for size, word in sorted(clear)[::-1]]
    return ", ".join(words).capitalize()


def _attributes(evaluation: Evaluation, genres: Sequence[str]) -> Intervals:
    effects = evaluation.patterns["attributes"]
    names = {name: f"{low} or {high}" for name, (high, low) in _EFFECTS.items()}
    return Intervals(
        title="How do posters of a genre differ from the others?",
        rows=genres,
        panels={words: [effects[genre][name] for genre in genres] for name, words in names.items()},
        reference={words: [0.0] * len(genres) for words in names.values()},
        reference_name="as the others",
        note="Cohen's d: the difference of the means of brightness, contrast, saturation and "
        "warmth, in standard deviations (pooled), with the interval of Hedges and Olkin (1985). "
        "0.2 is small, 0.8 is large. Warmth is the cosine of the hue's distance from orange.",
    )


def behaviour_blocks(evaluation: Evaluation) -> list[Block]:
    """Show what changes that leave the genre alone do."""
    moved = evaluation.behaviour
    rows: list[list[Cell]] = [
        [f"A poster {row['words']}", row["mean_change"], f"{row['same_top']:.0%}"]
        for row in moved["changes"]
        if row["bound"] is None
    ]
    rows.append(["Another poster altogether", moved["between_posters"], ""])
    return [
        Checks(
            title="Is it steady?",
            groups={"": [Check(**check) for check in evaluation.checks]},
            note="Changes that leave a film's genre alone should hardly move its probabilities "
            f"(mean over {moved['posters']} posters and all genres). A test that does not hold is "
            "a warning; it stops nothing.",
        ),
        Table(
            title="Other changes, for comparison",
            columns=("", "probabilities move by", "the same genre comes first"),
            rows=rows,
        ),
    ]


def error_blocks(evaluation: Evaluation) -> list[Block]:
    """Name the posters on which the model was surest, and wrong."""
    return [
        Table(
            title="Where was it sure, and wrong?",
            columns=("it says", "probability", "the film", "is", "poster"),
            rows=[_error(entry) for entry in evaluation.errors],
            note="Posters whose first genre is not the film's, the surest first. Some are films "
            "whose labels are wrong.",
        ),
        Table(
            title="What did it overlook?",
            columns=("genre", "probability", "the film", "is", "poster"),
            rows=[_error(entry) for entry in evaluation.overlooked],
            note="Films of a genre to which the model gives it least, compared with how frequent "
            "the genre is.",
        ),
    ]


def _error(entry: dict[str, Any]) -> list[Cell]:
    return [
        entry["genre"],
        entry["probability"],
        _title(entry),
        ", ".join(entry["genres"]) or "none of these genres",
        entry["poster_id"],
    ]


def _title(entry: dict[str, Any]) -> str:
    return f"{entry['title']} ({entry['year']})" if entry["year"] else entry["title"]
