"""Trains on the real posters, and records metrics, baselines, time and memory.

Run `python -m benchmarks.real_posters [--genres study4] [--arch vgg16] [--set NAME=VALUE]...`. It
needs the posters and VGG16's weights in ../shared. VGG16 alone takes about half an hour on two
cores, and half of that where its features are in `$MARQUEE_CACHE` already.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.memory import Run, watch
from benchmarks.results import record
from marquee.run_layout import RunLayout

SHARED = Path(__file__).parents[2] / "shared"
METRICS = {
    "test/macro_map": "macro mAP",
    "test/macro_f1": "macro F1",
    "test/micro_f1": "micro F1",
    "test/top1": "top-1",
    "test/top3": "top-3",
    "test/exact_match": "exact match",
    "test/per_label_accuracy": "per-label accuracy",
    "test/ece": "ECE",
    "test/coverage_at_85": "coverage at 85%",
}


def run(genres: str, arch: str, out: Path, overrides: Sequence[str] = ()) -> tuple[dict, Run]:
    """Run the pipeline; give the summary, and how long it took and what it held."""
    command = [sys.executable, "-m", "marquee", "run", "--path", str(SHARED / "data/posters")]
    command += ["--genres", genres, "--arch", arch, "--out", str(out)]
    command += ["--weights", str(SHARED / "weights/vgg16_imagenet_features.safetensors")]
    seen = watch([*command, *(word for pair in overrides for word in ("--set", pair))])
    return json.loads((out / "summary.json").read_text()), seen


def table(evaluations: Sequence[dict[str, Any]]) -> list[list[str | float]]:
    """Give a row an architecture, with 95% intervals, and a row a baseline."""
    rows: list[list[str | float]] = [
        [f"**{found['architecture']}**", *(_with_interval(found, metric) for metric in METRICS)]
        for found in evaluations
    ]
    for name, values in evaluations[0]["baselines"].items():
        rows.append([name.replace("_", " "), *(values.get(metric, "") for metric in METRICS)])
    return rows


def _with_interval(evaluation: dict[str, Any], metric: str) -> str:
    value = f"{evaluation['metrics'][metric]:.3f}"
    if metric not in evaluation["intervals"]:
        return value
    low, high = evaluation["intervals"][metric]
    return f"{value} ({low:.3f} to {high:.3f})"


def remarks(evaluation: dict[str, Any]) -> str:
    """Say what else an evaluation tells: how steady the model is, and what its folds scored."""
    steady = "; ".join(
        f"{check['name'].removeprefix('A poster ')} {check['measured']} ({check['outcome']})"
        for check in evaluation["checks"]
    )
    folds = "".join(
        f" {metric} over {len(values['folds'])} folds of frozen features: {values['mean']:.3f} "
        f"(standard deviation {values['std']:.3f})."
        for metric, values in evaluation["cross_validation"].items()
    )
    return f"{evaluation['architecture']}, behaviour: {steady}.{folds}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--genres", default="study4")
    parser.add_argument("--arch", default="custom_cnn,vgg16")
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    parser.add_argument("--keep", type=Path, help="keep the run in this folder")
    arguments = parser.parse_args()
    out = arguments.keep or Path(tempfile.mkdtemp(prefix="real-posters-"))
    try:
        summary, seen = run(arguments.genres, arguments.arch, out, arguments.overrides)
        evaluations = [
            json.loads(Path(RunLayout(str(out)).evaluation(name)).read_text())
            for name in summary["architectures"]
        ]
    finally:
        if not arguments.keep:
            shutil.rmtree(out, ignore_errors=True)
    said = " ".join(map(remarks, evaluations))
    what = [arguments.genres, arguments.arch, *arguments.overrides]
    sets = "".join(f" --set {pair}" for pair in arguments.overrides)
    record(
        f"Real posters: {', '.join(what)}",
        f"python -m benchmarks.real_posters --genres {arguments.genres} "
        f"--arch {arguments.arch}{sets}",
        ["", *METRICS.values()],
        table(evaluations),
        f"{summary['posters']:,} posters in the catalog, {evaluations[0]['posters']} in the test "
        "split; in brackets, 95% intervals of the bootstrap by film. The rows below the "
        "architectures never look at a poster. The run took "
        f"{seen.seconds / 60:.1f} minutes; all its processes together held at most "
        f"{seen.peak_mb / 1024:.2f} GB of anonymous memory. {said}",
    )


if __name__ == "__main__":
    main()
