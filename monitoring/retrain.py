"""From a drift report to a request to train again: whether, why, and at most how often.

All requests, and why others were not made, are kept in one document beside the reports, which is
replaced only by who has read its latest version: two monitors never ask twice.
"""

import enum
import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from marquee import storage
from marquee.contract import check_schema_version, parse_json
from marquee.errors import MarqueeError, UsageError
from marquee.settings import RetrainSettings
from monitoring.causes import Cause
from monitoring.findings import Kind
from monitoring.report import DriftReport

SCHEMA_VERSION = 1
REQUESTS_FILE = "retraining.json"
_KEPT = 200
"""How many requests and refusals are kept, the latest ones."""


class Status(enum.StrEnum):
    """What became of a request."""

    WAITING = "waiting"
    """A person has to approve it."""
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    REJECTED = "rejected"
    """A person said no."""
    REFUSED = "refused"
    """It was not made: `reason` says why."""


_OPEN = (Status.WAITING, Status.RUNNING)


@dataclass(frozen=True, kw_only=True)
class RetrainRequest:
    """A request to train again, or why there is none."""

    id: str
    version: str
    """The model that drifts."""
    causes: tuple[str, ...]
    """Names of the causes that ask for it."""
    why: str
    """The report's sentence."""
    report: str
    """The report's folder."""
    made_at: str
    status: Status
    reason: str = ""
    """Why it has this status."""
    run: str = ""
    """The training run, once it is launched."""
    changed_at: str = ""

    @property
    def made(self) -> datetime:
        """When it was made."""
        return datetime.fromisoformat(self.made_at)


Launch = Callable[[RetrainRequest], str]
"""Starts a training run, and gives its name or address."""


def reasons(report: DriftReport) -> list[Cause]:
    """Give what asks for training: the model is less often right. Looks alone never do."""
    return [cause for cause in report.causes if cause.kind is Kind.CONCEPT]


def consider(
    report: DriftReport,
    place: str,
    out: str,
    settings: RetrainSettings,
    launch: Launch,
    now: datetime | None = None,
) -> RetrainRequest | None:
    """Ask for training if a report gives reason to, and nothing speaks against it.

    Args:
        report: The report.
        place: Its folder.
        out: The folder of all reports, where requests are kept.
        settings: How often, and whether a person has to approve.
        launch: Starts the training; it is not called for a request that waits.
        now: The time; the clock's without.

    Returns:
        What was asked for, or refused and why; None if nothing gives reason to.

    Raises:
        MarqueeError: The training could not be started; the request says so as well.
    """
    found = reasons(report)
    if not found:
        return None
    moment = now or datetime.now(UTC)
    request = RetrainRequest(
        id=uuid.uuid4().hex[:12],
        version=report.version,
        causes=tuple(sorted(cause.name for cause in found)),
        why=report.sentence(),
        report=place,
        made_at=moment.isoformat(timespec="seconds"),
        status=Status.WAITING if settings.approval else Status.RUNNING,
    )
    made: list[RetrainRequest] = []

    def add(known: list[RetrainRequest]) -> list[RetrainRequest]:
        refusal = _refusal(request, known, settings, moment)
        # Who gives way to another writer does this again.
        made[:] = [replace(request, status=Status.REFUSED, reason=refusal) if refusal else request]
        return [*known, *made]

    _update(out, add)
    return _launched(made[0], out, launch) if made[0].status is Status.RUNNING else made[0]


def _refusal(
    request: RetrainRequest,
    known: Sequence[RetrainRequest],
    settings: RetrainSettings,
    now: datetime,
) -> str:
    """Say what speaks against a request; nothing if nothing does."""
    past = [item for item in known if item.status is not Status.REFUSED]
    for item in past:
        if item.status in _OPEN:
            return f"request {item.id} is {item.status}: one at a time"
        if (item.version, item.causes) == (request.version, request.causes):
            return f"request {item.id} had the same causes in the same model ({item.status})"
    launched = [item for item in past if item.run]
    month = [
        item for item in launched if (item.made.year, item.made.month) == (now.year, now.month)
    ]
    if len(month) >= settings.budget:
        return f"{len(month)} trainings this month: the budget is {settings.budget}"
    cooldown = timedelta(days=settings.cooldown_days)
    if launched and now - launched[-1].made < cooldown:
        return f"the last training is {(now - launched[-1].made).days} days ago: cooldown"
    return ""


def _launched(request: RetrainRequest, out: str, launch: Launch) -> RetrainRequest:
    try:
        run = launch(request)
    except MarqueeError as error:
        conclude(out, request.id, Status.FAILED, f"it could not be started: {error.message}")
        raise
    return conclude(out, request.id, Status.RUNNING, "launched", run)


def approve(out: str, request_id: str, launch: Launch) -> RetrainRequest:
    """Start a training that waits for a person.

    Args:
        out: The folder of all reports.
        request_id: The request's id.
        launch: Starts the training.

    Returns:
        The request.

    Raises:
        UsageError: There is no such request, or it does not wait.
    """
    request = _one(read_requests(out), request_id, out)
    if request.status is not Status.WAITING:
        raise UsageError(f"request {request_id} is {request.status}", remedy="see `retrain list`")
    return _launched(conclude(out, request_id, Status.RUNNING, "approved"), out, launch)


def conclude(
    out: str, request_id: str, status: Status, reason: str, run: str = ""
) -> RetrainRequest:
    """Note what became of a request.

    Args:
        out: The folder of all reports.
        request_id: The request's id.
        status: What became of it.
        reason: Why.
        run: The training run; what was known without it.

    Returns:
        The request.

    Raises:
        UsageError: There is no such request.
    """
    moment = datetime.now(UTC).isoformat(timespec="seconds")
    found: list[RetrainRequest] = []

    def change(known: list[RetrainRequest]) -> list[RetrainRequest]:
        old = _one(known, request_id, out)
        new = replace(old, status=status, reason=reason, run=run or old.run, changed_at=moment)
        found[:] = [new]
        return [new if item.id == request_id else item for item in known]

    _update(out, change)
    return found[0]


def _one(known: Sequence[RetrainRequest], request_id: str, out: str) -> RetrainRequest:
    for item in known:
        if item.id == request_id:
            return item
    raise UsageError(f"there is no request {request_id} in {out}", remedy="see `retrain list`")


def read_requests(out: str) -> list[RetrainRequest]:
    """Read all requests, and what was refused, in order of time."""
    data, _ = storage.read_versioned(storage.join(out, REQUESTS_FILE))
    return _parse(data, out)


def _parse(data: bytes | None, out: str) -> list[RetrainRequest]:
    if data is None:
        return []
    where = storage.join(out, REQUESTS_FILE)
    document = parse_json(data, where)
    check_schema_version(document, SCHEMA_VERSION, where)
    return [
        RetrainRequest(**item | {"causes": tuple(item["causes"]), "status": Status(item["status"])})
        for item in document["requests"]
    ]


def _update(out: str, change: Callable[[list[RetrainRequest]], list[RetrainRequest]]) -> None:
    def rewrite(data: bytes | None) -> bytes:
        requests = [asdict(item) for item in change(_parse(data, out))[-_KEPT:]]
        document: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "requests": requests}
        return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()

    storage.update(storage.join(out, REQUESTS_FILE), rewrite)
