"""The evaluation as a page for people."""

from collections.abc import Sequence
from typing import Any

from components.evaluate.evaluate import PREFIX, Evaluation
from marquee.report import Banner, Block, Cell, Heatmap, Table, Tiles, render

_HONEST = ("macro_map", "macro_f1", "micro_f1", "top1", "exact_match", "per_label_accuracy")
_NAMES = {
    "macro_map": "macro mAP",
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "top1": "top-1",
    "exact_match": "exact match",
    "per_label_accuracy": "per-label accuracy",
}
_BASELINES = {
    "predict_all": "predict every genre",
    "predict_none": "predict no genre",
    "most_frequent": "always the most frequent genre",
    "prior": "training frequencies",
}
_EXPLAIN = (
    "The baselines never look at a poster. Per-label accuracy is shown because published figures "
    "use it; predicting no genre at all scores high on it."
)


def evaluation_page(evaluation: Evaluation) -> str:
    """Render an evaluation.

    Args:
        evaluation: What was measured.

    Returns:
        HTML that stands alone.
    """
    subtitle = (
        f"{evaluation.architecture}, {evaluation.label_set}, {evaluation.posters:,} test posters, "
        f"{evaluation.precision}; bundle {evaluation.version[:12]}, "
        f"catalog {evaluation.catalog_digest[:12]}"
    )
    blocks: Sequence[Block] = (
        Banner(outcome="note", sentence=_sentence(evaluation)),
        _tiles(evaluation),
        _against_baselines(evaluation),
        _per_genre(evaluation),
        _per_slice("By era", evaluation.per_era),
        _per_slice("By source", evaluation.per_source),
        _confusion(evaluation),
        _counts(evaluation),
    )
    return render("Evaluation", subtitle, blocks)


def best_baseline(evaluation: Evaluation, metric: str) -> tuple[str, float]:
    """Find the baseline that scores highest.

    Args:
        evaluation: What was measured.
        metric: A name without the prefix `test/`.

    Returns:
        The baseline's name in words, and its score.
    """
    scores = {name: values[PREFIX + metric] for name, values in evaluation.baselines.items()}
    best = max(scores, key=lambda name: scores[name])
    return _BASELINES[best], scores[best]


def _sentence(evaluation: Evaluation) -> str:
    own = evaluation.metrics["test/macro_f1"]
    name, best = best_baseline(evaluation, "macro_f1")
    relation = "beats" if own > best else "does not beat"
    return (
        f"Macro F1 {own:.3f} {relation} the best that works without looking "
        f"({name}: {best:.3f}). The model is unsure of {evaluation.unsure:.0%} of the posters."
    )


def _tiles(evaluation: Evaluation) -> Tiles:
    tiles = []
    for metric in _HONEST[:4]:
        _, best = best_baseline(evaluation, metric)
        value = evaluation.metrics[PREFIX + metric]
        tiles.append((_NAMES[metric], f"{value:.3f}", f"baseline {best:.3f}"))
    return Tiles(tiles=tiles)


def _against_baselines(evaluation: Evaluation) -> Table:
    own: list[Cell] = [
        evaluation.architecture,
        *(evaluation.metrics[PREFIX + name] for name in _HONEST),
    ]
    others: list[list[Cell]] = [
        [_BASELINES[name], *(values[PREFIX + metric] for metric in _HONEST)]
        for name, values in evaluation.baselines.items()
    ]
    return Table(
        title="Beside the baselines",
        columns=("", *(_NAMES[name] for name in _HONEST)),
        rows=[own, *others],
        strong=(0,),
        note=_EXPLAIN,
    )


def _per_genre(evaluation: Evaluation) -> Table:
    keys = ("genre", "posters", "frequency", "average_precision", "f1", "precision", "recall")
    ordered = sorted(evaluation.per_genre, key=lambda row: -(row["average_precision"] or 0))
    return Table(
        title="By genre",
        columns=("genre", "posters", "frequency", "AP", "F1", "precision", "recall", "threshold"),
        rows=[[*(row[key] for key in keys), row["threshold"]] for row in ordered],
        bars=(3,),
        note="AP is average precision; a predictor by chance reaches the genre's frequency.",
    )


def _per_slice(title: str, slices: Sequence[dict[str, Any]]) -> Table:
    keys = ("macro_map", "macro_f1", "micro_f1", "top1")
    return Table(
        title=title,
        columns=("slice", "posters", *(_NAMES[key] for key in keys)),
        rows=[
            [row["slice"].replace("_", " "), row["posters"], *(row.get(key) for key in keys)]
            for row in slices
        ],
        bars=(3,),
        note="Slices of fewer than 10 test posters are counted but not scored.",
    )


def _confusion(evaluation: Evaluation) -> Heatmap:
    return Heatmap(
        title="What posters of a genre were given",
        rows=evaluation.genres,
        columns=evaluation.genres,
        values=evaluation.confusion,
        totals=[row["posters"] for row in evaluation.per_genre],
        note="Row: a genre the posters have. Column: a genre they were given. A poster counts once "
        "for every pair, since it can have several of both.",
    )


def _counts(evaluation: Evaluation) -> Table:
    keys = ("true_positive", "false_positive", "false_negative", "true_negative")
    return Table(
        title="Confusion matrix of each genre",
        columns=("genre", *(key.replace("_", " ") + "s" for key in keys)),
        rows=[
            [genre, *(counts[key] for key in keys)]
            for genre, counts in evaluation.confusion_per_genre.items()
        ],
    )
