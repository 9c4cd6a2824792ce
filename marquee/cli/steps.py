"""One command a pipeline step."""

import enum

import typer


class SourceKind(enum.StrEnum):
    """Where posters come from."""

    FOLDER = "folder"
    DRAWN = "drawn"


def register(app: typer.Typer) -> None:
    """Add the steps' commands.

    Args:
        app: The command line.
    """
    for command in (ingest,):
        app.command()(command)


def ingest(
    out: str = typer.Option(..., metavar="CATALOG", help="The catalog to write or resume."),
    source: SourceKind = typer.Option(SourceKind.FOLDER, help="Where posters come from."),
    path: str | None = typer.Option(
        None, metavar="DIR", help="The folder with posters.csv and images (source folder)."
    ),
    films: int = typer.Option(1500, min=1, help="How many films to draw (source drawn)."),
    seed: int = typer.Option(0, help="Chooses the drawn films."),
    limit: int | None = typer.Option(None, min=1, help="Take a sample of this many posters."),
    settings: list[str] = typer.Option([], "--set", help="Override a setting: section.name=value."),
) -> None:
    """Bring posters into a catalog; the same command again resumes."""
    from components.ingest.ingest import ingest as run_ingest
    from components.ingest.sources import make_source
    from marquee.settings import load, parse_overrides

    resolved = load(parse_overrides(settings))
    posters = make_source(source.value, path=path, films=films, seed=seed, limit=limit)
    run_ingest(posters, out, resolved.ingest.part_rows)
