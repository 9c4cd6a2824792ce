"""Ingest: bring a source's posters into a catalog, once each, resumable at any point."""

import logging
from dataclasses import dataclass

import imagehash

from components.ingest.source import Offer, PosterSource
from marquee.catalog import CatalogWriter, Manifest, Poster, Refusal
from marquee.errors import DataGateFailed, InvalidImage
from marquee.images import decode, measure, mode_of
from marquee.log import progress

logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class IngestReport:
    """What an ingest run did."""

    manifest: Manifest
    added: int = 0
    """Posters that are new, or whose facts or bytes changed."""
    unchanged: int = 0
    """Posters that the catalog already held."""
    refused: int = 0
    """Rows that went into quarantine."""
    removed: int = 0
    """Posters that the source does not offer any more."""


def ingest(
    source: PosterSource, catalog_uri: str, part_rows: int = 500, mirror: bool = False
) -> IngestReport:
    """Bring a source's posters into a catalog.

    What the catalog already holds is not added again, so the same command resumes a run that was
    killed, and picks up rows that were added or mended since.

    Args:
        source: Where the posters come from.
        catalog_uri: Where the catalog is or is to be.
        part_rows: Posters a part; a part is what a kill can cost.
        mirror: Remove posters that the source does not offer (any more) from the catalog.

    Returns:
        Counts, and the catalog's list as published.

    Raises:
        DataGateFailed: Not one poster of the source could be used.
    """
    writer = CatalogWriter(catalog_uri, source.name, part_rows)
    report = IngestReport(manifest=Manifest())
    usable = set()
    with progress("ingest", source.total()) as advance:
        for item in source.items():
            if _take(item, source, writer, report) and isinstance(item, Offer):
                usable.add(item.facts.poster_id)
            advance(1)
    if not usable:
        raise _nothing_usable(source, writer, report)
    report.removed = writer.keep_only(usable) if mirror else 0
    report.manifest = writer.publish()
    logger.info(
        "ingest: %d added, %d unchanged, %d refused, %d removed; catalog %s holds %d posters",
        report.added,
        report.unchanged,
        report.refused,
        report.removed,
        catalog_uri,
        report.manifest.rows,
    )
    return report


def _take(
    item: Offer | Refusal, source: PosterSource, writer: CatalogWriter, report: IngestReport
) -> bool:
    """Take a poster into the catalog, or refuse it; tell whether it could be used."""
    if isinstance(item, Refusal):
        _refuse(item, writer, report)
        return False
    try:
        data = item.read()
        if writer.is_known(item.facts, data):
            report.unchanged += 1
            return True
        poster = _examine(item, data)
    except InvalidImage as error:
        refusal = Refusal(
            id=item.facts.poster_id,
            row=item.row,
            source=source.name,
            reason=error.message,
            remedy=error.remedy,
        )
        _refuse(refusal, writer, report)
        return False
    writer.add(poster)
    report.added += 1
    return True


def _examine(offer: Offer, data: bytes) -> Poster:
    image = decode(data)
    return Poster(
        facts=offer.facts,
        data=data,
        perceptual_hash=str(imagehash.phash(image)),
        mode=mode_of(data),
        width=image.width,
        height=image.height,
        attributes=measure(image),
    )


def _refuse(refusal: Refusal, writer: CatalogWriter, report: IngestReport) -> None:
    writer.refuse(refusal)
    report.refused += 1
    where = f"row {refusal.row}" if refusal.row is not None else refusal.source
    logger.warning("%s (%s): %s: %s", where, refusal.id, refusal.reason, refusal.remedy)


def _nothing_usable(
    source: PosterSource, writer: CatalogWriter, report: IngestReport
) -> DataGateFailed:
    writer.publish()
    return DataGateFailed(
        f"{source.name}: not one poster can be used ({report.refused} rows were refused)",
        remedy=f"see {writer.uri}/quarantine.jsonl for each row's reason",
    )
