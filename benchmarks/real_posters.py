"""Trains on the real posters, and records metrics, baselines, time and memory.

Run `python -m benchmarks.real_posters [--genres study4] [--arch custom_cnn,vgg16]`. It needs the
posters and VGG16's weights in ../shared and takes about 20 minutes on two cores, less when VGG16's
features are in `$MARQUEE_CACHE` already.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks.memory import watch
from benchmarks.results import record

SHARED = Path(__file__).parents[2] / "shared"
METRICS = {
    "test/macro_f1": "macro F1",
    "test/micro_f1": "micro F1",
    "test/macro_map": "macro mAP",
    "test/top1": "top-1",
    "test/exact_match": "exact match",
    "test/per_label_accuracy": "per-label accuracy",
}


def run(genres: str, arch: str, out: Path) -> tuple[dict[str, dict], float, float]:
    """Run the pipeline; give the summary, the seconds, and the peak RssAnon (GB) of a process."""
    command = [sys.executable, "-m", "marquee", "run", "--path", str(SHARED / "data/posters")]
    command += ["--genres", genres, "--arch", arch, "--out", str(out)]
    command += ["--weights", str(SHARED / "weights/vgg16_imagenet_features.safetensors")]
    seen = watch(command)
    summary = json.loads((out / "summary.json").read_text())
    return summary, seen.seconds, seen.largest_mb / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--genres", default="study4")
    parser.add_argument("--arch", default="custom_cnn,vgg16")
    arguments = parser.parse_args()
    out = Path(tempfile.mkdtemp(prefix="real-posters-"))
    try:
        summary, seconds, gigabytes = run(arguments.genres, arguments.arch, out)
    finally:
        shutil.rmtree(out, ignore_errors=True)
    rows = []
    for name, entry in summary["architectures"].items():
        rows.append([f"**{name}**", *(entry["metrics"][metric] for metric in METRICS)])
        baselines = entry["baselines"]
    rows += [
        [name.replace("_", " "), *(values[metric] for metric in METRICS)]
        for name, values in baselines.items()
    ]
    posters = entry["test_posters"]
    record(
        f"Real posters, {arguments.genres}",
        f"python -m benchmarks.real_posters --genres {arguments.genres} --arch {arguments.arch}",
        ["", *METRICS.values()],
        rows,
        f"{summary['posters']:,} posters in the catalog, {posters} in the test split. The run took "
        f"{seconds / 60:.1f} minutes; no process held more than {gigabytes:.2f} GB of anonymous "
        "memory. The rows below the architectures never look at a poster.",
    )


if __name__ == "__main__":
    main()
