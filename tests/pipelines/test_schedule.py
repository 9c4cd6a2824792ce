"""Schedules: one a name, whatever is done to them, and whenever somebody is killed."""

import os
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import pytest
from kfp_server import running_kfp

from marquee.errors import InfrastructureError, UsageError
from pipelines.cluster import Cluster
from pipelines.cron import Cron, Every
from pipelines.schedule import Plan, apply, delete, schedule_name, schedules, switch

PACKAGES = Path(__file__).parents[2] / "pipelines/compiled"
SCORING = "poster-scoring"
ARGUMENTS = {
    "run_uri": "gs://b/run",
    "catalog_uri": "gs://b/catalog",
    "bundle_uri": "gs://b/model",
}
DAILY, HOURLY = Cron("0 0 3 * * *"), Cron("0 0 * * * *")


@pytest.fixture
def server():
    with running_kfp() as running:
        Cluster(running.url).upload(PACKAGES / f"{SCORING}.yaml")
        running.writes.clear()
        running.firing.clear()
        yield running


@pytest.fixture(params=["ours", *["real"] * ("MARQUEE_TEST_KFP_URL" in os.environ)])
def cluster(request):
    if request.param == "real":
        namespace = os.environ.get("MARQUEE_TEST_KFP_NAMESPACE", "")
        cluster = Cluster(os.environ["MARQUEE_TEST_KFP_URL"], namespace)
        cluster.upload(PACKAGES / f"{SCORING}.yaml")
        return cluster
    return Cluster(request.getfixturevalue("server").url)


@pytest.fixture
def plan():
    name = schedule_name(SCORING, f"test-{uuid.uuid4().hex[:8]}")
    return Plan(name=name, pipeline=SCORING, trigger=DAILY, arguments=ARGUMENTS)


def named(cluster, plan):
    return [item for item in schedules(cluster) if item.name == plan.name]


def test_a_schedule_is_made_kept_replaced_and_deleted(cluster, plan):
    try:
        assert apply(cluster, plan).outcome == "made"
        assert apply(cluster, plan).outcome == "unchanged"
        assert apply(cluster, replace(plan, trigger=Every(7200))).outcome == "replaced"
        (item,) = named(cluster, plan)
        assert (item.enabled, item.trigger) == (True, "every 7200 s")
        assert not switch(cluster, plan.name, False).enabled
    finally:
        delete(cluster, plan.name)
    assert named(cluster, plan) == []


@pytest.mark.parametrize(
    "change",
    [
        {"trigger": HOURLY},
        {"trigger": Every(3600)},
        {"arguments": {**ARGUMENTS, "out_uri": "x"}},
        {"catch_up": False},
        {"experiment": "other"},
    ],
    ids=["cron", "interval", "arguments", "catch-up", "experiment"],
)
def test_whatever_changes_replaces_it(change, server, plan):
    cluster = Cluster(server.url)
    apply(cluster, plan)
    assert apply(cluster, replace(plan, **change)).outcome == "replaced"
    assert len(named(cluster, plan)) == 1


def test_a_new_version_of_the_pipeline_replaces_it(server, plan, tmp_path):
    cluster = Cluster(server.url)
    apply(cluster, plan)
    package = tmp_path / f"{SCORING}.yaml"
    package.write_text((PACKAGES / package.name).read_text() + "# changed\n")
    version = cluster.upload(package).version
    assert apply(cluster, plan).outcome == "replaced"
    (item,) = server.kinds["recurring_runs"].values()
    used = item["pipeline_version_reference"]["pipeline_version_id"]
    assert server.kinds["pipeline_versions"][used]["display_name"] == version


def test_what_kfp_gets(server, plan):
    arguments = {**ARGUMENTS, "out_uri": "[[ScheduledTime]]"}
    apply(Cluster(server.url), replace(plan, catch_up=False, arguments=arguments))
    (item,) = server.kinds["recurring_runs"].values()
    assert item["trigger"] == {"cron_schedule": {"cron": "0 0 3 * * *"}}
    assert item["runtime_config"]["parameters"] == arguments
    assert (item["mode"], item["no_catchup"], item["max_concurrency"]) == ("ENABLE", True, "1")


def test_a_macro_that_kfp_would_not_replace_is_warned_of(server, plan, caplog):
    apply(Cluster(server.url), replace(plan, arguments={**ARGUMENTS, "out_uri": "[[CurrentTime]]"}))
    assert "out_uri=[[CurrentTime]] goes to the runs as it is" in caplog.text


@pytest.mark.parametrize("done", range(4))
def test_whoever_is_killed_while_replacing_is_made_good_by_the_next_call(done, server, plan):
    cluster, changed = Cluster(server.url), replace(plan, trigger=HOURLY)
    apply(cluster, plan)
    server.firing.clear()
    server.fail_after = done
    with pytest.raises(InfrastructureError):
        apply(cluster, changed)
    server.fail_after = None
    assert apply(cluster, changed).outcome == "replaced"
    (item,) = named(cluster, plan)
    assert (item.enabled, item.trigger) == (True, HOURLY.text)
    for firing, there in server.firing:
        # Never do two fire; when none does, one stands ready that will make up for it.
        assert firing == 1 or (firing, there) == (0, 2)
    assert apply(cluster, changed).outcome == "unchanged"


@pytest.mark.parametrize(("done", "kept"), [(1, False), (2, True)], ids=["fires", "is disabled"])
def test_what_waits_since_a_kill_is_made_anew_while_the_old_one(done, kept, server, plan):
    """It makes up for all since it was made: for what the old one fired, that would be twice."""
    cluster, changed = Cluster(server.url), replace(plan, trigger=HOURLY)
    apply(cluster, plan)
    server.fail_after = done
    with pytest.raises(InfrastructureError):
        apply(cluster, changed)
    server.fail_after = None
    _, waiting = server.kinds["recurring_runs"]
    apply(cluster, changed)
    assert (waiting in server.kinds["recurring_runs"]) == kept


