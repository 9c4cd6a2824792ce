"""`marquee retrain`: requests to train again, and a person's yes or no."""

from datetime import datetime
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.table import Table

from marquee.errors import UsageError

if TYPE_CHECKING:
    from monitoring.retrain import RetrainRequest

app = typer.Typer(no_args_is_help=True, help="Requests to train again, from drift reports.")

_OUT = typer.Argument(..., metavar="OUT", help="The folder or URI of `marquee monitor`.")
_ID = typer.Argument(..., metavar="ID", help="The request.")


@app.command("list")
def list_(
    out: str = _OUT,
    as_json: bool = typer.Option(False, "--json", help="Print them as one JSON object."),
) -> None:
    """List requests, why each was made or refused, and what became of it."""
    import json
    from dataclasses import asdict

    from marquee.run_layout import RunLayout
    from marquee.storage import exists
    from monitoring.retrain import read_requests

    folder = RunLayout(out).drift
    if not exists(folder):
        raise UsageError(f"{folder} is not there", remedy="give the OUT of `marquee monitor`")
    requests = read_requests(folder)
    if as_json:
        typer.echo(json.dumps({"requests": [asdict(item) for item in requests]}, indent=2))
        return
    table = Table("id", "made", "status", "why")
    for item in requests:
        made = f"{datetime.fromisoformat(item.made_at):%Y-%m-%d %H:%M}"
        table.add_row(item.id, made, item.status, "\n".join(filter(None, (item.reason, item.why))))
    Console().print(table)


@app.command()
def approve(out: str = _OUT, request: str = _ID) -> None:
    """Start the training of a request that waits."""
    from marquee.run_layout import RunLayout
    from marquee.storage import absolute
    from monitoring import retrain
    from pipelines.retraining import launcher

    layout = RunLayout(absolute(out))
    _show(retrain.approve(layout.drift, request, launcher(layout)))


@app.command()
def reject(
    out: str = _OUT,
    request: str = _ID,
    reason: str = typer.Option(..., help="Why; it is kept with the request."),
) -> None:
    """Let a request that waits not be followed."""
    from marquee.run_layout import RunLayout
    from monitoring import retrain

    _show(retrain.reject(RunLayout(out).drift, request, reason))


def _show(request: "RetrainRequest") -> None:
    typer.echo(f"{request.id} is {request.status}: {request.reason}")
    if request.run:
        typer.echo(request.run)
