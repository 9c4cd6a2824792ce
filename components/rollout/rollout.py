"""A rollout from beginning to end, as the command and the pipeline step have it."""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from components.rollout.backends import Backend
from components.rollout.backends.places import open_place
from components.rollout.controller import Controller
from components.rollout.material import Sources, material
from components.rollout.page import judgement, rollout_document, rollout_page, sentence
from components.rollout.policy import Policy, RolloutSettings
from components.rollout.state import Model, Phase, State, World
from components.rollout.validate import validate
from marquee import storage
from marquee.catalog import Catalog
from marquee.errors import MarqueeError
from marquee.registry import ModelRegistry, open_registry
from marquee.run_layout import RunLayout
from marquee.settings import build, load
from marquee.verdict import Outcome, Verdict


class RolledBack(MarqueeError):
    """The canary was rolled back."""

    exit_code = 6


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is rolled out, and how."""

    canary: Model
    policy: Policy
    catalog: str = ""
    """Labelled posters to replay; none without it."""
    samples: str = ""
    """Posters that users sent, to replay; none without it."""
    run: str = ""
    """The run of the training pipeline that asks for it."""
    report: str = ""
    """The folder where the report goes; nowhere without it."""

    def sources(self, place: Backend) -> Sources:
        """Tell where posters to replay come from."""
        return Sources(catalog=self.catalog, records=place.records, samples=self.samples)


def roll_out(order: Order, place: Backend, registry: ModelRegistry | None) -> State:
    """Roll a model out, or go on with a rollout of it that was stopped or killed.

    Args:
        order: What and how.
        place: Where.
        registry: Where the model's stage is kept; nowhere without it.

    Returns:
        The last state: promoted or rolled back.

    Raises:
        UsageError: Another rollout is under way, or the model is served already or quarantined.
        Stopped: Another process leads the rollout now.
    """
    if order.catalog:
        Catalog(order.catalog)  # so that a wrong one is said at once
    controller = Controller(
        place,
        validate=validate,
        material=lambda world: material(world, order.sources(place)),
        registry=registry,
        report=order.report and storage.join(order.report, "rollout.json"),
    )
    state = controller.start(order.canary, order.policy, order.run)
    try:
        state = state if state.phase.ended else controller.run()
    except BaseException:
        with contextlib.suppress(Exception):  # why it ended matters more
            write_report(place, order.report)
        raise
    write_report(place, order.report)
    return state


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """What a dry run found."""

    stable: Model | None
    verdict: Verdict
    posters: int
    """How many would be replayed."""


def rehearse(order: Order, place: Backend) -> Rehearsal:
    """Check what can be checked of a rollout without changing anything.

    Args:
        order: What and how.
        place: Where.

    Raises:
        UsageError: The place would refuse one of the steps.
    """
    original, stable = place.snapshot(), place.stable()
    both = World(stable=stable, canary=order.canary)
    verdict = validate(both)
    if stable:
        for percent in (0, *order.policy.steps):
            place.rehearse(replace(both, percent=percent), original)
    place.rehearse(World(stable=order.canary), original)
    posters = material(both, order.sources(place)) if verdict.outcome is Outcome.PASSED else []
    return Rehearsal(stable=stable, verdict=verdict, posters=len(posters))


def write_report(place: Backend, folder: str) -> None:
    """Write where a rollout stands: a page, a document, and the judge's last verdict.

    Args:
        place: Where the rollout is.
        folder: Where they go; nowhere without it.
    """
    state, _ = place.read()
    if state is None or not folder:
        return
    document = json.dumps(rollout_document(state), indent=2) + "\n"
    storage.write_text(storage.join(folder, "rollout.json"), document)
    storage.write_text(storage.join(folder, "rollout.html"), rollout_page(state))
    verdict = judgement(state)
    if verdict:
        storage.write_text(storage.join(folder, "verdict.json"), verdict.to_json())


def of_run(
    layout: RunLayout, registry_uri: str, name: str, version: str, overrides: Mapping[str, Any]
) -> State:
    """Roll out what a run has registered.

    Args:
        layout: The run.
        registry_uri: Where the version is registered; the run's own registry without it.
        name: What it is rolled out to.
        version: The registered version.
        overrides: Settings by dotted name.

    Returns:
        The last state: promoted or rolled back.
    """
    settings: RolloutSettings = build(RolloutSettings, "rollout", load(overrides).rollout)
    registry = open_registry(registry_uri or layout.registry)
    entry = registry.get(version)
    order = Order(
        canary=Model(version=entry.version, uri=entry.uri, signed=True),
        policy=settings.policy,
        catalog=layout.catalog,
        samples=settings.samples,
        run=layout.uri,
        report=layout.rollout,
    )
    place = open_place(name, settings.backend, namespace=settings.namespace)
    return roll_out(order, place, registry)


def raise_unless_promoted(state: State) -> None:
    """Turn a rollout that was rolled back into the error that carries its exit code.

    Raises:
        RolledBack: It was.
    """
    if state.phase is Phase.ROLLED_BACK:
        raise RolledBack(sentence(state), remedy="see the report, and mend the model")
