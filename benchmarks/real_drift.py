"""Trains on real films before 1990, serves those after 2000, and reads the drift report.

Run `python -m benchmarks.real_drift [--keep DIR]`. It needs the posters in ../shared, and takes
about ten minutes on two cores: most of it trains the custom CNN. What the report says of each
genre's average precision, from binned counts, is held against that of the probabilities themselves.
It ends with status 1 if a claim does not hold.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from benchmarks.results import FILE, Claim, record, record_claims
from benchmarks.running import marquee, running
from benchmarks.temporal import train_on_the_past
from marquee.catalog import Catalog
from marquee.client import Client
from marquee.genres import label_columns, label_matrix
from marquee.split import SplitPlan

Array = NDArray[Any]
FIRST_YEAR = 2000
"""The oldest films that are served."""
_CLEAR = 0.02
"""A move of a genre's average precision whose direction the report has to tell."""
_COMMAND = "python -m benchmarks.real_drift"
_MARQUEE = (sys.executable, "-m", "marquee")
_AT_A_TIME = 16
_FACTS = ("poster_id", "film_id", "year", "shard_offset", "size", "sha256")
_GONE = ("silent", "golden_age", "new_hollywood", "painted_blockbuster")
_NEW = ("digital", "streaming")


def serve(folder: Path, films: pd.DataFrame) -> tuple[datetime, datetime]:
    """Have a server predict the films' posters; tell from when to when."""
    catalog = Catalog(str(folder / "catalog"))
    known = {
        name: {"film_id": film, "year": int(year)}
        for name, film, year in zip(
            films["poster_id"], films["film_id"], films["year"], strict=True
        )
    }
    command = marquee(str(folder / "bundle"), "--records", str(folder / "records"))
    begun = datetime.now(UTC).replace(microsecond=0)
    with running(command) as server:
        client = Client(f"http://127.0.0.1:{server.port}", patience=120)
        for posters in _parts(catalog.stream_images(films)):
            client.ask([data for _, data in posters], facts=[known[name] for name, _ in posters])
    return begun, datetime.now(UTC) + timedelta(seconds=1)


def _parts(posters: Iterator[tuple[str, bytes]]) -> Iterator[list[tuple[str, bytes]]]:
    part: list[tuple[str, bytes]] = []
    for poster in posters:
        part.append(poster)
        if len(part) == _AT_A_TIME:
            yield part
            part = []
    if part:
        yield part


def report(folder: Path, since: datetime, until: datetime) -> dict[str, Any]:
    """Have `marquee drift` report on what was served."""
    words = ["drift", "--records", str(folder / "records"), "--bundle", str(folder / "bundle")]
    words += ["--truth", str(folder / "truth.csv"), "--out", str(folder / "drift"), "--json"]
    words += ["--from", since.isoformat(), "--to", until.isoformat()]
    done = subprocess.run([*_MARQUEE, "--quiet", *words], capture_output=True, check=True)
    return json.loads(done.stdout)


def measured(sides: Sequence[tuple[Array, Array]]) -> tuple[float, float]:
    """Measure a genre's average precision on both sides, as if it were as frequent on the second.

    Args:
        sides: Of the reference, and of what was served: which posters have the genre, and their
            probabilities.

    Returns:
        Both.
    """
    prior = sides[0][0].mean()
    found = []
    for owns, scores in sides:
        weights = np.where(owns, prior / owns.mean(), (1 - prior) / (1 - owns.mean()))
        found.append(float(average_precision_score(owns, scores, sample_weight=weights)))
    return found[0], found[1]


