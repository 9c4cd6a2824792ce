"""Runs every benchmark, one after the other: some hours on two cores."""

import runpy
import sys

STUDY = ("--arch", "custom_cnn", "--set", "train.custom_cnn.preset=study")
HALF = ("train.custom_cnn.height=112", "train.custom_cnn.width=112", "train.custom_cnn.epochs=12")

failing = []
for script, *arguments in (
    ("drawn_difficulty",),
    ("images",),
    ("poster_stage",),
    ("validate_scale",),
    ("balance_scale",),
    ("scale",),
    ("training",),
    ("train_scale",),
    ("engines",),
    ("serving",),
    ("explanations",),
    ("real_posters", "--genres", "all18", "--arch", "vgg16"),
    ("real_posters", "--genres", "all18", "--arch", "vgg16", "--set", "train.fine_tune_epochs=0"),
    ("real_posters", "--genres", "all18", "--arch", "vgg16", "--set", "balance.split=temporal"),
    ("real_posters", "--genres", "subgenres", "--arch", "vgg16"),
    ("temporal",),
    ("real_posters", "--genres", "study4", "--arch", "vgg16", "--set", "train.folds=5"),
    ("real_posters", "--genres", "all18", "--arch", "custom_cnn"),
    ("real_posters", "--genres", "study4", "--arch", "custom_cnn"),
    ("real_posters", "--genres", "study4", *STUDY, *(w for p in HALF for w in ("--set", p))),
):
    sys.argv = [script, *arguments]
    try:
        runpy.run_module(f"benchmarks.{script}", run_name="__main__")
    except (Exception, SystemExit) as end:
        if not isinstance(end, SystemExit) or end.code:
            failing.append(script)
            print(f"{script}: {end!r}", file=sys.stderr)
raise SystemExit(f"failed, or claims do not hold: {', '.join(failing)}" if failing else 0)
