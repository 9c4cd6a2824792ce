"""A split plan as a page for people: pictures of what was dealt, and of what weighs how much."""

from collections.abc import Iterable, Sequence
from typing import Any

from marquee.report import (
    Banner,
    Bars,
    Block,
    Dumbbell,
    Heatmap,
    StackedBars,
    Table,
    Tiles,
    render,
)
from marquee.report.charts import number_text
from marquee.split import SPLITS, SplitPlan

_WORDS = {
    "none": "none",
    "class_weights": "class weights",
    "sampler": "sampler",
    "oversample": "oversampling",
}
_FAIR = {
    "random": "Dots on top of each other are what an even deal looks like.",
    "temporal": "Training and validation are dealt evenly; the test is the mix that time brought.",
}
_DEEDS = {
    "none": "every poster and every label counts the same",
    "class_weights": "labels and posters of rare genres count more in the loss",
    "sampler": "posters of rare genres are drawn more often",
    "oversample": "posters of rare genres are repeated",
}


def balance_page(plan: SplitPlan) -> str:
    """Render a split plan.

    Args:
        plan: The plan.

    Returns:
        HTML that stands alone.
    """
    facts = plan.balance
    order = sorted(facts["genres"], key=lambda genre: -facts["genres"][genre]["count"])
    present = [genre for genre in order if facts["genres"][genre]["count"]]
    blocks: list[Block] = [
        Banner(outcome="note", sentence=_sentence(facts)),
        _tiles(facts),
        _years(facts),
        _deal(facts, present),
        _strategies(facts, present),
        _before_and_after(facts, present),
        _eras(facts, present),
        _pairs(facts, present),
        *_rare(facts),
        *_left_out(facts),
        *_disputes(facts, present),
    ]
    subtitle = (
        f"{plan.label_set}, {facts['test_split']} split, {_WORDS[facts['strategy']]}; "
        f"catalog {facts['catalog_digest'][:12]}, seed {facts['settings']['seed']}"
    )
    return render("Balance", subtitle, blocks, footer=facts["attributions"])


def _sentence(facts: dict[str, Any]) -> str:
    sentence = (
        f"{facts['posters']:,} posters in {facts['groups']:,} groups of films were dealt, and only "
        f"then weighed: in training, {_DEEDS[facts['strategy']]}; validation and test are as they "
        "came. Films, collections and near-duplicate posters never straddle two splits."
    )
    if facts["test_split"] == "temporal":
        year = facts["settings"]["temporal_year"]
        sentence += f" Nothing released after {year} trains; only what was released later tests."
    return sentence


def _tiles(facts: dict[str, Any]) -> Tiles:
    tiles = [
        (name, f"{count:,}", f"{count / facts['posters']:.1%} of the posters")
        for name, count in facts["splits"].items()
    ]
    tiles.append(("groups", f"{facts['groups']:,}", f"the largest has {facts['largest_group']:,}"))
    reasons = {
        f"without a label of {facts['label_set']}": facts["left_out"],
        "set aside": facts["set_aside"],
        "without a year": facts["without_year"],
    }
    hint = ", ".join(f"{count:,} {why}" for why, count in reasons.items() if count)
    tiles.append(("not dealt", f"{sum(reasons.values()):,}", hint))
    return Tiles(tiles=tiles)


