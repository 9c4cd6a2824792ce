"""The validate step as Kubeflow Pipelines sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kfp.dsl import HTML, Output


def validate(
    run_uri: str, catalog_digest: str, overrides: dict[str, str], report: Output[HTML]
) -> str:  # fmt: skip
    """Judge the catalog; a failed gate fails the step, and the run stops here."""
    from components.validate import page, validate
    from marquee import settings, step

    with step.step("validate", run_uri) as layout:
        bounds = settings.load(overrides)
        found = validate.validate(layout.catalog, bounds)
        found.write(layout.validation)
        text = page.validation_page(found, bounds.validate, "../validate")
        layout.write_page("validate", text, report.path)
        found.verdict.raise_unless_passed()
    return found.verdict.outcome.value
