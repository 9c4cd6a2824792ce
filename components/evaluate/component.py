"""The evaluate step as Kubeflow Pipelines sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kfp.dsl import HTML, ClassificationMetrics, Metrics, Output


def evaluate(
    run_uri: str, architecture: str, bundle_version: str,
    metrics: Output[Metrics], confusion: Output[ClassificationMetrics], report: Output[HTML],
) -> float:  # fmt: skip
    """Score a bundle on the test split; give its macro F1."""
    from components.evaluate import evaluate, page
    from marquee import step

    with step.step(f"evaluate {architecture}", run_uri) as layout:
        result = evaluate.evaluate(layout.bundle(architecture), layout.catalog, layout.split)
        result.write(layout.evaluation(architecture))
        layout.write_page(f"evaluate-{architecture}", page.evaluation_page(result), report.path)
        metrics.metadata.update(result.scalars())
        confusion.log_confusion_matrix(result.genres, result.primary_confusion)
    return result.metrics["test/macro_f1"]
