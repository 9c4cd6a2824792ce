"""Score: label a whole catalog with a bundle, as the server would; resumable at any point."""

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc

from components.score.labels import FACTS, Job, LabelFile, column_of
from components.score.posters import Batch, Part, batches, parts_of
from marquee import licences
from marquee.bundle import load
from marquee.catalog import Catalog
from marquee.endpoint import Instance
from marquee.engine import Engine, Prediction
from marquee.log import progress
from marquee.processes import cpus, stoppable
from marquee.settings import Settings

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ScoreReport:
    """What the labels of a catalog hold."""

    labels: str
    """The Parquet file."""
    model_version: str
    catalog_digest: str
    posters: int
    unreadable: int
    """Posters that have an error instead of labels."""
    unsure: int
    genres: dict[str, int]
    """Genre to how many posters were given it."""

    def scalars(self) -> dict[str, float]:
        """Give the figures that the Kubeflow UI shows."""
        shares = {f"share/{name}": n / max(1, self.posters) for name, n in self.genres.items()}
        counts = {name: getattr(self, name) for name in ("posters", "unreadable", "unsure")}
        return counts | shares


def score(catalog_uri: str, bundle_uri: str, labels_uri: str, settings: Settings) -> ScoreReport:
    """Label every poster of a catalog.

    The same call again goes on where an earlier one was stopped or killed.

    Args:
        catalog_uri: The catalog.
        bundle_uri: The sealed bundle.
        labels_uri: The Parquet file to write: one row a poster. `{model}` and `{catalog}` in it
            become the first 12 digits of the bundle's version and the catalog's digest.
        settings: Name the agreements that the terms of posters ask for.

    Returns:
        What the file holds.

    Raises:
        DataError: A bundle, catalog or shard is missing or damaged.
        DataGateFailed: The terms of some posters are over, or forbid it.
        UsageError: The file holds labels of another model or catalog, or something else.
        Stopped: SIGTERM or Ctrl-C came.
    """
    bundle, catalog = load(bundle_uri), Catalog(catalog_uri)
    job = Job(
        model_version=bundle.version,
        catalog_digest=catalog.manifest.digest,
        genres=bundle.info.genres,
        attributions=_check_terms(catalog, settings),
    )
    names = {"{model}": job.model_version[:12], "{catalog}": job.catalog_digest[:12]}
    for name, digits in names.items():
        labels_uri = labels_uri.replace(name, digits)
    labels = LabelFile(labels_uri, job)
    if not labels.finished:
        with stoppable():
            _label(Engine(bundle), parts_of(catalog), labels)
    report = _report(labels, job)
    logger.info(
        "score: %d posters labelled in %s (%d unreadable, %d unsure)",
        report.posters,
        labels_uri,
        report.unreadable,
        report.unsure,
    )
    return report


def _check_terms(catalog: Catalog, settings: Settings) -> tuple[str, ...]:
    """Refuse posters whose terms forbid it or are over; say whom to credit for the others."""
    # What labels were joined from matters to training: here, nobody looks at the labels.
    terms = catalog.frame(["licence", "expires_at"]).assign(label_licences=None)
    licences.check_training_use(terms, settings.licence)
    return tuple(licences.attributions(terms))


def _label(engine: Engine, parts: list[Part], labels: LabelFile) -> None:
    there = labels.parts()
    missing = [part for part in parts if part.name not in there]
    if done := sum(map(len, parts)) - sum(map(len, missing)):
        logger.info("score: going on, %d posters are labelled already", done)
    coming = batches(missing, FACTS, engine.bundle.info.preprocessing, threads=cpus())
    with progress("score", sum(map(len, missing))) as advance:
        rows: list[dict[str, Any]] = []
        for batch in coming:
            rows += _rows(engine, batch)
            if len(rows) == len(batch.facts):
                labels.add(batch.part.name, batch.facts, rows)
                rows = []
            advance(len(batch.posters))
    labels.publish([part.name for part in parts])


def _rows(engine: Engine, batch: Batch) -> Iterator[dict[str, Any]]:
    """Give what the labels say of each poster of a batch."""
    images = [poster for poster in batch.posters if not isinstance(poster, str)]
    predictions = iter(engine.predict(np.stack(images)) if images else [])
    for poster, year in zip(batch.posters, batch.years, strict=True):
        if isinstance(poster, str):
            logger.warning("score: %s", poster)
            found: dict[str, Any] = {"error": poster}
        else:
            found = _label_row(next(predictions), year)
        yield {"model_version": engine.bundle.version, **found}


def _label_row(prediction: Prediction, year: int | None) -> dict[str, Any]:
    # As the server has it: the year decides, and the model where there is none.
    era, source = Instance(image=b"", year=year).era(prediction.era)
    columns = {column_of(genre): value for genre, value in prediction.probabilities.items()}
    found = {"genres": prediction.genres, "unsure": prediction.unsure}
    return {**found, "era": era, "era_source": source, **columns}


def _report(labels: LabelFile, job: Job) -> ScoreReport:
    table = labels.read(["genres", "unsure", "error"])
    chosen = Counter(pc.list_flatten(table["genres"]).to_pylist())
    return ScoreReport(
        labels=labels.uri,
        model_version=job.model_version,
        catalog_digest=job.catalog_digest,
        posters=len(table),
        unreadable=len(table) - table["error"].null_count,
        unsure=pc.sum(table["unsure"]).as_py() or 0,
        genres={genre: chosen[genre] for genre in job.genres},
    )
