"""Whether planted drift is found and named rightly, and what a report on a million records costs.

Run `python -m benchmarks.drift [--only found|cost] [--repetitions 200] [--records N]`.
The first part draws a reference of 5,000 posters and windows of 2,000 in which something happened,
or nothing, and asks the statistics what did; it makes the full report three times of each. The
second part writes records and reports on them in a process of its own, beside Evidently's
DataDriftPreset on as many rows. It ends with status 1 if a claim does not hold.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np

from benchmarks.bundles import make
from benchmarks.memory import Run, watch
from benchmarks.results import FILE, Claim, record, record_claims
from benchmarks.simulated_drift import GENRES, SCENARIOS, Scenario, World
from marquee.bundle import Bundle, seal
from marquee.profile import ATTRIBUTES
from marquee.settings import DriftSettings
from monitoring.causes import causes, explain
from monitoring.collect import Records, Window
from monitoring.drift import Order, drift
from monitoring.measure import Pair, measure
from monitoring.truth import read_truth

_REFERENCE, _WINDOW = 5000, 2000
_START = datetime(2026, 11, 1, tzinfo=UTC)
_DAY = Window(since=_START, until=_START + timedelta(days=1))
_PART, _REPORTS = 100_000, 3
_TRUTH = "truth.csv"
_STEPS = (10_000, 100_000, 1_000_000)
_PRESET = "from benchmarks.drift import preset; preset({path!r})"
_REPORT = "from benchmarks.drift import whole_report; whole_report({path!r}, {bundle!r}, {out!r})"
_STATISTICS = (
    "from benchmarks.drift import statistics_alone; "
    "statistics_alone({path!r}, {version!r}, with_truth={truth})"
)


def named(scenario: Scenario, seed: int) -> tuple[str, ...]:
    """Draw a reference and a window, and give the causes that are named."""
    random = np.random.default_rng([seed, SCENARIOS.index(scenario)])
    reference = World().draw(_REFERENCE, random).profile()
    window = scenario.draw(_WINDOW, random)
    settings = DriftSettings()
    findings = explain(measure(reference, window, settings), Pair.of(reference, window, settings))
    return tuple(
        cause.what if cause.what == scenario.cause else cause.name for cause in causes(findings)
    )


def _named(number: int, seed: int) -> tuple[str, ...]:
    return named(SCENARIOS[number], seed)


def rates(repetitions: int) -> tuple[list[Claim], list[list[str | float]]]:
    """Ask the statistics about every scenario, many times.

    Returns:
        What is claimed, and a row a scenario.
    """
    claims: list[Claim] = []
    rows: list[list[str | float]] = []
    with ProcessPoolExecutor() as pool:
        for number, scenario in enumerate(SCENARIOS):
            answers = list(pool.map(_named, [number] * repetitions, range(repetitions)))
            right = sum(
                answer == ((scenario.cause,) if scenario.cause else ()) for answer in answers
            )
            found = sum(scenario.cause in answer for answer in answers) if scenario.cause else right
            others = Counter(
                name for answer in answers for name in answer if name != scenario.cause
            )
            worst = ", ".join(f"{name} ({n})" for name, n in others.most_common(2))
            rows.append(
                [scenario.name, f"{found / repetitions:.1%}", f"{right / repetitions:.1%}", worst]
            )
            what = (
                "reports without a false alarm" if not scenario.cause else f"{scenario.name}: found"
            )
            claims.append(
                Claim(
                    what, f"{found / repetitions:.1%}", "at least 95%", found >= 0.95 * repetitions
                )
            )
    return claims, rows


def statistics_alone(path: str, version: str, *, with_truth: bool) -> None:
    """Collect and measure, as a process of its own."""
    reference = World().draw(_REFERENCE, np.random.default_rng(0)).profile()
    truth = read_truth(str(Path(path).parent / _TRUTH), GENRES) if with_truth else None
    with Records(path, _DAY, version, GENRES, truth=truth) as records:
        window = records.profile()
        records.counted()
        records.right()
    explain(
        measure(reference, window, DriftSettings()), Pair.of(reference, window, DriftSettings())
    )


def whole_report(path: str, bundle: str, out: str) -> None:
    """Make the full report, Evidently's page included, as a process of its own."""
    truth = str(Path(path).parent / _TRUTH)
    drift(Order(records=path, bundle=bundle, out=out, window=_DAY, truth=truth))


def preset(path: str) -> None:
    """Run Evidently's own preset on as many rows and the same columns, as a process of its own."""
    import pandas as pd
    import pyarrow.dataset as ds
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    looks = [*ATTRIBUTES, "width", "height"]
    table = ds.dataset(path).to_table(columns=["probabilities", *looks])
    values = table["probabilities"].combine_chunks().items.to_numpy().reshape(-1, len(GENRES))
    frame = pd.DataFrame(values, columns=list(GENRES)).join(table.select(looks).to_pandas())
    definition = DataDefinition(numerical_columns=list(frame))
    window, reference = (Dataset.from_pandas(frame, data_definition=definition) for _ in range(2))
    Report([DataDriftPreset()]).run(window, reference)


