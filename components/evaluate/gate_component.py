"""The champion gate as Kubeflow Pipelines sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kfp.dsl import HTML, Output


def gate(
    run_uri: str, registry_uri: str, custom_cnn: str, vgg16: str, overrides: dict[str, str],
    report: Output[HTML],
) -> str:  # fmt: skip
    """Hold the best of the new models against the champion; give its version."""
    from components.evaluate import gate
    from marquee import step, storage

    with step.step("gate", run_uri) as layout:
        chosen, contest = gate.choose(layout, registry_uri, (custom_cnn, vgg16), overrides)
        storage.write_text(layout.gate, contest.verdict.to_json())
        layout.write_page("gate", gate.gate_page(contest), report.path)
        contest.verdict.raise_unless_passed()
    return chosen
