"""Rare genres, disputed labels, and what each strategy gives: small cases worked out by hand."""

import numpy as np
import pandas as pd
import pytest

from components.balance.balance import make_plan
from components.balance.posters import STATUSES, Posters
from components.balance.strategies import effects, emphases, label_weights
from marquee.genres import label_set
from marquee.settings import BalanceSettings
from marquee.split import SPLITS


def world(counts, also=()):
    """Posters of one genre each, so many of each genre; `also` adds a genre to posters."""
    genre = np.repeat(np.arange(4), counts)
    labels = np.eye(4, dtype=np.int8)[genre]
    for row, other in also:
        labels[row, other] = 1
    n = len(genre)
    frame = pd.DataFrame(
        {
            "poster_id": [f"p{row:04d}" for row in range(n)],
            "film_id": [f"f{row}" for row in range(n)],
            "imdb_id": None,
            "tmdb_id": None,
            "collection_id": None,
            "perceptual_hash": [f"{row * 0x9E3779B97F4A7C15 % 2**64:016x}" for row in range(n)],
            "year": 2000,
            "era": "digital",
        }
    )
    return Posters(frame, labels, np.zeros((n, 4), np.int8), label_set("study4"))


def counts_of(plan, posters):
    rows = plan.frame.merge(posters.frame.assign(labels=list(posters.labels)), on="poster_id")
    return {
        split: np.stack(rows.loc[rows["split"] == split, "labels"]).sum(axis=0).tolist()
        for split in SPLITS
    }


@pytest.mark.parametrize(
    ("films", "expected"),
    [
        (0, (0, 0, 0)),
        (1, (1, 0, 0)),  # what does not train cannot be learnt
        (2, (1, 0, 1)),  # what does not test cannot be measured
        (3, (1, 1, 1)),
        (4, (2, 1, 1)),
    ],
)
@pytest.mark.parametrize("seed", range(5))
def test_a_rare_genre_is_in_every_split_where_it_can_be(films, expected, seed):
    posters = world((100, 60, 40, films))
    plan = make_plan(posters, "study4", BalanceSettings(seed=seed))
    found = counts_of(plan, posters)
    assert tuple(found[split][3] for split in SPLITS) == expected


def test_a_genre_that_only_ever_comes_with_a_rarer_one_is_not_emptied():
    """Both Romances are also the only Actions: taking one for the test leaves one of each."""
    posters = world((100, 60, 0, 2), also=[(160, 2), (161, 2)])
    found = counts_of(make_plan(posters, "study4", BalanceSettings()), posters)
    assert found["train"][2:] == found["test"][2:] == [1, 1]


def test_too_rare_genres_are_reported():
    posters = world((100, 60, 40, 9))
    plan = make_plan(posters, "study4", BalanceSettings(rare_below=20))
    assert set(plan.balance["rare"]) == {"Romance"}
    assert sum(plan.balance["rare"]["Romance"].values()) == 9
    assert make_plan(posters, "study4", BalanceSettings(rare_below=0)).balance["rare"] == {}


def test_a_rare_genre_weighs_no_more_than_one_at_the_bound():
    labels = np.eye(4, dtype=np.int8)[np.repeat(np.arange(4), (400, 300, 20, 1))]
    counted = np.ones(labels.shape, np.float32)
    bounded = emphases(labels, counted, BalanceSettings(rare_below=20))["class_weights"]
    free = emphases(labels, counted, BalanceSettings(rare_below=0))["class_weights"]
    assert bounded.weights[-1] == pytest.approx(bounded.weights[-2])
    assert bounded.class_weights[3] == pytest.approx(np.sqrt(720 / 20))
    assert free.weights[-1] == pytest.approx(np.sqrt(20) * free.weights[-2])
    assert free.class_weights[3] == pytest.approx(np.sqrt(720))


