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
        resolved, posters = settings.load(overrides), {"path": path, "films": films, "limit": limit}
        offers = sources.make_source(source, path=path, films=films, limit=limit or None)
        layout.claim({"source": source, **posters}, resolved.to_dict())
        report = ingest.ingest(offers, layout.catalog, resolved.ingest.part_rows, mirror=True)
        metrics.metadata.update(posters=report.manifest.rows, quarantined=report.refused)
    return report.manifest.digest
