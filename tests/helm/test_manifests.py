"""manifests/: the base is the chart's rendering; overlays are what it makes of their values."""

import copy
import shutil

import chart_objects
import pytest
import yaml
from chart import OVERLAYS, build, render
from crds import FOLDER
from helpers import ROOT, require_tool
from objects import name_of
from rules import faults

from helm import golden
from manifests import render as base_script
from pipelines.preflight import needs

VALUES = yaml.safe_load((ROOT / "manifests/values.yaml").read_text())
RUNTIMES = {f"ClusterTrainingRuntime/marquee-{name}" for name in needs.RUNTIMES}
SPOT = {
    "key": "cloud.google.com/gke-spot",
    "operator": "Equal",
    "value": "true",
    "effect": "NoSchedule",
}


def environment(overlay):
    return yaml.safe_load((overlay / "environment.yaml").read_text())["data"]


def values_of(overlay):
    """Give the values that make the chart do what an overlay's patches do."""
    own = environment(overlay)
    values = copy.deepcopy(VALUES)
    values["prometheus"]["dashboards"] = {"enabled": True}
    for name, uri in VALUES["storage"].items():
        values["storage"][name] = uri.replace("gs://films", f"{own['scheme']}//{own['bucket']}")
    first = f"{own['scheme']}//{own['bucket']}/registry/versions/{own['digest']}"
    values["pipelines"] |= {
        "serviceAccounts": [own["account"]],
        "namespace": own["kfp-namespace"],
    }
    service = values["inferenceService"] = {"storageUri": first}
    if overlay.name == "knative":
        values["kserve"] = {"mode": "Knative"}
    if overlay.name in ("dev", "staging", "prod"):
        values["images"] = {"prefix": "registry.example/films/marquee"}
        service["maxReplicas"] = {"dev": 1, "staging": 2, "prod": 10}[overlay.name]
    if overlay.name == "dev":
        values["training"] = {"tolerations": [SPOT]}
    if overlay.name == "prod":
        service["minReplicas"] = 2
        keys = yaml.safe_load((overlay / "trusted-keys.yaml").read_text())["data"]
        values["serving"] = {"requireSignature": True, "trustedKeys": keys}
    return values


def comparable(objects):
    """Give objects by name, without what says who manages them."""
    found = {}
    for each in copy.deepcopy(objects):
        _forget(each)
        key = (each["apiVersion"], name_of(each), each["metadata"].get("namespace"))
        found[key] = each
    return found


def _forget(node):
    if isinstance(node, list):
        for item in node:
            _forget(item)
    if isinstance(node, dict):
        for name in ("helm.sh/chart", "helm.sh/resource-policy", "app.kubernetes.io/managed-by"):
            node.pop(name, None)
        for child in node.values():
            _forget(child)


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_an_overlay_is_what_the_chart_makes_of_its_values(overlay):
    rendered = comparable(render(values_of(overlay), environment(overlay)["namespace"]))
    built = comparable(build(overlay))
    if overlay.name == "staging":
        # They are the cluster's, which it shares with dev: test_gitops.py looks whose they are.
        rendered = {key: each for key, each in rendered.items() if key[1] not in RUNTIMES}
    assert built.keys() == rendered.keys()
    for key, each in built.items():
        assert each == rendered[key], key


@pytest.mark.skipif(not FOLDER.exists(), reason="needs ../shared/crds")
@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_the_objects_of_an_overlay_are_valid_and_fit_together(overlay):
    objects = build(overlay)
    if overlay.name == "staging":
        objects += [each for each in build(overlay.parent / "dev") if name_of(each) in RUNTIMES]
    assert faults(objects) == []


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_a_second_apply_leaves_the_bootstrap_object_out_and_nothing_else(overlay):
    """`kubectl apply -k OVERLAY -l 'marquee.dev/bootstrap!=true'`."""
    left_out = [
        name_of(each)
        for each in build(overlay)
        if each["metadata"].get("labels", {}).get("marquee.dev/bootstrap") == "true"
    ]
    assert left_out == ["InferenceService/poster-genre"]


def test_an_environment_of_one_user_is_named_in_one_file(tmp_path):
    """Where Kubeflow has no profiles, as docs/install.md has it."""
    for folder in ("manifests", "monitoring/dashboards"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    overlay = tmp_path / "manifests/overlays/standard"
    file = overlay / "environment.yaml"
    own = {**environment(overlay), "account": "pipeline-runner", "kfp-namespace": ""}
    text = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({**text, "data": own}))
    objects = build(overlay)
    (places,) = (each for each in objects if name_of(each) == "ConfigMap/marquee")
    assert places["data"]["kfp-namespace"] == ""
    bound = {s["name"] for each in objects for s in each.get("subjects", ())}
    assert bound == {"pipeline-runner"}


def test_the_base_is_fresh():
    require_tool("helm", folder="helm")
    assert golden.stale(base_script.rendered(), base_script.there()) == [], "run `make manifests`"


def test_a_base_that_is_not_fresh_is_found(tmp_path, monkeypatch):
    require_tool("helm", folder="helm")
    base = tmp_path / "base"
    monkeypatch.setattr(base_script, "BASE", base)
    wanted = base_script.rendered()
    golden.renew(wanted, base_script.there())
    assert golden.stale(wanted, base_script.there()) == []
    (base / "rbac.yaml").write_text("kind: Role\n")
    (base / "left.yaml").write_text("kind: Role\n")
    (base / "exporter.yaml").unlink()
    names = [path.name for path in golden.stale(wanted, base_script.there())]
    assert names == ["exporter.yaml", "left.yaml", "rbac.yaml"]
    golden.renew(wanted, base_script.there())
    assert golden.stale(wanted, base_script.there()) == []


def test_no_choice_of_values_adds_or_loses_an_object_unnoticed():
    assert chart_objects.FILE.read_text() == chart_objects.summary(), "run `make manifests`"


def test_overlays_differ_from_the_base_by_patches_only():
    for overlay in OVERLAYS:
        kustomization = yaml.safe_load((overlay / "kustomization.yaml").read_text())
        assert kustomization["resources"][0] == "../../base"
        assert "helmCharts" not in kustomization
    assert [path.name for path in OVERLAYS] == ["dev", "knative", "prod", "staging", "standard"]
