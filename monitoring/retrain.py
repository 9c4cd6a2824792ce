"""From a drift report to a request to train again: whether, why, and at most how often.

All requests, and why others were not made, are kept in one document beside the reports, which is
replaced only by who has read its latest version: two monitors never ask twice.
"""

import enum
import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from marquee import storage
from marquee.contract import check_schema_version, parse_json
from marquee.errors import InfrastructureError, MarqueeError, UsageError
from marquee.processes import user_name
from marquee.settings import RetrainSettings

SCHEMA_VERSION = 1
REQUESTS_FILE = "retraining.json"
_KEPT = 200
"""How many refusals are kept, the latest ones; requests are kept for ever."""


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
    window: str
    """The window whose report it follows from, as two times in ISO 8601."""
    training: dict[str, str]
    """The training pipeline's arguments."""
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


class Launcher(Protocol):
    """Starts trainings, and knows how they go: on this machine, or on a cluster."""

    def start(self, request: RetrainRequest) -> str:
        """Start the training of a request, unless it was started already; give the run's name.

        Raises:
            MarqueeError: It cannot be started.
        """
        ...

    def state(self, request: RetrainRequest) -> tuple[Status, str]:
        """Tell whether a run goes on, is done or has failed, and say more in words.

        Raises:
            MarqueeError: Nobody can tell at the moment.
        """
        ...


def reasons(report: Mapping[str, Any]) -> list[str]:
    """Give the causes that ask for training: the model is less often right. Looks never do.

    Args:
        report: What `drift.json` holds.

    Returns:
        Their names.
    """
    return sorted(cause["name"] for cause in report["causes"] if cause.get("worse"))


def consider(
    report: Mapping[str, Any],
    out: str,
    settings: RetrainSettings,
    launcher: Launcher,
    training: Mapping[str, str],
    now: datetime | None = None,
) -> RetrainRequest | None:
    """Ask for training if a report gives reason to, and nothing speaks against it.

    Args:
        report: What `drift.json` holds.
        out: The folder of all reports, where requests are kept.
        settings: How often, and whether a person has to approve.
        launcher: Starts the training; it is not asked to for a request that waits.
        training: The training pipeline's arguments.
        now: The time; the clock's without.

    Returns:
        What was asked for, or refused and why, now or when the same report was considered before;
        None if nothing gives reason to.

    Raises:
        MarqueeError: The training could not be started; the request says so as well.
    """
    found = reasons(report)
    if not found:
        return None
    moment = now or datetime.now(UTC)
    request = RetrainRequest(
        id=uuid.uuid4().hex[:12],
        version=report["version"],
        causes=tuple(found),
        why=report["sentence"],
        window=f"{report['since']}/{report['until']}",
        training=dict(training),
        made_at=moment.isoformat(timespec="seconds"),
        status=Status.WAITING if settings.approval else Status.RUNNING,
    )
    made: list[RetrainRequest] = []

    def add(known: list[RetrainRequest]) -> list[RetrainRequest]:
        # Who gives way to another writer does this again.
        earlier = next((item for item in known if _asked(item) == _asked(request)), None)
        if earlier and earlier.status is not Status.REFUSED:
            made[:] = [earlier]
            return known
        others = [item for item in known if item is not earlier]
        refusal = _refusal(request, others, settings, moment)
        made[:] = [replace(request, status=Status.REFUSED, reason=refusal) if refusal else request]
        if earlier and refusal:
            made[0] = replace(earlier, reason=refusal)
        return [*others, *made]

    _update(out, add)
    started = made[0].status is Status.RUNNING and not made[0].run
    return _launched(made[0], out, launcher) if started else made[0]


def _asked(request: RetrainRequest) -> tuple[str, str]:
    """Tell which report a request is from."""
    return request.version, request.window


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
        same = item.version == request.version and _alike(item.causes, request.causes)
        if same and item.status is not Status.FAILED:
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


def _alike(one: Sequence[str], other: Sequence[str]) -> bool:
    """Tell whether causes are of the same things; a genre more or less makes no other cause."""
    return {name.partition(":")[0] for name in one} == {name.partition(":")[0] for name in other}


