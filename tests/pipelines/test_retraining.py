"""Trainings that drift asks for are started where they should be, once, and followed."""

import json

import pytest

from marquee.errors import UsageError
from marquee.run_layout import RunLayout
from monitoring.retrain import RetrainRequest, Status
from pipelines import retraining, training
from pipelines.retraining import ENDPOINT, Here, Kubeflow, launcher


def request(**changes):
    values = {
        "id": "abc",
        "version": "a" * 64,
        "causes": ("average precision: Horror",),
        "why": "Horror is recognised less well",
        "window": "one/other",
        "training": {"source": "drawn", "films": "0"},
        "made_at": "2026-11-10T00:00:00+00:00",
        "status": Status.RUNNING,
    }
    return RetrainRequest(**values | changes)


def test_it_starts_the_training_pipeline():
    assert training.NAME == retraining.PIPELINE


@pytest.mark.parametrize(("endpoint", "kind"), [("", Here), ("http://kubeflow.example", Kubeflow)])
def test_the_endpoint_says_where(monkeypatch, tmp_path, endpoint, kind):
    monkeypatch.setenv(ENDPOINT, endpoint)
    assert isinstance(launcher(RunLayout(str(tmp_path))), kind)


def test_without_an_endpoint_nothing_trains_in_a_bucket(monkeypatch):
    monkeypatch.delenv(ENDPOINT, raising=False)
    with pytest.raises(UsageError, match="set MARQUEE_KFP_ENDPOINT"):
        launcher(RunLayout("gs://bucket/monitoring"))


def test_here_a_training_that_fails_says_why(tmp_path):
    here = Here(str(tmp_path))
    wrong = request(training={"source": "folder", "path": str(tmp_path / "nowhere")})
    run = here.start(wrong)
    status, reason = here.state(request(run=run))
    assert status is Status.FAILED
    assert "nowhere" in reason


@pytest.mark.parametrize(
    ("step", "status"), [("gate", Status.DONE), ("train-vgg16", Status.FAILED)]
)
def test_a_challenger_that_loses_is_an_end_and_no_failure(tmp_path, step, status):
    failure = {"step": step, "message": "no", "remedy": "", "exit_code": 4}
    (tmp_path / "failure.json").write_text(json.dumps(failure))
    found, reason = Here("").state(request(run=str(tmp_path)))
    assert (found, reason) == (status, f"{step}: no")


def test_a_training_that_was_killed_has_failed(tmp_path):
    status, reason = Here("").state(request(run=str(tmp_path)))
    assert status is Status.FAILED
    assert "broken off" in reason
