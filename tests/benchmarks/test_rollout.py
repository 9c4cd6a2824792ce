"""The benchmark of the judge tells good from bad, and its claims can fail."""

import numpy as np
import pytest

from benchmarks.rollout import DEFECTS, Ended, claims, roll_out
from benchmarks.simulated_rollout import Defect, Recording
from components.rollout.state import Model

GENRES = ("Comedy", "Drama", "Horror")


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    draw = np.random.default_rng(3)
    shares = draw.dirichlet([6.0, 2.0, 0.5], 100)
    return Recording(
        stretches=[draw.lognormal(np.log(20 + 5 * np.sin(n)), 0.3, 400) for n in range(20)],
        probabilities=[dict(zip(GENRES, map(float, row), strict=True)) for row in shares],
        thresholds=dict.fromkeys(GENRES, 0.5),
        labels=[frozenset({GENRES[int(row.argmax())]}) for row in shares],
        corrupt=Model(version="c" * 64, uri=str(tmp_path_factory.mktemp("none") / "corrupt")),
    )


def test_a_good_model_is_promoted(recording):
    ended = roll_out(recording, Defect(), True, 1)
    assert ended.promoted
    assert ended.exposed < ended.requests


BLAMED = {
    "20% errors": "errors",
    "3x latency": "latency p50",
    "always Drama": "probabilities",
    "shuffled labels": "probabilities",
}


@pytest.mark.parametrize("defect", DEFECTS[:-1], ids=lambda defect: defect.name)
def test_a_bad_one_is_not(recording, defect):
    ended = roll_out(recording, defect, False, 1)
    assert (ended.promoted, ended.blamed) == (False, BLAMED[defect.name])
    assert 0 < ended.exposed < 0.1 * ended.requests


def test_claims_can_fail():
    met = Ended(promoted=True, blamed="", hours=1.0, requests=100, exposed=50)
    spared = Ended(promoted=False, blamed="errors", hours=1.0, requests=100, exposed=5)
    assert all(claim.holds for claim in claims([(Defect(), met)], [(Defect(), spared)]))
    assert not any(claim.holds for claim in claims([(Defect(), spared)], [(Defect(), met)]))
