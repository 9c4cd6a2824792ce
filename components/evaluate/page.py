"""The evaluation as a page for people: what matters most first, in plain words."""

from collections.abc import Sequence
from typing import Any

from components.evaluate.document import PREFIX, Evaluation
from components.evaluate.pictures import behaviour_blocks, error_blocks, pattern_blocks
from components.evaluate.scores import FEWEST_IN_SLICE
from marquee import bootstrap
from marquee.metrics import BINS, COVERAGE_PRECISION
from marquee.report import (
    Banner,
    Block,
    Cell,
    Curves,
    Heatmap,
    Intervals,
    Lines,
    Panel,
    Table,
    Tiles,
    render,
)

_NAMES = {
    "top1": "top-1",
    "top3": "top-3",
    "macro_map": "macro mAP",
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "exact_match": "exact match",
    "per_label_accuracy": "per-label accuracy",
    "coverage_at_85": "coverage at 85%",
    "ece": "calibration error",
}
_MEANINGS = {
    "top1": "share of the posters whose most probable genre is one of the film's",
    "top3": "share of the posters of whose three most probable genres one is the film's",
    "macro_map": "how well posters of a genre rank above others, averaged over genres",
    "macro_f1": "precision and recall of the chosen genres, every genre counting the same",
    "micro_f1": "the same, every label counting the same; common genres dominate",
    "exact_match": "share of the posters whose chosen genres are exactly the film's",
    "per_label_accuracy": "share of all yes-or-no answers at probability .5 that are right; "
    "inflated, since saying no to everything scores high: shown because published figures use it",
    "coverage_at_85": "share of the posters that can be given their most probable genre, the "
    "surest first, with 85% of them right",
    "ece": f"how far probabilities are off ({BINS} bins; Guo et al. 2017), averaged over genres; "
    "small is good, and training frequencies score well without telling posters apart",
}
_BASELINES = {
    "predict_all": "every genre",
    "predict_none": "no genre",
    "most_frequent": "most frequent genre",
    "prior": "training frequencies",
}
_TILES = ("top1", "macro_map", "macro_f1", "coverage_at_85", "ece")
_SLICE_PANELS = ("top1", "macro_map", "macro_f1")
_SOURCES = 12
"""The largest sources that are shown."""
_FEWEST_IN_BIN = 10


def evaluation_page(evaluation: Evaluation) -> str:
    """Render an evaluation.

    Args:
        evaluation: What was measured.

    Returns:
        HTML that stands alone.
    """
    blocks: Sequence[Block] = (
        Banner(outcome="note", sentence=_sentence(evaluation)),
        _tiles(evaluation),
        _headline(evaluation),
        *_folds(evaluation),
        _genres(evaluation),
        _probabilities(evaluation),
        *pattern_blocks(evaluation),
        *behaviour_blocks(evaluation),
        *error_blocks(evaluation),
        *_slices("By era", evaluation.per_era),
        *_slices("By source", evaluation.per_source),
        _against_baselines(evaluation),
        _confusion(evaluation),
        _genre_table(evaluation),
        _counts(evaluation),
        _precision_recall(evaluation),
        *_history(evaluation),
        _method(evaluation),
    )
    return render("Evaluation", _subtitle(evaluation), blocks, evaluation.attributions)


def without_looking(evaluation: Evaluation, metric: str) -> float:
    """Give the best score of those that never look at a poster.

    Args:
        evaluation: What was measured.
        metric: A name without the prefix `test/`.
    """
    return max(values[PREFIX + metric] for values in evaluation.baselines.values())


def _subtitle(evaluation: Evaluation) -> str:
    split = f"{evaluation.test_split} split"
    if evaluation.temporal_year:
        split += f" (tested on films after {evaluation.temporal_year})"
    return (
        f"{evaluation.architecture}, {evaluation.label_set}, {evaluation.posters:,} test posters, "
        f"{split}, {evaluation.precision}; bundle {evaluation.version[:12]}, "
        f"catalog {evaluation.catalog_digest[:12]}"
    )


def _sentence(evaluation: Evaluation) -> str:
    own, other = evaluation.metrics["test/top1"], without_looking(evaluation, "top1")
    covered = evaluation.metrics["test/coverage_at_85"]
    broken = sum(check["outcome"] != "passed" for check in evaluation.checks)
    steady = (
        f"{broken} of {len(evaluation.checks)} fail{'s' * (broken == 1)}" if broken else "all pass"
    )
    return (
        f"The genre that the model names first is right for {own:.0%} of the posters; without "
        f"looking at them, {other:.0%} would be. It can label the surest {covered:.0%} of the "
        f"posters and be right for {COVERAGE_PRECISION:.0%} of those. Of the behavioural tests, "
        f"{steady}."
    )