@pytest.mark.parametrize("done", range(4))
def test_it_is_also_made_good_if_the_next_call_wants_something_else(done, server, plan):
    cluster = Cluster(server.url)
    apply(cluster, plan)
    server.fail_after = done
    with pytest.raises(InfrastructureError):
        apply(cluster, replace(plan, trigger=HOURLY))
    server.fail_after = None
    apply(cluster, plan)
    (item,) = named(cluster, plan)
    assert (item.enabled, item.trigger) == (True, DAILY.text)
    assert max(firing for firing, _ in server.firing) == 1


@pytest.mark.parametrize("done", [None, 0, 1])
def test_a_paused_schedule_stays_paused_when_it_changes(done, server, plan):
    cluster, changed = Cluster(server.url), replace(plan, trigger=HOURLY)
    apply(cluster, plan)
    switch(cluster, plan.name, False)
    server.fail_after = done
    if done is not None:
        with pytest.raises(InfrastructureError):
            apply(cluster, changed)
    server.fail_after = None
    apply(cluster, changed)
    (item,) = named(cluster, plan)
    assert (item.enabled, item.trigger, item.next_times) == (False, HOURLY.text, ())
    assert switch(cluster, plan.name, True).enabled


def test_two_of_the_same_become_one(server, plan):
    cluster = Cluster(server.url)
    apply(cluster, plan)
    (item,) = server.kinds["recurring_runs"].values()
    server.add("recurring_runs", "recurring_run_id", dict(item))
    apply(cluster, plan)
    assert [item.enabled for item in named(cluster, plan)] == [True]


def test_half_a_replacement_is_not_resumed_and_undone_by_a_pause(server, plan):
    cluster = Cluster(server.url)
    apply(cluster, plan)
    server.fail_after = 1
    with pytest.raises(InfrastructureError):
        apply(cluster, replace(plan, trigger=HOURLY))
    server.fail_after = None
    with pytest.raises(UsageError, match="was being replaced"):
        switch(cluster, plan.name, True)
    paused = switch(cluster, plan.name, False)
    assert named(cluster, plan) == [paused]
    assert (paused.enabled, paused.trigger) == (False, DAILY.text)


def test_a_schedule_that_is_not_there_is_named(server):
    with pytest.raises(UsageError, match="no schedule 'nothing'"):
        switch(Cluster(server.url), "nothing", True)


def test_a_schedule_that_is_not_there_is_deleted_already(server, plan):
    """`helm uninstall` deletes what the values name, whatever people have deleted before."""
    cluster = Cluster(server.url)
    apply(cluster, plan)
    assert delete(cluster, plan.name)
    assert not delete(cluster, plan.name)


def test_all_pages_of_schedules_are_listed(server, plan):
    cluster = Cluster(server.url)
    for number in range(7):
        apply(cluster, replace(plan, name=f"s{number}"))
    assert [item.name for item in schedules(cluster)] == [f"s{number}" for number in range(7)]


def test_an_interval_fires_from_when_it_was_made(server, plan):
    item = apply(Cluster(server.url), replace(plan, trigger=Every(86400)))
    (made,) = server.kinds["recurring_runs"].values()
    first, second, _ = item.next_times
    assert (first - datetime.fromisoformat(made["created_at"])).total_seconds() % 86400 == 0
    assert (second - first).total_seconds() == 86400


NOW = datetime(2026, 11, 30, 5, tzinfo=UTC)  # a Monday


@pytest.mark.parametrize(
    ("text", "times"),
    [
        ("0 0 3 * * *", ["12-01T03:00:00", "12-02T03:00:00"]),
        ("0 0 5 * * *", ["12-01T05:00:00", "12-02T05:00:00"]),
        ("*/20 * * * * *", ["11-30T05:00:20", "11-30T05:00:40"]),
        ("30/15 0 5 * * ?", ["11-30T05:00:30", "11-30T05:00:45"]),
        ("0 30 6 ? * mon-tue", ["11-30T06:30:00", "12-01T06:30:00"]),
        ("0 0 0 1,15 DEC *", ["12-01T00:00:00", "12-15T00:00:00"]),
        ("0 0 0 13 * FRI", ["12-04T00:00:00", "12-11T00:00:00"]),
    ],
)
def test_when_a_cron_expression_fires(text, times):
    found = [f"{time:%m-%dT%H:%M:%S}" for time in islice(Cron(text).after(NOW), 2)]
    assert found == times


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 3 * * *", "has 5 fields, not 6: give six fields, the seconds first"),
        ("@daily", "has 1 fields"),
        ("0 0 24 * * *", "'24' for the hour, which goes from 0 to 23"),
        ("0 0 0 * * 7", "'7' for the day of the week"),
        ("0 0 0 * FRI *", "'FRI' for the month"),
        ("0 5-1 * * * *", "'5-1' for the minute"),
        ("0 */0 * * * *", r"'\*/0' for the minute"),
        ("0 0 0 30 2 *", "never fires"),
    ],
)
def test_what_is_no_cron_expression(text, message):
    with pytest.raises(UsageError, match=message):
        Cron(text)


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("24h", 86400), ("7d", 604800)])
def test_intervals(text, seconds):
    assert Every.parse(text) == Every(seconds)


@pytest.mark.parametrize("text", ["", "0h", "24", "1.5h", "-1h", "h"])
def test_what_is_no_interval(text):
    with pytest.raises(UsageError, match="such as 24h"):
        Every.parse(text)
