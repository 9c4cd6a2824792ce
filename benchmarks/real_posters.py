"""Trains on the real posters, and records metrics, baselines, time and memory.

Run `python -m benchmarks.real_posters [--genres study4] [--arch custom_cnn,vgg16]`. It needs the
posters and VGG16's weights in ../shared and takes about 20 minutes on two cores, less when VGG16's
features are in `$MARQUEE_CACHE` already.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.results import record
from marquee.processes import family

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
    start = time.monotonic()
    process = subprocess.Popen(command)
    peak = 0
    while process.poll() is None:
        peak = max([peak, *(rss_anon(child) for child in family(process.pid))])
        time.sleep(0.2)
    if process.returncode:
        raise SystemExit(process.returncode)
    summary = json.loads((out / "summary.json").read_text())
    return summary, time.monotonic() - start, peak / 2**20


def rss_anon(pid: int) -> int:
    """Give a process's anonymous memory in KiB; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)


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