def _years(facts: dict[str, Any]) -> Block:
    years = facts["films_by_year"]
    title = "Films by year"
    if not years:
        return Table(title=title, columns=(), rows=(), note="No film has a year.")
    peak = max(years, key=lambda year: sum(years[year].values()))
    note = f"Most films are from {peak}: {sum(years[peak].values()):,}."
    mark = None
    if facts["test_split"] == "temporal":
        mark = facts["settings"]["temporal_year"]
        note += " Left of the line films train and validate, right of it they test."
        if facts["set_aside"]:
            early = _count(facts["set_aside"], "early film")
            groups = _count(facts["straddling_groups"], "group")
            note += f" {early} in {groups} with films on both sides: set aside."
    else:
        note += (
            " Every year is dealt to all three splits in the same proportion, as far as it goes."
        )
    return StackedBars(
        title=title,
        x_label="release year",
        x=[int(year) for year in years],
        series={split: [row[split] for row in years.values()] for split in SPLITS},
        mark=mark and mark + 0.5,
        mark_label=f"train and validation up to {mark}" if mark else "",
        note=note,
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _deal(facts: dict[str, Any], genres: Sequence[str]) -> Dumbbell:
    shares = facts["genres"]
    genre, apart = max(
        ((name, abs(shares[name]["test"] - shares[name]["train"])) for name in genres),
        key=lambda item: item[1],
    )
    return Dumbbell(
        title="What the deal did: share of posters with each genre",
        rows=genres,
        points={split: [shares[name][split] for name in genres] for split in SPLITS},
        note=f"{_FAIR[facts['test_split']]} Training and test are furthest apart in {genre}: "
        f"{100 * apart:.1f} percentage points.",
    )


def _strategies(facts: dict[str, Any], genres: Sequence[str]) -> Bars:
    chosen = _WORDS[facts["strategy"]]
    natural = [facts["genres"][genre]["train"] for genre in genres]
    return Bars(
        title="What each strategy does to each genre",
        rows=genres,
        panels={
            _WORDS[name]: [effect["genres"][genre]["share"] for genre in genres]
            for name, effect in facts["strategies"].items()
        },
        captions=[
            f"{effect['epoch']:,} shown, worth {effect['effective']:,.0f}"
            for effect in facts["strategies"].values()
        ],
        strong=chosen,
        reference=natural,
        reference_name="the genre's share of the training posters",
        note="A bar is the part of a genre's weight in the loss that is on posters that have it; "
        "at half, yes and no would weigh the same. 'Worth' is how many posters that all count the "
        f"same would vary as much (Kish). Blue is this plan's strategy, {chosen}.",
    )


def _before_and_after(facts: dict[str, Any], genres: Sequence[str]) -> Dumbbell:
    natural = {genre: facts["genres"][genre]["train"] for genre in genres}
    after = {genre: facts["genres"][genre]["train_weighted"] for genre in genres}
    return Dumbbell(
        title=f"Genres before and after balancing: {_WORDS[facts['strategy']]}",
        rows=genres,
        points={
            "training posters": list(natural.values()),
            "as they count in training": list(after.values()),
        },
        note=f"Genres took {_range(natural.values())} before, and take {_range(after.values())} "
        "after: the shorter the span, the more alike they count.",
    )


def _range(shares: Iterable[float]) -> str:
    ordered = sorted(shares)
    return " to ".join(number_text(end, percent=True) for end in (ordered[0], ordered[-1]))


def _eras(facts: dict[str, Any], genres: Sequence[str]) -> Heatmap:
    totals = {era: row["count"] for era, row in facts["eras"].items()}
    counts = facts["genres_by_era"]
    values = [[counts[genre][era] / total for era, total in totals.items()] for genre in genres]
    return Heatmap(
        title="Genre by era",
        rows=genres,
        columns=[era.replace("_", " ") for era in totals],
        values=values,
        shades=[_stretched(row) for row in values],
        totals=[1.0] * len(genres),
        percent=True,
        note="Share of an era's posters that have the genre; each row is darkest where the genre "
        "has its time.",
    )


def _stretched(row: Sequence[float]) -> list[float]:
    """Spread a row over 0..1."""
    low, span = min(row), max(row) - min(row)
    return [(value - low) / span if span else 0.0 for value in row]


def _pairs(facts: dict[str, Any], genres: Sequence[str]) -> Heatmap:
    places = [list(facts["genres"]).index(genre) for genre in genres]
    counts = facts["cooccurrence"]
    values = [
        [0.0 if row == column else counts[row][column] / counts[row][row] for column in places]
        for row in places
    ]
    return Heatmap(
        title="Genres that come together",
        rows=genres,
        columns=genres,
        values=values,
        totals=[1.0] * len(genres),
        percent=True,
        note="Of the posters of the row's genre, the share that also have the column's.",
    )


def _rare(facts: dict[str, Any]) -> list[Table]:
    if not facts["rare"]:
        return []
    fewest = facts["settings"]["rare_below"]
    return [
        Table(
            title="Too rare to learn",
            columns=("genre", *SPLITS),
            rows=[
                [genre, *(counts[split] for split in SPLITS)]
                for genre, counts in facts["rare"].items()
            ],
            note=f"Fewer than {fewest} training posters. They weigh as if they had {fewest}, and "
            "their scores say little; bring more films, or read the others.",
        )
    ]


def _left_out(facts: dict[str, Any]) -> list[Table]:
    if not facts["labels_left_out"]:
        return []
    return [
        Table(
            title="Subgenres left out",
            columns=("subgenre", "films"),
            rows=[list(row) for row in facts["labels_left_out"].items()],
            note=f"Fewer than {facts['settings']['subgenre_films']} films in the catalog "
            "(balance.subgenre_films): models do not learn them. Some subgenres are known by "
            "keywords alone; a catalog without any has none of these films.",
        )
    ]


def _disputes(facts: dict[str, Any], genres: Sequence[str]) -> list[Bars]:
    disputes = facts["disputes"]
    # Without IMDb's labels no label can be judged.
    rows = [genre for genre in genres if genre in disputes and _judged(disputes[genre])]
    if not rows:
        return []
    settings = facts["settings"]
    lowered = sum(row["lowered"] for row in disputes.values())
    does = {
        "keep": "All count in training (balance.disagreement is keep).",
        "mask": f"{lowered:,} disputed labels do not count in training.",
        "weigh": f"{lowered:,} disputed labels count {settings['disagreement_weight']:g} in "
        "training.",
    }
    words = {"tmdb_only": "only TMDB says so", "imdb_only": "only IMDb says so"}
    return [
        Bars(
            title="Labels on which TMDB and IMDb disagree",
            rows=rows,
            panels={
                words[status]: [disputes[row][status] / _judged(disputes[row]) for row in rows]
                for status in words
            },
            note="Share of the posters to which one of the two gives the genre, where both have "
            f"an opinion. {does[settings['disagreement']]}",
        )
    ]


def _judged(counts: dict[str, int]) -> int:
    return sum(counts[name] for name in ("agree", "tmdb_only", "imdb_only"))
