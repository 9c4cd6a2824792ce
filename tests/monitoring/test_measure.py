"""Planted drift is found and named rightly; what did not move is not."""

import dataclasses

import numpy as np
import pytest

from benchmarks.simulated_drift import GENRES, SCENARIOS, World
from marquee.errors import UsageError
from marquee.profile import PREDICTED, SLICES, empty_profile
from marquee.settings import DriftSettings
from monitoring.causes import causes, explain
from monitoring.findings import Kind, State
from monitoring.measure import Pair, measure

SETTINGS = DriftSettings()


def found(reference, window, settings=SETTINGS):
    findings = measure(reference, window, settings)
    return explain(findings, Pair.of(reference, window, settings))


@pytest.fixture(scope="module")
def reference():
    return World().draw(5000, np.random.default_rng(1)).profile()


def window(seed=2, count=2000, world=None, plant=None):
    random = np.random.default_rng(seed)
    drawn = (world or World()).draw(count, random)
    if plant:
        plant(drawn)
    return drawn


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_what_is_planted_is_named(reference, scenario):
    named = causes(found(reference, scenario.draw(2000, np.random.default_rng(3))))
    if scenario.cause == "frequency":
        assert [cause.what for cause in named] == ["frequency"]
        assert len(named[0].slices) > len(GENRES) / 2
    else:
        assert [cause.name for cause in named] == ([scenario.cause] if scenario.cause else [])


def test_what_happens_at_once_is_named_apart(reference):
    random = np.random.default_rng(4)
    drawn = World().draw(2000, random)
    for scenario in SCENARIOS[3:6]:
        scenario.plant(drawn, random)
    named = {cause.name for cause in causes(found(reference, drawn.profile()))}
    assert named == {scenario.cause for scenario in SCENARIOS[3:6]}


def test_a_few_posters_tell_nothing(reference):
    findings = found(reference, window(count=30).profile())
    assert {finding.state for finding in findings} == {State.INSUFFICIENT}
    assert causes(findings) == []


def test_each_slice_is_there_whether_it_can_be_judged_or_not(reference):
    findings = found(reference, window(count=200).profile())
    cells = {(f.genre, f.era): f.state for f in findings if f.what == "probability" and f.era}
    assert len(cells) == len(GENRES) * 8
    assert State.INSUFFICIENT in cells.values()


def test_without_labels_nothing_is_said_of_truth(reference):
    drawn = window()
    drawn.labelled = False
    findings = found(reference, drawn.profile())
    truth = [f for f in findings if f.kind is Kind.CONCEPT]
    assert {f.state for f in truth} == {State.INSUFFICIENT}
    assert "chosen" in {f.what for f in findings}
    assert "frequency" not in {f.what for f in findings}


def test_a_model_that_ranks_worse_is_named_by_genre(reference):
    def spoil(drawn):
        genre = GENRES.index("Drama")
        np.random.default_rng(0).shuffle(drawn.probabilities[:, genre])

    findings = found(reference, window(plant=spoil).profile())
    assert "average precision: Drama" in [cause.name for cause in causes(findings)]
    drama = next(f for f in findings if f.what == "average precision" and f.genre == "Drama")
    assert drama.high < 0
    assert drama.after < drama.before


def test_what_goes_up_is_not_named_with_what_goes_down(reference):
    def spoil(drawn):
        for genre, factor in (("Drama", 0.6), ("Horror", 1.5)):
            column = drawn.probabilities[:, GENRES.index(genre)]
            column[:] = np.minimum(column * factor, 1)

    named = [cause.name for cause in causes(found(reference, window(plant=spoil).profile()))]
    assert {"probability: Drama", "probability: Horror"} <= set(named)


def test_if_all_eras_are_others_the_mix_follows_from_them(reference):
    early = World(era_shares=np.array([1.0] * 4 + [0] * 4)).draw(5000, np.random.default_rng(1))
    late = World(era_shares=np.array([0.0] * 4 + [1] * 4)).draw(2000, np.random.default_rng(2))
    named = [cause.what for cause in causes(found(early.profile(), late.profile()))]
    assert {"disappeared", "appeared"} <= set(named)
    assert "era mix" not in named


def test_an_era_that_was_never_seen_has_appeared():
    shares = World().era_shares.copy()
    shares[SLICES.index("current")] = 0
    old = World(era_shares=shares).draw(5000, np.random.default_rng(1)).profile()
    named = causes(found(old, window().profile()))
    assert "appeared: current" in [cause.name for cause in named]


def test_another_mix_of_eras_is_one_cause(reference):
    shares = World().era_shares * np.array([0.2, 0.2, 0.2, 0.5, 1, 2, 2, 2])
    named = causes(found(reference, window(world=World(era_shares=shares)).profile()))
    assert "era mix" in [cause.name for cause in named]
    assert Kind.PREDICTION not in {cause.kind for cause in named}


def test_embeddings_that_moved_are_an_input_drift(reference):
    def move(drawn):
        drawn.embeddings += 0.3

    (cause,) = causes(found(reference, window(plant=move).profile()))
    assert (cause.kind, cause.what) == (Kind.INPUT, "embeddings")


def test_guessed_eras_are_compared_with_guessed_ones_only(reference):
    given = window().profile()
    guessed = empty_profile(GENRES, is_reference=False)
    half = len(SLICES) - 8
    for name in ("posters", "unsure"):
        getattr(guessed, name)[half:] = getattr(given, name)[:8]
    for name in ("chosen", "scores", "measures"):
        getattr(guessed, name)[:, half:] = getattr(given, name)[:, :8]
    findings = found(reference, guessed)
    eras = {f.era for f in findings if f.era}
    assert not any(era.startswith(PREDICTED) for era in eras)
    cells = [f for f in findings if f.what == "probability" and f.era]
    assert {f.state for f in cells} == {State.INSUFFICIENT}
    # All posters together are still compared.
    assert next(f for f in findings if f.what == "probability" and not f.era).state is State.STABLE


def test_profiles_of_other_genres_are_not_compared(reference):
    other = empty_profile(("Comedy",), is_reference=False)
    with pytest.raises(UsageError, match="the window's genres are Comedy"):
        measure(reference, other, SETTINGS)


def test_an_older_reference_with_coarser_bins_still_tells(reference):
    coarse = reference.with_bins(20)
    named = causes(found(coarse, SCENARIOS[1].draw(2000, np.random.default_rng(3))))
    assert [cause.name for cause in named] == ["probability: Horror"]


def test_thresholds_are_settings(reference):
    drawn = SCENARIOS[1].draw(2000, np.random.default_rng(3))
    lenient = dataclasses.replace(SETTINGS, probability=0.5, frequency=5.0, unsure=1.0)
    assert causes(found(reference, drawn, lenient)) == []
