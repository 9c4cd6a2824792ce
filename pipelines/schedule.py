"""Schedules: one recurring run of Kubeflow Pipelines a name, whatever is done to it how often.

KFP can change nothing of a recurring run but whether it is enabled, so a change is a new one that
takes the old one's place. The new one is made disabled, the old one is disabled, the new one is
enabled, the old one is deleted: never do both fire, and a time that passes while neither does is
caught up by the new one, as KFP counts from when it was made. Whoever is killed on the way leaves
two; the next call sees from them how far it was and goes on.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import kfp_server_api as api

from marquee.errors import UsageError
from pipelines.arguments import check_arguments
from pipelines.cluster import EXPERIMENT, Cluster, reference
from pipelines.cron import Cron, Every

logger = logging.getLogger(__name__)

_MACROS = ("[[", "{{$.")
_MADE_BY = "marquee pipeline schedule"
_SHOWN = 3
_DIGITS = 16


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A schedule as it is to be.

    Args:
        name: The recurring run's name.
        pipeline: The uploaded pipeline; the schedule stays with the version that is its latest now.
        trigger: When it fires.
        arguments: A value a parameter.
        catch_up: Whether each time that was missed is made up for, or only the last one.
        experiment: The experiment of its runs; it is made if it is missing.
    """

    name: str
    pipeline: str
    trigger: Cron | Every
    arguments: Mapping[str, Any] = field(default_factory=dict)
    catch_up: bool = True
    experiment: str = EXPERIMENT


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A schedule as it is.

    Args:
        name: Its name.
        enabled: Whether it fires.
        trigger: Its cron expression, or its interval.
        next_times: When it fires next, in UTC; empty if it does not, or if its cron expression is
            not ours to read.
        outcome: What was just done: `made`, `replaced` or `unchanged`; empty if nothing was.
    """

    name: str
    enabled: bool
    trigger: str
    next_times: tuple[datetime, ...]
    outcome: str = ""


def schedule_name(pipeline: str, name: str = "") -> str:
    """Give the name of a pipeline's schedule.

    Args:
        pipeline: The pipeline's name.
        name: What tells it from the pipeline's other schedules.
    """
    return f"{pipeline}/{name}" if name else pipeline


def apply(cluster: Cluster, plan: Plan) -> Schedule:
    """Make a schedule, replace what differs from it, and go on where a killed call stopped.

    One that is paused stays so.

    Args:
        cluster: The server.
        plan: The schedule.

    Returns:
        The schedule as it is now.

    Raises:
        UsageError: The pipeline was never uploaded, an argument does not fit it, or the server
            refused.
        InfrastructureError: The server is away or at fault; the same call again goes on.
    """
    version = cluster.latest(plan.pipeline)
    check_arguments(version.pipeline_spec, plan.arguments)
    _warn_of_macros(plan.arguments)
    body = _body(plan, version, cluster.experiment(plan.experiment))
    found = _find(cluster, plan.name)
    enabled = _meant_to_fire(found)
    same = [item for item in found if _digest(item) == _digest(body)][:1]
    old = [item for item in found if item not in same]
    if same and not _fires(same[0]) and any(map(_fires, old)):
        # It waits since a call was killed, and would make up for what the old one fired meanwhile.
        _delete(cluster, same.pop())
    if same and not old:
        return _shown(same[0], "unchanged")
    new = same[0] if same else _make(cluster, body, enabled, at_once=not old)
    _take_over(cluster, old, new, enabled)
    return _shown(_find(cluster, plan.name)[-1], "replaced" if old else "made")


def switch(cluster: Cluster, name: str, enabled: bool) -> Schedule:
    """Pause a schedule, or resume it.

    Args:
        cluster: The server.
        name: Its name.
        enabled: Whether it is to fire.

    Returns:
        The schedule as it is now.

    Raises:
        UsageError: There is none, or one that was being replaced is to be resumed.
        InfrastructureError: The server is away or at fault.
    """
    found = _existing(cluster, name)
    if enabled and len(found) > 1:
        raise UsageError(
            f"the schedule {name!r} was being replaced when a call was killed",
            remedy="run that again, with its --cron or --every",
        )
    for item in found:
        _switch(cluster, item, enabled)
    for half_made in found[1:]:
        # The next call would enable it.
        _delete(cluster, half_made)
    return _shown(_existing(cluster, name)[-1])


def delete(cluster: Cluster, name: str) -> bool:
    """Delete a schedule; runs that it has started go on.

    Args:
        cluster: The server.
        name: Its name.

    Returns:
        Whether it was there.

    Raises:
        InfrastructureError: The server is away or at fault.
    """
    found = _find(cluster, name)
    for item in found:
        _delete(cluster, item)
    return bool(found)


def schedules(cluster: Cluster) -> list[Schedule]:
    """List all schedules of the server, or of its namespace, whoever made them.

    Args:
        cluster: The server.
    """
    return sorted(map(_shown, _find(cluster)), key=lambda schedule: schedule.name)


def _take_over(cluster: Cluster, old: list[Any], new: Any, enabled: bool) -> None:
    for item in filter(_fires, old):
        _switch(cluster, item, False)
    if enabled and not _fires(new):
        _switch(cluster, new, True)
    for item in old:
        _delete(cluster, item)


def _warn_of_macros(arguments: Mapping[str, Any]) -> None:
    for name, value in arguments.items():
        if isinstance(value, str) and any(macro in value for macro in _MACROS):
            logger.warning(
                "%s=%s goes to the runs as it is: KFP 2.17 replaces no macros in the parameters of "
                "a schedule (docs/pipeline.md says what it offers instead)",
                name,
                value,
            )


def _body(plan: Plan, version: Any, experiment_id: str) -> api.V2beta1RecurringRun:
    """Give the recurring run that a plan asks for; its description tells it from others."""
    if isinstance(plan.trigger, Cron):
        trigger = api.V2beta1Trigger(cron_schedule=api.V2beta1CronSchedule(cron=plan.trigger.text))
    else:
        period = api.V2beta1PeriodicSchedule(interval_second=str(plan.trigger.seconds))
        trigger = api.V2beta1Trigger(periodic_schedule=period)
    content = [version.pipeline_version_id, experiment_id, str(trigger), plan.arguments]
    text = json.dumps([*content, plan.catch_up], sort_keys=True)
    return api.V2beta1RecurringRun(
        display_name=plan.name,
        description=f"{_MADE_BY}: {hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]}",
        experiment_id=experiment_id,
        # Only with a version does KFP 2.17 tell a run the time it was scheduled for.
        pipeline_version_reference=reference(version),
        runtime_config=api.V2beta1RuntimeConfig(parameters=dict(plan.arguments)),
        trigger=trigger,
        max_concurrency="1",
        no_catchup=not plan.catch_up,
    )


def _digest(item: Any) -> str:
    """Give what a recurring run's description says it was made from."""
    made_by, _, rest = (item.description or "").partition(": ")
    return rest.partition(" ")[0] if made_by == _MADE_BY else ""


