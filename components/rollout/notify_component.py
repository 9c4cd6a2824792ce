"""The exit handler as Kubeflow Pipelines sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kfp.dsl import PipelineTaskFinalStatus


def notify(run_uri: str, status: PipelineTaskFinalStatus) -> None:
    """Tell people how the run ended."""
    import os

    from components.rollout import notify
    from marquee import log
    from marquee.run_layout import RunLayout

    log.configure()
    text = notify.message(RunLayout(run_uri), status.state == "SUCCEEDED")
    notify.notify(os.environ.get("MARQUEE_WEBHOOK", ""), text)
