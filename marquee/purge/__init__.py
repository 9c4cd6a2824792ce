"""Purge: posters go with their bytes and all that was derived from them, and that is proved.

They go from every part of the catalog, those that its list does not name among them, from
quarantine and from this machine's caches. The registry remembers it: models that were trained on
them are marked, and their ids become tombstones. Then all files below the catalog are read again.

While a purge is under way, `purging-<digest>.json` in the catalog says what it is about (ids and
hashes only), so that the same purge goes on where one was killed or could not prove its success.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field

from marquee import feature_cache, storage
from marquee.catalog import Catalog, CatalogWriter
from marquee.errors import InfrastructureError, UsageError
from marquee.log import progress
from marquee.purge import models, traces
from marquee.purge.choice import COLUMNS, Choice, Gone, find, remove_note, write_note
from marquee.purge.models import MarkedModel
from marquee.registry import ModelRegistry

__all__ = ["Choice", "MarkedModel", "PurgeReport", "purge"]

logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class PurgeReport:
    """What a purge did, or would do."""

    catalog: str
    choice: str
    dry_run: bool
    posters: int
    rows: int
    """Rows that went, superseded ones and those of unlisted parts among them."""
    bytes: int
    """Bytes of these rows' images."""
    parts: int = 0
    """Parts that were rewritten, or removed because nothing was left of them."""
    leftovers: int = 0
    """Unlisted parts and files that were removed."""
    refusals: int = 0
    """Lines that went from quarantine."""
    features: int = 0
    """Features that went from this machine's cache."""
    tombstones: int = 0
    """Ids that are new among the registry's tombstones."""
    models: list[MarkedModel] = field(default_factory=list)
    """Models that were trained on what went."""
    not_found: list[str] = field(default_factory=list)
    """Films that were to go and that the catalog does not have."""
    joined: int = 0
    """Posters that stay although labels were joined to them from the source that goes."""
    sources: list[str] = field(default_factory=list)
    """The catalog's sources before the purge."""
    files_read: int = 0
    """Files that the proof read."""
    images_hashed: int = 0
    """Images whose hash the proof compared."""


def purge(
    catalog_uri: str,
    choice: Choice,
    registry: ModelRegistry | None = None,
    *,
    bundles: bool = False,
    dry_run: bool = False,
) -> PurgeReport:
    """Remove posters with all that was derived from them, and prove that they are gone.

    The same purge again goes on where one was killed or failed, and does nothing where nothing is
    left to do. Nobody else should write into the catalog meanwhile.

    Args:
        catalog_uri: The catalog.
        choice: What goes.
        registry: Where the models are that were trained on it; without it none is marked.
        bundles: Delete the bundles of the models that this purge marks, or marked earlier, whole.
        dry_run: Only say what would go.

    Returns:
        What went.

    Raises:
        UsageError: Bundles are to be deleted, but there is no registry.
        InfrastructureError: Something of it is still there; the message names it.
    """
    if bundles and registry is None:
        raise UsageError("there is no registry to delete bundles in", remedy="give --registry URI")
    catalog = Catalog(catalog_uri)
    gone = find(catalog, choice, traces.unlisted_rows(catalog))
    report = _plan(catalog, gone, registry, dry_run)
    if dry_run:
        return report
    if gone:
        write_note(catalog, gone)
    reason = f"purge of {choice} from {_absolute(catalog_uri)}"
    if registry:
        # First of all: once the rows are gone, nobody can tell which models they trained.
        report.models, report.tombstones = models.mark(registry, gone, reason)
    report.features = feature_cache.forget(gone.hashes)
    _remove(catalog, gone, report)
    if registry and bundles:
        report.models = models.delete_bundles(registry, report.models, reason)
    _prove(Catalog(catalog_uri), gone, registry, report)
    remove_note(catalog, gone)
    logger.info("purge: %s: %d posters and %d rows went", choice, report.posters, report.rows)
    return report


def _absolute(uri: str) -> str:
    return str(storage.local_path(uri).absolute()) if storage.is_local(uri) else uri


def _plan(
    catalog: Catalog, gone: Gone, registry: ModelRegistry | None, dry_run: bool
) -> PurgeReport:
    frame = catalog.frame([*COLUMNS, "label_licences"])
    staying = frame[~frame["poster_id"].isin(gone.poster_ids)]
    return PurgeReport(
        catalog=catalog.uri,
        choice=str(gone.choice),
        dry_run=dry_run,
        posters=len(gone.poster_ids),
        rows=gone.rows,
        bytes=gone.bytes,
        refusals=sum(map(gone.covers, catalog.quarantine())),
        models=models.trained_on(registry, gone) if registry and dry_run else [],
        not_found=gone.choice.not_found(frame),
        joined=sum(gone.choice.source in (found or {}) for found in staying["label_licences"]),
        sources=sorted(set(frame["source"])),
    )


def _remove(catalog: Catalog, gone: Gone, report: PurgeReport) -> None:
    writer = CatalogWriter(catalog.uri, "purge")
    writer.drop_refusals(gone.covers)
    writer.remove(gone.poster_ids, gone.superseded)
    remaining = Catalog(catalog.uri)
    report.parts = len(set(catalog.manifest.parts) - set(remaining.manifest.parts))
    report.leftovers = traces.remove_unlisted(remaining, gone)


def _prove(
    catalog: Catalog, gone: Gone, registry: ModelRegistry | None, report: PurgeReport
) -> None:
    """Read everything again."""
    left = [
        *(str(trace) for trace in _traces(catalog, gone, report)),
        *(f"{file}: features" for file in feature_cache.holding(gone.hashes)),
    ]
    missing = gone.poster_ids - registry.tombstones() if registry else ()
    left += [f"{len(missing)} posters without a tombstone"] if missing else []
    if left:
        raise InfrastructureError(
            f"{len(left)} places still hold something of what was purged, or cannot be read: "
            f"{'; '.join(left[:5])}",
            remedy="stop whatever writes into the catalog and give the same command again; remove "
            "by hand what it still names then",
        )


def _traces(catalog: Catalog, gone: Gone, report: PurgeReport) -> Iterator[traces.Trace]:
    names = traces.files(catalog) if gone else []
    with progress("proof", len(names)) as advance:
        for name in names:
            trace = traces.trace(catalog, name, gone)
            report.files_read += 1
            report.images_hashed += trace.hashed
            if trace.found or trace.fault:
                yield trace
            advance(1)
