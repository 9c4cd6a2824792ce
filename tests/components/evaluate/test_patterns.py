"""Visual patterns, on posters of which one knows what they look like."""

import numpy as np
import pandas as pd
import pytest

from components.evaluate.patterns import PatternWatch, attribute_effects, cohens_d, oklab
from components.evaluate.predict import Seen

RED, BLUE, WHITE = (200, 20, 20), (20, 20, 200), (250, 250, 250)


def flat(colour, count):
    return np.full((count, 48, 32, 3), colour, dtype=np.uint8)


def watch(labels, images, maps=None):
    """Let posters pass by, three at a time."""
    watch = PatternWatch(labels)
    for start in range(0, len(images), 3):
        rows = list(range(start, min(start + 3, len(images))))
        watch.see(Seen(rows, [b""] * len(rows), images[rows], None if maps is None else maps[rows]))
    return watch


def test_a_genre_has_the_colours_of_its_posters():
    labels = np.array([[1, 0]] * 10 + [[1, 1]] * 10 + [[0, 0]] * 20, dtype=np.int8)
    images = np.concatenate([flat(RED, 10), flat(BLUE, 10), flat(WHITE, 20)])
    palette = watch(labels, images).palette(("Comedy", "Horror"))
    colours = [tuple(int(text[n : n + 2], 16) for n in (1, 3, 5)) for text in palette["colours"]]
    # From dark to light, each within a level of the true one.
    for found, expected in zip(colours, (BLUE, RED, WHITE), strict=True):
        assert np.abs(np.subtract(found, expected)).max() <= 16
    assert palette["all"] == pytest.approx([0.25, 0.25, 0.5])
    assert palette["genres"]["Comedy"] == pytest.approx([0.5, 0.5, 0])
    assert palette["genres"]["Horror"] == pytest.approx([1, 0, 0])


def test_a_genre_of_few_posters_has_no_palette():
    labels = np.array([[1, 1]] * 9 + [[1, 0]] * 9, dtype=np.int8)
    palette = watch(labels, flat(RED, 18)).palette(("Comedy", "Western"))
    assert palette["genres"]["Western"] is None
    assert sum(palette["genres"]["Comedy"]) == pytest.approx(1)


def test_many_colours_become_twelve_from_dark_to_light():
    images = np.random.default_rng(0).integers(0, 256, (30, 48, 32, 3), dtype=np.uint8)
    labels = np.ones((30, 1), dtype=np.int8)
    palette = watch(labels, images).palette(("Comedy",))
    assert len(set(palette["colours"])) == 12
    assert palette["genres"]["Comedy"] == palette["all"]
    assert sum(palette["all"]) == pytest.approx(1, abs=1e-3)
    rgb = [[int(text[n : n + 2], 16) / 255 for n in (1, 3, 5)] for text in palette["colours"]]
    lightness = oklab(np.array(rgb))[:, 0]
    assert (np.diff(lightness) > -0.02).all()
    # Noise is everywhere in the cube of colours: no group is a lonely corner.
    assert min(palette["all"]) > 0.02


def test_evidence_is_averaged_over_the_posters_of_the_genre():
    labels = np.array([[1, 0], [1, 0], [0, 0], [1, 0]], dtype=np.int8)
    maps = np.zeros((4, 2, 3, 2), dtype=np.float32)
    maps[:, 0, 1, 1] = (1, 2, 100, 6)
    maps[:, 1] = 7
    genres = ("Comedy", "Horror")
    found = watch(labels, flat(RED, 4), maps).evidence(genres)
    # No poster has Horror.
    assert list(found) == ["Comedy"]
    assert found["Comedy"]["with"] == [[0, 0], [0, 3], [0, 0]]
    assert found["Comedy"]["all"] == [[0, 0], [0, 27.25], [0, 0]]
    assert watch(labels, flat(RED, 4)).evidence(genres) is None


def test_what_is_kept_does_not_grow_with_the_posters():
    def size(count):
        labels = np.zeros((count, 2), dtype=np.int8)
        maps = np.ones((count, 2, 3, 2), dtype=np.float32)
        kept = vars(watch(labels, flat(RED, count), maps))
        return sum(value.nbytes for name, value in kept.items() if name != "_labels")

    assert size(60) == size(6)


def test_effect_size_by_hand():
    first, second = np.array([3.0, 5.0] * 10), np.array([1.0, 3.0] * 15)
    # Variances of 1 about the means 4 and 2: pooled (20 + 30) / 48.
    d, low, high = cohens_d(first, second)
    assert d == pytest.approx(2 / np.sqrt(50 / 48), abs=1e-4)
    half = 1.96 * np.sqrt(50 / 600 + d**2 / 100)
    assert (low, high) == pytest.approx((d - half, d + half), abs=2e-4)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param([1.0] * 9, [2.0] * 50, id="few posters"),
        pytest.param([1.0] * 50, [2.0] * 9, id="few others"),
        pytest.param([1.0] * 50, [1.0] * 50, id="nothing varies"),
    ],
)
def test_no_effect_size_from_nothing(first, second):
    assert cohens_d(np.array(first), np.array(second)) is None


def test_interval_of_an_effect_size_holds_the_truth_nineteen_times_of_twenty():
    random = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        _, low, high = cohens_d(random.normal(0.5, 1, 60), random.normal(0, 1, 300))
        held += low <= 0.5 <= high
    assert 0.92 <= held / 400 <= 0.98


def test_warmth_is_how_near_a_hue_is_to_orange():
    hues = np.array([20, 30, 40, 350] * 5 + [200, 210, 220, 170] * 5) / 360
    frame = pd.DataFrame(dict.fromkeys(("brightness", "contrast", "saturation"), 0.5), range(40))
    labels = np.array([[1]] * 20 + [[0]] * 20, dtype=np.int8)
    effects = attribute_effects(frame.assign(hue=hues), labels, ("Western",))["Western"]
    assert effects["brightness"] is None
    assert effects["warmth"][1] > 2


def test_oklab_of_known_colours():
    # White, black, and the blue and red that Ottosson's page gives.
    colours = np.array([[1, 1, 1], [0, 0, 0], [0, 0, 1], [1, 0, 0]], dtype=float)
    expected = [
        [1, 0, 0],
        [0, 0, 0],
        [0.452, -0.0325, -0.3115],
        [0.628, 0.2249, 0.1258],
    ]
    assert oklab(colours) == pytest.approx(np.array(expected), abs=1e-3)
