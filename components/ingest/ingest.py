"""Ingest: bring a source's posters into a catalog, once each, resumable at any point."""

import logging
from dataclasses import dataclass

import imagehash

from components.ingest.source import Offer, PosterSource
from marquee.catalog import CatalogWriter, Manifest, Poster, Refusal
from marquee.errors import DataGateFailed, InvalidImage
from marquee.images import decode, measure
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


def ingest(source: PosterSource, catalog_uri: str, part_rows: int = 500) -> IngestReport:
    """Bring a source's posters into a catalog.

    What the catalog already holds is not added again, so the same command resumes a run that was
    killed, and picks up rows that were added or mended since.

    Args:
        source: Where the posters come from.
        catalog_uri: Where the catalog is or is to be.
        part_rows: Posters a part; a part is what a kill can cost.

    Returns:
        Counts, and the catalog's list as published.

    Raises:
        DataGateFailed: Not one poster of the source could be used.
    """
    writer = CatalogWriter(catalog_uri, part_rows)
    writer.forget_refusals(source.name)
    report = IngestReport(manifest=Manifest())
    with progress("ingest", source.total()) as advance:
        for item in source.items():
            _take(item, source, writer, report)
            advance(1)
    if not report.added and not report.unchanged:
        raise _nothing_usable(source, writer, report)
    report.manifest = writer.publish()
    logger.info(
        "ingest: %d added, %d unchanged, %d in quarantine; catalog %s holds %d posters",
        report.added,
        report.unchanged,
        report.refused,
        catalog_uri,
        report.manifest.rows,
    )
    return report


def _take(
    item: Offer | Refusal, source: PosterSource, writer: CatalogWriter, report: IngestReport
) -> None:
    if isinstance(item, Refusal):
        _refuse(item, writer, report)
        return
    try:
        data = item.read()
        if writer.is_known(item.facts, data):
            report.unchanged += 1
            return
        poster = _examine(item, data)
    except (InvalidImage, FileNotFoundError) as error:
        remedy = error.remedy if isinstance(error, InvalidImage) else "put the file back"
        reason = error.message if isinstance(error, InvalidImage) else f"the image is gone: {error}"
        refusal = Refusal(
            id=item.facts.poster_id,
            row=item.row,
            source=source.name,
            reason=reason,
            remedy=remedy,
        )
        _refuse(refusal, writer, report)
        return
    writer.add(poster)
    report.added += 1


def _examine(offer: Offer, data: bytes) -> Poster:
    image = decode(data)
    return Poster(
        facts=offer.facts,
        data=data,
        perceptual_hash=str(imagehash.phash(image)),
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
