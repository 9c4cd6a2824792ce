"""`marquee reports`: look at drift reports."""

import typer

from marquee.errors import UsageError

app = typer.Typer(help="Look at drift reports.", no_args_is_help=True)


_OUT = typer.Argument(
    ..., metavar="OUT", help="The folder or URI of all reports, or of `marquee monitor`."
)


@app.command()
def serve(
    out: str = typer.Argument(
        ..., metavar="OUT", help="The folder or URI of all reports, or of `marquee monitor`."
    ),
    host: str = typer.Option("127.0.0.1", help="The address to listen on."),
    port: int = typer.Option(8000, min=1, max=65535, help="The port to listen on."),
    wait: bool = typer.Option(False, "--wait", help="Begin before there is a first report."),
) -> None:
    """Open Evidently's UI with all windows, offline."""
    from marquee import storage
    from monitoring.evidently_ui import serve_workspace, workspace_of

    out = storage.absolute(out)
    if not wait and not storage.exists(workspace_of(out)):
        raise UsageError(
            f"{workspace_of(out)} is not there",
            remedy="run `marquee drift` with this OUT first, or give --wait",
        )
    serve_workspace(out, host, port)


@app.command()
def export(
    out: str = typer.Argument(
        ..., metavar="OUT", help="The folder or URI of all reports, or of `marquee monitor`."
    ),
    host: str = typer.Option("127.0.0.1", help="The address to listen on."),
    port: int = typer.Option(9108, min=1, max=65535, help="The port to listen on."),
    registry: str = typer.Option(
        "", metavar="URI", help="The model registry, to export who is champion and how good."
    ),
) -> None:
    """Give Prometheus the latest reports, and what the registry says, at /metrics."""
    from monitoring.exporter import serve_metrics

    serve_metrics(out, host, port, registry)
