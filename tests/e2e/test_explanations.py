"""Explanations of real posters: the evidence is where the probability comes from."""

import numpy as np
import pytest

from benchmarks.explanations import (
    BY_EVIDENCE,
    RANDOM,
    SEEDS,
    SMOOTHED,
    correlations,
    explain,
    interval,
    posters,
    randomised,
    scores,
)
from benchmarks.real_posters import run
from marquee.bundle import load
from marquee.engine import Engine
from marquee.run_layout import RunLayout
from serving.explanation import Explainer

pytestmark = [pytest.mark.slow, pytest.mark.real_data, pytest.mark.timeout(1800)]

QUICK = ("train.custom_cnn.epochs=8", "train.precisions=")
POSTERS = 60


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    out = tmp_path_factory.mktemp("explanations") / "run"
    run("study4", "custom_cnn", out, QUICK)
    return RunLayout(str(out)), Engine(load(RunLayout(str(out)).bundle("custom_cnn")))


@pytest.fixture(scope="module")
def explained(engine):
    layout, engine = engine
    bundle = engine.bundle
    return [
        explain(Explainer(engine), bundle, pixels) for pixels in posters(layout, bundle, POSTERS)
    ]


def test_what_is_evident_counts_more_than_what_chance_picks(engine, explained):
    found = scores(engine[1], explained)
    for order in (BY_EVIDENCE, SMOOTHED):
        deletion, insertion = (found[order] - found[RANDOM]).T
        assert interval(deletion)[2] < 0, order
        assert interval(insertion)[1] > 0, order


@pytest.mark.parametrize("what", ["head", "all"])
def test_random_weights_give_other_maps(what, engine, explained):
    bundle = engine[1].bundle
    found = np.stack([correlations(randomised(bundle, seed, what), explained) for seed in SEEDS])
    assert abs(found.mean()) < 0.2
