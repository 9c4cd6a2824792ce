"""The sources that posters can come from."""

from components.ingest.source import PosterSource
from marquee.errors import UsageError


def make_source(
    kind: str,
    *,
    path: str | None = None,
    films: int = 1500,
    seed: int = 0,
    limit: int | None = None,
) -> PosterSource:
    """Make a source from what a person or a pipeline gives.

    Args:
        kind: `folder` or `drawn`.
        path: The folder (kind `folder`).
        films: How many films to draw (kind `drawn`).
        seed: Chooses the drawn films.
        limit: At most this many posters.

    Returns:
        The source.

    Raises:
        UsageError: The kind is unknown, or the folder is missing.
    """
    if kind == "drawn":
        from components.ingest.sources.drawn import DrawnSource

        return DrawnSource(min(films, limit or films), seed)
    if kind == "folder":
        from components.ingest.sources.folder import FolderSource

        if not path:
            raise UsageError("the source `folder` needs a folder", remedy="add --path DIR")
        return FolderSource(path, limit)
    raise UsageError(f"unknown source {kind!r}", remedy="use folder or drawn")
