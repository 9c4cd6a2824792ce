"""Prometheus gets the latest report of each model, with as many series as genres and eras, and what
the registry says of its champion and its latest versions."""

import json
import signal
import subprocess
import sys
import time

import pytest
import requests
from bundles import tiny_bundle
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from marquee.processes import free_port
from marquee.registry import Stage, open_registry
from monitoring import registry_exporter
from monitoring.exporter import DriftCollector, exported


def finding(kind, what, effect, genre="", era="", state="drift", **more):
    return {
        "kind": kind,
        "what": what,
        "genre": genre,
        "era": era,
        "effect": effect,
        "state": state,
        **more,
    }


FINDINGS = [
    finding("input", "brightness", 0.3),
    finding("input", "brightness", None, era="silent", state="insufficient"),
    finding("prediction", "probability", 0.1, genre="Horror"),
    finding("prediction", "probability", 0.2, genre="Horror", era="silent"),
    finding("prediction", "unsure", -0.1, era="silent", state="stable", window=60),
    finding("concept", "average precision", -0.1, genre="Horror", after=0.4),
]


def write(out, folder, version, until, **changes):
    document = {
        "schema_version": 1,
        "version": version,
        "until": until,
        "outcome": "failed",
        "drift_share": 0.25,
        "counted": {"records": 1000, "labelled": 100},
        "causes": [
            {"kind": "prediction", "worse": False},
            {"kind": "input", "worse": False},
            {"kind": "concept", "worse": True},
        ],
        "findings": FINDINGS,
    }
    (out / folder).mkdir(parents=True)
    (out / folder / "drift.json").write_text(json.dumps(document | changes))


def series(text):
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def out(tmp_path):
    write(
        tmp_path,
        "20261101T000000Z_20261102T000000Z",
        "a",
        "2026-11-02T00:00:00+00:00",
        drift_share=0.9,
    )
    write(tmp_path, "20261102T000000Z_20261103T000000Z", "a", "2026-11-03T00:00:00+00:00")
    write(
        tmp_path,
        "20261101T000000Z_20261103T000000Z",
        "b",
        "2026-11-03T00:00:00+00:00",
        outcome="passed",
    )
    return tmp_path


def collected(out, registry=""):
    return series(generate_latest(exported(str(out), str(registry))).decode())


def test_the_latest_report_of_each_model_counts(out):
    found = collected(out)
    model = ("model_version", "a")
    assert found["marquee_drift_share", model] == 0.25
    assert found["marquee_drift_share", ("model_version", "b")] == 0.25
    assert found["marquee_drift_outcome", model, ("outcome", "failed")] == 1
    assert found["marquee_drift_outcome", model, ("outcome", "passed")] == 0
    assert found["marquee_drift_causes", ("kind", "prediction"), model] == 1
    assert found["marquee_drift_causes", ("kind", "concept"), model] == 1
    assert found["marquee_drift_worse_causes", model] == 1
    assert found["marquee_drift_insufficient_slices", ("kind", "input"), model] == 1
    assert found["marquee_drift_slices", ("kind", "input"), model] == 2
    assert found["marquee_drift_genre_effect", ("genre", "Horror"), model] == 0.1
    assert found["marquee_drift_genre_average_precision", ("genre", "Horror"), model] == 0.4
    assert found["marquee_drift_effect", ("kind", "input"), model, ("what", "brightness")] == 0.3
    assert found["marquee_drift_era_predictions", ("era", "silent"), model] == 60
    assert found["marquee_drift_window_end_timestamp_seconds", model] == 1793664000


def test_it_may_begin_before_the_first_report(tmp_path):
    """The folder of monitoring runs has a folder of reports only then."""
    collector = DriftCollector(str(tmp_path))

    def models():
        return [s.labels["model_version"] for f in collector.read() for s in f.samples
                if s.name == "marquee_drift_share"]  # fmt: skip

    assert models() == []
    write(tmp_path / "drift", "20261101T000000Z_20261102T000000Z", "a", "2026-11-02T00:00:00+00:00")
    assert models() == ["a"]


def test_truth_that_comes_late_is_that_of_the_latest_window_that_has_any(out):
    counted = {"records": 10, "labelled": 0}
    write(
        out, "20261103T000000Z_20261104T000000Z", "a", "2026-11-04T00:00:00+00:00",
        counted=counted, causes=[],
    )  # fmt: skip
    found = collected(out)
    model = ("model_version", "a")
    assert found["marquee_drift_predictions", model] == 10
    assert found["marquee_drift_worse_causes", model] == 1
    assert found["marquee_drift_labelled_window_end_timestamp_seconds", model] == 1793664000


