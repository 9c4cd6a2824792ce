"""The ingest step as Kubeflow Pipelines sees it: one slice of the source."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kfp.dsl import Metrics, Output


def ingest(
    run_uri: str, source: str, path: str, limit: int, span: str, spans: list[str],
    overrides: dict[str, str], metrics: Output[Metrics],
) -> str:  # fmt: skip
    """Bring the posters of a slice into the run's catalog; give the slice's name."""
    from components.ingest.run_slices import ingest_span
    from components.ingest.spans import share
    from marquee import settings, step

    with step.step(f"ingest-{span}", run_uri) as layout:
        settings_of_span = share(settings.load(overrides), len(spans))
        posters = {"path": path, "limit": limit or None}
        report = ingest_span(layout, source, span, settings_of_span, posters)
        metrics.metadata.update(added=report.added, quarantined=report.refused)
    return span
