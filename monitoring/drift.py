"""One drift report: what was predicted in a window, held against the bundle's reference."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from marquee import storage
from marquee.bundle import Bundle, load
from marquee.errors import UsageError
from marquee.profile import Profile
from marquee.settings import DriftSettings
from monitoring.causes import Cause, causes, explain
from monitoring.collect import Records, Window
from monitoring.measure import Pair, measure
from monitoring.page import chat_message, drift_page
from monitoring.report import DriftReport, Example, Past
from monitoring.truth import read_truth

REPORT_FILE, PAGE_FILE, CHAT_FILE = "drift.json", "drift.html", "drift.md"
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
    bundle = load(order.bundle)
    reference = Profile.from_document(bundle.info.reference_profile, order.bundle)
    truth = read_truth(order.truth) if order.truth else None
    genres = bundle.info.genres
    with Records(order.records, order.window, bundle.version, genres, truth) as records:
        profile = records.profile()
        report = _report(order, bundle, reference, profile, records)
        logger.info("drift: %s", report.sentence())
        sample = records.sample() if order.evidently and report.counted.records else None
    folder = folder_of(order.out, order.window)
    _write(report, profile, folder)
    if sample is not None:
        _write_evidently(report, reference, sample, folder, order.out)
    return report


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
        past=tuple(read_past(order.out, bundle.version, order.window)),
        settings=order.settings,
    )


def _examples(records: Records, found: Sequence[Cause]) -> list[Example]:
    drifting = [f for cause in found if cause.what == "probability" for f in cause.findings]
    return [
        Example(what=finding.where, prediction_id=prediction, film_id=film, probability=probability)
        for finding in drifting[:5]
        for prediction, film, probability in records.examples(finding)
    ]


def folder_of(out: str, window: Window) -> str:
    """Name the folder of a window's report."""
    return storage.join(out, f"{window.since:%Y%m%dT%H%M%SZ}_{window.until:%Y%m%dT%H%M%SZ}")


def read_past(out: str, version: str, window: Window, most: int = 12) -> list[Past]:
    """Read what reports of earlier windows said of the same model.

    Args:
        out: The folder of all reports.
        version: The model's version.
        window: The window before which they end.
        most: How many to read at most.

    Returns:
        The latest ones, in order of time.
    """
    names = [name for name in storage.list_files(out) if name.endswith(f"/{REPORT_FILE}")]
    found: list[Past] = []
    for name in sorted(names, reverse=True):
        document = json.loads(storage.read_text(storage.join(out, name)))
        past = Past(
            window=Window(
                since=datetime.fromisoformat(document["since"]),
                until=datetime.fromisoformat(document["until"]),
            ),
            records=document["counted"]["records"],
            drift_share=document["drift_share"],
            causes=tuple(cause["name"] for cause in document["causes"]),
        )
        if document["version"] == version and past.window.until <= window.since:
            found.append(past)
        if len(found) == most:
            break
    return found[::-1]


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
    report: DriftReport, reference: Profile, sample: Any, folder: str, out: str
) -> None:
    # Evidently takes seconds to load, and who wants none of it shall not wait.
    from monitoring.evidently_report import add_run, evidently_report

    run = evidently_report(reference, sample, report)
    with storage.scratch_folder(".") as scratch:
        page = Path(scratch) / EVIDENTLY_FILE
        run.save_html(str(page))
        storage.write_bytes(storage.join(folder, EVIDENTLY_FILE), page.read_bytes())
    if storage.is_local(out):
        add_run(Path(out) / "workspace", run, report)
    else:
        logger.info("drift: no Evidently workspace in %s: it has to be a folder of a disk", out)
