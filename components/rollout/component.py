"""The rollout step as Kubeflow Pipelines sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kfp.dsl import HTML, Output


def rollout(
    run_uri: str, registry_uri: str, service: str, bundle_version: str, overrides: dict[str, str],
    report: Output[HTML],
) -> str:  # fmt: skip
    """Roll a registered version out to an InferenceService; give how it ended."""
    from components.rollout import page, rollout
    from marquee import step

    with step.step("rollout", run_uri) as layout:
        state = rollout.of_run(layout, registry_uri, service, bundle_version, overrides)
        layout.write_page("rollout", page.rollout_page(state), report.path)
        rollout.raise_unless_promoted(state)
    return state.phase.value