def _launched(request: RetrainRequest, out: str, launcher: Launcher) -> RetrainRequest:
    """Start a training. If nobody is there who could, `follow` tries again."""
    try:
        run = launcher.start(request)
    except InfrastructureError as error:
        conclude(out, request.id, Status.RUNNING, f"not started yet: {error.message}")
        raise
    except MarqueeError as error:
        conclude(out, request.id, Status.FAILED, f"it could not be started: {error.message}")
        raise
    started = conclude(out, request.id, Status.RUNNING, "started", run)
    return _followed(started, out, launcher)


def follow(out: str, launcher: Launcher) -> list[RetrainRequest]:
    """Ask how trainings that were started go, and note it; start one that was to be started.

    Args:
        out: The folder of all reports.
        launcher: Knows them.

    Returns:
        The requests that were running.

    Raises:
        MarqueeError: A training could not be started; the request says so as well.
    """
    return [
        _followed(item, out, launcher) if item.run else _launched(item, out, launcher)
        for item in read_requests(out)
        if item.status is Status.RUNNING
    ]


def _followed(request: RetrainRequest, out: str, launcher: Launcher) -> RetrainRequest:
    status, reason = launcher.state(request)
    if status is Status.RUNNING:
        return request
    return conclude(out, request.id, status, reason)


def approve(out: str, request_id: str, launcher: Launcher) -> RetrainRequest:
    """Start a training that waits for a person.

    Args:
        out: The folder of all reports.
        request_id: The request's id.
        launcher: Starts the training.

    Returns:
        The request.

    Raises:
        UsageError: There is no such request, or it does not wait.
        MarqueeError: The training could not be started; the request says so as well.
    """
    return _launched(_decided(out, request_id, Status.RUNNING, "approved"), out, launcher)


def reject(out: str, request_id: str, reason: str) -> RetrainRequest:
    """Let a training that waits for a person not be started.

    Args:
        out: The folder of all reports.
        request_id: The request's id.
        reason: Why.

    Returns:
        The request.

    Raises:
        UsageError: There is no such request, or it does not wait.
    """
    return _decided(out, request_id, Status.REJECTED, reason)


def _decided(out: str, request_id: str, status: Status, reason: str) -> RetrainRequest:
    def refuse_others(request: RetrainRequest) -> None:
        if request.status is not Status.WAITING:
            raise UsageError(
                f"request {request_id} is {request.status}", remedy="see `marquee retrain list`"
            )

    return conclude(out, request_id, status, f"{reason} ({user_name()})", check=refuse_others)


def conclude(
    out: str,
    request_id: str,
    status: Status,
    reason: str,
    run: str = "",
    check: Callable[[RetrainRequest], None] = lambda _: None,
) -> RetrainRequest:
    """Note what became of a request.

    Args:
        out: The folder of all reports.
        request_id: The request's id.
        status: What became of it.
        reason: Why.
        run: The training run; what was known without it.
        check: Raises if the request must not be changed as it is now.

    Returns:
        The request.

    Raises:
        UsageError: There is no such request.
    """
    moment = datetime.now(UTC).isoformat(timespec="seconds")
    found: list[RetrainRequest] = []

    def change(known: list[RetrainRequest]) -> list[RetrainRequest]:
        old = _one(known, request_id, out)
        check(old)
        new = replace(old, status=status, reason=reason, run=run or old.run, changed_at=moment)
        found[:] = [new]
        return [new if item.id == request_id else item for item in known]

    _update(out, change)
    return found[0]


def _one(known: Sequence[RetrainRequest], request_id: str, out: str) -> RetrainRequest:
    for item in known:
        if item.id == request_id:
            return item
    raise UsageError(
        f"there is no request {request_id} in {out}", remedy="see `marquee retrain list`"
    )


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
        requests = [asdict(item) for item in _trimmed(change(_parse(data, out)))]
        document: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "requests": requests}
        return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()

    storage.update(storage.join(out, REQUESTS_FILE), rewrite)


def _trimmed(requests: Sequence[RetrainRequest]) -> list[RetrainRequest]:
    refused = [item.id for item in requests if item.status is Status.REFUSED]
    dropped = set(refused[:-_KEPT])
    return [item for item in requests if item.id not in dropped]
