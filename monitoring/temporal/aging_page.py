"""The part of the page about models: what learnt before an era, tested after it."""

from collections.abc import Iterator, Sequence

from marquee.report import Banner, Block, Cell, Heatmap, Intervals, Table
from monitoring.temporal.aging import FEWEST_TRAINED, Aging
from monitoring.temporal.bundle import BundleTest
from monitoring.temporal.ranking import FEWEST_TESTED, Ranking
from monitoring.temporal.report import TemporalReport
from monitoring.temporal.words import TOO_FEW, age_words, era_words, interval_text, short

_LEAST_AREA, _MOST_AREA = 0.5, 0.75
"""Areas from which on, and up to which, a cell is coloured."""


def aging_blocks(report: TemporalReport) -> Iterator[Block]:
    """Show how heads that learnt before an era do after it, and how a bundle does.

    Args:
        report: What was found.

    Yields:
        Blocks for the page.
    """
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
    else:
        yield _grid(report.aging)
        yield _costs(report.aging)
        yield _grid_numbers(report.aging)
    if report.bundle:
        yield _bundle(report.bundle)


def _costs(aging: Aging) -> Intervals:
    name = "learnt ..., ROC area against a head that has seen the era"
    rows = [age_words(number) for number in range(len(aging.by_age))]
    return Intervals(
        title="What it costs not to have seen an era",
        rows=rows,
        panels={name: list(aging.by_age)},
        reference={name: [0.0] * len(rows)},
        reference_name="as good as having seen it",
        note="Means over the cells of the grid above, on the same films and with equally many to "
        "learn from (paired bootstrap by test film; which films were learnt from is chance as "
        "well). The rows are of different eras: only the newest have heads that are many eras old.",
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
    """Tell how strongly to colour an area; one that nobody knows not at all."""
    share = (area - _LEAST_AREA) / (_MOST_AREA - _LEAST_AREA)
    return min(max(share, 0.0), 1.0) if share == share else 0.0


def _head_words(before: str) -> str:
    return f"before {era_words(before)}" if before else "all eras, other films"


def _grid_numbers(aging: Aging) -> Table:
    costs = {(cost.before, cost.era): cost.area for cost in aging.costs}
    rows: list[Sequence[Cell]] = []
    for cell in aging.cells:
        line: list[Cell] = [era_words(cell.era), _head_words(cell.before)]
        cost = costs.get((cell.before, cell.era))
        line += _ranking_cells(cell.ranking)
        line.append(interval_text(cost) if cost else "")
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
            "against the first",
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
        return ["", TOO_FEW, "", "", ""]
    return [
        f"{ranking.films:,}",
        interval_text(ranking.precision),
        short(ranking.prevalence),
        interval_text(ranking.fixed_precision),
        interval_text(ranking.area),
    ]


def _bundle(test: BundleTest) -> Table:
    newest = f" The newest film that taught it is of {test.newest}." if test.newest else ""
    if test.cost:
        value, low, high = test.cost
        newest += (
            f" On films later than that its ROC area is {value:+.3f} ({low:+.3f} to {high:+.3f}) "
            "against unseen earlier ones; part of that may be that newer films are easier or "
            "harder by themselves (compare the first row of the grid above)."
        )
    elif test.newest:
        newest += " There are too few unseen films on one side of that to tell what age costs it."
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
        note=f"Unseen: {test.rule}, if they look like none that taught it. Nothing else is scored."
        f"{newest} Means over "
        f"{len(test.genres)} genres ({', '.join(test.genres) or 'none is frequent enough'}).",
    )
