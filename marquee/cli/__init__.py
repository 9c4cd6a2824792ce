"""The command line. Every command imports what it needs inside, so that `--help` is quick."""

import os
import sys
from typing import NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from marquee import log
from marquee.cli import (
    catalog,
    demo,
    drift,
    monitor,
    pipeline,
    predict,
    preflight,
    query,
    receive,
    registry,
    reports,
    retrain,
    rollout,
    run,
    score,
    serve,
    steps,
    temporal,
    tmdb_server,
    tune,
)
from marquee.errors import MarqueeError, Stopped, explain

# Great Expectations and Evidently call home unless told not to, and stall without a network.
os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "1")
# torch's threads otherwise spin while they wait for each other: next to any other busy process
# that made training ten times slower here.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Arrow's own pool keeps what it has freed: 20 MB in every process that has read a catalog.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")

app = typer.Typer(
    name="marquee",
    help="Predict a film's genres from its poster: data, training, serving and monitoring.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
_WHOLE, _STEPS, _MODEL = "The whole pipeline", "One step", "A trained model"
_LOOK = "Look and prepare"
for _panel, _commands in (
    (_WHOLE, (demo.demo, run.run)),
    (
        _MODEL,
        (
            predict.predict,
            serve.serve,
            query.query,
            receive.receive,
            score.score,
            drift.drift,
            monitor.monitor,
        ),
    ),
    (
        _STEPS,
        (
            steps.ingest,
            steps.validate,
            steps.balance,
            steps.train,
            steps.evaluate,
            steps.register,
        ),
    ),
    (_LOOK, (preflight.preflight, temporal.temporal, tmdb_server.tmdb_server)),
):
    for _command in _commands:
        app.command(rich_help_panel=_panel)(_command)
app.add_typer(catalog.app, name="catalog", rich_help_panel=_LOOK)
app.add_typer(registry.app, name="registry", rich_help_panel=_MODEL)
app.add_typer(reports.app, name="reports", rich_help_panel=_MODEL)
app.add_typer(retrain.app, name="retrain", rich_help_panel=_MODEL)
app.add_typer(tune.app, name="tune", rich_help_panel=_LOOK)
app.add_typer(rollout.app, name="rollout", rich_help_panel=_MODEL)
app.add_typer(pipeline.app, name="pipeline", rich_help_panel=_LOOK)


@app.callback()
def _configure(
    quiet: bool = typer.Option(False, "--quiet", "-q", help="Show warnings only."),
) -> None:
    log.configure("WARNING" if quiet else "INFO")


def main() -> None:
    """Run the command line; errors become a message and an exit code."""
    try:
        app(prog_name="marquee")
    except KeyboardInterrupt:
        _fail(Stopped("stopped on request", remedy="run the same command again"))
    except Exception as fault:
        error = explain(fault)
        if error is None:
            raise
        _fail(error)


def _fail(error: MarqueeError) -> NoReturn:
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print(f"[bold red]error:[/] {escape(error.message)}")
    if error.remedy:
        console.print(f"[bold]  try:[/] {escape(error.remedy)}")
    sys.exit(error.exit_code)
