"""`marquee rollout`: a new model behind the old one's address, judged at every step."""

import dataclasses
import json
import signal
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table

from marquee.errors import Stopped, UsageError

if TYPE_CHECKING:
    from components.rollout.backends import Backend
    from components.rollout.rollout import Order
    from components.rollout.state import Model, State

app = typer.Typer(
    no_args_is_help=True, help="Roll a model out behind the served one; judge it at every step."
)

_NAME = typer.Argument(..., metavar="NAME", help="The InferenceService, or the local deployment.")
_BACKEND = typer.Option("auto", help="Where: auto, knative, standard or local.")
_NAMESPACE = typer.Option("", metavar="NS", help="The InferenceService's namespace.")
_JSON = typer.Option(False, "--json", help="Print one JSON object.")


@app.command()
def start(
    bundle: str = typer.Argument(
        ..., metavar="BUNDLE", help="A bundle's folder or URI, or a version of --registry."
    ),
    name: str = typer.Option(..., "--name", metavar="NAME", help="What it is rolled out to."),
    backend: str = _BACKEND,
    namespace: str = _NAMESPACE,
    policy: str = typer.Option("", metavar="FILE", help="Steps and bounds; TOML or JSON."),
    registry: str = typer.Option("", metavar="URI", help="Where the model's stage is kept."),
    catalog: str = typer.Option(
        "", metavar="URI", help="Labelled posters to replay in the dark launch."
    ),
    samples: str = typer.Option(
        "", metavar="URI", help="Posters that users sent (serve --samples), to replay as well."
    ),
    require_signature: bool = typer.Option(
        False, "--require-signature", help="Refuse a bundle that nobody signed."
    ),
    port: int = typer.Option(0, min=0, max=65535, help="Of a new local deployment; 0 for any."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Say what would be done; do nothing."),
    out: str = typer.Option("", metavar="OUT", help="Where the report goes."),
) -> None:
    """Roll a bundle out, or go on with a rollout of it that was stopped or killed."""
    from components.rollout.backends.places import open_place
    from components.rollout.page import sentence
    from components.rollout.policy import read_policy
    from components.rollout.rollout import Order, raise_unless_promoted, roll_out
    from marquee.registry import open_registry

    opened = open_registry(registry) if registry else None
    canary = _resolve(bundle, opened, require_signature)
    place = open_place(name, backend, namespace=namespace, port=port)
    order = Order(
        canary=canary,
        policy=read_policy(policy),
        catalog=catalog,
        samples=samples,
        report=str(Path(out).absolute()) if out and "://" not in out else out,
    )
    if dry_run:
        _rehearse(order, place)
        return
    signal.signal(signal.SIGTERM, _stop)
    state = roll_out(order, place, opened)
    raise_unless_promoted(state)
    typer.echo(sentence(state))


def _stop(*_: object) -> None:
    raise Stopped("stopped on request", remedy="start it again: it goes on where it was")


def _resolve(bundle: str, registry: Any, signed: bool) -> "Model":
    """Find the bundle that is meant: a version of the registry, or a folder or URI.

    Whether it is sound is for the rollout's first step to say.
    """
    from components.rollout.state import Model
    from marquee.bundle import read_version

    if registry is not None and "/" not in bundle and not Path(bundle).exists():
        entry = registry.get(bundle)
        return Model(version=entry.version, uri=entry.uri, signed=True)
    uri = str(Path(bundle).absolute()) if "://" not in bundle else bundle
    return Model(version=read_version(uri), uri=uri, signed=signed)


def _rehearse(order: "Order", place: "Backend") -> None:
    """Say what would be done, and what can be seen of it beforehand."""
    from components.rollout.rollout import rehearse

    found = rehearse(order, place)
    typer.echo(f"served    {found.stable.version if found.stable else 'nothing yet'}")
    typer.echo(f"canary    {order.canary.version}")
    typer.echo(f"bundle    {found.verdict.sentence()}")
    typer.echo(f"replayed  {found.posters} posters")
    for name, value in dataclasses.asdict(order.policy).items():
        typer.echo(f"{name:<20} {value}")
    found.verdict.raise_unless_passed()


@app.command()
def status(
    name: str = _NAME,
    backend: str = _BACKEND,
    namespace: str = _NAMESPACE,
    as_json: bool = _JSON,
) -> None:
    """Show where a rollout stands, and what the judge last saw."""
    from components.rollout.page import outlook, rollout_document, sentence

    place = _backend(name, backend, namespace)
    state = _state(place)
    if as_json:
        typer.echo(json.dumps(rollout_document(state)))
        return
    typer.echo(sentence(state))
    verdict = outlook(state)
    for check in verdict.checks if verdict else ():
        typer.echo(f"  {check.outcome:<12} {check.name}: {check.measured} ({check.bound})")
    typer.echo(f"served at {place.url}")
    if not state.phase.ended:
        typer.echo(f"led by process {state.owner.process} on {state.owner.host}")


@app.command()
def pause(
    name: str = _NAME, backend: str = _BACKEND, namespace: str = _NAMESPACE, reason: str = ""
) -> None:
    """Hold a rollout at its step; it is still watched, and rolled back if it goes bad."""
    _ask("pause", name, backend, namespace, reason)


@app.command()
def resume(
    name: str = _NAME, backend: str = _BACKEND, namespace: str = _NAMESPACE, reason: str = ""
) -> None:
    """Let a paused rollout go on; one that asked goes on to its next step."""
    _ask("resume", name, backend, namespace, reason)


@app.command()
def abort(
    name: str = _NAME, backend: str = _BACKEND, namespace: str = _NAMESPACE, reason: str = ""
) -> None:
    """Roll a canary back."""
    _ask("abort", name, backend, namespace, reason)


@app.command()
def stop(name: str = _NAME) -> None:
    """End a deployment of this machine; `up` starts it again as it was."""
    from components.rollout.backends.places import open_local

    open_local(name).stop()


@app.command()
def up(name: str = _NAME) -> None:
    """Start a deployment of this machine that was stopped."""
    from components.rollout.backends.places import open_local

    place = open_local(name)
    place.up()
    typer.echo(f"{name} is at {place.url}")


@app.command()
def history(
    name: str = _NAME, backend: str = _BACKEND, namespace: str = _NAMESPACE, as_json: bool = _JSON
) -> None:
    """Show the timeline of the latest rollout."""
    from components.rollout.page import rollout_document

    document = rollout_document(_state(_backend(name, backend, namespace)))
    if as_json:
        typer.echo(json.dumps(document))
        return
    table = Table()
    for column in ("time", "phase", "share", "what happened"):
        table.add_column(column)
    for event in document["timeline"]:
        table.add_row(event["time"], event["phase"], f"{event['percent']} %", event["what"])
    Console().print(table)


def _ask(what: str, name: str, backend: str, namespace: str, reason: str) -> None:
    from components.rollout.backends import Request
    from marquee.processes import user_name

    place = _backend(name, backend, namespace)
    state = _state(place)
    if state.phase.ended:
        raise UsageError(f"the rollout has ended: {state.phase}", remedy="there is nothing to do")
    waiting = place.request()
    if waiting and waiting.what == "abort" and waiting.id != state.obeyed:
        raise UsageError(
            f"{waiting.who} has asked to abort it", remedy="wait until it is rolled back"
        )
    place.post(Request(id=uuid.uuid4().hex, what=what, who=user_name(), reason=reason))
    typer.echo(f"{what} is asked for")
    if state.owner.until < time.time():
        typer.echo("nobody leads the rollout: say `marquee rollout start` again to have it done")


def _state(place: "Backend") -> "State":
    state, _ = place.read()
    if state is None:
        raise UsageError("there has been no rollout", remedy="start one")
    return state


def _backend(name: str, kind: str, namespace: str) -> "Backend":
    """Open the place of a rollout that another leads, of whatever kind it is if it is not said."""
    from components.rollout.backends.places import open_place

    return open_place(name, kind, namespace=namespace, watches=False)
