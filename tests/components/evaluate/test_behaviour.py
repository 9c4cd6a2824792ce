"""Behavioural tests, on models of which one knows how they behave."""

import numpy as np
import pytest
from bundles import tiny_bundle
from helpers import encode, noise_poster
from PIL import Image

from components.evaluate import behaviour
from components.evaluate.behaviour import CHANGES, BehaviourTest
from components.evaluate.predict import Seen
from marquee.engine import Engine
from marquee.images import decode
from marquee.verdict import Outcome


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return Engine(tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny"), threads=1)


def show(test, posters):
    """Let posters pass by, two at a time."""
    for start in range(0, len(posters), 2):
        data = posters[start : start + 2]
        rows = list(range(start, start + len(data)))
        test.see(Seen(rows, data, np.zeros((len(data), 1, 1, 3), np.uint8), None))
    return test.result()


class Mean:
    """Stands for an engine whose only genre is as probable as a poster is bright."""

    def __init__(self, bundle):
        self.bundle = bundle

    def probabilities(self, images):
        bright = images.mean(axis=(1, 2, 3)) / 255
        return np.stack([bright, 1 - bright], axis=1)


def test_a_model_of_brightness_minds_brightness_alone(engine):
    posters = [encode(noise_poster(seed)) for seed in range(6)]
    found = show(BehaviourTest(Mean(engine.bundle), 6), posters)
    moved = {row.change: row.mean_change for row in found.changes}
    bright = [np.asarray(decode(data)).mean() / 255 for data in posters]
    assert moved["horizontal_flip"] < 1e-3
    assert moved["jpeg_50"] < 0.01
    # A fifth of the brightness, and less where it is clipped at white.
    assert moved["darker"] == pytest.approx(0.2 * np.mean(bright), abs=0.01)
    assert 0.1 * np.mean(bright) < moved["brighter"] < 0.2 * np.mean(bright)
    outcomes = {check.name: check.outcome for check in found.checks()}
    assert outcomes["A poster mirrored left to right"] is Outcome.PASSED
    assert outcomes["A poster 20% darker"] is Outcome.FAILED
    expected = np.abs(np.array(bright) - np.roll(bright, 1)).mean()
    assert found.between_posters == pytest.approx(expected, abs=5e-3)


def test_a_model_of_places_minds_the_flip(engine):
    posters = [encode(noise_poster(seed)) for seed in range(8)]
    found = show(BehaviourTest(engine, 8), posters)
    flip = next(row for row in found.changes if row.change == "horizontal_flip")
    assert flip.mean_change > 0.03
    assert flip.same_top < 1
    (check,) = (check for check in found.checks() if "mirrored" in check.name)
    assert not check.holds
    assert check.remedy


def test_grey_posters_are_the_same_without_colour(engine):
    grey = [encode(noise_poster(seed).convert("L"), "PNG") for seed in range(4)]
    found = show(BehaviourTest(engine, 4), grey)
    (row,) = (row for row in found.changes if row.change == "grey")
    assert (row.mean_change, row.same_top) == (0, 1)


def test_bounds_are_those_that_were_asked_for():
    assert {change.name: change.bound for change in CHANGES} == {
        "horizontal_flip": 0.03,
        "jpeg_50": 0.03,
        "brighter": 0.06,
        "darker": 0.06,
        "blur": None,
        "grey": None,
        "crop": None,
    }


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.name)
@pytest.mark.parametrize("size", [(16, 16), (60, 90)], ids=str)
def test_a_change_gives_another_image_of_the_same_kind(change, size):
    image = noise_poster(1, *size)
    changed = change.make(image)
    assert changed.mode == "RGB"
    assert np.asarray(changed.resize(size)).tolist() != np.asarray(image).tolist()
    if change.name != "crop":
        assert changed.size == size


def test_the_flip_is_a_flip_and_the_crop_cuts_a_twentieth():
    image = noise_poster(3, 100, 200)
    by_name = {change.name: change.make for change in CHANGES}
    pixels = np.asarray(image)
    assert (np.asarray(by_name["horizontal_flip"](image)) == pixels[:, ::-1]).all()
    assert (np.asarray(by_name["crop"](image)) == pixels[10:190, 5:95]).all()
    grey = np.asarray(by_name["grey"](image))
    assert (np.ptp(grey, axis=2) == 0).all()


def test_no_more_posters_are_changed_than_asked_for(engine, monkeypatch):
    monkeypatch.setattr(behaviour, "POSTERS", 3)
    posters = [encode(Image.new("RGB", (30, 45), (10 * n, 90, 90))) for n in range(10)]
    first, second = (show(BehaviourTest(engine, 10), posters) for _ in range(2))
    assert first.posters == 3
    assert first == second
