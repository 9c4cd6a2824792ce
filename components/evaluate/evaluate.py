"""Evaluate: score a sealed bundle on the test split, with the engine that will serve it."""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from marquee import storage
from marquee.bundle import Bundle, load
from marquee.catalog import Catalog
from marquee.decision import decide
from marquee.engine import Engine
from marquee.eras import ERAS, UNKNOWN_ERA
from marquee.errors import DataError
from marquee.genres import label_columns, label_matrix
from marquee.images import preprocess
from marquee.licences import check_not_expired
from marquee.log import progress
from marquee.metrics import baselines, confusion, confusion_per_genre, f1_per_genre, score
from marquee.split import TEST, TRAIN, SplitPlan

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 1
PREFIX = "test/"
_BATCH = 8
_FEWEST_IN_SLICE = 10


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The content of `evaluation.json`: test metrics of one bundle version."""

    version: str
    """The bundle's version."""
    architecture: str
    label_set: str
    genres: list[str]
    precision: str
    """What the engine computed in."""
    catalog_digest: str
    posters: int
    metrics: dict[str, float]
    """By name, all with the prefix `test/`."""
    baselines: dict[str, dict[str, float]]
    """The same metrics of predictors that never look at a poster."""
    per_genre: list[dict[str, Any]]
    per_era: list[dict[str, Any]]
    per_source: list[dict[str, Any]]
    confusion: list[list[int]]
    """Row: a genre the posters have; column: a genre they were given."""
    confusion_per_genre: dict[str, dict[str, int]]
    unsure: float
    """Share of posters for which no genre reached its threshold."""
    schema_version: int = field(default=SCHEMA_VERSION)

    def write(self, uri: str) -> None:
        """Write `evaluation.json`."""
        storage.write_text(uri, json.dumps(asdict(self), indent=2) + "\n")


def evaluate(bundle_uri: str, catalog_uri: str, split_uri: str) -> Evaluation:
    """Score a bundle on the test split, as it will be served.

    Args:
        bundle_uri: The sealed bundle.
        catalog_uri: The catalog that it was trained on.
        split_uri: The split plan that it was trained by.

    Returns:
        The evaluation.

    Raises:
        DataError: The bundle was trained on another catalog, or for another label set.
        DataGateFailed: The terms of some test posters are over.
    """
    bundle, catalog, plan = (
        load(bundle_uri),
        Catalog(catalog_uri),
        SplitPlan.read(split_uri),
    )
    _check_lineage(bundle, catalog, plan)
    engine = Engine(bundle)
    facts = ["era", "source", "expires_at", "shard_offset", "size"]
    frame = catalog.frame([*facts, *label_columns(plan.genres)])
    frame = frame.merge(plan.frame[["poster_id", "split"]], on="poster_id")
    test = frame[frame["split"] == TEST].reset_index(drop=True)
    check_not_expired(test)
    train_labels = label_matrix(frame[frame["split"] == TRAIN], plan.genres)
    probabilities = predict_posters(engine, catalog, test)
    evaluation = _evaluate(bundle, engine, test, train_labels, probabilities)
    logger.info(
        "evaluate: %s on %d posters: macro F1 %.3f, macro mAP %.3f",
        bundle.info.architecture,
        len(test),
        evaluation.metrics["test/macro_f1"],
        evaluation.metrics["test/macro_map"],
    )
    return evaluation


def _check_lineage(bundle: Bundle, catalog: Catalog, plan: SplitPlan) -> None:
    info, remedy = bundle.info, "give the catalog and the split plan that it was trained with"
    if info.label_set != plan.label_set:
        raise DataError(
            f"the bundle predicts {info.label_set}, the split plan is for {plan.label_set}",
            remedy=remedy,
        )
    states = {info.catalog_digest, catalog.manifest.digest, plan.balance["catalog_digest"]}
    if len(states) > 1 or info.split_digest != plan.digest:
        raise DataError(
            "the bundle was trained with another catalog or split plan, so that it may have been "
            "trained on the posters that would test it",
            remedy=remedy,
        )


