"""Validate: the data gate. What it expects is in `expectations.py`."""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from components.validate.expectations import SCHEMA, themes
from components.validate.suite import Finding, Suite
from components.validate.tables import COLUMNS, Tables, column_types, derive
from marquee import licences, storage
from marquee.catalog import Catalog
from marquee.settings import Settings
from marquee.verdict import Severity, Verdict

VERDICT_FILE = "verdict.json"
FAILURES_FILE = "failures.csv"
DOCS_FOLDER = "data_docs"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Validation:
    """What the data gate found."""

    verdict: Verdict
    findings: tuple[Finding, ...]
    tables: Tables | None
    """What was judged; None if not even the columns were right."""
    quarantined: int
    attributions: tuple[str, ...]
    """Sentences that must stand where this data is shown."""
    suite: Suite

    def write(self, uri: str) -> None:
        """Write the verdict, all rows to blame, and the Data Docs.

        Args:
            uri: The folder or URI that gets `verdict.json`, `failures.csv` and `data_docs/`.
        """
        storage.write_text(storage.join(uri, VERDICT_FILE), self.verdict.to_json())
        with storage.scratch_folder(uri) as scratch:
            self.suite.write_docs(scratch / DOCS_FOLDER)
            storage.replace_folder(scratch / DOCS_FOLDER, storage.join(uri, DOCS_FOLDER))
            lists = scratch / "lists"
            lists.mkdir()
            self.write_failures(lists / FAILURES_FILE)
            # A file, not a string: a catalog may be wrong in each row and respect.
            if storage.is_local(uri):
                (lists / FAILURES_FILE).replace(storage.local_path(uri) / FAILURES_FILE)
            else:
                storage.publish_folder(lists, uri)

    def write_failures(self, file: Path) -> None:
        """List every row that breaks an expectation: check, severity, row, value.

        Args:
            file: The CSV file to write.
        """
        columns = ["check", "severity", "row", "value"]
        with file.open("w", encoding="utf-8", newline="") as stream:
            pd.DataFrame(columns=columns).to_csv(stream, index=False)
            for found in self.findings:
                rows = found.failures.assign(check=found.check.name, severity=found.check.severity)
                rows[columns].to_csv(stream, index=False, header=False)


def validate(catalog_uri: str, settings: Settings) -> Validation:
    """Judge whether a catalog can train a model.

    Args:
        catalog_uri: The catalog.
        settings: The bounds, the written agreements, and what balance takes for near duplicates.

    Returns:
        What the data gate found; its verdict blames the offending poster ids.
    """
    catalog = Catalog(catalog_uri)
    manifest = catalog.manifest
    validation = judge(
        catalog.frame(COLUMNS), settings, manifest.quarantined, f"catalog {manifest.digest}"
    )
    for check in validation.verdict.broken(Severity.WARNING):
        logger.warning("validate: %s: %s (asked: %s)", check.name, check.measured, check.bound)
    return validation


def judge(
    frame: pd.DataFrame, settings: Settings, quarantined: int = 0, subject: str = "catalog"
) -> Validation:
    """Judge the rows of a catalog.

    Args:
        frame: One row a poster with `COLUMNS`.
        settings: As for `validate`.
        quarantined: How many rows were refused when the catalog was made.
        subject: What is judged, for the verdict.

    Returns:
        What the data gate found.
    """
    now = datetime.now(UTC)
    suite, tables = Suite(subject, now), None
    findings = suite.run(SCHEMA, {"columns": column_types(frame)})
    attributions: list[str] = []
    if findings[0].check.holds:
        obstacles = licences.obstacles(frame, settings.licence, now)
        attributions = licences.attributions(frame)
        bits = settings.balance.near_duplicate_bits
        tables = derive(frame, obstacles, quarantined, settings.validate, bits, now)
        # Its lists and maps weigh most, and nobody needs them any more.
        del frame
        expected = themes(settings.validate, now, obstacles)
        findings += suite.run(expected, vars(tables))
    return Validation(
        verdict=Verdict(
            gate="data", subject=subject, checks=tuple(found.check for found in findings)
        ),
        findings=tuple(findings),
        tables=tables,
        quarantined=quarantined,
        attributions=tuple(attributions),
        suite=suite,
    )
