"""The validate step as Kubeflow Pipelines sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kfp.dsl import HTML, Output


def validate(
    run_uri: str, catalog_digest: str, overrides: dict[str, str], report: Output[HTML]
) -> str:  # fmt: skip
    """Judge the catalog; a failed gate fails the step, and the run stops here."""
    from components.validate.validate import validate as judge
    from marquee import settings, step

    with step.step("validate", run_uri) as layout:
        verdict = judge(layout.catalog, settings.load(overrides).validate)
        layout.write_verdict("validate", verdict, report.path)
        verdict.raise_unless_passed()
    return verdict.outcome.value
