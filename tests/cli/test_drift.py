"""`marquee drift` and its exit codes."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from bundles import tiny_bundle
from command import marquee

from benchmarks.simulated_drift import GENRES, SCENARIOS, World

START = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Records of three days: one like the reference, one that drifts, one with few predictions."""
    folder = tmp_path_factory.mktemp("drift")
    random = np.random.default_rng(0)
    profile = World().draw(5000, random).profile()
    bundle = tiny_bundle(
        folder / "bundle", genres=GENRES, label_set="all18", reference_profile=profile.to_document()
    )
    for day, (count, plant) in enumerate(
        [(2000, SCENARIOS[0].plant), (2000, SCENARIOS[1].plant), (20, SCENARIOS[0].plant)]
    ):
        window = World().draw(count, random)
        plant(window, random)
        since = START + timedelta(days=day)
        window.write(str(folder / "records"), bundle.version, since, since + timedelta(days=1))
    return folder


def drift(world, day, *more, code=0):
    return marquee(
        *("drift", "--records", world / "records", "--bundle", world / "bundle"),
        *("--out", world / "out", "--no-evidently"),
        *("--from", f"2026-11-{day:02d}", "--to", f"2026-11-{day + 1:02d}", *more),
        code=code,
    )


def test_it_says_in_a_sentence_what_moved(world):
    said = drift(world, 2)
    assert "Drift: probabilities of Horror rose" in said
    assert (world / "out/20261102T000000Z_20261103T000000Z/drift.html").exists()


def test_it_prints_one_json_object(world):
    document = json.loads(drift(world, 1, "--json"))
    assert (document["outcome"], document["counted"]["records"]) == ("passed", 2000)


@pytest.mark.parametrize(("day", "code"), [(1, 0), (2, 4), (3, 8)])
def test_it_fails_on_drift_if_told_so(world, day, code):
    drift(world, day, "--fail-on", "drift", code=code)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--from", "yesterday"), "--from is 'yesterday'"),
        (("--from", "2026-12-01"), "is empty"),
        (("--set", "drift.probability=7"), "drift.probability"),
    ],
)
def test_what_makes_no_sense_is_refused(world, more, message):
    assert message in drift(world, 1, *more, code=2)


def test_without_reports_there_is_nothing_to_serve(tmp_path):
    assert "run `marquee drift`" in marquee("reports", "serve", tmp_path, code=2)
