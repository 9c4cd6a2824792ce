"""The champion gate: a champion that is better must win, and noise decides nothing."""

import numpy as np
import pandas as pd
import pytest
from bundles import tiny_bundle

from components.evaluate import compare
from components.evaluate.compare import Contestant, judge_contest
from marquee import bootstrap
from marquee.engine import Engine
from marquee.errors import UsageError
from marquee.settings import GateSettings
from marquee.verdict import Outcome, Verdict

POSTERS = 600


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr(bootstrap, "RESAMPLES", 200)


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return Engine(tiny_bundle(tmp_path_factory.mktemp("compare") / "bundle"))


@pytest.fixture(scope="module")
def test_set(engine):
    """Labels of posters, their facts, and what nobody knows of them."""
    random = np.random.default_rng(0)
    genres = len(engine.bundle.info.genres)
    labels = (random.random((POSTERS, genres)) < 0.3).astype(np.int8)
    labels[labels.sum(axis=1) == 0, 0] = 1
    frame = pd.DataFrame(
        {
            "film_id": [f"f{n}" for n in range(POSTERS)],
            "era": random.choice(["digital", "streaming", "current"], POSTERS),
        }
    )
    return labels, frame


def contestant(engine, labels, skill, seed):
    """A model that knows something: `skill` is how far it tells posters with a genre apart."""
    noise = np.random.default_rng(seed).normal(size=labels.shape)
    return Contestant(
        engine=engine, probabilities=1 / (1 + np.exp(-(skill * (labels - 0.3) + noise - 1)))
    )


def verdict(engine, test_set, ours, theirs, settings=None, seeds=(1, 2)):
    labels, frame = test_set
    new, old = (
        contestant(engine, labels, skill, seed)
        for skill, seed in zip((ours, theirs), seeds, strict=True)
    )
    checks, _ = judge_contest(new, old, labels, frame, settings or GateSettings())
    return Verdict(gate="quality", subject="v", checks=tuple(checks))


def outcome(found, name):
    return next(check.outcome for check in found.checks if check.name == name)


def test_a_better_challenger_passes(engine, test_set):
    settings = GateSettings(calibration_loss=1.0)  # nobody has calibrated these
    found = verdict(engine, test_set, 3.0, 1.0, settings)
    assert found.outcome is Outcome.PASSED, found.sentence()


def test_the_champion_wins_where_it_is_better(engine, test_set):
    found = verdict(engine, test_set, 1.0, 3.0)
    assert found.outcome is Outcome.FAILED
    assert outcome(found, "macro mAP") is Outcome.FAILED
    assert "keep the champion" in next(c.remedy for c in found.checks if c.name == "macro mAP")


@pytest.mark.parametrize("seed", range(3))
def test_a_difference_that_is_noise_decides_nothing(engine, test_set, seed):
    found = verdict(engine, test_set, 2.0, 2.0, seeds=(10 + seed, 20 + seed))
    assert outcome(found, "macro mAP") is Outcome.INCONCLUSIVE
    assert found.outcome is Outcome.INCONCLUSIVE


def test_a_margin_lets_an_equal_one_pass(engine, test_set):
    found = verdict(engine, test_set, 2.0, 2.0, GateSettings(margin=0.1))
    assert outcome(found, "macro mAP") is Outcome.PASSED


def spoilt(model, rows, genre):
    probabilities = model.probabilities.copy()
    probabilities[rows, genre] = np.random.default_rng(5).random(len(rows))
    return Contestant(engine=model.engine, probabilities=probabilities)


def test_a_genre_that_falls_is_named(engine, test_set):
    labels, frame = test_set
    new, old = contestant(engine, labels, 4.0, 1), contestant(engine, labels, 2.5, 2)
    new = spoilt(new, np.arange(POSTERS), 1)
    checks, gains = judge_contest(new, old, labels, frame, GateSettings())
    (floor,) = (check for check in checks if check.name == "average precision of genres")
    assert (floor.outcome, floor.blame) == (Outcome.FAILED, (engine.bundle.info.genres[1],))
    assert gains[engine.bundle.info.genres[1]].high < min(-0.1, gains["macro mAP"].low)


def test_an_era_that_falls_is_named(engine, test_set):
    labels, frame = test_set
    new, old = contestant(engine, labels, 4.0, 1), contestant(engine, labels, 2.5, 2)
    rows = np.flatnonzero(frame["era"] == "digital")
    for genre in range(labels.shape[1]):
        new = spoilt(new, rows, genre)
    checks, gains = judge_contest(new, old, labels, frame, GateSettings())
    (floor,) = (check for check in checks if check.name == "macro mAP of eras")
    assert (floor.outcome, floor.blame) == (Outcome.FAILED, ("digital",))
    assert gains["digital"].high < -0.1 < 0 < gains["current"].low


def test_a_slice_with_few_posters_is_not_judged(engine, test_set):
    found = verdict(engine, test_set, 1.0, 3.0, GateSettings(min_posters=100_000))
    for name in ("average precision of genres", "macro mAP of eras"):
        assert outcome(found, name) is Outcome.PASSED
        assert "none has enough posters" in str(found.checks)


def test_a_challenger_that_is_too_sure_of_itself_fails(engine, test_set):
    labels, frame = test_set
    old = contestant(engine, labels, 3.0, 2)
    new = Contestant(engine=engine, probabilities=old.probabilities**0.2)
    found, _ = judge_contest(new, old, labels, frame, GateSettings())
    assert next(c.outcome for c in found if c.name == "calibration") is Outcome.FAILED


def test_time_is_compared(engine, monkeypatch):
    sides = [Contestant(engine=engine, probabilities=np.zeros((1, 1)))] * 2
    for times, wanted in (((30.0, 10.0), Outcome.FAILED), ((14.0, 10.0), Outcome.PASSED)):
        monkeypatch.setattr(compare, "milliseconds", lambda _, times=times: times)
        check = compare._latency(*sides, GateSettings(latency_ms=0.0))
        assert check.outcome is wanted
    monkeypatch.setattr(compare, "milliseconds", lambda _: (30.0, 10.0))
    assert compare._latency(*sides, GateSettings(latency_ms=40.0)).outcome is Outcome.PASSED


def test_models_of_other_genres_are_not_compared(engine, tmp_path):
    other = tiny_bundle(tmp_path / "other", label_set="all18")
    with pytest.raises(UsageError, match="predicts other genres"):
        compare.compare(engine, Engine(other), None, None, GateSettings())
