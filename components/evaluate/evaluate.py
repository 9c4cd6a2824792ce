"""Evaluate: score a sealed bundle on the test split, with the engine that will serve it."""

import logging
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from components.evaluate import curves
from components.evaluate.behaviour import BehaviourTest
from components.evaluate.document import PREFIX, Evaluation
from components.evaluate.examples import Examples
from components.evaluate.patterns import PatternWatch, attribute_effects
from components.evaluate.posters import Posters, read_posters
from components.evaluate.predict import Seen, predict_posters
from components.evaluate.scores import Scores, sum_up_folds
from marquee.bundle import BundleInfo, load
from marquee.catalog import Catalog
from marquee.decision import decide
from marquee.engine import Engine
from marquee.eras import ERAS, UNKNOWN_ERA
from marquee.errors import DataError
from marquee.metrics import confusion_per_genre, primary_confusion
from marquee.split import SplitPlan

logger = logging.getLogger(__name__)


def evaluate(bundle_uri: str, catalog_uri: str, split_uri: str) -> Evaluation:
    """Score a bundle on the test split, as it will be served.

    Args:
        bundle_uri: The sealed bundle.
        catalog_uri: The catalog that it was trained on.
        split_uri: The split plan that it was trained by.

    Returns:
        The evaluation.

    Raises:
        DataError: The bundle was trained with another catalog, split plan or label set; a shard is
            missing, or a poster in it is damaged.
        DataGateFailed: No test poster has a label, or the terms of some are over.
    """
    bundle, catalog = load(bundle_uri), Catalog(catalog_uri)
    posters = _read(bundle_uri, bundle.info, catalog, split_uri)
    engine = Engine(bundle)
    patterns, behaviour = PatternWatch(posters.labels), BehaviourTest(engine, len(posters))

    def watch(seen: Seen) -> None:
        patterns.see(seen)
        behaviour.see(seen)

    probabilities = predict_posters(engine, catalog, posters.frame, watch)
    evaluation = _evaluation(engine, posters, probabilities, patterns, behaviour)
    logger.info(
        "evaluate: %s on %d posters: macro F1 %.3f, macro mAP %.3f",
        bundle.info.architecture,
        evaluation.posters,
        evaluation.metrics["test/macro_f1"],
        evaluation.metrics["test/macro_map"],
    )
    return evaluation


def _read(bundle_uri: str, info: BundleInfo, catalog: Catalog, split_uri: str) -> Posters:
    """Read what is scored, if the bundle was trained with it; the plan itself is not kept."""
    plan = SplitPlan.read(split_uri, ("poster_id", "split"))
    plan_catalog = str(plan.balance["catalog_digest"])
    lineage = {
        f"the label set of the split plan {split_uri}": (plan.label_set, info.label_set),
        f"the catalog {catalog.uri}": (catalog.manifest.digest, info.catalog_digest),
        f"the catalog of the split plan {split_uri}": (plan_catalog, info.catalog_digest),
        f"the split plan {split_uri}": (plan.digest, info.split_digest),
    }
    for what, (given, trained) in lineage.items():
        if given != trained:
            raise DataError(
                f"{what} is {given[:12]}, but the bundle {bundle_uri} was trained with "
                f"{trained[:12]}; posters that would test it may have trained it",
                remedy="give the catalog and the split plan of its training"
                + (f" (run {info.run})" if info.run else "")
                + ", or train again with these",
            )
    return read_posters(catalog, plan)


def _evaluation(
    engine: Engine,
    posters: Posters,
    probabilities: NDArray[np.float64],
    patterns: PatternWatch,
    behaviour: BehaviourTest,
) -> Evaluation:
    bundle, info, frame, labels = engine.bundle, engine.bundle.info, posters.frame, posters.labels
    genres = info.genres
    chosen, unsure = decide(probabilities, info.thresholds)
    scores = Scores(
        labels=labels,
        probabilities=probabilities,
        chosen=chosen.astype(np.int8),
        films=pd.factorize(frame["film_id"])[0],
        train_labels=posters.train_labels,
        genres=genres,
    )
    metrics, intervals = scores.metrics(), scores.intervals()
    examples = Examples(frame, labels, probabilities, genres)
    moved = behaviour.result()
    balance = posters.balance
    temporal = balance.get("test_split") == "temporal"
    return Evaluation(
        version=bundle.version,
        architecture=info.architecture,
        label_set=info.label_set,
        genres=list(genres),
        precision=engine.precision,
        catalog_digest=info.catalog_digest,
        test_split="temporal" if temporal else "random",
        temporal_year=balance["settings"]["temporal_year"] if temporal else None,
        posters=len(frame),
        films=int(scores.films.max()) + 1,
        metrics=_prefixed(metrics),
        intervals=_prefixed(intervals),
        baselines={name: _prefixed(values) for name, values in scores.baselines().items()},
        per_genre=scores.per_genre(metrics, intervals, info.thresholds),
        per_era=scores.per_slice(frame["era"], (*ERAS, UNKNOWN_ERA)),
        per_source=scores.per_slice(frame["source"], sorted(set(frame["source"]))),
        primary_confusion=primary_confusion(
            labels, probabilities, posters.train_labels.mean(axis=0)
        ),
        confusion_per_genre=confusion_per_genre(labels, scores.chosen, genres),
        precision_recall={
            genre: curves.precision_recall(labels[:, g], probabilities[:, g])
            for g, genre in enumerate(genres)
        },
        reliability=curves.reliability(labels, probabilities),
        coverage=curves.coverage_curve(labels, probabilities),
        history=info.history,
        cross_validation=sum_up_folds(info.cross_validation),
        behaviour=asdict(moved),
        checks=[asdict(check) for check in moved.checks()],
        patterns={
            "evidence": patterns.evidence(genres),
            "palette": patterns.palette(genres),
            "attributes": attribute_effects(frame, labels, genres),
        },
        errors=examples.errors(),
        overlooked=examples.overlooked(),
        typical=examples.typical(),
        unsure=float(unsure.mean()),
        attributions=list(balance.get("attributions", ())),
    )


def _prefixed(values: dict[str, Any]) -> dict[str, Any]:
    return {f"{PREFIX}{name}": value for name, value in values.items()}
