"""Runs every benchmark, one after the other."""

import runpy

for script in (
    "drawn_difficulty",
    "images",
    "poster_stage",
    "validate_scale",
    "balance_scale",
    "scale",
    "training",
    "train_scale",
    "real_posters",
):
    runpy.run_module(f"benchmarks.{script}", run_name="__main__")
