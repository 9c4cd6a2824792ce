"""The end of the ingest step as Kubeflow Pipelines sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kfp.dsl import HTML, Metrics, Output


def merge(
    run_uri: str, spans: list[str], imdb: str, metrics: Output[Metrics], agreement: Output[HTML]
) -> str:  # fmt: skip
    """Make one catalog of the slices, compare its labels; give the catalog's digest."""
    from components.ingest import run_slices
    from marquee import step

    with step.step("merge", run_uri) as layout:
        report = run_slices.merge(layout, spans, imdb or None)
        layout.write_page("agreement", run_slices.compare_labels(layout), agreement.path)
        metrics.metadata.update(posters=report.manifest.rows, removed=report.removed)
    return report.manifest.digest
