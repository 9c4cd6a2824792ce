"""The sources that posters can come from."""

from components.ingest.source import PosterSource
from marquee.errors import UsageError
from marquee.settings import Settings, TmdbSettings

WHOLE = "all"
"""The one slice of a source that is not cut."""

KINDS = ("folder", "drawn", "tmdb")
DRAWN_FILMS = 1500
"""How many films are drawn unless a limit says it."""


def plan(kind: str, tmdb: TmdbSettings) -> list[str]:
    """Cut a source into slices that can be ingested beside each other.

    Args:
        kind: `folder`, `drawn` or `tmdb`.
        tmdb: Where TMDB is, and which years.

    Returns:
        The slices.

    Raises:
        UsageError: The kind is unknown, or TMDB refused.
        DataGateFailed: TMDB has no film of those years.
    """
    if kind != "tmdb":
        return [WHOLE]
    from components.ingest.sources.tmdb import plan_slices

    return plan_slices(tmdb)


def make_source(
    kind: str,
    span: str = WHOLE,
    *,
    settings: Settings | None = None,
    path: str | None = None,
    seed: int = 0,
    limit: int | None = None,
) -> PosterSource:
    """Make a source from what a person or a pipeline gives.

    Args:
        kind: `folder`, `drawn` or `tmdb`.
        span: A slice that `plan` gave.
        settings: Where TMDB is, and what a folder's rows are under that do not say it.
        path: The folder (kind `folder`).
        seed: Chooses the drawn films.
        limit: At most this many posters of a folder; how many films to draw (kind `drawn`).

    Returns:
        The source.

    Raises:
        UsageError: The kind is unknown, or the folder is missing.
    """
    settings = settings or Settings()
    if kind == "drawn":
        from components.ingest.sources.drawn import DrawnSource

        return DrawnSource(limit or DRAWN_FILMS, seed)
    if kind == "folder":
        from components.ingest.sources.folder import FolderSource

        if not path:
            raise UsageError("the source `folder` needs a folder", remedy="add --path DIR")
        return FolderSource(path, limit, settings.ingest.licence)
    if kind == "tmdb":
        from components.ingest.sources.tmdb import TmdbSource

        if limit:
            raise UsageError(
                "the source `tmdb` takes no limit", remedy="choose years with --from and --to"
            )
        return TmdbSource(span, settings.tmdb)
    raise UsageError(f"unknown source {kind!r}", remedy=f"use {', '.join(KINDS)}")
