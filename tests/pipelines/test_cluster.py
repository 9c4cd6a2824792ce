"""Kubeflow Pipelines through a server of ours, and through the real one if there is one."""

import json
import os
import socket
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import pytest
import yaml
from certificates import write_certificate
from kfp_server import running_kfp

from marquee.errors import InfrastructureError, Stopped, UsageError
from marquee.processes import free_port
from marquee.step import StepFailed
from pipelines import cluster as cluster_module
from pipelines.cluster import Cluster, run_state, start_run, wait_for_run

PACKAGES = Path(__file__).parents[2] / "pipelines/compiled"
SCORING = {"run_uri": "gs://b/run", "catalog_uri": "gs://b/catalog", "bundle_uri": "gs://b/model"}


@pytest.fixture
def server():
    with running_kfp() as running:
        yield running


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(cluster_module._RETRIES, "backoff_factor", 0)


@pytest.fixture(params=["ours", *["real"] * ("MARQUEE_TEST_KFP_URL" in os.environ)])
def cluster(request):
    if request.param == "real":
        namespace = os.environ.get("MARQUEE_TEST_KFP_NAMESPACE", "")
        return Cluster(os.environ["MARQUEE_TEST_KFP_URL"], namespace)
    return Cluster(request.getfixturevalue("server").url)


@pytest.fixture
def name():
    """A pipeline of this test's own, for a server that outlives it."""
    return f"test-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def package(tmp_path, name):
    """Give the scoring pipeline under that name, in one version or another."""

    def make(description="first"):
        documents = list(yaml.safe_load_all((PACKAGES / "poster-scoring.yaml").read_text()))
        documents[0]["pipelineInfo"] = {"name": name, "description": description}
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump_all(documents))
        return path

    return make


def start(cluster, name, run_name="run 1", **arguments):
    return start_run(
        cluster, name, {**SCORING, **arguments}, run_name=run_name, experiment=f"{name}-runs"
    )


def test_a_package_is_uploaded_once(cluster, name, package):
    first, again = cluster.upload(package()), cluster.upload(package())
    assert (first.pipeline, first.new, again.new) == (name, True, False)
    assert first.version == again.version == cluster.latest(name).display_name


def test_what_changed_becomes_the_latest_version_and_so_does_what_was_one_before(
    server, name, package
):
    cluster = Cluster(server.url)
    versions = [cluster.upload(package(text)) for text in ("a", "b", "a", "a", "b", "a")]
    assert [done.new for done in versions] == [True, True, True, False, True, True]
    assert versions[2].version == versions[0].version + ".r1"
    assert versions[5].version == versions[0].version + ".r2"
    assert cluster.latest(name).display_name == versions[5].version


def test_an_upload_goes_on_where_another_was_killed(server, name, package):
    server.fail_after = 1
    with pytest.raises(InfrastructureError, match=f"cannot upload {name}.*500"):
        Cluster(server.url).upload(package())
    server.fail_after = None
    with pytest.raises(UsageError, match="has no pipeline"):
        Cluster(server.url).latest(name)
    assert Cluster(server.url).upload(package()).new
    assert server.named("pipelines") == [name]


def test_a_run_is_started_once_a_name(cluster, name, package):
    cluster.upload(package())
    first, again, other = (start(cluster, name, run) for run in ("run 1", "run 1", "run 2"))
    assert first.run_id == again.run_id != other.run_id
    assert first.url.endswith(f"/#/runs/details/{first.run_id}")
    assert run_state(cluster, first.run_id).name == "run 1"