def test_documents_that_are_damaged_take_nothing_else_with_them(out):
    folder = out / "20261104T000000Z_20261105T000000Z"
    folder.mkdir()
    (folder / "drift.json").write_text("{")
    (out / "retraining.json").write_text("{")
    found = collected(out)
    assert found["marquee_drift_share", ("model_version", "a")] == 0.25
    assert ("marquee_retraining_requests", ("status", "running")) not in found


def test_no_series_is_of_a_genre_in_an_era(out):
    for key in collected(out):
        labels = {name for name, _ in key[1:]}
        assert not {"genre", "era"} <= labels


def test_without_reports_nothing_is_said_of_drift(tmp_path):
    found = collected(tmp_path)
    assert not [key for key in found if key[0].startswith(("marquee_drift", "marquee_registry"))]
    assert any(key[0] == "marquee_exporter_info" for key in found)
    assert found["marquee_retraining_requests", ("status", "running")] == 0


def test_requests_to_train_are_counted_by_status(tmp_path):
    request = {
        **dict.fromkeys(("id", "version", "why", "window", "made_at"), ""),
        "training": {},
        "causes": [],
        "status": "running",
    }
    document = {"schema_version": 1, "requests": [request, request]}
    (tmp_path / "retraining.json").write_text(json.dumps(document))
    found = collected(tmp_path)
    assert found["marquee_retraining_requests", ("status", "running")] == 2
    assert found["marquee_retraining_requests", ("status", "failed")] == 0


@pytest.fixture
def models(tmp_path):
    """A registry of four versions: a champion, one that is quarantined, two candidates."""
    registry = open_registry(str(tmp_path / "registry"))
    versions = []
    for seed in range(4):
        (tmp_path / f"bundle{seed}").mkdir()
        bundle = tiny_bundle(tmp_path / f"bundle{seed}", seed=seed)
        metrics = {"test/macro_map": 0.5 + seed / 10, "test/ap/Horror": 0.4}
        registry.register(str(bundle.folder), {"version": bundle.version, "metrics": metrics})
        versions.append(bundle.version)
    registry.move(versions[0], Stage.CHAMPION, "the first")
    registry.move(versions[1], Stage.QUARANTINED, "slow")
    return registry, versions


def values(found, name, *wanted):
    """Give the values of a metric by one of their labels, of series that have others."""
    *others, by = wanted
    return {
        dict(key[1:])[by]: value
        for key, value in found.items()
        if key[0] == f"marquee_registry_{name}" and set(others) <= set(key[1:])
    }


def test_the_registry_says_who_is_champion_and_how_good(tmp_path, models):
    registry, versions = models
    found = collected(tmp_path, registry.uri)
    assert found["marquee_registry_readable",] == 1
    assert values(found, "versions", ("label_set", "study4"), "stage") == {
        "candidate": 2,
        "champion": 1,
        "retired": 0,
        "quarantined": 1,
    }
    assert values(found, "version_info", ("stage", "champion"), "model_version") == {versions[0]: 1}
    scores = values(found, "score", ("metric", "macro_map"), "model_version")
    assert scores == {version: 0.5 + n / 10 for n, version in enumerate(versions)}
    precisions = values(found, "genre_average_precision", ("genre", "Horror"), "model_version")
    assert set(precisions) == set(versions)
    events = values(found, "event_timestamp_seconds", "event")
    assert set(events) == {"registered", "champion", "quarantined"}
    assert all(abs(moment - time.time()) < 60 for moment in events.values())
    last = values(found, "event_timestamp_seconds", ("event", "quarantined"), "model_version")
    assert set(last) == {versions[1]}


def test_the_champion_and_the_latest_versions_are_named(tmp_path, models, monkeypatch):
    registry, versions = models
    monkeypatch.setattr(registry_exporter, "_LATEST", 2)
    found = collected(tmp_path, registry.uri)
    named = {versions[0], *versions[2:]}
    assert set(values(found, "version_info", "model_version")) == named
    assert set(values(found, "score", "model_version")) == named


def test_a_registry_that_cannot_be_read_takes_nothing_else_with_it(out, tmp_path):
    (tmp_path / "registry").mkdir()
    (tmp_path / "registry/registry.json").write_text("{")
    found = collected(out, tmp_path / "registry")
    assert found["marquee_registry_readable",] == 0
    assert found["marquee_drift_share", ("model_version", "a")] == 0.25


def test_it_is_served_until_sigterm(out):
    port = free_port()
    command = [sys.executable, "-m", "marquee", "reports", "export", str(out)]
    options = ["--port", str(port), "--registry", str(out / "registry")]
    process = subprocess.Popen([*command, *options])
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                text = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=5).text
                break
            except requests.ConnectionError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        assert "marquee_drift_share" in text
        assert "marquee_registry_readable 1.0" in text
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
    finally:
        process.kill()
