"""Validates a catalog of 45,000 made-up rows, and records seconds and memory.

Run `python -m benchmarks.validate_scale [--rows 45000]`. The images are four bytes each that no
decoder would take: the data gate never looks at them. Half a minute goes into writing the catalog.
"""

import argparse
import multiprocessing
import os
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from benchmarks.memory import rss_anon
from benchmarks.results import record
from components.validate.expectations import themes
from components.validate.suite import Suite
from components.validate.tables import COLUMNS, derive
from components.validate.validate import judge, validate
from marquee import licences
from marquee.catalog import Catalog, CatalogWriter, Facts, Poster
from marquee.genres import VISUAL_GENRES
from marquee.images import Attributes
from marquee.settings import Settings


def write_catalog(uri: str, rows: int) -> None:
    """Write a catalog that looks like TMDB's, in which most warnings have much to say."""
    random = np.random.default_rng(0)
    writer = CatalogWriter(uri, "made up")
    for number in range(rows):
        genres = tuple(random.choice(VISUAL_GENRES, random.integers(1, 4), replace=False))
        facts = Facts(
            poster_id=f"tt{number:07d}",
            film_id=f"tt{number:07d}",
            imdb_id=f"tt{number:07d}",
            tmdb_id=number,
            title=f"Film number {number}",
            year=int(random.integers(1915, 2026)),
            genres=genres,
            label_sources={"tmdb": genres, "imdb": genres[:2]},
            label_licences={"imdb": "IMDb Non-Commercial Datasets"},
            agreement=dict.fromkeys(genres, "agree"),
            source=f"source {number % 5}",
            licence="unspecified",
        )
        attributes = Attributes(brightness=0.4, contrast=0.2, saturation=0.3, hue=0.1)
        writer.add(
            Poster(
                facts=facts,
                data=number.to_bytes(4, "big"),
                perceptual_hash=random.bytes(8).hex(),
                mode="RGB",
                width=180,
                height=270,
                attributes=attributes,
            )
        )
    writer.publish()


class Peak:
    """Watches this process's anonymous memory."""

    def __enter__(self) -> "Peak":
        self.start = self.kibibytes = rss_anon(os.getpid())
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def grown(self) -> int:
        """Bytes above where it started."""
        return (self.kibibytes - self.start) * 1024

    def _watch(self) -> None:
        while not self._over.wait(0.005):
            self.kibibytes = max(self.kibibytes, rss_anon(os.getpid()))


def measure(uri: str, out: Path) -> list[str | float]:
    """Validate a catalog twice: once to measure memory, once to time what it consists of."""
    settings, now = Settings(), datetime.now(UTC)
    catalog = Catalog(uri)
    judge(catalog.frame(COLUMNS).head(100), settings)  # loads what is loaded only when used
    with Peak() as peak:
        found = validate(uri, settings)
        found.write(str(out))
    print(found.verdict.sentence())
    start = time.perf_counter()
    frame = catalog.frame(COLUMNS)
    read = time.perf_counter()
    obstacles = licences.obstacles(frame, settings.licence, now)
    tables = derive(frame, obstacles, 0, settings.validate, 4, now)
    derived = time.perf_counter()
    Suite("benchmark", now).run(themes(settings.validate, now, obstacles), vars(tables))
    judged = time.perf_counter()
    found.write(str(out))
    written = time.perf_counter()
    return [
        f"{len(frame):,}",
        f"{len(found.findings)}",
        f"{sum(len(item.failures) for item in found.findings):,}",
        f"{read - start:.1f}",
        f"{derived - read:.1f}",
        f"{judged - derived:.1f}",
        f"{written - judged:.1f}",
        f"{peak.grown / len(frame):,.0f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=45_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="validate-scale-") as folder:
        uri = f"{folder}/catalog"
        # In a process of its own, whose memory does not blur what is measured.
        writing = multiprocessing.get_context("spawn").Process(
            target=write_catalog, args=(uri, arguments.rows)
        )
        writing.start()
        writing.join()
        row = measure(uri, Path(folder) / "out")
    print(row)
    record(
        "The data gate at scale",
        f"python -m benchmarks.validate_scale --rows {arguments.rows}",
        [
            *("rows", "expectations", "rows named"),
            *("read s", "derive s", "expectations s", "write s", "peak bytes a row"),
        ],
        [row],
        "Read: the catalog's narrow columns. Derive: tables, near duplicates. Expectations: Great "
        "Expectations, naming the rows that fail included. Write: verdict, failures.csv, Data "
        "Docs. Memory: peak growth of RssAnon over all four, after a first use on 100 rows that "
        "loads the libraries.",
    )


if __name__ == "__main__":
    main()
