"""Runs every benchmark, one after the other."""

import runpy

for script in ("drawn_difficulty", "real_posters"):
    runpy.run_module(f"benchmarks.{script}", run_name="__main__")