def _tiles(evaluation: Evaluation) -> Tiles:
    return Tiles(
        tiles=[
            (
                _NAMES[metric],
                f"{evaluation.metrics[PREFIX + metric]:.3f}",
                "0 would be perfect"
                if metric == "ece"
                else f"without looking {without_looking(evaluation, metric):.3f}",
            )
            for metric in _TILES
        ]
    )


def _interval(
    value: float | None, ends: Sequence[float] | None
) -> tuple[float, float, float] | None:
    return None if value is None or ends is None else (value, ends[0], ends[1])


def _headline(evaluation: Evaluation) -> Intervals:
    names = [name for name in _NAMES if PREFIX + name in evaluation.intervals]
    panel = "score on the test posters"
    return Intervals(
        title="How good is it?",
        rows=[_NAMES[name] for name in names],
        panels={
            panel: [
                _interval(evaluation.metrics[PREFIX + name], evaluation.intervals[PREFIX + name])
                for name in names
            ]
        },
        reference={panel: [without_looking(evaluation, name) for name in names]},
        reference_name="the best that never looks at a poster",
        note=f"Intervals: {bootstrap.RESAMPLES:,} bootstrap resamples of the "
        f"{evaluation.films:,} test films.",
    )


def _folds(evaluation: Evaluation) -> list[Block]:
    folds = evaluation.cross_validation
    if not folds:
        return []
    count = len(next(iter(folds.values()))["folds"])
    return [
        Table(
            title="How much of it is luck?",
            columns=("", "test posters", f"mean of {count} folds", "spread"),
            rows=[
                [
                    _NAMES[name],
                    evaluation.metrics[PREFIX + name],
                    folds[name]["mean"],
                    folds[name]["std"],
                ]
                for name in _NAMES
                if name in folds
            ],
            note="Cross-validation: the head on frozen features, without fine-tuning, trained "
            f"{count} times on training and validation posters and tested each time on a part that "
            "it had not seen. The spread (standard deviation) is how much a figure depends on "
            "which posters train and which test.",
        )
    ]


def _against_baselines(evaluation: Evaluation) -> Table:
    rows: list[list[Cell]] = []
    for name in _NAMES:
        ends = evaluation.intervals.get(PREFIX + name)
        rows.append(
            [
                _NAMES[name],
                evaluation.metrics[PREFIX + name],
                f"{ends[0]:.3f}\u00a0to\u00a0{ends[1]:.3f}" if ends else "",
                *(values[PREFIX + name] for values in evaluation.baselines.values()),
            ]
        )
    columns = [_BASELINES[name] for name in evaluation.baselines]
    return Table(
        title="Beside the baselines",
        columns=("", evaluation.architecture, "95% interval", *columns),
        rows=rows,
        note="The baselines never look at a poster: they always name every genre, no genre, or the "
        "most frequent one, or give the training frequencies as probabilities.",
    )


def _genres(evaluation: Evaluation) -> Intervals:
    rows = _by_precision(evaluation)
    panel = "average precision"
    return Intervals(
        title="Which genres does it know?",
        rows=[f"{row['genre']} · {row['posters']}" for row in rows],
        panels={panel: [_interval(row["average_precision"], row["interval"]) for row in rows]},
        reference={panel: [row["frequency"] for row in rows]},
        reference_name="by chance: the genre's share of the posters",
        note="Beside each genre, its test posters: on few of them, figures say little.",
    )


def _by_precision(evaluation: Evaluation) -> list[dict[str, Any]]:
    return sorted(evaluation.per_genre, key=lambda row: -(row["average_precision"] or 0))


def _probabilities(evaluation: Evaluation) -> Curves:
    covered = evaluation.metrics["test/coverage_at_85"]
    bins = [row for row in evaluation.reliability if row["count"] >= _FEWEST_IN_BIN]
    return Curves(
        title="Can its probabilities be trusted?",
        panels=(
            Panel(
                name="When it gives a probability, how often does that come true?",
                caption="across: the probability, all genres together; dashed: as it should be",
                points=[(row["probability"], row["came_true"]) for row in bins],
                reference=((0, 0), (1, 1)),
                dots=True,
            ),
            Panel(
                name="How often is its first genre right, on the surest posters?",
                caption="across: share of the posters taken; "
                f"{COVERAGE_PRECISION:.0%} (dashed) holds on {covered:.0%}",
                points=evaluation.coverage,
                reference=((0, COVERAGE_PRECISION), (1, COVERAGE_PRECISION)),
            ),
        ),
        wide=True,
    )