def predict_posters(engine: Engine, catalog: Catalog, frame: pd.DataFrame) -> NDArray[np.float64]:
    """Predict posters, streaming them shard by shard.

    Args:
        engine: Runs the bundle.
        catalog: Holds the posters.
        frame: N rows with poster_id, part, shard_offset and size.

    Returns:
        Probabilities [N, G] in the order of the rows.
    """
    rows = {poster_id: n for n, poster_id in enumerate(frame["poster_id"])}
    result = np.zeros((len(frame), len(engine.bundle.info.genres)))
    with progress("evaluate", len(frame)) as advance:
        for batch in _batches(catalog.stream_images(frame)):
            images = np.stack(
                [preprocess(data, engine.bundle.info.preprocessing) for _, data in batch]
            )
            result[[rows[poster_id] for poster_id, _ in batch]] = engine.probabilities(images)
            advance(len(batch))
    return result


def _batches(posters: Iterator[tuple[str, bytes]]) -> Iterator[list[tuple[str, bytes]]]:
    batch = []
    for poster in posters:
        batch.append(poster)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _evaluate(
    bundle: Bundle,
    engine: Engine,
    test: pd.DataFrame,
    train_labels: NDArray[np.int8],
    probabilities: NDArray[np.float64],
) -> Evaluation:
    info = bundle.info
    labels = label_matrix(test, info.genres)
    decided, unsure = decide(probabilities, info.thresholds)
    chosen = decided.astype(np.int8)
    return Evaluation(
        version=bundle.version,
        architecture=info.architecture,
        label_set=info.label_set,
        genres=list(info.genres),
        precision=engine.precision,
        catalog_digest=info.catalog_digest,
        posters=len(test),
        metrics=_prefixed(score(labels, probabilities, chosen, info.genres)),
        baselines={
            name: _prefixed(values)
            for name, values in baselines(train_labels, labels, info.genres).items()
        },
        per_genre=_per_genre(bundle, labels, probabilities, chosen),
        per_era=_per_slice(
            test["era"], (*ERAS, UNKNOWN_ERA), labels, probabilities, chosen, info.genres
        ),
        per_source=_per_slice(
            test["source"], sorted(set(test["source"])), labels, probabilities, chosen, info.genres
        ),
        confusion=confusion(labels, chosen),
        confusion_per_genre=confusion_per_genre(labels, chosen, info.genres),
        unsure=float(unsure.mean()),
    )


def _prefixed(metrics: dict[str, float]) -> dict[str, float]:
    return {f"{PREFIX}{name}": value for name, value in metrics.items()}


def _per_genre(
    bundle: Bundle,
    labels: NDArray[np.int8],
    probabilities: NDArray[np.float64],
    chosen: NDArray[np.int8],
) -> list[dict[str, Any]]:
    f1 = f1_per_genre(labels, chosen)
    scores = score(labels, probabilities, chosen, bundle.info.genres)
    return [
        {
            "genre": genre,
            "posters": int(labels[:, g].sum()),
            "frequency": float(labels[:, g].mean()),
            "average_precision": scores.get(f"ap/{genre}"),
            "f1": float(f1[g]),
            "precision": _ratio(labels[:, g] & chosen[:, g], chosen[:, g]),
            "recall": _ratio(labels[:, g] & chosen[:, g], labels[:, g]),
            "threshold": bundle.info.thresholds[g],
        }
        for g, genre in enumerate(bundle.info.genres)
    ]


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> float | None:
    return float(part.sum() / whole.sum()) if whole.sum() else None


def _per_slice(
    column: pd.Series,
    names: Sequence[str],
    labels: NDArray[np.int8],
    probabilities: NDArray[np.float64],
    chosen: NDArray[np.int8],
    genres: tuple[str, ...],
) -> list[dict[str, Any]]:
    """Score each slice of the test split; one of too few posters is counted, not scored."""
    slices = []
    for name in names:
        rows = np.flatnonzero(column == name)
        if not len(rows):
            continue
        entry: dict[str, Any] = {"slice": name, "posters": len(rows)}
        if len(rows) >= _FEWEST_IN_SLICE:
            values = score(labels[rows], probabilities[rows], chosen[rows], genres)
            entry |= {key: values[key] for key in ("macro_map", "macro_f1", "micro_f1", "top1")}
        slices.append(entry)
    return slices
