"""The train step as Kubeflow Pipelines sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kfp.dsl import HTML, Metrics, Output, TaskConfig


def train(run_uri: str, split_digest: str, architecture: str, weights: str, nodes: int, gpus: int,
          gpu_type: str, storage_class: str, overrides: dict[str, str], task_config: TaskConfig,
          metrics: Output[Metrics], report: Output[HTML]) -> str:  # fmt: skip
    """Train an architecture and seal its bundle; give the bundle's version."""
    from components.train import launch, order, page
    from marquee import settings, step

    with step.step(f"train {architecture}", run_uri) as layout:
        what = order.Order.of_run(layout, architecture, weights, split_digest)
        where = order.Place.of_step(nodes, gpus, gpu_type, storage_class, task_config)
        result = launch.train(what, settings.load(overrides), where)
        metrics.metadata.update({f"validation/{k}": v for k, v in result.validation.items()})
        layout.write_page(f"train-{architecture}", page.training_page(result), report.path)
    return result.version
