"""Choices that several commands share."""

import enum
from typing import Any

import typer

SET = typer.Option([], "--set", help="Override a setting: section.name=value.")


class SourceKind(enum.StrEnum):
    """Where posters come from."""

    FOLDER = "folder"
    DRAWN = "drawn"
    TMDB = "tmdb"


class LabelSet(enum.StrEnum):
    """What a model predicts."""

    ALL18 = "all18"
    STUDY4 = "study4"
    SUBGENRES = "subgenres"


BASE_URL = typer.Option(
    None, metavar="URL", help="TMDB's API, /3 included; its own without it (source tmdb)."
)
IMAGE_BASE_URL = typer.Option(
    None, metavar="URL", help="TMDB's images, /t/p included; without it, where the API says."
)
FROM = typer.Option(None, "--from", metavar="YEAR", help="The first release year (source tmdb).")
TO = typer.Option(None, "--to", metavar="YEAR", help="The last release year (source tmdb).")
RATE = typer.Option(None, min=0, help="API calls a second; 0 sets no limit (source tmdb).")
CONCURRENCY = typer.Option(None, min=1, help="Calls and posters at a time (source tmdb).")
LICENCE = typer.Option(
    None,
    metavar="TEXT",
    help="What rows are under that do not say it themselves (source folder); 'asserted by the "
    "user' without it.",
)
LIMIT = typer.Option(
    None,
    min=1,
    help="Take a sample of this many posters; of drawn films, draw this many (1500 without it).",
)
IMDB = typer.Option(
    None,
    metavar="URI",
    help="IMDb's title.basics.tsv.gz (a file or a URL): compare the labels with IMDb's.",
)


def given(section: str, **values: Any) -> dict[str, Any]:
    """Turn the options that were given into overrides of a section's settings.

    Args:
        section: Such as `tmdb`.
        values: A setting's name to its value, None where the option was left out.
    """
    return {f"{section}.{name}": value for name, value in values.items() if value is not None}
