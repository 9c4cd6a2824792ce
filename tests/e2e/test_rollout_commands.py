"""A registry and a rollout as a person has them: by commands, with reports to read."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bundles import always_first, changed, tiny_bundle
from users import Users

from components.rollout.backends.local import LocalBackend
from marquee.registry.files import FileRegistry

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

POLICY = """
step_seconds = 4
interval_seconds = 1
min_samples = 30
max_step_minutes = 3
max_hours = 0.2
ready_seconds = 60
replay_passes = 1
agreement = 0.0
"""


def marquee(*words, code=0):
    command = [sys.executable, "-m", "marquee", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def world(tmp_path_factory, drawn_catalog):
    """A registry with three models, a place where the first is served, and what commands need."""
    folder = tmp_path_factory.mktemp("commands")
    first = tiny_bundle(folder / "first")
    bundles = {
        "first": first,
        "good": changed(first, folder / "good", run="a later one"),
        "bad": always_first(first, folder / "bad"),
    }
    registry = FileRegistry(str(folder / "registry"))
    for bundle in bundles.values():
        registry.register(str(bundle.folder), {"version": bundle.version, "metrics": {}})
    (folder / "policy.toml").write_text(POLICY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MARQUEE_DEPLOYMENTS", str(folder / "deployments"))
        yield {
            "folder": folder,
            "registry": registry,
            "catalog": drawn_catalog,
            **{name: bundle.version for name, bundle in bundles.items()},
        }
        LocalBackend(folder / "deployments/films").stop()


def start(world, name, *more, code=0):
    folder = world["folder"]
    return marquee(
        *("rollout", "start", world[name][:12], "--name", "films", "--backend", "local"),
        *("--registry", world["registry"].uri, "--policy", folder / "policy.toml"),
        *("--catalog", world["catalog"], "--out", folder / f"report-{name}", *more),
        code=code,
    )


def stages(world):
    listed = json.loads(marquee("registry", "list", world["registry"].uri, "--json"))
    named = {world[name]: name for name in ("first", "good", "bad")}
    return {named[item["version"]]: item["stage"] for item in listed["versions"]}


def report(world, name):
    folder = world["folder"] / f"report-{name}"
    page = (folder / "rollout.html").read_text()
    assert "Timeline" in page and world[name][:12] in page
    assert json.loads((folder / "verdict.json").read_text())["gate"] == "canary"
    return json.loads((folder / "rollout.json").read_text())


def url(world):
    return LocalBackend(world["folder"] / "deployments/films").url


def test_from_the_first_model_to_one_that_is_refused(world):
    assert "serves all traffic" in start(world, "first")
    assert stages(world) == {"first": "champion", "good": "candidate", "bad": "candidate"}
    said = start(world, "good", "--dry-run")
    assert f"served    {world['first']}" in said and "replayed  64 posters" in said
    assert stages(world)["good"] == "candidate"

    with Users(url(world)) as users:
        start(world, "good")
        assert stages(world) == {"first": "retired", "good": "champion", "bad": "candidate"}
        start(world, "bad", code=6)
    assert users.statuses().keys() == {200}
    assert stages(world)["bad"] == "quarantined"

    good, bad = report(world, "good"), report(world, "bad")
    assert [event["percent"] for event in good["timeline"] if event["phase"] == "step"][-1] == 100
    replayed = next(event for event in good["timeline"] if "replay" in str(event["verdict"]))
    assert "replay: agreement" in str(replayed["verdict"])
    assert bad["phase"] == "rolled back"

    assert "was quarantined" in start(world, "bad", code=2)
    marquee("registry", "readmit", world["registry"].uri, world["bad"][:12], "--reason", "a try")
    assert stages(world)["bad"] == "candidate"
    shown = marquee("registry", "show", world["registry"].uri, world["good"][:12])
    assert "champion by" in shown and "rollout.json" in shown
    assert "is sound, and signed by" in marquee(
        "registry", "verify", world["registry"].uri, world["good"][:12]
    )
    assert "rolled back" in marquee("rollout", "status", "films")
    assert "rolled back" in marquee("rollout", "history", "films")
    assert "has ended" in marquee("rollout", "pause", "films", code=2)


def test_a_deployment_is_stopped_and_comes_up_as_it_was(world):
    marquee("rollout", "stop", "films")
    assert "films is at http://127.0.0.1:" in marquee("rollout", "up", "films")
    with Users(url(world), count=1) as users:
        while len(users.seen) < 5:
            time.sleep(0.05)
    assert users.versions().keys() == {world["good"]}


def test_a_bundle_that_nobody_signed_is_refused_if_it_is_to_be(world, tmp_path):
    bundle = tiny_bundle(tmp_path / "unsigned", seed=3)
    for command in (("serve",), ("predict",)):
        words = [*command, bundle.folder, "--require-signature"]
        words += [Path(__file__)] if command == ("predict",) else []
        assert "is not signed" in marquee(*words, code=2)
    where = ("--name", "other", "--backend", "local", "--require-signature")
    assert "is not signed" in marquee("rollout", "start", bundle.folder, *where, code=6)
    # Nothing was served there before, so nothing is left running.
    assert not list(LocalBackend(world["folder"] / "deployments/other")._running())
