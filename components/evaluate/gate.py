"""Which of a run's new models is held against the champion, and how that ends."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from components.evaluate.compare import compare
from components.evaluate.posters import read_posters
from marquee.catalog import Catalog
from marquee.engine import Engine
from marquee.errors import UsageError
from marquee.registry import ModelVersion, open_bundle, open_registry
from marquee.run_layout import RunLayout
from marquee.settings import load as load_settings
from marquee.split import SplitPlan
from marquee.verdict import Check, Outcome, Verdict

logger = logging.getLogger(__name__)


def choose(
    layout: RunLayout, registry_uri: str, versions: Sequence[str], overrides: Mapping[str, Any]
) -> tuple[str, Verdict]:
    """Choose the challenger, and hold it against the champion of its label set.

    The challenger is the version that scored best on the validation split: the test split is for
    the champion gate alone.

    Args:
        layout: The run whose catalog and split plan are used.
        registry_uri: Where the versions are registered; the run's own registry without it.
        versions: The run's versions; empty ones are left out.
        overrides: Settings by dotted name.

    Returns:
        The challenger's version, and the verdict.

    Raises:
        UsageError: There is no version.
        DataError: A bundle or the catalog cannot be used.
    """
    if not any(versions):
        raise UsageError("no architecture was trained", remedy="switch one on")
    registry = open_registry(registry_uri or layout.registry)
    bundles = {version: open_bundle(registry.get(version)) for version in versions if version}
    chosen = max(bundles, key=lambda version: bundles[version].info.validation["macro_map"])
    challenger = bundles[chosen]
    champion = registry.champion(challenger.info.label_set)
    if champion is None or champion.version == chosen:
        return chosen, _first(chosen, champion)
    settings = load_settings(overrides)
    catalog, plan = Catalog(layout.catalog), SplitPlan.read(layout.split, ("poster_id", "split"))
    verdict = compare(
        Engine(challenger),
        Engine(open_bundle(champion)),
        catalog,
        read_posters(catalog, plan),
        settings.gate,
    )
    logger.info("gate: %s", verdict.sentence())
    return chosen, verdict


def _first(chosen: str, champion: ModelVersion | None) -> Verdict:
    said = "there is none yet" if champion is None else "it is the champion itself"
    check = Check(name="champion", outcome=Outcome.PASSED, measured=said, bound="better than it")
    return Verdict(gate="quality", subject=chosen[:12], checks=(check,))