def _slices(title: str, slices: Sequence[dict[str, Any]]) -> list[Block]:
    scored = [row for row in slices if "intervals" in row]
    scored = sorted(scored, key=lambda row: -row["posters"])[:_SOURCES]
    shown = [row for row in slices if row in scored]
    if not shown:
        return []
    counted = sum(row["posters"] for row in slices) - sum(row["posters"] for row in shown)
    return [
        Intervals(
            title=title,
            rows=[f"{row['slice'].replace('_', ' ')} · {row['posters']:,}" for row in shown],
            panels={
                _NAMES[name]: [_interval(row[name], row["intervals"][name]) for row in shown]
                for name in _SLICE_PANELS
            },
            reference={
                _NAMES[name]: [row["baselines"][name] for row in shown] for name in _SLICE_PANELS
            },
            reference_name="the best that never looks at a poster",
            note=(f"{counted:,} posters are in slices that are not shown. " if counted else "")
            + f"Slices of fewer than {FEWEST_IN_SLICE} posters are not scored.",
        )
    ]


def _confusion(evaluation: Evaluation) -> Heatmap:
    genres, counts = evaluation.genres, evaluation.primary_confusion
    return Heatmap(
        title="Which genre is taken for which?",
        rows=[f"{genre} · {sum(row)}" for genre, row in zip(genres, counts, strict=True)],
        columns=genres,
        values=[[value / (sum(row) or 1) for value in row] for row in counts],
        totals=[1.0] * len(genres),
        percent=True,
        note="Row: the film's primary genre, and its posters. Column: what the model names first, "
        "as a share of the row. A poster counts once: if what the model names first is one of the "
        "film's genres, on the diagonal; otherwise in the row of the rarest genre that the film "
        "has.",
    )


def _genre_table(evaluation: Evaluation) -> Table:
    columns = {
        "genre": "genre",
        "posters": "posters",
        "training_posters": "trained on",
        "average_precision": "AP",
        "frequency": "by chance",
        "f1": "F1",
        "f1_if_always": "if always given",
        "precision": "precision",
        "recall": "recall",
        "ece": "ECE",
        "threshold": "threshold",
    }
    return Table(
        title="By genre",
        columns=list(columns.values()),
        rows=[[row[name] for name in columns] for row in _by_precision(evaluation)],
        note="AP, average precision, is by chance the genre's share of the posters. F1, precision "
        "and recall are at the threshold that was tuned on validation posters; beside F1 is what "
        "giving the genre to every poster scores.",
    )


def _counts(evaluation: Evaluation) -> Table:
    names = {
        "true_positive": "found",
        "false_negative": "missed",
        "false_positive": "wrongly given",
        "true_negative": "rightly not given",
    }
    return Table(
        title="Confusion matrix of each genre",
        columns=("genre", *names.values()),
        rows=[
            [genre, *(counts[name] for name in names)]
            for genre, counts in evaluation.confusion_per_genre.items()
        ],
    )


def _precision_recall(evaluation: Evaluation) -> Curves:
    return Curves(
        title="Precision and recall at every threshold",
        panels=[
            Panel(
                name=row["genre"],
                caption=f"AP {row['average_precision']:.2f}, chance {row['frequency']:.2f}",
                points=evaluation.precision_recall[row["genre"]],
                reference=((0, row["frequency"]), (1, row["frequency"])),
            )
            for row in _by_precision(evaluation)
            if row["average_precision"] is not None
        ],
        note="Across, recall: the share of the genre's posters that are found. Up, precision: the "
        "share of what is given that is right. Dashed: by chance.",
    )


def _history(evaluation: Evaluation) -> list[Block]:
    epochs = evaluation.history
    if not epochs:
        return []
    best = max(epochs, key=lambda epoch: epoch["validation_macro_map"])
    titles = {"validation_macro_map": "validation macro mAP", "loss": "training loss"}
    return [
        Lines(
            title=f"Learning curve: {words}",
            x_label="epoch",
            y_label=words,
            x=[epoch["epoch"] for epoch in epochs],
            series={words: [epoch[name] for epoch in epochs]},
            mark=best["epoch"],
            note="The dashed line is where validation macro mAP was highest.",
        )
        for name, words in titles.items()
    ]


def _method(evaluation: Evaluation) -> Table:
    split = (
        f"Temporal: nothing released after {evaluation.temporal_year} trained, and only what was "
        "released later tests."
        if evaluation.temporal_year
        else "Random: films of all years train and test; no film, collection or near-duplicate "
        "poster does both."
    )
    rows = [("test split", split), *((_NAMES[name], text) for name, text in _MEANINGS.items())]
    rows.append(
        ("unsure", f"No genre reached its threshold on {evaluation.unsure:.0%} of the posters.")
    )
    return Table(title="What the figures mean", columns=("", ""), rows=rows)
