"""Trainings that drift asks for are started where they should be, once, and followed."""

import json

import pytest
from helpers import ROOT
from kfp_server import running_kfp

from marquee.errors import UsageError
from marquee.run_layout import RunLayout
from marquee.verdict import Check, Outcome, Verdict
from monitoring.retrain import RetrainRequest, Status
from pipelines import retraining, training
from pipelines.cluster import Cluster, run_state
from pipelines.retraining import ENDPOINT, Here, Kubeflow, launcher


def request(**changes):
    values = {
        "id": "abc",
        "version": "a" * 64,
        "causes": ("average precision: Horror",),
        "why": "Horror is recognised less well",
        "window": "one/other",
        "training": {"source": "drawn", "limit": "-1"},
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


def test_here_a_training_that_runs_is_not_started_again(tmp_path, monkeypatch):
    monkeypatch.setattr(retraining.subprocess, "run", lambda *_, **__: pytest.fail("started"))
    here = Here(str(tmp_path))
    with retraining._alone(str(tmp_path / "abc")) as lock:
        assert lock is not None
        run = here.start(request())
        assert here.state(request(run=run))[0] is Status.RUNNING
    assert here.state(request(run=run))[0] is Status.FAILED


def test_a_training_that_was_killed_has_failed(tmp_path):
    status, reason = Here("").state(request(run=str(tmp_path)))
    assert status is Status.FAILED
    assert "broken off" in reason


@pytest.fixture
def kubeflow(tmp_path):
    with running_kfp() as server:
        cluster = Cluster(server.url)
        cluster.upload(ROOT / "pipelines/compiled/marquee-training.yaml")
        yield server, Kubeflow(cluster, str(tmp_path))


def test_on_kubeflow_a_request_starts_one_run_by_the_pipelines_name(kubeflow, tmp_path):
    server, launcher = kubeflow
    overrides = {"tmdb.from_year": 2020}
    training = {"source": "tmdb", "overrides": json.dumps(overrides), "vgg16": "false"}
    wanted = request(training=training)
    page = launcher.start(wanted)
    assert launcher.start(wanted) == page  # the step was started again
    (run,) = server.named("runs")
    assert run == "retrain-abc"
    found = run_state(Cluster(server.url), page.rpartition("/")[2])
    assert found.arguments == {
        "run_uri": str(tmp_path / "abc"),
        "source": "tmdb",
        "overrides": overrides,
        "vgg16": False,
    }


@pytest.mark.parametrize(
    ("state", "failure", "status"),
    [
        ("RUNNING", None, Status.RUNNING),
        ("SUCCEEDED", None, Status.DONE),
        ("FAILED", "gate", Status.DONE),
        ("FAILED", "train-vgg16", Status.FAILED),
        ("FAILED", None, Status.FAILED),
        ("CANCELED", None, Status.FAILED),
    ],
)
def test_on_kubeflow_a_run_is_followed(kubeflow, tmp_path, state, failure, status):
    server, launcher = kubeflow
    page = launcher.start(request())
    server.end(page.rpartition("/")[2], state)
    folder = tmp_path / "abc"
    folder.mkdir()
    if state == "SUCCEEDED":
        check = Check(name="it", outcome=Outcome.PASSED, measured="1", bound="1")
        (folder / "gate").mkdir()
        verdict = Verdict(gate="quality", subject="x", checks=(check,))
        (folder / "gate/verdict.json").write_text(verdict.to_json())
    if failure:
        document = {"step": failure, "message": "no", "remedy": "", "exit_code": 4}
        (folder / "failure.json").write_text(json.dumps(document))
    assert launcher.state(request(run=page))[0] is status


def test_on_kubeflow_a_run_that_was_deleted_has_failed(kubeflow):
    _, launcher = kubeflow
    page = launcher.start(request())
    status, reason = launcher.state(request(run=page + "-gone"))
    assert status is Status.FAILED
    assert "404" in reason


def test_a_parameter_that_the_training_has_not_is_refused_before_anything_is_sent(kubeflow):
    server, launcher = kubeflow
    with pytest.raises(UsageError, match="no parameter 'colour'"):
        launcher.start(request(training={"colour": "blue"}))
    assert server.named("runs") == []