def test_each_strategy_on_posters_worked_out_by_hand():
    """Of 12 posters 9 are comedies and 4 horror, one being both: frequencies 3/4 and 1/3."""
    labels = np.zeros((12, 4), np.int8)
    labels[:9, 0] = 1
    labels[8:, 1] = 1
    chosen = BalanceSettings(rare_below=0, oversample_cap=2)
    found = emphases(labels, np.ones((12, 4), np.float32), chosen)
    comedy, horror = np.sqrt(4 / 3), np.sqrt(3)
    raw = np.array([comedy] * 8 + [(comedy + horror) / 2] + [horror] * 3)
    for name in ("class_weights", "sampler"):
        assert found[name].weights == pytest.approx(raw / raw.mean(), rel=1e-6)
        assert set(found[name].repeats) == {1}
    assert found["class_weights"].class_weights[:2] == pytest.approx([np.sqrt(3 / 9), np.sqrt(2)])
    for name in ("none", "sampler", "oversample"):
        assert found[name].class_weights.tolist() == [1, 1, 1, 1]
    # 1.5 repeats for horror, 1.25 for both: one or two, by chance.
    repeats = found["oversample"].repeats
    assert set(repeats[:8]) == {1}
    assert set(repeats[8:]) <= {1, 2}
    assert set(found["oversample"].weights) == {1}


def test_fractions_of_a_repeat_are_given_as_often_as_they_say():
    labels = np.eye(4, dtype=np.int8)[np.repeat(np.arange(4), (9000, 4000, 1000, 90))]
    counted = np.ones(labels.shape, np.float32)
    repeats = emphases(labels, counted, BalanceSettings(oversample_cap=4))["oversample"].repeats
    genre = labels.argmax(axis=1)
    assert repeats[genre == 1].mean() == pytest.approx(1.5, abs=0.03)
    assert set(repeats[genre == 2]) == {3}
    assert set(repeats[genre == 3]) == {4}  # ten, were it not for the cap


def test_effects_are_those_of_the_loss():
    labels = np.array([[1, 0], [1, 0], [1, 1], [0, 1]], np.int8)
    counted = np.ones((4, 2), np.float32)
    counted[3, 1] = 0  # a disputed label that is masked
    emphasis = emphases(labels, counted, BalanceSettings(rare_below=0))["none"]
    emphasis.weights[:] = (1, 1, 2, 4)
    emphasis.class_weights[:] = (1, 3)
    found = effects(labels, counted, emphasis, ("Comedy", "Horror"))
    assert found["effective"] == pytest.approx(64 / 22, abs=0.06)
    assert found["genres"]["Comedy"] == {"share": 0.5, "positives": 4.0, "effective": 2.7}
    assert found["genres"]["Horror"] == {"share": 0.75, "positives": 6.0, "effective": 1.0}


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({}, [1, 1, 1, 1, 1]),
        ({"disagreement": "mask"}, [1, 1, 0, 0, 1]),
        ({"disagreement": "weigh"}, [1, 1, 0.5, 0.5, 1]),
        ({"disagreement": "weigh", "disagreement_weight": 0.2}, [1, 1, 0.2, 0.2, 1]),
        ({"disagreement": "mask", "disagreement_weight": 0.2}, [1, 1, 0, 0, 1]),
    ],
    ids=["keep", "mask", "weigh", "weigh less", "mask takes no weight"],
)
def test_what_becomes_of_disputed_labels(chosen, expected):
    assert STATUSES == ("", "agree", "tmdb_only", "imdb_only", "unknown")
    found = label_weights(np.arange(5, dtype=np.int8)[None], BalanceSettings(**chosen))
    assert found.tolist() == [pytest.approx(expected)]


def test_a_masked_rare_genre_lifts_no_poster():
    """Poster 0 is horror only by a label that is masked: it weighs as the comedy that it is."""
    labels = np.zeros((40, 4), np.int8)
    labels[:, 0] = 1
    labels[:5, 1] = 1
    statuses = np.zeros((40, 4), np.int8)
    statuses[0, 1] = STATUSES.index("tmdb_only")
    mask = BalanceSettings(disagreement="mask", rare_below=0)
    weights = emphases(labels, label_weights(statuses, mask), mask)["sampler"].weights
    assert weights[0] == weights[10] < weights[1]


def test_a_poster_all_of_whose_genres_are_masked_still_counts():
    labels = np.ones((10, 4), np.int8)
    statuses = np.zeros((10, 4), np.int8)
    statuses[0] = STATUSES.index("imdb_only")
    mask = BalanceSettings(disagreement="mask", rare_below=0)
    for emphasis in emphases(labels, label_weights(statuses, mask), mask).values():
        assert np.isfinite(emphasis.weights).all()
        assert (emphasis.weights > 0).all()