def _make(cluster: Cluster, body: Any, enabled: bool, at_once: bool) -> Any:
    body.mode = api.RecurringRunMode.ENABLE if enabled and at_once else api.RecurringRunMode.DISABLE
    # If we are killed, this tells the next call what is to become of it.
    body.description += "" if enabled else " paused"
    ask = cluster.recurring.recurring_run_service_create_recurring_run
    return cluster.call(f"make the schedule {body.display_name}", ask, body)


def _meant_to_fire(found: list[Any]) -> bool:
    if len(found) == 1:
        return _fires(found[0])
    return not found or not (found[-1].description or "").endswith(" paused")


def _fires(item: Any) -> bool:
    return item.mode == api.RecurringRunMode.ENABLE


def _find(cluster: Cluster, name: str = "") -> list[Any]:
    """Give the recurring runs of a name, or all, the oldest first."""
    return list(
        cluster.items(
            "list schedules",
            cluster.recurring.recurring_run_service_list_recurring_runs,
            "recurring_runs",
            namespace=cluster.namespace,
            sort_by="created_at asc",
            **({"name": name} if name else {}),
        )
    )


def _existing(cluster: Cluster, name: str) -> list[Any]:
    found = _find(cluster, name)
    if not found:
        raise UsageError(
            f"{cluster.endpoint} has no schedule {name!r}",
            remedy="marquee pipeline schedule --list shows those that there are",
        )
    return found


def _switch(cluster: Cluster, item: Any, enabled: bool) -> None:
    methods = cluster.recurring
    cluster.call(
        f"{'enable' if enabled else 'disable'} the schedule {item.display_name}",
        methods.recurring_run_service_enable_recurring_run
        if enabled
        else methods.recurring_run_service_disable_recurring_run,
        item.recurring_run_id,
    )


def _delete(cluster: Cluster, item: Any) -> None:
    cluster.call(
        f"delete the schedule {item.display_name}",
        cluster.recurring.recurring_run_service_delete_recurring_run,
        item.recurring_run_id,
        # Its runs are its own to Kubernetes, which would end them with it.
        propagation_policy="ORPHAN",
    )


def _shown(item: Any, outcome: str = "") -> Schedule:
    cron, period = item.trigger.cron_schedule, item.trigger.periodic_schedule
    return Schedule(
        name=item.display_name,
        enabled=_fires(item),
        trigger=cron.cron if cron else f"every {period.interval_second} s",
        next_times=_next_times(item) if _fires(item) else (),
        outcome=outcome,
    )


def _next_times(item: Any) -> tuple[datetime, ...]:
    cron, period, now = (
        item.trigger.cron_schedule,
        item.trigger.periodic_schedule,
        datetime.now(UTC),
    )
    if period:
        seconds = int(period.interval_second)
        passed = (now - item.created_at).total_seconds() // seconds
        return tuple(
            islice(Every(seconds).after(item.created_at), int(passed), int(passed) + _SHOWN)
        )
    try:
        return tuple(islice(Cron(cron.cron).after(now), _SHOWN))
    except UsageError:  # KFP knows @daily and the like
        return ()
