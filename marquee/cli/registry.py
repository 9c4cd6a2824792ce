"""`marquee registry`: which models there are, where each stands, and who said so."""

import dataclasses
import json

import typer
from rich.console import Console
from rich.table import Table

from marquee.errors import UsageError

app = typer.Typer(no_args_is_help=True, help="The model registry: versions, stages and signatures.")

_REGISTRY = typer.Argument(
    ..., metavar="REGISTRY", help="A folder or bucket, or the address of Kubeflow's Model Registry."
)
_VERSION = typer.Argument(..., metavar="VERSION", help="A version's first digits.")
_JSON = typer.Option(False, "--json", help="Print one JSON object.")
_DIGITS = 12


@app.command("list")
def list_(registry: str = _REGISTRY, as_json: bool = _JSON) -> None:
    """List all versions, the oldest first."""
    from marquee.registry import open_registry

    versions = open_registry(registry).versions()
    if as_json:
        typer.echo(json.dumps({"versions": [dataclasses.asdict(item) for item in versions]}))
        return
    table = Table()
    # What commands want is not to be cut off in a narrow terminal.
    table.add_column("version", min_width=_DIGITS)
    for column in ("stage", "label set", "architecture", "macro mAP", "registered"):
        table.add_column(column)
    for item in versions:
        score = item.metrics.get("test/macro_map")
        table.add_row(
            item.version[:_DIGITS],
            "deleted" if item.deleted else item.stage.value,
            item.label_set,
            item.architecture,
            "" if score is None else f"{score:.3f}",
            f"{item.registered_at:.10}",
        )
    Console().print(table)


@app.command()
def show(registry: str = _REGISTRY, version: str = _VERSION, as_json: bool = _JSON) -> None:
    """Show a version: its lineage, its metrics, and what was done with it."""
    from marquee.registry import open_registry

    opened = open_registry(registry)
    entry = opened.get(version)
    history = [event for event in opened.history() if event.version == entry.version]
    if as_json:
        document = dataclasses.asdict(entry)
        typer.echo(json.dumps(document | {"history": [dataclasses.asdict(e) for e in history]}))
        return
    for name in ("version", "stage", "label_set", "architecture", "uri", "run", "catalog_digest"):
        typer.echo(f"{name.replace('_', ' '):<15} {getattr(entry, name)}")
    for name, value in sorted(entry.metrics.items()):
        typer.echo(f"{name:<31} {value:.3f}")
    for event in history:
        verdict = f" ({event.verdict})" if event.verdict else ""
        typer.echo(f"{event.time}  {event.what} by {event.who}: {event.reason}{verdict}")


@app.command()
def promote(
    registry: str = _REGISTRY,
    version: str = _VERSION,
    reason: str = typer.Option(..., metavar="TEXT", help="Why; it goes into the history."),
    verdict: str = typer.Option("", metavar="URI", help="The verdict that it is done on."),
) -> None:
    """Make a version the champion of its label set, once its signature is verified."""
    from marquee.registry import Stage, open_bundle, open_registry

    opened = open_registry(registry)
    open_bundle(opened.get(version))
    entry = opened.move(version, Stage.CHAMPION, reason, verdict)
    typer.echo(f"{entry.version} is the champion of {entry.label_set}")


@app.command()
def readmit(
    registry: str = _REGISTRY,
    version: str = _VERSION,
    reason: str = typer.Option(..., metavar="TEXT", help="Why; it goes into the history."),
) -> None:
    """Make a quarantined version a candidate again."""
    from marquee.registry import Stage, open_registry

    opened = open_registry(registry)
    stage = opened.get(version).stage
    if stage is not Stage.QUARANTINED:
        raise UsageError(f"it is {stage}, not quarantined", remedy="there is nothing to do")
    entry = opened.move(version, Stage.CANDIDATE, reason)
    typer.echo(f"{entry.version} is a candidate")


@app.command()
def copy(
    source: str = typer.Argument(..., metavar="SOURCE", help="The registry that it is in."),
    version: str = typer.Argument(..., metavar="DIGEST", help="A champion's whole digest."),
    target: str = typer.Argument(..., metavar="TARGET", help="The registry that it goes to."),
) -> None:
    """Copy a champion to the registry of another environment, where it is a candidate."""
    from marquee.registry import copy, open_registry

    entry = copy(open_registry(source), version, open_registry(target))
    typer.echo(f"{entry.version} is a {entry.stage} in {target}")


@app.command()
def verify(registry: str = _REGISTRY, version: str = _VERSION) -> None:
    """Verify a version's sums and signature."""
    from marquee import signing
    from marquee.registry import open_bundle, open_registry

    entry = open_registry(registry).get(version)
    signer = signing.verify(open_bundle(entry), entry.uri)
    typer.echo(f"{entry.version} is sound, and signed by {signer}")
