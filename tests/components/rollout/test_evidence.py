"""Evidence adds up, and is the same after it was written down and read."""

import json

import numpy as np
import pytest

from components.rollout.evidence import BINS, Answers, Latencies, Side, Sighting, Traffic
from components.rollout.judge import Evidence
from components.rollout.policy import Policy


def test_quantiles_of_a_histogram_are_near_those_of_the_values():
    values = np.random.default_rng(0).lognormal(3, 1, 20_000)
    seen = Latencies.of(values)
    for share in (0.1, 0.5, 0.9, 0.99):
        assert seen.quantile(share) == pytest.approx(np.quantile(values, share), rel=0.1)
    assert seen.above(float(np.quantile(values, 0.9))) == pytest.approx(2_000, rel=0.1)


def test_latencies_beyond_all_bins_are_counted():
    seen = Latencies.of([0.0, 1e9])
    assert seen.total == 2
    assert seen.above(1.0) == 1
    assert Latencies().quantile(0.5) != Latencies().quantile(0.5)  # NaN


def test_parts_add_up_to_the_whole():
    values = list(range(1, 100))
    parts = Latencies.of(values[:30]) + Latencies.of(values[30:])
    assert (parts.counts == Latencies.of(values).counts).all()
    said = [{"Drama": 0.1 * n, "Horror": 1 - 0.1 * n} for n in range(10)]
    whole = Answers.of(said, unsure=3)
    parts = Answers.of(said[:4], unsure=1) + Answers.of(said[4:], unsure=2) + Answers()
    assert (parts.histograms == whole.histograms).all()
    assert (parts.genres, parts.unsure, parts.total) == (("Drama", "Horror"), 3, 10)
    assert whole.histograms.shape == (2, BINS)


def test_what_was_written_down_is_read_as_it_was():
    side = Side(
        traffic=Traffic(requests=40, errors=2, latencies=Latencies.of([1.0, 20.0, 1e6])),
        answers=Answers.of([{"Drama": 0.5, "Horror": 1.0}] * 40, unsure=4),
    )
    empty = Side()
    evidence = Evidence().see(Sighting(stable=side, canary=side), Policy())
    for item, kind in ((side, Side), (empty, Side), (evidence, Evidence), (Evidence(), Evidence)):
        document = json.loads(json.dumps(item.to_dict()))
        assert kind.from_dict(document).to_dict() == item.to_dict()
