"""The slices of one run: each leaves what it saw below the run's URI, and the merge reads it."""

import json
from collections import Counter
from typing import Any

from components.ingest.agreement_page import agreement_page
from components.ingest.examine import Examiner
from components.ingest.ingest import COUNTS, IngestReport, finish, ingest_slice
from components.ingest.sources import make_source
from marquee import agreement, licences, storage
from marquee.catalog import Catalog, CatalogWriter
from marquee.processes import stoppable
from marquee.run_layout import RunLayout
from marquee.settings import Settings


def ingest_span(
    layout: RunLayout, source: str, span: str, settings: Settings, posters: dict[str, Any]
) -> IngestReport:
    """Bring a slice into the run's catalog.

    Args:
        layout: The run.
        source: The kind of source.
        span: The slice.
        settings: The slice's settings.
        posters: What else chooses the posters: path, films and limit.

    Returns:
        What was done.
    """
    offers = make_source(source, span, settings=settings, **posters)
    with stoppable(), Examiner(settings.ingest.workers) as examiner:
        writer = CatalogWriter(layout.catalog, offers.name, settings.ingest.part_rows)
        report = ingest_slice(offers, writer, examiner)
    document = {name: getattr(report, name) for name in COUNTS}
    document |= {"usable": sorted(report.usable), "skipped": dict(report.skipped)}
    storage.write_text(layout.span(span), json.dumps(document) + "\n")
    return report


def merge(layout: RunLayout, spans: list[str], imdb: str | None) -> IngestReport:
    """Make one catalog of the slices: what none of them offered goes.

    Args:
        layout: The run.
        spans: The slices.
        imdb: IMDb's `title.basics.tsv.gz`, to compare the labels with.

    Returns:
        What the slices did, added up.

    Raises:
        DataGateFailed: No slice had a usable poster.
    """
    report = IngestReport()
    for span in spans:
        document = json.loads(storage.read_text(layout.span(span)))
        counts = {name: document[name] for name in COUNTS}
        skipped, usable = Counter(document["skipped"]), set(document["usable"])
        report += IngestReport(skipped=skipped, usable=usable, **counts)
    return finish(layout.catalog, report, mirror=True, imdb=imdb)


def compare_labels(layout: RunLayout) -> str:
    """Measure how the label sources of the run's catalog agree, and keep the figures.

    Args:
        layout: The run.

    Returns:
        The page for people.
    """
    catalog = Catalog(layout.catalog)
    frame = catalog.frame([*agreement.COLUMNS, *licences.COLUMNS])
    found = agreement.label_agreement(frame)
    storage.write_text(layout.agreement, found.to_json())
    subtitle = f"catalog {catalog.manifest.digest[:12]}"
    return agreement_page(found, subtitle, licences.attributions(frame))
