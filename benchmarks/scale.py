"""Brings drawn posters through ingest, validate and balance, few and many.

Run `python -m benchmarks.scale [--films 5000,45000]`. Each step is the command that people run, in
processes of its own; the posters come through TMDB's API from a server of ours, which draws them
meanwhile. Ingestion must hold hardly more for many films than for few; validate and balance may
hold 2 kB a row more.
"""

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks.memory import Run, watch
from benchmarks.poster_stage import server
from benchmarks.results import record
from components.ingest.sources.tmdb.api import TOKEN

MARQUEE = [sys.executable, "-m", "marquee"]


def steps(films: int, folder: Path) -> dict[str, Run]:
    """Run the three steps; the gate must pass."""
    catalog = str(folder / "catalog")
    tmdb = ["--source", "tmdb", "--rate", "0", "--set", "tmdb.poster_size=w92", "--out", catalog]
    with server(films, folder / "posters", prepare="") as root:
        ingest = watch([*MARQUEE, "ingest", *tmdb, "--base-url", f"{root}/3"])
    return {
        "ingest": ingest,
        "validate": watch([*MARQUEE, "validate", catalog, "--out", str(folder / "validate")]),
        "balance": watch([*MARQUEE, "balance", catalog, "--out", str(folder / "balance")]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--films", default="5000,45000")
    arguments = parser.parse_args()
    few, many = map(int, arguments.films.split(","))
    os.environ[TOKEN] = "any"
    found = {}
    for films in (few, many):
        folder = Path(tempfile.mkdtemp(prefix="scale-"))
        try:
            found[films] = steps(films, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    rows: list[list[str | float]] = []
    for step, small in found[few].items():
        large = found[many][step]
        more = large.peak_mb - small.peak_mb
        rows.append(
            [
                step,
                f"{small.seconds:.1f}",
                f"{large.seconds:.1f}",
                f"{small.peak_mb:.0f}",
                f"{large.peak_mb:.0f}",
                f"{large.peak_mb / small.peak_mb - 1:+.0%}",
                f"{1000 * more / (many - few):.2f}",
            ]
        )
    record(
        "Scale",
        f"python -m benchmarks.scale --films {few},{many}",
        [
            "step",
            f"s, {few:,}",
            f"s, {many:,}",
            f"MB, {few:,}",
            f"MB, {many:,}",
            "more memory",
            "kB a row more",
        ],
        rows,
        "Peak anonymous memory (Pss_Anon) of all processes of a command together, the server's not "
        "counted; it draws the posters (w92) while ingestion runs, on the same cores.",
    )


if __name__ == "__main__":
    main()
