"""A report on a window: its files, its words, its verdict, and what earlier ones said."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from bundles import tiny_bundle

from benchmarks.simulated_drift import GENRES, SCENARIOS, World
from marquee import storage
from marquee.errors import UsageError
from marquee.verdict import Outcome, Verdict
from monitoring.archive import folder_of
from monitoring.collect import Window
from monitoring.drift import Order, drift

START = datetime(2026, 11, 1, tzinfo=UTC)
HORROR = SCENARIOS[1]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    profile = World().draw(5000, np.random.default_rng(1)).profile()
    folder = tmp_path_factory.mktemp("drift") / "bundle"
    return tiny_bundle(
        folder, genres=GENRES, label_set="all18", reference_profile=profile.to_document()
    )


def window(day):
    return Window(since=START + timedelta(days=day), until=START + timedelta(days=day + 1))


@pytest.fixture
def report(bundle, tmp_path):
    """Report on a day on which something happened, or nothing."""

    def make(day=0, plant=None, count=2000, truth=False, **order):
        random = np.random.default_rng(day + 10)
        drawn = World().draw(count, random)
        if plant:
            plant(drawn, random)
        here = window(day)
        drawn.write(str(tmp_path / "records"), bundle.version, here.since, here.until)
        if truth:
            (tmp_path / "truth.csv").write_text(drawn.truth())
            order["truth"] = str(tmp_path / "truth.csv")
        return drift(
            Order(
                records=str(tmp_path / "records"),
                bundle=str(bundle.folder),
                window=here,
                **{"evidently": False, "out": str(tmp_path / "out")} | order,
            )
        )

    return make


def files_of(report, tmp_path):
    return tmp_path / "out" / folder_of("", report.window).strip("/")


def test_a_day_like_the_reference_passes(report, tmp_path):
    found = report(truth=True)
    assert found.verdict.outcome is Outcome.PASSED
    assert found.sentence() == "No drift in 2,000 predictions."
    folder = files_of(found, tmp_path)
    assert {item.name for item in folder.iterdir()} == {
        "drift.html", "drift.json", "drift.md", "profile.json", "verdict.json",
    }  # fmt: skip
    assert (
        Verdict.from_json((folder / "verdict.json").read_text(), "here").outcome is Outcome.PASSED
    )


def test_drift_is_said_in_words_and_in_json(report, tmp_path):
    found = report(plant=HORROR.plant)
    assert found.verdict.outcome is Outcome.FAILED
    assert found.sentence().startswith("Drift: probabilities of Horror rose (mean 0.")
    folder = files_of(found, tmp_path)
    document = json.loads((folder / "drift.json").read_text())
    assert [cause["name"] for cause in document["causes"]] == ["probability: Horror"]
    cell = next(
        f
        for f in document["findings"]
        if f["what"] == "probability" and f["genre"] == "Horror" and not f["era"]
    )
    assert cell["state"] == "drift"
    assert cell["low"] < 0.1 < cell["high"] + 0.01
    page = (folder / "drift.html").read_text()
    assert "probabilities of Horror rose" in page
    assert found.examples[0].prediction_id in page
    assert "Horror" in (folder / "drift.md").read_text()


def test_too_few_predictions_are_inconclusive(report):
    found = report(count=20)
    assert found.verdict.outcome is Outcome.INCONCLUSIVE
    assert found.sentence() == "Nobody can tell: 20 predictions are too few."


def test_a_damaged_file_is_named_and_the_rest_is_counted(report, bundle, tmp_path):
    report(0)
    file = sorted((tmp_path / "records").rglob("*.parquet"))[3]
    file.write_bytes(file.read_bytes()[:-9])  # half-written
    order = Order(
        records=str(tmp_path / "records"), bundle=str(bundle.folder), out=str(tmp_path / "again"),
        window=window(0), evidently=False,
    )  # fmt: skip
    found = drift(order)
    assert found.sentence() == "Nobody can tell: 1 of 24 files of records are damaged."
    assert found.verdict.outcome is Outcome.INCONCLUSIVE
    assert 1900 < found.counted.records < 2000
    assert file.name in found.verdict.to_json()


def test_records_of_other_models_only_are_inconclusive(report, tmp_path, bundle):
    report(0)
    other = tiny_bundle(
        tmp_path / "other", genres=GENRES, label_set="all18", thresholds=(0.3,) * len(GENRES),
        reference_profile=bundle.info.reference_profile,
    )  # fmt: skip
    order = Order(
        records=str(tmp_path / "records"), bundle=str(other.folder), out=str(tmp_path / "again"),
        window=window(0),
    )  # fmt: skip
    found = drift(order)
    assert found.sentence() == (
        "Nobody can tell: 2,000 predictions are of other models, none is of this one."
    )
    assert bundle.version in found.verdict.to_json()


def test_it_tells_how_right_the_model_was(report, tmp_path):
    report(0, truth=True)
    found = report(1, truth=True)
    assert len(found.performance) == len(GENRES)
    (past,) = found.past
    assert 0.4 < past.scores["macro_map"] < 0.7
    assert past.scores["calibration_error"] < 0.05
    document = json.loads((files_of(found, tmp_path) / "drift.json").read_text())
    assert document["scores"].keys() == past.scores.keys()


def test_it_says_since_when(report):
    report(0)
    report(1, plant=HORROR.plant)
    found = report(2, plant=HORROR.plant)
    assert [past.window for past in found.past] == [window(0), window(1)]
    assert found.since(found.causes[0]) == window(1).since


def test_a_window_that_is_reported_on_again_is_replaced(report, tmp_path):
    first = report(0)
    assert report(0).counted.duplicates == 0
    assert len(list((tmp_path / "out").iterdir())) == 1
    assert first.past == ()


def test_an_empty_window_is_refused(report, bundle):
    order = Order(
        records="r", bundle=str(bundle.folder), out="o", window=Window(since=START, until=START)
    )
    with pytest.raises(UsageError, match="is empty"):
        drift(order)


@pytest.mark.parametrize("scenario", SCENARIOS[1:], ids=lambda scenario: scenario.name)
def test_each_kind_of_drift_has_words(report, scenario):
    random = np.random.default_rng(5)
    drawn = scenario.world.draw(2000, random)

    def become(window, _):
        scenario.plant(drawn, random)
        vars(window).update(vars(drawn))

    found = report(plant=become, truth=True)
    words = {
        "probability": "probabilities of Horror",
        "disappeared": "posters of digital have disappeared",
        "brightness": "posters are brighter by 0.",
        "calibration": "probabilities are too cautious",
        "frequency": "genres are more or less frequent than they were",
    }
    assert words[scenario.cause.partition(":")[0]] in found.sentence()


@pytest.mark.slow
@pytest.mark.parametrize("place", ["disk", "bucket"])
def test_evidentlys_page_and_workspace_are_made(report, tmp_path, request, place):
    from evidently.ui.workspace import Workspace

    out = str(tmp_path / "out")
    if place == "bucket":
        out = request.getfixturevalue("bucket") + "/out"
    for _ in range(2):  # the second time it replaces the first
        found = report(plant=HORROR.plant, truth=True, evidently=True, out=out)
    page = storage.read_bytes(f"{folder_of(out, found.window)}/evidently.html")
    assert len(page) > 1_000_000
    workspace = Workspace(f"{out}/workspace")
    (project,) = workspace.list_projects()
    (run,) = workspace.list_runs(project.id)
    results = workspace.get_run(project.id, run).metric_results.values()
    failed = [t.name for result in results for t in result.tests or () if t.status == "FAIL"]
    assert any("Horror" in name for name in failed)
