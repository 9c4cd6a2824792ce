"""The balance step as Kubeflow Pipelines sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kfp.dsl import HTML, Output


def balance(
    run_uri: str, catalog_digest: str, label_set: str, overrides: dict[str, str],
    report: Output[HTML],
) -> str:  # fmt: skip
    """Deal the catalog's films into three splits and weigh them; give what training goes by."""
    from components.balance import balance, page
    from marquee import settings, step

    with step.step("balance", run_uri) as layout:
        plan = balance.balance(layout.catalog, label_set, settings.load(overrides).balance)
        plan.write(layout.split)
        layout.write_page("balance", page.balance_page(plan), report.path)
    return plan.training_digest
