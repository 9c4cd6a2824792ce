"""The train step as Kubeflow Pipelines sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kfp.dsl import HTML, Metrics, Output


def train(
    run_uri: str, split_digest: str, architecture: str, weights: str,
    overrides: dict[str, str], metrics: Output[Metrics], report: Output[HTML],
) -> str:  # fmt: skip
    """Train an architecture and seal its bundle; give the bundle's version."""
    from components.train import launch, page, train
    from marquee import settings, step

    with step.step(f"train {architecture}", run_uri) as layout:
        order = train.Order.of_run(layout, architecture, weights)
        result = launch.train(order, settings.load(overrides))
        metrics.metadata.update({f"validation/{k}": v for k, v in result.validation.items()})
        layout.write_page(f"train-{architecture}", page.training_page(result), report.path)
    return result.version
