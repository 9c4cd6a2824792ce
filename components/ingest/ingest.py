"""Ingest: bring a source's posters into a catalog, once each, resumable at any point."""

import dataclasses
import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from components.ingest.examine import Examiner, Result
from components.ingest.imdb import ImdbLabels, with_agreement, with_imdb
from components.ingest.source import Item, Kept, Offer, PosterSource
from marquee.catalog import Catalog, CatalogWriter, Facts, Manifest, Poster, Refusal
from marquee.errors import DataGateFailed, InfrastructureError, MarqueeError
from marquee.log import progress

logger = logging.getLogger(__name__)


COUNTS = ("added", "unchanged", "refused", "superseded")
"""The fields of a report that are added up over slices."""


@dataclass(kw_only=True)
class IngestReport:
    """What an ingest run did."""

    manifest: Manifest = field(default_factory=Manifest)
    """The catalog's list as published."""
    added: int = 0
    """Posters that are new, or whose facts or bytes changed."""
    unchanged: int = 0
    """Posters that the catalog already held."""
    refused: int = 0
    """Rows that went into quarantine."""
    superseded: int = 0
    """Of those added, the posters that the catalog held in another form."""
    removed: int = 0
    """Posters that the source does not offer any more."""
    skipped: Counter[str] = field(default_factory=Counter)
    """Films that have no poster for us, by the reason."""
    usable: set[str] = field(default_factory=set)
    """The ids of the posters that the source offers and the catalog holds."""

    def __iadd__(self, other: "IngestReport") -> "IngestReport":
        for name in COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.skipped += other.skipped
        self.usable |= other.usable
        self.manifest = other.manifest
        return self


def ingest(
    sources: PosterSource | Iterable[PosterSource],
    catalog_uri: str,
    part_rows: int = 500,
    mirror: bool = False,
    workers: int = 1,
    imdb: str | None = None,
) -> IngestReport:
    """Bring the posters of a source, or of its slices, into a catalog.

    What the catalog already holds is not added again, so the same command resumes a run that was
    killed, and picks up rows that were added or mended since.

    Args:
        sources: Where the posters come from.
        catalog_uri: Where the catalog is or is to be.
        part_rows: Posters a part; a part is what a kill can cost.
        mirror: Remove posters that the source does not offer (any more) from the catalog.
        workers: Processes that examine posters; 0 takes one a core, 1 works in this process.
        imdb: IMDb's `title.basics.tsv.gz`, to compare the labels with.

    Returns:
        Counts, and the catalog's list as published.

    Raises:
        DataGateFailed: Not one poster of the source could be used.
    """
    report = IngestReport()
    writer = CatalogWriter(catalog_uri, "", part_rows)
    with Examiner(workers) as examiner:
        for source in sources if isinstance(sources, Iterable) else [sources]:
            report += ingest_slice(source, writer, examiner)
    return finish(catalog_uri, report, mirror, imdb)


def ingest_slice(source: PosterSource, writer: CatalogWriter, examiner: Examiner) -> IngestReport:
    """Bring the posters of one slice of a source into a catalog, maybe beside other slices.

    Args:
        source: The slice.
        writer: Adds to the catalog.
        examiner: Looks at the posters.

    Returns:
        Counts, and the catalog's list as published.
    """
    began = datetime.now(UTC)
    writer.begin(source.name)
    report = IngestReport()
    known = writer.known
    try:
        with progress("ingest", source.total(known)) as advance:
            offers = map(_compared, source.items(known))
            for result in examiner.examine(offers, writer.held, source.name):
                _take(result, writer, report)
                advance(1)
    except (MarqueeError, KeyboardInterrupt):
        writer.publish()
        raise
    # Refused under the name of another slice earlier, and fine now.
    writer.drop_refusals(lambda old: old.row is None and old.id in report.usable)
    report.manifest = writer.publish(checkpoint=began)
    # Offered, though it could not be fetched this time: what the catalog holds of it stays.
    report.usable |= {old.id for old in writer.refusals if old.row is None and writer.held(old.id)}
    return report


def _compared(item: Item) -> Item:
    """Say in an offer's facts whether its label sources agree."""
    if not isinstance(item, Offer):
        return item
    return dataclasses.replace(item, facts=with_agreement(item.facts))


def finish(
    catalog_uri: str, report: IngestReport, mirror: bool, imdb: str | None = None
) -> IngestReport:
    """Finish a catalog into which all slices were brought.

    Args:
        catalog_uri: The catalog.
        report: What the slices did, added up.
        mirror: Remove posters that no slice offered (any more).
        imdb: IMDb's `title.basics.tsv.gz`, to compare the labels with.

    Returns:
        The report, completed.

    Raises:
        DataGateFailed: Not one poster could be used.
    """
    if not report.usable:
        raise DataGateFailed(
            f"not one poster can be used ({report.refused} rows were refused"
            + "".join(f", {count} films: {reason}" for reason, count in report.skipped.items())
            + ")",
            remedy=f"see {catalog_uri}/quarantine.jsonl for each row's reason",
        )
    lost = report.usable.difference(Catalog(catalog_uri).frame([])["poster_id"])
    if lost:
        raise InfrastructureError(
            f"{len(lost)} posters that were stored are not in {catalog_uri} ({min(lost)}...): its "
            "storage cannot guard against several writers",
            remedy="run the same command again, or use a local folder or gs://",
        )
    if mirror or report.superseded:
        writer = CatalogWriter(catalog_uri, "")
        report.removed = writer.keep_only(report.usable) if mirror else 0
        writer.compact()
        report.manifest = writer.publish()
    if imdb:
        report.manifest = join_imdb(catalog_uri, ImdbLabels.load(imdb))
    logger.info(
        "ingest: %d added, %d unchanged, %d refused, %d removed; catalog %s holds %d posters",
        report.added,
        report.unchanged,
        report.refused,
        report.removed,
        catalog_uri,
        report.manifest.rows,
    )
    for reason, count in report.skipped.most_common():
        logger.info("ingest: %d films were skipped: %s", count, reason)
    return report


def join_imdb(catalog_uri: str, labels: ImdbLabels) -> Manifest:
    """Join IMDb's genres to all posters of a catalog, in place of those that were joined earlier.

    Args:
        catalog_uri: The catalog.
        labels: IMDb's genres.

    Returns:
        The catalog's list as published.
    """

    def join(facts: Facts) -> Facts:
        joined = facts.label_licences.keys()
        own = {name: genres for name, genres in facts.label_sources.items() if name not in joined}
        bare = dataclasses.replace(facts, label_sources=own, label_licences={})
        return with_agreement(with_imdb(bare, labels), labels)

    writer = CatalogWriter(catalog_uri, "imdb")
    changed = writer.relabel(join)
    logger.info("ingest: the labels of %d posters changed by what IMDb says", changed)
    return writer.publish()


def _take(result: Result, writer: CatalogWriter, report: IngestReport) -> None:
    if isinstance(result, Poster):
        report.superseded += bool(writer.held(result.facts.poster_id))
        writer.add(result)
        report.added += 1
        report.usable.add(result.facts.poster_id)
    elif isinstance(result, Kept):
        report.unchanged += 1
        report.usable.add(result.poster_id)
    elif isinstance(result, Refusal):
        writer.refuse(result)
        report.refused += 1
        where = f"row {result.row}" if result.row is not None else result.source
        logger.warning("%s (%s): %s: %s", where, result.id, result.reason, result.remedy)
    else:
        report.skipped[result.reason] += 1
