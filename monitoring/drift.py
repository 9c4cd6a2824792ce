"""One drift report: what was predicted in a window, held against the bundle's reference."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa

from marquee import storage
from marquee.bundle import Bundle, load
from marquee.errors import DataError, UsageError
from marquee.profile import Profile
from marquee.registry import open_registry
from marquee.settings import DriftSettings
from monitoring.archive import REPORT_FILE, WORKSPACE, folder_of, read_past
from monitoring.causes import Cause, causes, explain
from monitoring.collect import Records, Window, unreadable
from monitoring.measure import Pair, measure
from monitoring.page import chat_message, drift_page
from monitoring.performance import performance
from monitoring.report import DriftReport, Example
from monitoring.roles import roles
from monitoring.truth import read_truth, truth_digest

PAGE_FILE, CHAT_FILE = "drift.html", "drift.md"
VERDICT_FILE, PROFILE_FILE, EVIDENTLY_FILE = "verdict.json", "profile.json", "evidently.html"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is reported on."""

    records: str
    """The URI of the prediction records."""
    bundle: str
    """The bundle that predicted."""
    out: str
    """The folder of all reports; each window has one of its own in it."""
    window: Window
    truth: str = ""
    """A CSV file of films' genres; none without it."""
    registry: str = ""
    """Where rollouts keep what became of models; without it nobody knows their roles."""
    evidently: bool = True
    """Whether Evidently's page is made as well."""
    settings: DriftSettings = field(default_factory=DriftSettings)


def drift(order: Order) -> DriftReport:
    """Report on a window, and write the report.

    Args:
        order: What on, and where to.

    Returns:
        The report.

    Raises:
        DataError: The records, the bundle or the truth cannot be read.
        UsageError: The window is empty.
    """
    if order.window.since >= order.window.until:
        raise UsageError(f"the window {order.window} is empty", remedy="give --from before --to")
    try:
        found = _counted(order)
    except DataError:
        damaged = unreadable(order.records, order.window)
        if not damaged:
            raise
        found = _counted(order, damaged)
    report = found.report
    logger.info("drift: %s", report.sentence())
    folder = folder_of(order.out, order.window)
    _write(report, found.profile, folder)
    if found.sample is not None:
        _write_evidently(report, found.reference, found.sample, folder, order.out)
    return report


@dataclass(frozen=True, kw_only=True, eq=False)
class _Found:
    """What was read of a window, and what it means."""

    reference: Profile
    profile: Profile
    report: DriftReport
    sample: pa.Table | None


def _counted(order: Order, leave_out: Sequence[str] = ()) -> _Found:
    bundle = load(order.bundle)
    reference = Profile.from_document(bundle.info.reference_profile, order.bundle)
    with Records(
        order.records,
        order.window,
        bundle.version,
        bundle.info.genres,
        truth=read_truth(order.truth, bundle.info.genres) if order.truth else None,
        roles=roles(open_registry(order.registry)) if order.registry else None,
        leave_out=leave_out,
    ) as records:
        profile = records.profile()
        report = _report(order, bundle, reference, profile, records)
        wanted = order.evidently and report.counted.records
        return _Found(
            reference=reference,
            profile=profile,
            report=report,
            sample=records.sample() if wanted else None,
        )


def _report(
    order: Order, bundle: Bundle, reference: Profile, profile: Profile, records: Records
) -> DriftReport:
    pair = Pair.of(reference, profile, order.settings)
    findings = explain(measure(reference, profile, order.settings), pair)
    found = causes(findings)
    return DriftReport(
        window=order.window,
        version=bundle.version,
        genres=bundle.info.genres,
        counted=records.counted(),
        findings=tuple(findings),
        causes=tuple(found),
        examples=tuple(_examples(records, found)),
        performance=tuple(performance(profile, records.right(), order.settings.min_positives)),
        past=tuple(read_past(order.out, bundle.version, order.window)),
        truth=order.truth and truth_digest(order.truth),
        settings=order.settings,
    )


def _examples(records: Records, found: Sequence[Cause]) -> list[Example]:
    drifting = [f for cause in found if cause.what == "probability" for f in cause.findings]
    return [
        Example(what=finding.where, prediction_id=prediction, film_id=film, probability=probability)
        for finding in drifting[:5]
        for prediction, film, probability in records.examples(finding)
    ]


def _write(report: DriftReport, profile: Profile, folder: str) -> None:
    files = {
        PROFILE_FILE: json.dumps(profile.to_document()) + "\n",
        VERDICT_FILE: report.verdict.to_json(),
        CHAT_FILE: chat_message(report),
        PAGE_FILE: drift_page(report),
        REPORT_FILE: report.to_json(),
    }
    for name, text in files.items():
        storage.write_text(storage.join(folder, name), text)


def _write_evidently(
    report: DriftReport, reference: Profile, sample: pa.Table, folder: str, out: str
) -> None:
    # Evidently takes seconds to load, and who wants none of it shall not wait.
    from monitoring.evidently_report import add_run, evidently_report

    run = evidently_report(reference, sample, report)
    with TemporaryDirectory(prefix="marquee-drift-") as scratch:
        page = Path(scratch) / EVIDENTLY_FILE
        run.save_html(str(page))
        storage.write_bytes(storage.join(folder, EVIDENTLY_FILE), page.read_bytes())
    add_run(storage.join(out, WORKSPACE), run, report)
