"""Trains for one epoch and evaluates, on few and on many drawn posters.

Run `python -m benchmarks.train_scale [--films 5000,45000]`. Both steps stream their posters: they
must hold hardly more for many than for few.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks.memory import Run, watch
from benchmarks.results import record

MARQUEE = [sys.executable, "-m", "marquee"]


def steps(films: int, folder: Path) -> dict[str, Run]:
    """Make a catalog and a plan, and watch training and evaluation."""
    catalog, split, bundle = (str(folder / name) for name in ("catalog", "split", "bundle"))
    draw = ["--source", "drawn", "--limit", str(films), "--set", "ingest.workers=0"]
    watch([*MARQUEE, "ingest", *draw, "--out", catalog])
    watch([*MARQUEE, "balance", catalog, "--out", split])
    train = [*MARQUEE, "train", catalog, split, "--out", bundle, "--set", "train.epochs=1"]
    evaluate = [*MARQUEE, "evaluate", bundle, catalog, split, "--out", str(folder / "evaluation")]
    return {"train, one epoch": watch(train), "evaluate": watch(evaluate)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--films", default="5000,45000")
    arguments = parser.parse_args()
    few, many = map(int, arguments.films.split(","))
    found = {}
    for films in (few, many):
        folder = Path(tempfile.mkdtemp(prefix="train-scale-"))
        try:
            found[films] = steps(films, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    rows: list[list[str | float]] = []
    for step, small in found[few].items():
        large = found[many][step]
        rows.append(
            [
                step,
                f"{small.seconds:.0f}",
                f"{large.seconds:.0f}",
                f"{small.peak_mb:.0f}",
                f"{large.peak_mb:.0f}",
                f"{large.peak_mb / small.peak_mb - 1:+.0%}",
            ]
        )
    record(
        "Scale of training",
        f"python -m benchmarks.train_scale --films {few},{many}",
        ["step", f"s, {few:,}", f"s, {many:,}", f"MB, {few:,}", f"MB, {many:,}", "more memory"],
        rows,
        "custom_cnn with its defaults. Peak anonymous memory of all processes of a command "
        "together; what forked ones share counts once (Pss_Anon).",
    )


if __name__ == "__main__":
    main()