def compare(folder: Path, said: dict[str, Any]) -> tuple[list[Claim], list[list[str | float]]]:
    """Hold the report against what is known; give claims, and a row a genre."""
    genres = [finding["genre"] for finding in _concept(said)]
    films = Catalog(str(folder / "catalog")).frame(["poster_id", "year", *label_columns(genres)])
    scores = _scores(folder, genres).loc[films["poster_id"]].to_numpy(float)
    labels = label_matrix(films, genres).astype(bool)
    validation = SplitPlan.read(str(folder / "split")).ids("validation")
    sides = (
        films["poster_id"].isin(validation).to_numpy(),
        (films["year"] >= FIRST_YEAR).to_numpy(),
    )
    rows: list[list[str | float]] = []
    gaps, agree = [], []
    for g, finding in enumerate(_concept(said)):
        owns, found = labels[:, g], scores[:, g]
        before, after = measured([(owns[side], found[side]) for side in sides])
        gap = finding["effect"] - (after - before)
        gaps.append(abs(gap))
        if abs(after - before) >= _CLEAR:
            agree.append(bool(np.sign(finding["effect"]) == np.sign(after - before)))
        rows.append(
            [
                finding["genre"],
                int(finding["window"]),
                f"{finding['before']:.3f} to {finding['after']:.3f}",
                f"{finding['effect']:+.3f} ({finding['low']:+.3f} to {finding['high']:+.3f})",
                finding["state"],
                f"{before:.3f} to {after:.3f}",
                f"{after - before:+.3f}",
            ]
        )
    return [*_named(said), *_agreed(gaps, agree)], rows


def _concept(said: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        finding
        for finding in said["findings"]
        if finding["what"] == "average precision" and finding["effect"] is not None
    ]


def _scores(folder: Path, genres: Sequence[str]) -> pd.DataFrame:
    """Score all posters by `marquee score`, which knows no records and no bins."""
    out = folder / "labels.parquet"
    words = ["score", "--catalog", str(folder / "catalog"), "--bundle", str(folder / "bundle")]
    subprocess.run([*_MARQUEE, *words, "--out", str(out)], check=True)
    frame = pd.read_parquet(out).set_index("poster_id")
    names = ["p_" + genre.lower().replace(" ", "_") for genre in genres]
    return frame[names].set_axis(list(genres), axis=1)


def _named(said: dict[str, Any]) -> Iterator[Claim]:
    slices = {cause["what"]: set(cause["slices"]) for cause in said["causes"]}
    for what, eras in (("disappeared", _GONE), ("appeared", _NEW)):
        wanted = {era.replace("_", " ") for era in eras}
        found = {name for name in slices.get(what, set()) if not name.startswith("predicted")}
        yield Claim(
            f"eras that have {what}",
            ", ".join(sorted(found)) or "none",
            ", ".join(sorted(wanted)),
            found == wanted,
        )


def _agreed(gaps: Sequence[float], agree: Sequence[bool]) -> Iterator[Claim]:
    yield Claim(
        "loss of average precision: largest gap between report and probabilities",
        f"{max(gaps):.3f} in {len(gaps)} genres",
        "at most .02",
        max(gaps) <= 0.02,
    )
    yield Claim(
        f"genres whose average precision moved by {_CLEAR} or more: same direction",
        f"{sum(agree)} of {len(agree)}",
        "all of one or more",
        bool(agree) and all(agree),
    )


def run(
    folder: Path, overrides: Sequence[str] = ()
) -> tuple[list[Claim], list[list[str | float]], dict[str, Any]]:
    """Train, serve, report and compare."""
    train_on_the_past(folder, overrides)
    films = Catalog(str(folder / "catalog")).frame([*_FACTS, "genres"])
    films = films[films["year"] >= FIRST_YEAR]
    truth = films[["film_id"]].assign(genres=films["genres"].map("|".join))
    truth.to_csv(folder / "truth.csv", index=False)
    said = report(folder, *serve(folder, films))
    claims, rows = compare(folder, said)
    return claims, rows, said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, help="keep catalog, bundle, records and report here")
    parser.add_argument("--results", type=Path, default=FILE, help="where figures are written to")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="drift-") as scratch:
        claims, rows, said = run((given.keep or Path(scratch)).absolute())
    causes = "; ".join(cause["sentence"] for cause in said["causes"])
    record(
        "Drift on real posters: by genre",
        _COMMAND,
        (
            *("genre", "films that have it", "report", "effect", "state"),
            *("from the probabilities", "effect"),
        ),
        rows,
        f"Custom CNN on films before 1990; {said['counted']['records']:,} films from {FIRST_YEAR} "
        f"on were served. Average precision with the prior held fixed. The report says: {causes}.",
        file=given.results,
    )
    holds = record_claims("Drift on real posters", _COMMAND, claims, file=given.results)
    raise SystemExit(not holds)


if __name__ == "__main__":
    main()