def test_a_run_has_the_latest_version_and_its_arguments(server, name, package):
    cluster = Cluster(server.url)
    for text in "ab":
        cluster.upload(package(text))
    run = start(cluster, name)
    document = server.kinds["runs"][run.run_id]
    latest = cluster.latest(name)
    assert document["pipeline_version_reference"] == {
        "pipeline_id": latest.pipeline_id,
        "pipeline_version_id": latest.pipeline_version_id,
    }
    assert document["runtime_config"]["parameters"] == SCORING
    assert server.named("experiments") == [f"{name}-runs"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"colour": "red"}, "no parameter 'colour'"),
        ({"out_uri": 3}, "'out_uri' is a string, not 3"),
        ({"overrides": "x"}, "'overrides' is a JSON object, not 'x'"),
    ],
    ids=["unknown", "number for text", "text for object"],
)
def test_wrong_arguments_are_refused_before_anything_is_sent(
    arguments, message, server, name, package
):
    Cluster(server.url).upload(package())
    sent = list(server.writes)
    with pytest.raises(UsageError, match=message):
        start(Cluster(server.url), name, **arguments)
    assert server.writes == sent


def test_a_pipeline_that_was_never_uploaded_is_named(cluster, name):
    with pytest.raises(UsageError, match=f"no pipeline {name!r}.*marquee pipeline upload"):
        start(cluster, name)


def test_in_a_namespace_only_what_is_there_is_seen(server, name, package):
    Cluster(server.url, "anna").upload(package())
    with pytest.raises(UsageError, match="in the namespace ben"):
        Cluster(server.url, "ben").latest(name)
    start(Cluster(server.url, "anna"), name)
    (experiment,) = server.kinds["experiments"].values()
    assert experiment["namespace"] == "anna"


@pytest.fixture
def run(server, name, package, tmp_path):
    """A run that has just begun."""
    cluster = Cluster(server.url)
    cluster.upload(package())
    return start(cluster, name, run_uri=str(tmp_path / "run"))


def wait(server, run, lines=None):
    told = (lambda _: None) if lines is None else lines.append
    wait_for_run(Cluster(server.url), run, told, every_s=0.05)


def task(name, state):
    return {"task_id": f"{name}-1", "display_name": name, "state": state}


def test_a_run_is_followed_to_its_end(server, run):
    tasks = [task("score", "RUNNING"), task("score-driver", "SUCCEEDED")]
    server.end(run.run_id, "RUNNING", run_details={"task_details": tasks})
    lines = []
    follower = threading.Thread(target=wait, args=(server, run, lines))
    follower.start()
    while not lines:
        pass
    ended = {"task_details": [task("score", "SUCCEEDED")]}
    server.end(run.run_id, "SUCCEEDED", run_details=ended)
    follower.join()
    assert lines == ["score: running", "run 1: running", "score: succeeded", "run 1: succeeded"]


def test_a_run_fails_as_its_step_did(server, run, tmp_path):
    failure = {"step": "validate", "message": "no", "remedy": "mend", "exit_code": 3}
    (tmp_path / "run").mkdir()
    (tmp_path / "run/failure.json").write_text(json.dumps(failure))
    server.end(run.run_id, "FAILED")
    with pytest.raises(StepFailed, match="validate: no") as raised:
        wait(server, run)
    assert raised.value.exit_code == 3


@pytest.mark.parametrize("uri", ["", "ftps3://nowhere/run"], ids=["nothing left", "out of reach"])
def test_a_run_whose_reason_cannot_be_read_is_infrastructure(server, run, uri):
    if uri:
        document = server.kinds["runs"][run.run_id]
        document["runtime_config"]["parameters"]["run_uri"] = uri
    server.end(run.run_id, "FAILED", error={"code": 2, "message": "OOMKilled"})
    with pytest.raises(InfrastructureError, match=r"failed \(OOMKilled\).*runs/details") as raised:
        wait(server, run)
    assert raised.value.exit_code == 5


def test_a_canceled_run_was_stopped(server, run):
    server.end(run.run_id, "CANCELED")
    with pytest.raises(Stopped, match="was canceled"):
        wait(server, run)


def test_a_server_that_restarts_does_not_matter_to_who_follows(server, run):
    server.end(run.run_id, "SUCCEEDED")
    server.refusals = [503] * 6
    wait(server, run)
    assert server.refusals == []


TOKEN = "t0p-s3cret"


