"""`marquee monitor` runs the monitoring pipeline; `marquee retrain` shows what it asks for."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from bundles import tiny_bundle
from command import marquee

from benchmarks.simulated_drift import GENRES, World


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A day on which the model was not right about Drama any more, and who watched it."""
    folder = tmp_path_factory.mktemp("monitor")
    random = np.random.default_rng(0)
    profile = World().draw(5000, random).profile()
    bundle = tiny_bundle(
        folder / "bundle", genres=GENRES, label_set="all18", reference_profile=profile.to_document()
    )
    window = World().draw(2000, random)
    random.shuffle(window.probabilities[:, GENRES.index("Drama")])
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    since = today - timedelta(days=3)
    window.write(str(folder / "records"), bundle.version, since, since + timedelta(days=1))
    (folder / "truth.csv").write_text(window.truth())
    (folder / "said").write_text(run(folder))
    return folder


def run(folder):
    return marquee(
        *("monitor", "--records", folder / "records", "--bundle", folder / "bundle"),
        *("--truth", folder / "truth.csv", "--out", folder / "out"),
        *("--retrain", "--training", "source=drawn", "--training", "limit=300"),
        *("--set", "monitor.evidently=false", "--set", "monitor.backfill=3"),
    )


def requests(folder):
    return json.loads(marquee("retrain", "list", folder / "out", "--json"))["requests"]


def test_the_windows_since_the_first_records_are_reported_on(world):
    reports = sorted(path.parent.name for path in (world / "out/drift").rglob("drift.html"))
    assert len(reports) == 3
    assert "0 predictions are too few" in (world / "said").read_text()  # of yesterday


def test_a_model_that_is_less_often_right_asks_for_training(world):
    (request,) = requests(world)
    assert request["causes"] == ["average precision: Drama"]
    assert request["status"] == "waiting"
    assert request["training"] == {"registry_uri": "", "source": "drawn", "limit": "300"}
    assert request["id"] in marquee("retrain", "list", world / "out")


def test_the_same_again_changes_nothing(world):
    before = requests(world)
    run(world)
    assert requests(world) == before


def test_a_person_says_no(world):
    (request,) = requests(world)
    said = marquee("retrain", "reject", world / "out", request["id"], "--reason", "labels")
    assert f"{request['id']} is rejected: labels" in said
    assert "is rejected" in marquee("retrain", "approve", world / "out", request["id"], code=2)


def test_without_a_model_nothing_is_watched(tmp_path):
    said = marquee("monitor", "--records", tmp_path, "--out", tmp_path / "out", code=2)
    assert "give --registry or --bundle" in said


def test_requests_are_those_of_a_monitoring_run(tmp_path):
    assert "give the OUT of `marquee monitor`" in marquee("retrain", "list", tmp_path, code=2)
