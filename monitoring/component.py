"""The monitoring step as Kubeflow Pipelines sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kfp.dsl import HTML, Markdown, Output


def monitor(
    run_uri: str, records_uri: str, registry_uri: str, bundle_uri: str, label_set: str,
    truth: str, overrides: dict[str, str], report: Output[HTML], message: Output[Markdown],
) -> str:  # fmt: skip
    """Report on the windows that are due; give the last report's sentence."""
    from marquee import step
    from monitoring import monitor as watcher

    with step.step("monitor", run_uri) as layout:
        watch = watcher.of_run(
            layout, records_uri, registry_uri, bundle_uri, label_set, truth, overrides
        )
        return watcher.show(watcher.monitor(watch), report.path, message.path)
