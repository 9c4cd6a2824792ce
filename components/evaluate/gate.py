"""Which of a run's new models is held against the champion, and how that ends."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from components.evaluate.compare import Contest, Gain, compare
from components.evaluate.posters import read_posters
from marquee.catalog import Catalog
from marquee.engine import Engine
from marquee.errors import UsageError
from marquee.registry import ModelVersion, open_bundle, open_registry
from marquee.report import Intervals, render_verdict
from marquee.run_layout import RunLayout
from marquee.settings import load as load_settings
from marquee.split import SplitPlan
from marquee.verdict import Check, Outcome, Verdict

logger = logging.getLogger(__name__)


def choose(
    layout: RunLayout, registry_uri: str, versions: Sequence[str], overrides: Mapping[str, Any]
) -> tuple[str, Contest]:
    """Choose the challenger, and hold it against the champion of its label set.

    The challenger is the version that scored best on the validation split: the test split is for
    the champion gate alone.

    Args:
        layout: The run whose catalog and split plan are used.
        registry_uri: Where the versions are registered; the run's own registry without it.
        versions: The run's versions; empty ones are left out.
        overrides: Settings by dotted name.

    Returns:
        The challenger's version, and what came of it.

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
    contest = compare(
        Engine(challenger),
        Engine(open_bundle(champion)),
        catalog,
        read_posters(catalog, plan),
        settings.gate,
    )
    logger.info("gate: %s", contest.verdict.sentence())
    return chosen, contest


def _first(chosen: str, champion: ModelVersion | None) -> Contest:
    said = "there is none yet" if champion is None else "it is the champion itself"
    check = Check(name="champion", outcome=Outcome.PASSED, measured=said, bound="better than it")
    return Contest(verdict=Verdict(gate="quality", subject=chosen[:12], checks=(check,)))


def gate_page(contest: Contest) -> str:
    """Render what came of a contest.

    Args:
        contest: What the gate found.

    Returns:
        HTML that stands alone.
    """
    return render_verdict(contest.verdict, [_gains(contest.gains)] if contest.gains else [])


def _gains(gains: Mapping[str, Gain]) -> Intervals:
    panel = "how much better than the champion"
    return Intervals(
        title="Where is it better?",
        rows=[name.replace("_", " ") for name in gains],
        panels={panel: [(gain.value, gain.low, gain.high) for gain in gains.values()]},
        reference={panel: [0.0] * len(gains)},
        reference_name="the champion",
        note="Macro mAP; below it the average precision of genres, and the macro mAP in eras, of "
        "which there are enough test posters. Intervals: a paired bootstrap over films.",
    )
