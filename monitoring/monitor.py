"""What a schedule calls: reports on every window that is due, missed ones included."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from marquee import storage
from marquee.errors import UsageError
from marquee.records import record_files
from marquee.registry import ModelRegistry, Stage, open_registry
from marquee.report import Banner, render
from marquee.run_layout import RunLayout
from marquee.settings import DriftSettings, MonitorSettings, load
from monitoring.archive import documents, folder_of, read_report
from monitoring.collect import Window, unreadable
from monitoring.drift import VERDICT_FILE, Order, drift
from monitoring.page import chat_message, drift_page
from monitoring.report import DriftReport
from monitoring.truth import truth_digest

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Watch:
    """What is watched."""

    records: str
    """The URI of the prediction records."""
    out: str
    """The folder of all reports."""
    registry: str = ""
    """Its champion is watched, and it tells models' roles."""
    label_set: str = "all18"
    """Of the champion."""
    bundle: str = ""
    """Is watched instead of a champion."""
    truth: str = ""
    """A CSV file of films' genres; none without it."""
    settings: MonitorSettings = field(default_factory=MonitorSettings)
    drift: DriftSettings = field(default_factory=DriftSettings)

    def __post_init__(self) -> None:
        if not (self.registry or self.bundle):
            raise UsageError(
                "nobody says which model is watched", remedy="give a registry or a bundle"
            )


def monitor(watch: Watch, now: datetime | None = None) -> list[DriftReport]:
    """Report on the windows that are due, the earliest first.

    Args:
        watch: What is watched.
        now: The time; the clock's without.

    Returns:
        Their reports; none if nothing has changed since the last call.

    Raises:
        DataError: Records, truth or a bundle cannot be read.
        UsageError: The registry has no champion of the label set.
    """
    moment = now or datetime.now(UTC)
    windows = due(watch, moment)
    # Truth may bring dozens of old windows back, of which people read the page.
    old = moment - (watch.settings.backfill + 1) * timedelta(hours=watch.settings.window_hours)
    logger.info("monitor: %d window%s due", len(windows), "" if len(windows) == 1 else "s")
    reports = []
    for window in windows:
        order = Order(
            records=watch.records,
            bundle=watch.bundle or _champion(open_registry(watch.registry), watch, window),
            out=watch.out,
            window=window,
            truth=watch.truth,
            registry=watch.registry,
            evidently=watch.settings.evidently and window.since >= old,
            settings=watch.drift,
        )
        reports.append(drift(order))
    _keep_last_verdict(watch.out)
    return reports


def _keep_last_verdict(out: str) -> None:
    """Copy the verdict on the latest window to where people and alerts look for it."""
    latest = next(documents(out), None)
    if latest:
        since, until = (datetime.fromisoformat(latest[name]) for name in ("since", "until"))
        folder = folder_of(out, Window(since=since, until=until))
        verdict = storage.read_text(storage.join(folder, VERDICT_FILE))
        storage.write_text(storage.join(out, VERDICT_FILE), verdict)


def of_run(
    layout: RunLayout,
    records: str,
    registry: str,
    bundle: str,
    label_set: str,
    truth: str,
    overrides: Mapping[str, Any],
) -> Watch:
    """Tell what a monitoring run watches.

    Args:
        layout: The run.
        records: The URI of the prediction records.
        registry: The model registry, or nothing.
        bundle: A bundle to watch, or nothing.
        label_set: Of the registry's champion.
        truth: A CSV file of films' genres, or nothing.
        overrides: Settings by dotted name.

    Raises:
        UsageError: Nothing says which model is watched, or a setting is wrong.
    """
    settings = load(overrides)
    return Watch(
        records=records,
        out=layout.drift,
        registry=registry,
        bundle=bundle,
        label_set=label_set,
        truth=truth,
        settings=settings.monitor,
        drift=settings.drift,
    )


def show(reports: Sequence[DriftReport], page: str, message: str) -> str:
    """Write what the Kubeflow UI shows of a monitoring run.

    Args:
        reports: What was reported, the latest last.
        page: The local path of the page.
        message: The local path of the message, in Markdown.

    Returns:
        The latest report's sentence.
    """
    if not reports:
        said = "No window is due: all have been reported on."
        texts = render("Drift", "", [Banner(outcome="passed", sentence=said)]), said
    else:
        said = reports[-1].sentence()
        texts = drift_page(reports[-1]), "\n".join(map(chat_message, reports))
    for path, text in zip((page, message), texts, strict=True):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text, encoding="utf-8")
    return said


def due(watch: Watch, now: datetime) -> list[Window]:
    """Find the windows to report on.

    A window is due when it has ended and nobody has reported on it, or when records or truth have
    come since. Windows before the first record are not; nor is one whose records were removed.

    Args:
        watch: What is watched.
        now: The time.

    Returns:
        The windows, the earliest first.
    """
    truth = watch.truth and truth_digest(watch.truth)
    settings = watch.settings
    windows = list(_last_windows(settings, now))
    found: list[Window] = []
    begun = False
    for number, window in enumerate(windows, start=-len(windows)):
        report = read_report(watch.out, window)
        recent = number >= -settings.backfill
        begun = begun or report is not None or (recent and bool(_files(watch, window)))
        if report is None:
            wanted = recent and begun
        else:
            new_truth = report.get("truth", "") != truth and report["counted"]["records"] > 0
            wanted = new_truth or (recent and _changed(watch, window, report["counted"]))
        if wanted:
            found.append(window)
    return found


def _files(watch: Watch, window: Window) -> list[str]:
    return record_files(watch.records, window.since, window.until)


def _changed(watch: Watch, window: Window, counted: Mapping[str, Any]) -> bool:
    """Tell whether records came since a window was counted, or damaged files were mended."""
    files, damaged = _files(watch, window), counted.get("unreadable", [])
    if len(files) != counted["files"] + len(damaged):
        return len(files) > counted["files"] + len(damaged)
    return bool(damaged) and unreadable(watch.records, window) != list(damaged)


def _last_windows(settings: MonitorSettings, now: datetime) -> Iterator[Window]:
    """Give the last windows that have ended; they begin at multiples of their length since 1970."""
    length = timedelta(hours=settings.window_hours)
    first = datetime.fromtimestamp(0, UTC)
    ended = (now - timedelta(minutes=settings.settle_minutes) - first) // length
    for number in range(ended - max(settings.backfill, settings.truth_windows), ended):
        yield Window(since=first + number * length, until=first + (number + 1) * length)


def _champion(registry: ModelRegistry, watch: Watch, window: Window) -> str:
    """Find the bundle of the model that was the champion for most of a window."""
    entries = {entry.version: entry for entry in registry.versions()}
    begun = [
        (datetime.fromisoformat(event.time), event.version)
        for event in registry.history()
        if event.what == Stage.CHAMPION
        and event.version in entries
        and entries[event.version].label_set == watch.label_set
    ]
    if not begun:
        raise UsageError(
            f"{watch.registry} has no champion of {watch.label_set}",
            remedy="roll a model out (marquee rollout start), or give a bundle",
        )
    ends = [time for time, _ in begun[1:]] + [datetime.max.replace(tzinfo=UTC)]
    # Of a window before all of them, the first one is as good as any.
    longest = max(
        zip(begun, ends, strict=True),
        key=lambda pair: min(pair[1], window.until) - max(pair[0][0], window.since),
    )
    return entries[longest[0][1]].uri
