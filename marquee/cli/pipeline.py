"""`marquee pipeline`: packages for the Kubeflow UI."""

from pathlib import Path

import typer

app = typer.Typer(no_args_is_help=True, help="Packages of the pipelines for the Kubeflow UI.")


@app.callback()
def _group() -> None:
    """Keep `compile` a command of its own, though it is the only one."""


@app.command("compile")
def compile_(
    out: Path = typer.Option(
        Path("pipelines/compiled"), metavar="DIR", help="Where the packages go."
    ),
) -> None:
    """Compile the pipelines into packages to upload to the Kubeflow UI."""
    from pipelines.package import compile_all

    for package in compile_all(out):
        typer.echo(str(package))
