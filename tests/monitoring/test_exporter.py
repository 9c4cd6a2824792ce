"""Prometheus gets the latest report of each model, with as many series as genres and eras."""

import json
import signal
import subprocess
import sys
import time

import pytest
import requests
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from marquee.processes import free_port
from monitoring.exporter import DriftCollector


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
        "version": version,
        "until": until,
        "outcome": "failed",
        "drift_share": 0.25,
        "counted": {"records": 1000, "labelled": 100},
        "causes": [{"kind": "prediction"}, {"kind": "input"}],
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
    write(tmp_path, "20261101_20261102", "a", "2026-11-02T00:00:00+00:00", drift_share=0.9)
    write(tmp_path, "20261102_20261103", "a", "2026-11-03T00:00:00+00:00")
    write(tmp_path, "20261101_20261103", "b", "2026-11-03T00:00:00+00:00", outcome="passed")
    return tmp_path


def collected(out):
    registry = CollectorRegistry()
    registry.register(DriftCollector(str(out)))
    return series(generate_latest(registry).decode())


def test_the_latest_report_of_each_model_counts(out):
    found = collected(out)
    model = ("model_version", "a")
    assert found["marquee_drift_share", model] == 0.25
    assert found["marquee_drift_share", ("model_version", "b")] == 0.25
    assert found["marquee_drift_outcome", model, ("outcome", "failed")] == 1
    assert found["marquee_drift_outcome", model, ("outcome", "passed")] == 0
    assert found["marquee_drift_causes", ("kind", "prediction"), model] == 1
    assert found["marquee_drift_causes", ("kind", "concept"), model] == 0
    assert found["marquee_drift_insufficient_slices", ("kind", "input"), model] == 1
    assert found["marquee_drift_genre_effect", ("genre", "Horror"), model] == 0.1
    assert found["marquee_drift_genre_average_precision", ("genre", "Horror"), model] == 0.4
    assert found["marquee_drift_effect", ("kind", "input"), model, ("what", "brightness")] == 0.3
    assert found["marquee_drift_era_predictions", ("era", "silent"), model] == 60
    assert found["marquee_drift_window_end_timestamp_seconds", model] == 1793664000


def test_no_series_is_of_a_genre_in_an_era(out):
    for key in collected(out):
        labels = {name for name, _ in key[1:]}
        assert not {"genre", "era"} <= labels


def test_without_reports_there_are_no_values(tmp_path):
    assert collected(tmp_path) == {}


def test_it_is_served_until_sigterm(out):
    port = free_port()
    command = [sys.executable, "-m", "marquee", "reports", "export", str(out), "--port", str(port)]
    process = subprocess.Popen(command)
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
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
    finally:
        process.kill()
