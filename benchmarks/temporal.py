"""Tells how real posters and genres changed by era, and how well models age.

Run `python -m benchmarks.temporal [--keep DIR]`. It needs the posters in ../shared, and takes about
ten minutes on two cores: most of it trains the custom CNN on films up to 1989.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.memory import Run, watch
from benchmarks.real_posters import SHARED
from benchmarks.results import record
from monitoring.temporal.words import age_words

LAST_YEAR = 1989
"""The newest films that train the bundle."""
_MARQUEE = (sys.executable, "-m", "marquee")


def train_on_the_past(folder: Path, overrides: Sequence[str] = ()) -> None:
    """Make the catalog, the split of early films, and the bundle if there is none."""
    catalog, split, bundle = (str(folder / name) for name in ("catalog", "split", "bundle"))
    temporal_split = ["balance.split=temporal", f"balance.temporal_year={LAST_YEAR}"]
    commands = [
        ["ingest", "--path", str(SHARED / "data/posters"), "--out", catalog],
        ["balance", catalog, "--out", split, *_set(temporal_split)],
        ["train", catalog, split, "--out", bundle, *_set(overrides)],
    ]
    for command in commands[: 2 if Path(bundle).exists() else 3]:
        subprocess.run([*_MARQUEE, *command], check=True)


def _set(pairs: Sequence[str]) -> list[str]:
    return [word for pair in pairs for word in ("--set", pair)]


def run(folder: Path) -> tuple[dict[str, Any], Run]:
    """Analyse real posters, and a bundle that knows the early ones; tell what it took."""
    train_on_the_past(folder)
    catalog, split, bundle = (str(folder / name) for name in ("catalog", "split", "bundle"))
    words = ["temporal", "--catalog", catalog, "--out", str(folder / "out"), "--bundle", bundle]
    seen = watch([*_MARQUEE, *words, "--split", split])
    return json.loads((folder / "out/temporal.json").read_text()), seen


def trends(report: dict[str, Any]) -> Iterator[list[str | float]]:
    """Give a row a trend, with 95 % intervals."""
    for trend in (*report["trends"], *report["genre_trends"]):
        yield [
            trend["name"].replace("_", " "),
            trend["direction"],
            _interval(trend["slope"], 4),
            _interval(trend["rank"], 2),
            _interval(trend["held"], 3) if trend["held"] else "n/a",
        ]


def models(report: dict[str, Any]) -> Iterator[list[str | float]]:
    """Give a row an era and what was tested on it."""
    for cell in report["aging"]["cells"]:
        head = f"before {cell['before']}" if cell["before"] else "all eras, other films"
        yield _tested(cell["era"], f"linear head, {head}", cell["ranking"])
    for era in report["bundle"]["eras"]:
        yield _tested(era["era"], f"custom CNN, films to {LAST_YEAR}", era["ranking"])


def _tested(era: str, what: str, ranking: dict[str, Any] | None) -> list[str | float]:
    start: list[str | float] = [era.replace("_", " "), what.replace("_", " ")]
    if ranking is None:
        return [*start, "too few", "", "", "", ""]
    figures = (_interval(ranking[name], 3) for name in ("precision", "fixed_precision", "area"))
    return [*start, ranking["films"], ranking["prevalence"], *figures]


def _interval(values: list[float], digits: int) -> str:
    value, low, high = (f"{number:.{digits}f}" for number in values)
    return f"{value} ({low} to {high})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, help="keep the catalog, the bundle and the page here")
    keep = parser.parse_args().keep
    with tempfile.TemporaryDirectory(prefix="temporal-") as scratch:
        report, seen = run(keep or Path(scratch))
    costs = [_interval(values, 3) for values in report["aging"]["by_age"]]
    cost = "; ".join(f"{age_words(age)} {values}" for age, values in enumerate(costs))
    record(
        "Temporal analysis: trends on real posters",
        "python -m benchmarks.temporal",
        ["", "direction", "a decade", "rank correlation", "SD a decade, held fixed"],
        [*trends(report)],
        f"{report['films']:,} films, {report['first_year']} to {report['last_year']}; "
        f"{report['sampled']:,} looked at by their pixels. It took {seen.seconds:.0f} s and held "
        f"at most {seen.peak_mb / 1024:.2f} GB of anonymous memory. In brackets, 95 % intervals. "
        "Held fixed: sources, and for what posters look like genres as well. "
        f"{report['sentence']}",
    )
    record(
        "Temporal analysis: models before and after",
        "python -m benchmarks.temporal",
        [
            "tested on",
            "learnt from",
            "films",
            "without looking",
            "macro mAP",
            "mAP, prior fixed",
            "ROC area",
        ],
        [*models(report)],
        f"Linear heads on plain features of colour and edges, {report['aging']['trained']:,} films "
        "each; macro averages. ROC area against a head that has seen the era, where it learnt "
        f"{cost}; the mean of those that stopped an era or more before is "
        f"{_interval(report['aging']['old'], 3)}. The custom CNN's figures are means over other "
        f"genres ({len(report['bundle']['genres'])} of its 18) than the heads' "
        f"({len(report['aging']['genres'])}); both only of posters that they cannot know.",
    )


if __name__ == "__main__":
    main()
