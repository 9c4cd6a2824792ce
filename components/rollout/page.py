"""A rollout as a page for people, and as a document for machines."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from components.rollout.judge import judge
from components.rollout.state import Event, Phase, State
from marquee.report import Banner, Block, Checks, Lines, Table, Tiles, ToDo, render
from marquee.verdict import Check, Outcome, Verdict

_WORDS = {Phase.PROMOTED: "passed", Phase.ROLLED_BACK: "failed"}
_LONG_SECONDS = 600
"""Longer rollouts are drawn in minutes."""


def rollout_page(state: State) -> str:
    """Render a rollout.

    Args:
        state: The rollout.

    Returns:
        HTML that stands alone.
    """
    blocks: list[Block] = [
        Banner(outcome=_WORDS.get(state.phase, "note"), sentence=sentence(state)),
        _tiles(state),
        _share(state),
        _timeline(state),
    ]
    verdict = outlook(state)
    if verdict and not all(check.holds for check in verdict.checks):
        blocks.insert(1, ToDo.of(verdict))
    blocks += [
        _numbers(before, event, state)
        for before, event in pairwise(state.timeline)
        if event.verdict
    ]
    return render("Rollout", state.subject, blocks)


def sentence(state: State) -> str:
    """Say in a sentence where a rollout stands."""
    canary = state.canary.version[:12]
    match state.phase:
        case Phase.PROMOTED:
            return f"{canary} serves all traffic."
        case Phase.ROLLED_BACK:
            return f"{canary} was rolled back. {state.reason}"
        case Phase.STEP:
            doing = f"{canary} gets {state.percent} % of the traffic"
        case _:
            doing = f"{canary}: {state.phase}"
    return f"{doing}; paused: {state.paused}" if state.paused else f"{doing}."


def outlook(state: State) -> Verdict | None:
    """Give what the judge would say now of the step that a rollout is in, or what it said last."""
    if state.phase is Phase.STEP:
        return judge(state.evidence, state.policy, state.subject)
    return judgement(state)


def judgement(state: State) -> Verdict | None:
    """Give the last verdict that was given on a rollout; None before the first."""
    event = state.judged
    return _verdict(event, state) if event else None


def _verdict(event: Event, state: State) -> Verdict:
    document = event.verdict or {}
    return Verdict(
        gate="canary",
        subject=state.subject,
        checks=tuple(
            Check(**check | {"outcome": Outcome(check["outcome"]), "blame": tuple(check["blame"])})
            for check in document["checks"]
        ),
        created_at=_time(event.time),
    )


def rollout_document(state: State) -> dict[str, Any]:
    """Give a rollout as plain values."""
    verdict = outlook(state)
    return {
        "schema_version": state.schema_version,
        "rollout": state.rollout,
        "phase": state.phase.value,
        "percent": state.percent,
        "sentence": sentence(state),
        "paused": state.paused,
        "reason": state.reason,
        "stable": asdict(state.stable) if state.stable else None,
        "canary": asdict(state.canary),
        "policy": asdict(state.policy),
        "started": _time(state.started),
        "verdict": json.loads(verdict.to_json()) if verdict else None,
        "timeline": [{**asdict(event), "time": _time(event.time)} for event in state.timeline],
    }


def _tiles(state: State) -> Tiles:
    last = state.timeline[-1].time if state.timeline else state.started
    seen = state.evidence.seen.canary.traffic
    return Tiles(
        tiles=[
            ("phase", state.phase.value, f"{state.percent} % of the traffic"),
            ("took", _duration(last - state.started), f"since {_time(state.started)}"),
            ("answers of the canary", f"{seen.requests:,}", f"{seen.errors:,} failed, last step"),
        ]
    )


def _timeline(state: State) -> Table:
    return Table(
        title="Timeline",
        columns=("after", "phase", "canary's share", "what happened"),
        rows=[
            (_duration(event.time - state.started), event.phase, f"{event.percent} %", event.what)
            for event in state.timeline
        ],
    )


def _share(state: State) -> Lines:
    """Draw the canary's share of the traffic, which changes at once."""
    long = state.timeline[-1].time - state.started > _LONG_SECONDS
    unit = 60 if long else 1
    corners = [
        ((after.time - state.started) / unit, share)
        for before, after in pairwise([state.timeline[0], *state.timeline])
        for share in (before.percent, after.percent)
    ]
    return Lines(
        title="The canary's share of the traffic",
        x_label="minutes" if long else "seconds",
        y_label="%",
        x=[moment for moment, _ in corners],
        series={"% of the requests": [share for _, share in corners]},
    )


def _numbers(before: Event, event: Event, state: State) -> Checks:
    """Show a verdict, under what was judged: the phase that it ended."""
    verdict = _verdict(event, state)
    judged = f"{before.percent} %" if before.phase == Phase.STEP else before.phase
    after = _duration(event.time - state.started)
    return Checks(
        title=f"{judged.capitalize()}: {verdict.outcome} after {after}",
        groups={"": list(verdict.checks)},
    )


def _time(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
