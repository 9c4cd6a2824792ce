"""The command line. Every command imports what it needs inside, so that `--help` is quick."""

import os
import sys

import typer
from rich.console import Console

from marquee import log
from marquee.cli import catalog, steps
from marquee.errors import MarqueeError

# Great Expectations and Evidently call home unless told not to, and stall without a network.
os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "1")

app = typer.Typer(
    name="marquee",
    help="Predict a film's genres from its poster: data, training, serving and monitoring.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.add_typer(catalog.app, name="catalog")
steps.register(app)


@app.callback()
def _configure(
    quiet: bool = typer.Option(False, "--quiet", "-q", help="Show warnings only."),
) -> None:
    log.configure("WARNING" if quiet else "INFO")


def main() -> None:
    """Run the command line; errors become a message and an exit code."""
    try:
        app()
    except MarqueeError as error:
        console = Console(stderr=True, soft_wrap=True, highlight=False)
        console.print(f"[bold red]error:[/] {_escaped(error.message)}")
        if error.remedy:
            console.print(f"[bold]  try:[/] {_escaped(error.remedy)}")
        sys.exit(error.exit_code)


def _escaped(text: str) -> str:
    return text.replace("[", "\\[")