def write_records(path: Path, count: int, version: str) -> None:
    """Write as many records of a model as a day may have, and the genres of their films."""
    random = np.random.default_rng(1)
    whole = timedelta(days=1)
    parts = max(1, count // _PART)
    for part in range(parts):
        window = World().draw(count // parts, random)
        since = _START + whole * part / parts
        window.write(str(path / f"part{part}"), version, since, since + whole / parts)
        # Each part asks about the same films.
        (path / _TRUTH).write_text(window.truth())
        for file in (path / f"part{part}").rglob("*.parquet"):
            target = path / "records" / file.relative_to(path / f"part{part}")
            target.parent.mkdir(parents=True, exist_ok=True)
            file.rename(target.with_name(f"part{part}-{target.name}"))


def reports(folder: Path) -> list[Claim]:
    """Make the full report on every scenario three times, Evidently's page included."""
    sealed = make("custom_cnn", folder / "trained")
    right, made = 0, 0
    for scenario in SCENARIOS:
        for repetition in range(_REPORTS):
            place = folder / f"{SCENARIOS.index(scenario)}-{repetition}"
            names = _report(scenario, repetition, sealed, place)
            made += 1
            right += scenario.cause in names if scenario.cause else not names
    return [Claim("full reports with the right cause", f"{right} of {made}", "all", right == made)]


def _report(scenario: Scenario, seed: int, sealed: Bundle, folder: Path) -> list[str]:
    random = np.random.default_rng([9, seed, SCENARIOS.index(scenario)])
    profile = World().draw(_REFERENCE, random).profile()
    shutil.copytree(sealed.folder, folder / "bundle")
    info = replace(sealed.info, reference_profile=profile.to_document())
    version = seal(folder / "bundle", info)
    window = scenario.world.draw(_WINDOW, random)
    scenario.plant(window, random)
    window.write(str(folder / "records"), version, _DAY.since, _DAY.until)
    (folder / "truth.csv").write_text(window.truth())
    order = Order(
        records=str(folder / "records"),
        bundle=str(folder / "bundle"),
        out=str(folder / "out"),
        window=_DAY,
        truth=str(folder / "truth.csv"),
    )
    return [
        cause.what if cause.what == scenario.cause else cause.name for cause in drift(order).causes
    ]


def cost(folder: Path, most: int) -> tuple[list[Claim], list[list[str | float]]]:
    """Report on more and more records, each time in a process of its own."""
    rows: list[list[str | float]] = []
    runs: dict[int, dict[str, Run]] = {}
    bundle = make("custom_cnn", folder / "trained")
    for count in [step for step in _STEPS if step <= most]:
        place = folder / str(count)
        write_records(place, count, bundle.version)
        path, out = str(place / "records"), str(place / "out")
        snippets = {
            "statistics": _STATISTICS.format(path=path, version=bundle.version, truth=False),
            "statistics with truth": _STATISTICS.format(
                path=path, version=bundle.version, truth=True
            ),
            "report": _REPORT.format(path=path, bundle=str(bundle.folder), out=out),
        }
        programs = {name: [sys.executable, "-c", code] for name, code in snippets.items()}
        if count == most:
            programs["preset"] = [sys.executable, "-c", _PRESET.format(path=path)]
        runs[count] = {name: watch(program) for name, program in programs.items()}
        rows += [
            [f"{count:,}", name, f"{run.seconds:.1f}", f"{run.largest_mb:.0f}"]
            for name, run in runs[count].items()
        ]
    return [*_linear(runs), *_costs(runs[most])], rows


def _costs(last: dict[str, Run]) -> Iterator[Claim]:
    """Claim what the largest window takes; the preset knows no truth, so nor does what it meets."""
    for name, seconds, mb in (
        ("statistics", 12, 600),
        ("statistics with truth", 12, 600),
        ("report", 40, 1500),
    ):
        run = last[name]
        yield Claim(f"{name}, s", f"{run.seconds:.1f}", f"under {seconds}", run.seconds < seconds)
        yield Claim(f"{name}, MB", f"{run.largest_mb:.0f}", f"under {mb:,}", run.largest_mb < mb)
    times = last["preset"].seconds / last["statistics"].seconds
    yield Claim(
        "statistics, faster than DataDriftPreset", f"{times:.0f} times", "at least 10", times >= 10
    )


def _linear(runs: dict[int, dict[str, Run]]) -> Iterator[Claim]:
    """Claim that ten times the records take ten times as long at most."""
    for few, many in pairwise(sorted(runs)):
        for name in ("statistics with truth", "report"):
            times = runs[many][name].seconds / runs[few][name].seconds
            yield Claim(
                f"{name}, {many:,} beside {few:,} records",
                f"{times:.1f} times as long",
                f"at most {many // few} (linear)",
                times <= many / few,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("found", "cost"), help="one of the two parts")
    parser.add_argument("--repetitions", type=int, default=200, help="of each scenario")
    parser.add_argument("--records", type=int, default=_STEPS[-1], help="in the largest window")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--results", type=Path, default=FILE, help="where figures are written to")
    given = parser.parse_args()
    holds, printed = True, {}
    for part in [given.only] if given.only else ["found", "cost"]:
        claims, rows = _measured(part, given)
        command = f"python -m benchmarks.drift --only {part} {_size(part, given)}"
        title = f"Drift: what {_PARTS[part][0]}"
        record(title, command, _PARTS[part][1], rows, file=given.results)
        holds &= record_claims(f"{title}, as asked", command, claims, file=given.results)
        printed[part] = {"claims": [asdict(claim) for claim in claims], "rows": rows}
    if given.json:
        print(json.dumps(printed))
    raise SystemExit(not holds)


_PARTS = {
    "found": ("is found", ("planted", "found", "found and nothing else", "else, most often")),
    "cost": ("it costs", ("records", "what", "s", "MB")),
}


def _size(part: str, given: argparse.Namespace) -> str:
    name = "repetitions" if part == "found" else "records"
    return f"--{name} {getattr(given, name)}"


def _measured(part: str, given: argparse.Namespace) -> tuple[list[Claim], list[list[str | float]]]:
    with tempfile.TemporaryDirectory(prefix="drift-") as folder:
        if part == "cost":
            return cost(Path(folder), given.records)
        claims, rows = rates(given.repetitions)
        return claims + reports(Path(folder)), rows


if __name__ == "__main__":
    main()
