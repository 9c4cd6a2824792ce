"""What balance costs as a catalog grows: seconds, and memory a row.

Run `python -m benchmarks.balance_scale [--small 5000] [--large 45000]`. It makes catalogs of facts
without pictures (films, collections, look-alikes, placeholders, labels of two sources), balances
each in a process of its own, and records seconds and the peak of anonymous memory. A minute or two.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from benchmarks.memory import rss_anon
from benchmarks.results import record
from marquee.catalog import CatalogWriter, Facts, Poster
from marquee.genres import VISUAL_GENRES
from marquee.images import Attributes

BUDGET = 2000
"""Bytes a row that balance may add."""


def make_catalog(uri: str, rows: int) -> None:
    """Write a catalog of made-up facts."""
    random = np.random.default_rng(0)
    chance = np.geomspace(0.5, 0.02, len(VISUAL_GENRES))
    writer = CatalogWriter(uri, "benchmark", part_rows=5000)
    hashes = random.integers(0, 2**63, rows, dtype=np.uint64)
    alike = random.random(rows) < 0.05
    hashes[alike] = hashes[random.integers(0, rows, alike.sum())] ^ np.uint64(0b11)
    hashes[random.random(rows) < 0.02] = 0  # placeholders
    for row in range(rows):
        genres = [
            genre for genre, p in zip(VISUAL_GENRES, chance, strict=True) if random.random() < p
        ]
        genres = genres or ["Drama"]
        tied = random.random() < 0.1
        facts = Facts(
            poster_id=f"tmdb-{row:07d}",
            film_id=f"tt{row:07d}",
            imdb_id=f"tt{row:07d}",
            tmdb_id=row,
            collection_id=int(random.integers(0, rows // 20)) if tied else None,
            title="A film",
            year=int(random.integers(1920, 2025)) if random.random() < 0.95 else None,
            genres=tuple(genres),
            source="benchmark",
            licence="CC0-1.0",
            label_sources={"tmdb": tuple(genres), "imdb": tuple(genres[:3])},
            label_licences={"imdb": "made up"},
            agreement={genre: str(random.choice(["agree", "tmdb_only"])) for genre in genres},
        )
        writer.add(
            Poster(
                facts=facts,
                data=b"",
                perceptual_hash=f"{hashes[row]:016x}",
                mode="RGB",
                width=342,
                height=513,
                attributes=Attributes(brightness=0.5, contrast=0.5, saturation=0.5, hue=0.5),
            )
        )
    writer.publish()


def measure(uri: str, split: str) -> dict[str, float]:
    """Balance a catalog in this process; give seconds, and the peak of memory above the start."""
    from components.balance.balance import balance
    from components.balance.page import balance_page
    from marquee.settings import BalanceSettings

    start, peak, done = rss_anon(os.getpid()), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.005):
            peak = max(peak, rss_anon(os.getpid()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.monotonic()
    plan = balance(uri, "all18", BalanceSettings(split=split, strategy="oversample"))
    page = balance_page(plan)
    seconds = time.monotonic() - began
    done.set()
    watcher.join()
    return {"seconds": seconds, "bytes": (peak - start) * 1024, "page": len(page)}


def run(uri: str, split: str) -> dict[str, float]:
    """Measure in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.balance_scale", "--uri", uri, "--split", split]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    result: dict[str, float] = json.loads(output.splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", type=int, default=5000)
    parser.add_argument("--large", type=int, default=45_000)
    parser.add_argument("--uri", help=argparse.SUPPRESS)
    parser.add_argument("--split", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.uri:
        print(json.dumps(measure(arguments.uri, arguments.split)))
        return
    sizes = (arguments.small, arguments.large)
    rows: list[list[str | float]] = []
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            make_catalog(str(Path(folder) / str(size)), size)
        for split in ("random", "temporal"):
            small, large = (run(str(Path(folder) / str(size)), split) for size in sizes)
            added = (large["bytes"] - small["bytes"]) / (sizes[1] - sizes[0])
            rows.append(
                [
                    split,
                    *(f"{found['seconds']:.1f}" for found in (small, large)),
                    *(f"{found['bytes'] / 2**20:.0f}" for found in (small, large)),
                    f"{added:,.0f}",
                    f"{large['page'] / 1024:.0f}",
                ]
            )
            print(*rows[-1])
            if added > BUDGET:
                raise SystemExit(f"balance adds {added:,.0f} bytes a row, more than {BUDGET:,}")
    columns = [f"{unit}, {size:,}" for unit in ("s", "MiB") for size in sizes]
    record(
        f"Balancing {sizes[1]:,} posters",
        f"python -m benchmarks.balance_scale --small {sizes[0]} --large {sizes[1]}",
        ["split", *columns, "bytes a row", "page, KiB"],
        rows,
        "Made-up facts without pictures, all18: read the catalog, group, deal, weigh, and render "
        "the page. MiB is the peak of anonymous memory above what the imports take; bytes a row is "
        f"what the additional rows add ({BUDGET:,} allowed).",
    )


if __name__ == "__main__":
    main()
