"""The engine's own loop: decodes posters and predicts, with no server around it.

Run `python -m benchmarks.loop BUNDLE [--batch 8] [--seconds 5]`. It prints, as JSON, posters a
second and CPU seconds a poster: what a server of the bundle cannot do without.
"""

import argparse
import json
import time

import numpy as np

from benchmarks.posters import read_posters
from marquee.bundle import load
from marquee.engine import Engine
from marquee.images import preprocess


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=5.0)
    arguments = parser.parse_args()
    posters, _ = read_posters(64)
    engine = Engine(load(arguments.bundle))
    size = engine.bundle.info.preprocessing

    def work(first: int) -> None:
        files = [posters[n % len(posters)] for n in range(first, first + arguments.batch)]
        engine.predict(np.stack([preprocess(file, size) for file in files]))

    work(0)
    done, started, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - started < arguments.seconds:
        work(done)
        done += arguments.batch
    rate = done / (time.perf_counter() - started)
    print(json.dumps({"rate": rate, "cpu_seconds": (time.process_time() - cpu) / done}))


if __name__ == "__main__":
    main()
