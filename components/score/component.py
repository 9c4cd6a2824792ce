"""The score step as Kubeflow Pipelines sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kfp.dsl import Metrics, Output


def score(
    run_uri: str, catalog_uri: str, bundle_uri: str, out_uri: str, overrides: dict[str, str],
    metrics: Output[Metrics],
) -> str:  # fmt: skip
    """Label a whole catalog with a bundle; give the place of the labels."""
    from components.score import score
    from marquee import settings, step

    with step.step("score", run_uri) as layout:
        labels = out_uri or layout.labels
        report = score.score(catalog_uri, bundle_uri, labels, settings.load(overrides))
        metrics.metadata.update(report.scalars())
    return report.labels