@pytest.mark.parametrize(
    ("status", "error", "remedy"),
    [
        (401, UsageError, "MARQUEE_KFP_TOKEN"),
        (403, UsageError, "--namespace"),
        (404, UsageError, "endpoint"),
        (409, InfrastructureError, "again"),
        (500, InfrastructureError, "ml-pipeline"),
    ],
)
def test_a_refusal_says_what_where_and_what_next(
    status, error, remedy, server, name, package, monkeypatch, caplog
):
    monkeypatch.setenv("MARQUEE_KFP_TOKEN", TOKEN)
    server.refusals = [status] * 4
    with pytest.raises(error, match=f"cannot list pipelines: {server.url} answered") as raised:
        Cluster(server.url).upload(package())
    assert f"{status} (not now)" in raised.value.message
    assert remedy in raised.value.remedy
    assert TOKEN not in f"{raised.value!r} {raised.value.__cause__} {caplog.text}"


def test_a_hiccup_is_asked_again_when_reading(server, name, package):
    server.refusals = [500, 503]
    assert Cluster(server.url).upload(package()).new


def test_a_write_is_never_sent_twice(server, name, package):
    cluster = Cluster(server.url)
    cluster.upload(package())
    server.fail_after = 1
    with pytest.raises(InfrastructureError, match="cannot start run 1"):
        start(cluster, name)
    assert server.asked.count("POST runs") == 1
    server.fail_after = None
    start(cluster, name)
    assert server.named("runs") == ["run 1"]


def test_a_server_that_is_not_there_is_named(package):
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(InfrastructureError, match=f"{url} cannot be reached.*refused"):
        Cluster(url).upload(package())


def test_a_server_that_does_not_answer_is_named(package, monkeypatch):
    monkeypatch.setattr(cluster_module, "_TIMEOUT_S", (0.2, 0.2))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(InfrastructureError, match=r"cannot be reached.*timed out"):
            Cluster(url).upload(package())


def test_a_server_is_trusted_by_the_certificate_that_is_given(package, tmp_path):
    certificate = write_certificate(tmp_path, "localhost")
    with running_kfp(certificate) as server:
        assert Cluster(server.url, ca_file=str(certificate)).upload(package()).new
        with pytest.raises(InfrastructureError, match="CERTIFICATE_VERIFY_FAILED") as raised:
            Cluster(server.url).upload(package())
    assert "--ca-file" in raised.value.remedy


def test_a_login_page_is_no_answer(server, package):
    server.page = True
    with pytest.raises(UsageError, match=r"answered with a page \(text/html\)"):
        Cluster(server.url).upload(package())


@pytest.mark.parametrize(
    ("endpoint", "ca_file", "message"),
    [
        ("", "", "endpoint"),
        ("kfp:8080", "", "http://"),
        ("https://kfp", "no.pem", "no file no.pem"),
    ],
)
def test_a_wrong_address_is_refused(endpoint, ca_file, message):
    with pytest.raises(UsageError, match=message):
        Cluster(endpoint, ca_file=ca_file)


def test_a_token_of_the_environment_is_sent(server, package, monkeypatch):
    server.token = TOKEN
    monkeypatch.setenv("MARQUEE_KFP_TOKEN", TOKEN)
    assert Cluster(server.url).upload(package()).new


def test_a_service_accounts_token_is_read_anew(server, package, monkeypatch, tmp_path):
    file = tmp_path / "token"
    monkeypatch.delenv("MARQUEE_KFP_TOKEN", raising=False)
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(file))
    file.write_text("old")
    cluster = Cluster(server.url)
    server.token = "new"
    file.write_text("new\n")
    assert cluster.upload(package()).new


def test_what_kfps_own_client_keeps_does_not_matter(server, package, monkeypatch, tmp_path, capsys):
    context = tmp_path / ".config/kfp/context.json"
    context.parent.mkdir(parents=True)
    context.write_text('{"namespace": "elsewhere", "client_authentication_cookie": "stale"}')
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", "http://elsewhere.invalid")
    Cluster(server.url).upload(package())
    (pipeline,) = server.kinds["pipelines"].values()
    assert "namespace" not in pipeline
    assert capsys.readouterr().out == ""


def test_it_loads_without_kfp():
    """Whoever starts a run through it does not wait for KFP's compiler."""
    code = "import sys, pipelines.schedule; print('kfp' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "False"
