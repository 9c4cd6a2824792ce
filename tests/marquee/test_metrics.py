"""The metrics against values worked out by hand."""

import numpy as np
import pytest

from marquee.decision import Calibration, decide
from marquee.metrics import baselines, confusion, confusion_per_genre, score

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
    assert found["exact_match"] == pytest.approx(1 / 4)
    assert found["per_label_accuracy"] == pytest.approx(8 / 12)


def test_baselines_by_hand():
    train = np.array([[1, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 1]])
    found = baselines(train, LABELS, GENRES)
    assert set(found) == {"predict_all", "predict_none", "most_frequent", "prior"}
    assert found["predict_all"]["micro_f1"] == pytest.approx(2 * 4 / (12 + 4))
    assert found["predict_none"]["macro_f1"] == 0
    assert found["predict_none"]["per_label_accuracy"] == pytest.approx(8 / 12)
    assert found["most_frequent"]["top1"] == pytest.approx(2 / 4)
    assert found["prior"]["ap/Horror"] == pytest.approx(2 / 4)


def test_confusion():
    assert confusion(LABELS, CHOSEN) == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]
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
