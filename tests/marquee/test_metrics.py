"""The metrics against values worked out by hand."""

import numpy as np
import pytest

from marquee.decision import Calibration, decide
from marquee.metrics import (
    BINS,
    baselines,
    calibration_errors,
    confusion_per_genre,
    coverage,
    precision_by_coverage,
    primary_confusion,
    score,
    top_hits,
)

GENRES = ("Comedy", "Horror", "Western")
LABELS = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0]])
SCORES = np.array([[0.9, 0.1, 0.2], [0.4, 0.8, 0.1], [0.6, 0.3, 0.1], [0.2, 0.5, 0.3]])
CHOSEN = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 1, 0]])


def test_scores_by_hand():
    found = score(LABELS, SCORES, CHOSEN, GENRES)
    # Comedy ranks 1, 0, 1, 0 -> (1 + 2/3) / 2; Horror ranks 1, 0, 1, 0 as well; no Western.
    assert found["ap/Comedy"] == pytest.approx(5 / 6)
    assert found["ap/Horror"] == pytest.approx(5 / 6)
    assert "ap/Western" not in found
    assert found["macro_map"] == pytest.approx(5 / 6)
    # Both genres: 1 right, 1 wrong, 1 missed.
    assert found["macro_f1"] == pytest.approx(0.5)
    assert found["micro_f1"] == pytest.approx(0.5)
    assert found["top1"] == pytest.approx(2 / 4)
    # The third film is Horror, which comes second; the fourth has no genre at all.
    assert found["top3"] == pytest.approx(3 / 4)
    assert found["exact_match"] == pytest.approx(1 / 4)
    assert found["per_label_accuracy"] == pytest.approx(8 / 12)
    # The surest poster is right, the second too, the third and the fourth are not.
    assert found["coverage_at_85"] == pytest.approx(2 / 4)


def test_per_label_accuracy_asks_the_probability_and_not_what_was_chosen():
    found = score(LABELS, np.full((4, 3), 0.49), CHOSEN, GENRES)
    assert found["per_label_accuracy"] == pytest.approx(8 / 12)
    found = score(LABELS, np.full((4, 3), 0.5), CHOSEN, GENRES)
    assert found["per_label_accuracy"] == pytest.approx(4 / 12)


@pytest.mark.parametrize(
    ("labels", "probabilities", "expected"),
    [
        pytest.param([1, 0], [1.0, 0.0], 0.0, id="always right"),
        pytest.param([0, 1], [1.0, 0.0], 1.0, id="always wrong"),
        pytest.param([1, 0, 0, 0], [0.25] * 4, 0.0, id="one in four, and says so"),
        pytest.param([1, 1, 0, 0], [0.25] * 4, 0.25, id="half of them, says one in four"),
        # One bin is off by .1 in one way, another by .3 in the other way: they do not cancel out.
        pytest.param([1, 1, 0, 1], [0.9, 0.9, 0.2, 0.2], (0.1 + 0.3) / 2, id="two bins"),
    ],
)
def test_calibration_error_by_hand(labels, probabilities, expected):
    found = calibration_errors(np.array(labels)[:, None], np.array(probabilities)[:, None])
    assert found == pytest.approx([expected])


def test_a_bin_is_one_fifteenth_wide():
    assert BINS == 15
    labels, edge = np.array([[1], [0]]), 1 / 15
    together = calibration_errors(labels, np.array([[edge + 0.01], [edge + 0.05]]))
    apart = calibration_errors(labels, np.array([[edge - 0.01], [edge + 0.01]]))
    assert together[0] == pytest.approx(abs(1 - 2 * edge - 0.06) / 2)
    assert apart[0] == pytest.approx((1 - edge + 0.01 + edge + 0.01) / 2)


HITS = {
    # Whether the surest, second surest, ... poster is right -> how many can be labelled.
    "all right": ("1111", 1.0),
    "none right": ("0000", 0.0),
    "seven others make up for the surest": ("01111111", 1.0),
    "six others make up for the last": ("1111110", 1.0),
    "the last two are too many": ("11111100", 7 / 8),
    "it may fall below and rise again": ("1011111111", 1.0),
}


@pytest.mark.parametrize(("hits", "expected"), HITS.values(), ids=HITS)
def test_coverage_by_hand(hits, expected):
    right = np.array([int(hit) for hit in hits])
    labels = np.stack([right, 1 - right], axis=1)
    top = np.linspace(0.9, 0.6, len(hits))
    assert coverage(labels, np.stack([top, 1 - top], axis=1)) == pytest.approx(expected)


