"""`marquee pipeline` against a server of ours, as a person sees it."""

import os
import re
import signal
import subprocess
import sys

import pytest
from kfp_server import running_kfp

NEEDS = ("run_uri=/nowhere/run", "catalog_uri=gs://b/catalog", "bundle_uri=gs://b/model")
PARAMETERS = [word for need in NEEDS for word in ("--set-param", need)]


@pytest.fixture(scope="module")
def empty():
    with running_kfp() as running:
        yield running


@pytest.fixture(scope="module")
def server(empty):
    """A server with the scoring pipeline."""
    assert marquee(empty, "upload", "poster-scoring").returncode == 0
    return empty


def marquee(server, *arguments, **variables):
    environment = {**os.environ, "MARQUEE_KFP_ENDPOINT": server.url, **variables}
    result = subprocess.run(
        [sys.executable, "-m", "marquee", "pipeline", *arguments],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert "Traceback" not in result.stdout + result.stderr
    return result


def test_all_pipelines_are_uploaded_and_then_unchanged(empty):
    first, again = marquee(empty, "upload"), marquee(empty, "upload")
    assert (first.returncode, again.returncode) == (0, 0)
    for line in again.stdout.splitlines():
        assert re.fullmatch(r"[a-z-]+ \S+-[0-9a-f]{12} unchanged", line)
        assert line.rpartition(" ")[0] in first.stdout


def test_a_pipeline_that_is_not_ours_is_refused(empty):
    result = marquee(empty, "upload", "nothing")
    assert result.returncode == 2
    assert "choose one of marquee-training" in result.stderr


def test_a_run_is_submitted_and_its_page_told(server):
    result = marquee(server, "submit", "poster-scoring", *PARAMETERS)
    assert result.returncode == 0
    run_id, url = result.stdout.splitlines()
    assert url == f"{server.url}/#/runs/details/{run_id}"


@pytest.mark.parametrize(
    ("pipeline", "parameters", "message"),
    [
        ("poster-scoring", [*NEEDS, "colour=red"], "no parameter 'colour'"),
        ("poster-scoring", NEEDS[:2], "needs bundle_uri"),
        ("poster-scoring", [*NEEDS, "out_uri"], "names no value"),
        ("marquee-training", ["run_uri=x", "limit=many"], "'limit' is a whole number, not 'many'"),
        ("marquee-training", ["run_uri=x", "limit=true"], "'limit' is a whole number, not True"),
        ("marquee-training", ["run_uri=x", "vgg16=1"], "'vgg16' is true or false, not 1"),
        ("marquee-training", ["run_uri=x", "overrides=[]"], "'overrides' is a JSON object"),
    ],
)
def test_a_wrong_parameter_is_named(pipeline, parameters, message, server):
    assert marquee(server, "upload", pipeline).returncode == 0
    runs = server.named("runs")
    options = [word for parameter in parameters for word in ("--set-param", parameter)]
    result = marquee(server, "submit", pipeline, *options)
    assert result.returncode == 2
    assert message in result.stderr
    assert server.named("runs") == runs


def test_following_ends_as_the_run_does(server):
    again = ("submit", "poster-scoring", *PARAMETERS, "--run-name", "mine", "--wait")
    submitted = marquee(server, *again[:-1])
    run_id = submitted.stdout.split()[0]
    server.end(run_id, "SUCCEEDED")
    assert marquee(server, *again).returncode == 0
    server.end(run_id, "FAILED", error={"code": 2, "message": "no room"})
    failed = marquee(server, *again)
    assert failed.returncode == 5
    assert "mine: failed" in failed.stderr
    assert "no room" in failed.stderr
    assert failed.stdout.split()[0] == run_id


def test_who_stops_following_is_told_that_the_run_goes_on(server):
    command = [sys.executable, "-m", "marquee", "pipeline", "submit", "poster-scoring", "--wait"]
    environment = {**os.environ, "MARQUEE_KFP_ENDPOINT": server.url}
    follower = subprocess.Popen(
        [*command, *PARAMETERS], env=environment, stderr=subprocess.PIPE, text=True
    )
    assert "pending" in follower.stderr.readline()
    follower.send_signal(signal.SIGINT)
    _, said = follower.communicate(timeout=30)
    assert follower.returncode == 7
    assert "goes on without us" in said
    assert "/#/runs/details/" in said


def test_a_schedule_from_its_making_to_its_end(server):
    def say(*arguments):
        result = marquee(server, "schedule", *arguments)
        assert result.returncode == 0, result.stderr
        return result.stdout

    daily = ("poster-scoring", "--cron", "0 0 3 * * *", *PARAMETERS)
    made = say(*daily)
    assert made.startswith("poster-scoring: 0 0 3 * * * (made)\n  next 20")
    assert made.count(" 03:00:00 UTC") == 3
    assert "(unchanged)" in say(*daily)
    assert "every 86400 s (replaced)" in say("poster-scoring", "--every", "24h", *PARAMETERS)
    assert "poster-scoring/other: 0 0 3 * * *" in say(*daily, "--name", "other")
    assert say("poster-scoring", "--pause") == "poster-scoring: every 86400 s, paused\n"
    assert "next" in say("poster-scoring", "--resume")
    assert say("--list").count("poster-scoring") == 2
    for name in ((), ("--name", "other")):
        assert "deleted" in say("poster-scoring", "--delete", *name)
    assert say("--list") == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["poster-scoring"], "one thing to do"),
        (["poster-scoring", "--pause", "--resume"], "one thing to do"),
        (["--pause"], "one thing to do"),
        (["poster-scoring", "--list"], "one thing to do"),
        (["poster-scoring", "--cron", "0 3 * * *"], "six fields, the seconds first"),
        (["poster-scoring", "--every", "daily"], "such as 24h"),
        (["poster-scoring", "--resume"], "no schedule"),
    ],
)
def test_what_cannot_be_scheduled(arguments, message, server):
    result = marquee(server, "schedule", *arguments)
    assert result.returncode == 2
    assert message in result.stderr


def test_a_macro_goes_through_with_a_warning(server):
    macro = ("--set-param", "out_uri=[[ScheduledTime]]", "--name", "macro")
    result = marquee(server, "schedule", "poster-scoring", "--every", "1h", *PARAMETERS, *macro)
    assert result.returncode == 0
    assert "out_uri=[[ScheduledTime]]" in result.stderr


def test_without_an_endpoint_one_is_asked_for(server):
    result = marquee(server, "submit", "poster-scoring", MARQUEE_KFP_ENDPOINT="")
    assert result.returncode == 2
    assert "MARQUEE_KFP_ENDPOINT" in result.stderr


def test_a_token_is_never_shown(server):
    server.token = "right"
    try:
        result = marquee(server, "schedule", "--list", MARQUEE_KFP_TOKEN="wr0ng-one")
    finally:
        server.token = ""
    assert result.returncode == 2
    assert "401" in result.stderr
    assert "wr0ng" not in result.stdout + result.stderr
