"""The ingest step as Kubeflow Pipelines sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kfp.dsl import Metrics, Output


def ingest(
    run_uri: str, source: str, path: str, films: int, limit: int, overrides: dict[str, str],
    metrics: Output[Metrics],
) -> str:  # fmt: skip
    """Bring posters into the run's catalog; give the catalog's digest."""
    from components.ingest import ingest, sources
    from marquee import settings, step

    with step.step("ingest", run_uri) as layout:
        part_rows = settings.load(overrides).ingest.part_rows
        posters = sources.make_source(source, path=path, films=films, limit=limit or None)
        report = ingest.ingest(posters, layout.catalog, part_rows)
        metrics.log_metric("posters", report.manifest.rows)
        metrics.log_metric("quarantined", report.manifest.quarantined)
    return report.manifest.digest
