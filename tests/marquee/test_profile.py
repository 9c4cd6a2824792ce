"""A profile counts each poster where it belongs, and survives being written down."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from marquee.errors import DataError
from marquee.profile import (
    BINS,
    GIVEN,
    MEASURES,
    NO,
    SLICES,
    UNLABELLED,
    YES,
    Profile,
    profile_of,
)

GENRES = ("Comedy", "Horror")
FRAME = pd.DataFrame(
    {
        "era": ["silent", "digital", "unknown", "digital"],
        "brightness": [0.1, 0.2, 0.3, 1.0],
        "contrast": 0.5,
        "saturation": 0.5,
        "hue": 0.5,
        "width": [100, 200, 300, 400],
        "height": [150, 300, 450, 600],
    }
)
PROBABILITIES = np.array([[0.9, 0.0], [0.2, 1.0], [0.5, 0.5], [0.31, 0.69]])
LABELS = np.array([[1, 0], [0, 1], [1, 1], [0, 0]])
OLD = Path(__file__).parents[1] / "support/old/profile-v1.json"


def profile(**more):
    chosen = PROBABILITIES >= 0.5
    return profile_of(
        GENRES,
        FRAME,
        PROBABILITIES,
        chosen,
        unsure=~chosen.any(axis=1),
        **{"labels": LABELS} | more,
    )


def test_each_poster_is_counted_in_its_era():
    found = profile()
    assert found.total == 4
    assert found.posters[
        [SLICES.index(era) for era in ("silent", "digital", "unknown")]
    ].tolist() == [1, 2, 1]
    digital = found.scores[1, SLICES.index("digital")]
    assert digital[YES].nonzero()[0].tolist() == [BINS - 1]
    assert digital[NO].nonzero()[0].tolist() == [69 * BINS // 100]
    assert found.scores[:, :, UNLABELLED].sum() == 0
    assert found.chosen.sum() == (PROBABILITIES >= 0.5).sum()
    brightness = found.measures[list(MEASURES).index("brightness"), SLICES.index("digital")]
    assert brightness.nonzero()[0].tolist() == [20 * BINS // 100, BINS - 1]


def test_without_labels_nobody_knows():
    found = profile(labels=None)
    assert found.scores[:, :, UNLABELLED].sum() == found.scores.sum() == 8


def test_guessed_eras_are_counted_beside_given_ones():
    found = profile(guessed=["silent", "silent", "digital", "current"])
    assert found.total == 4
    assert found.posters[GIVEN:].sum() == 4
    assert found.posters[SLICES.index("predicted silent")] == 2


def test_some_embeddings_are_kept():
    found = profile(embeddings=np.arange(4 * 64).reshape(4, 64))
    assert found.embeddings.shape == (4, 64)


def test_it_survives_being_written_down():
    found = profile(embeddings=np.arange(4 * 64).reshape(4, 64) / 7)
    again = Profile.from_document(json.loads(json.dumps(found.to_document())), "here")
    assert (again.genres, again.is_reference) == (GENRES, True)
    for name in ("posters", "unsure", "chosen", "scores", "measures", "embeddings"):
        assert np.array_equal(getattr(found, name), getattr(again, name)), name


def test_a_profile_of_an_older_bundle_is_read():
    found = Profile.from_document(json.loads(OLD.read_text()), "old")
    assert found.genres == ("Comedy", "Horror")
    assert found.total == 5
    assert found.bins == 20
    assert found.scores[0, SLICES.index("digital"), UNLABELLED].sum() == 3
    assert found.chosen[1, SLICES.index("silent")] == 1
    assert found.with_bins(10).scores.sum() == found.scores.sum() == 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 99}, "schema_version 99"),
        ({"packed": {}}, "is damaged"),
        ({"slices": ["then", "now"]}, "has other slices"),
    ],
)
def test_what_cannot_be_read_is_refused(change, message):
    with pytest.raises(DataError, match=message):
        Profile.from_document(profile().to_document() | change, "here")


def test_a_bundle_without_a_profile_is_named():
    with pytest.raises(DataError, match="here has no reference profile"):
        Profile.from_document({}, "here")
