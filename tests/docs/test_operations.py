"""What docs/operations.md tells people to do by hand, done."""

import json
import re
import shlex
import shutil
import subprocess

import pytest
from bundles import tiny_bundle
from command import marquee
from helpers import ROOT, require_tool

from components.rollout.backends import inference_service as objects
from components.rollout.state import Model, World
from marquee.registry import open_registry

PAGE = (ROOT / "docs/operations.md").read_text()
OLD, NEW = (Model(version=c * 64, uri=f"gs://bucket/models/versions/{c}") for c in ("a", "b"))


@pytest.fixture(autouse=True)
def keys(tmp_path, monkeypatch):
    monkeypatch.setenv("MARQUEE_KEYS", str(tmp_path / "keys"))
    return tmp_path / "keys"


@pytest.fixture
def registry(tmp_path):
    """A registry with two versions, of which the second is champion."""
    uri = tmp_path / "registry"
    for seed in (1, 2):
        register(tmp_path / f"bundle{seed}", uri, seed)
    return uri


def register(folder, registry, seed):
    bundle = tiny_bundle(folder, seed=seed)
    evaluation = {"version": bundle.version, "metrics": {"test/macro_f1": seed / 10}}
    file = folder.parent / f"{seed}.json"
    file.write_text(json.dumps(evaluation))
    return marquee("register", folder, "--evaluation", file, "--registry", registry).strip()


def versions(registry):
    return [entry.version for entry in open_registry(str(registry)).versions()]


def test_what_a_leaked_key_signed_is_refused_until_it_is_signed_anew(registry, keys):
    version = versions(registry)[0]
    shutil.rmtree(keys)  # a new key is made, and the old one trusted by nobody
    assert "not trusted" in marquee("registry", "verify", registry, version, code=2)
    kept = registry / "versions" / version
    (kept / "signature.json").unlink()
    evaluation = registry / "evaluations" / f"{version}.json"
    marquee("register", kept, "--evaluation", evaluation, "--registry", registry)
    assert version[:12] in marquee("registry", "verify", registry, version)


def test_a_registry_is_restored_from_a_copy(registry, tmp_path):
    copied = versions(registry)
    shutil.copytree(registry, tmp_path / "copy")
    later = register(tmp_path / "bundle3", registry, 3)
    shutil.rmtree(registry)
    shutil.copytree(tmp_path / "copy", registry)
    assert versions(registry) == copied
    for version in copied:
        marquee("registry", "verify", registry, version)
    assert register(tmp_path / "bundle3", registry, 3) == later
    assert versions(registry) == [*copied, later]


def patched(name, service, folder):
    """Give what kubectl makes of a service by one of the page's commands."""
    kubectl = require_tool(str(ROOT / ".tools/helm/bin/kubectl"), "make tools")
    (command,) = re.findall(rf"^```sh {name}\n(.*?)\n```", PAGE, re.MULTILINE | re.DOTALL)
    words = shlex.split(command)
    assert words[:4] == ["kubectl", "patch", "inferenceservice", "poster-genre"]
    (folder / "service.json").write_text(json.dumps(service))
    done = subprocess.run(
        [kubectl, "patch", "--local", "-f", "service.json", "-o", "json", *words[4:]],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def service(mode):
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": "poster-genre",
            "namespace": "films",
            "annotations": {objects.MODE: mode},
        },
        "spec": {
            "predictor": {
                "minReplicas": 2,
                "model": {"modelFormat": {"name": "marquee"}, "storageUri": OLD.uri},
            }
        },
    }


def test_a_canary_in_standard_mode_is_taken_back(tmp_path):
    before = service("Standard")
    original = objects.snapshot(before)
    with_canary = objects.standard(before, World(stable=OLD, canary=NEW, percent=25), original)
    assert with_canary["spec"]["canary"]
    assert patched("standard-canary", with_canary, tmp_path) == before


def test_a_canary_in_knative_mode_gets_no_traffic(tmp_path):
    before = service("Knative")
    original = objects.snapshot(before)
    with_canary = objects.knative(before, World(stable=OLD, canary=NEW, percent=25), original)
    after = patched("knative-canary", with_canary, tmp_path)
    assert after["spec"]["predictor"].pop("canaryTrafficPercent") == 0
    with_canary["spec"]["predictor"].pop("canaryTrafficPercent")
    assert after == with_canary
    objects.check(after)


@pytest.mark.parametrize("mode", ["Standard", "Knative"])
def test_another_bundle_is_served(tmp_path, mode):
    before = service(mode)
    after = patched("promoted", before, tmp_path)
    assert objects.served(after) == "gs://bucket/models/versions/OLD"
    after["spec"]["predictor"]["model"]["storageUri"] = OLD.uri
    assert after == before