def test_posters_of_the_same_probability_are_taken_together():
    labels = np.array([[1, 0], [1, 0], [0, 1], [0, 1]])
    scores = np.array([[0.9, 0.1], [0.7, 0.3], [0.7, 0.3], [0.6, 0.4]])
    shares, precisions = precision_by_coverage(labels, scores)
    assert shares.tolist() == [0.25, 0.75, 1.0]
    assert precisions == pytest.approx([1, 2 / 3, 1 / 2])
    assert coverage(labels, scores) == 0.25


def test_top_hits_names_no_more_genres_than_there_are():
    assert top_hits(LABELS, SCORES, 2).tolist() == [True, True, True, False]
    assert top_hits(LABELS, SCORES, 9).tolist() == [True, True, True, False]


def test_baselines_by_hand():
    train = np.array([[1, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 1]])
    found = baselines(train, LABELS, GENRES)
    assert set(found) == {"predict_all", "predict_none", "most_frequent", "prior"}
    assert found["predict_all"]["micro_f1"] == pytest.approx(2 * 4 / (12 + 4))
    assert found["predict_none"]["macro_f1"] == 0
    assert found["most_frequent"]["top1"] == pytest.approx(2 / 4)
    assert found["prior"]["ap/Horror"] == pytest.approx(2 / 4)
    # Of probabilities 1 and 0, those are right that the labels bear out.
    accuracies = {name: values["per_label_accuracy"] for name, values in found.items()}
    assert accuracies == pytest.approx(
        # Horror is in half of the training posters: its prior is .5, so the prior names it too.
        {"predict_all": 4 / 12, "predict_none": 8 / 12, "most_frequent": 8 / 12, "prior": 8 / 12}
    )
    assert found["predict_none"]["ece"] == pytest.approx(0.5, abs=1e-5)
    assert found["prior"]["ece"] == pytest.approx((0.25 + 0) / 2)
    # Where all are equally likely, they name the most frequent genres first.
    assert {values["top1"] for values in found.values()} == {2 / 4}
    assert {values["top3"] for values in found.values()} == {3 / 4}
    assert {values["coverage_at_85"] for values in found.values()} == {0}


def test_what_never_looks_at_a_poster_has_all_metrics():
    expected = set(score(LABELS, SCORES, CHOSEN, GENRES))
    for values in baselines(LABELS, LABELS, GENRES).values():
        assert set(values) == expected


def test_primary_genres_by_hand():
    frequency = np.array([0.6, 0.3, 0.1])
    labels = np.array([[1, 0, 0], [1, 1, 0], [1, 1, 0], [1, 0, 1], [0, 0, 0]])
    scores = np.array(
        [
            [0.9, 0.1, 0.1],  # right
            [0.8, 0.7, 0.1],  # right: Comedy is one of its genres
            [0.1, 0.2, 0.3],  # wrong: of Comedy and Horror, Horror is the rarer
            [0.1, 0.6, 0.2],  # wrong: of Comedy and Western, Western is the rarer
            [0.9, 0.1, 0.1],  # has no genre
        ]
    )
    found = primary_confusion(labels, scores, frequency)
    assert found == [[2, 0, 0], [0, 0, 1], [0, 1, 0]]
    assert sum(found[g][g] for g in range(3)) == top_hits(labels, scores, 1).sum()


def test_confusion_of_each_genre():
    assert confusion_per_genre(LABELS, CHOSEN, GENRES)["Comedy"] == {
        "true_positive": 1,
        "false_positive": 1,
        "false_negative": 1,
        "true_negative": 1,
    }


def test_every_poster_gets_a_genre_and_unsure_says_when_it_stands_in():
    chosen, unsure = decide(np.array([[0.6, 0.7], [0.2, 0.3], [0.5, 0.1]]), (0.5, 0.65))
    assert chosen.tolist() == [[True, True], [False, True], [True, False]]
    assert unsure.tolist() == [False, True, False]


def test_probabilities_of_extreme_logits_stay_finite():
    values = Calibration((1.0,), (0.0,)).probabilities(np.array([[-1e4], [0.0], [1e4]]))
    assert values[:, 0].tolist() == [0.0, 0.5, 1.0]
