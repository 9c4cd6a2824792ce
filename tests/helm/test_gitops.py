"""What Argo CD is told: it applies what Git says, and never what a rollout owns.

Nothing here has Argo CD's schemas. Both objects were held against those of its 3.6.0 when they were
written.
"""

import copy
import shutil

import pytest
import yaml
from chart import build
from helpers import ROOT
from objects import name_of

from components.rollout.backends.inference_service import snapshot, standard
from components.rollout.state import Model, World

FOLDER = ROOT / "manifests/argocd"
PROJECT = yaml.safe_load((FOLDER / "project.yaml").read_text())["spec"]
SET = yaml.safe_load((FOLDER / "applications.yaml").read_text())["spec"]
TEMPLATE = SET["template"]["spec"]
ENVIRONMENTS = {each["environment"]: each for each in SET["generators"][0]["list"]["elements"]}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The objects of each environment, its kustomization with the components that Argo CD adds."""
    root = tmp_path_factory.mktemp("repository")
    for folder in ("manifests", "monitoring/dashboards"):
        shutil.copytree(ROOT / folder, root / folder)
    found = {}
    for environment in ENVIRONMENTS:
        overlay = root / TEMPLATE["source"]["path"].replace("{{ .environment }}", environment)
        file = overlay / "kustomization.yaml"
        kustomization = yaml.safe_load(file.read_text())
        kustomization["components"] += TEMPLATE["source"]["kustomize"]["components"]
        file.write_text(yaml.safe_dump(kustomization))
        found[environment] = build(overlay)
    return found


def service(objects):
    return next(each for each in objects if each["kind"] == "InferenceService")


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_an_application_s_objects_are_where_the_project_lets_it(environment, built):
    allowed = {
        (each["namespace"]) for each in PROJECT["destinations"] if environment in each["namespace"]
    } | {"kserve"}
    namespaces = {each["metadata"].get("namespace") for each in built[environment]} - {None}
    assert namespaces <= allowed
    own = TEMPLATE["destination"]["namespace"].replace("{{ .environment }}", environment)
    assert own in namespaces


@pytest.mark.parametrize("kind", ["cluster", "namespace"])
def test_the_project_lets_in_the_kinds_that_there_are_and_no_others(kind, built):
    used = {
        (each["apiVersion"].rpartition("/")[0], each["kind"])
        for objects in built.values()
        for each in objects
        if ("namespace" in each["metadata"]) == (kind == "namespace")
    }
    if kind == "cluster":
        used.add(("", "Namespace"))  # that Argo CD makes
    listed = {(each["group"], each["kind"]) for each in PROJECT[f"{kind}ResourceWhitelist"]}
    assert listed == used


def test_nothing_of_a_cluster_belongs_to_two_applications(built):
    """Both would put it back, each to its own."""
    owners = {}
    for environment, objects in built.items():
        for each in objects:
            where = ENVIRONMENTS[environment]["server"], each["metadata"].get("namespace")
            owners.setdefault((*where, name_of(each)), []).append(environment)
    assert {key: found for key, found in owners.items() if len(found) > 1} == {}


def test_what_argo_cd_adds_is_about_the_inference_service_only(built):
    plain = build(ROOT / "manifests/overlays/prod")
    assert [name_of(each) for each in built["prod"] if each not in plain] == [
        "InferenceService/poster-genre"
    ]
    annotations = service(built["prod"])["metadata"]["annotations"]
    assert annotations["argocd.argoproj.io/sync-options"] == "Prune=false,Delete=false"
    assert int(annotations["argocd.argoproj.io/sync-wave"]) > 0


def without_ignored(document):
    """Take out of an object what Argo CD does not compare."""
    document = copy.deepcopy(document)
    (ignored,) = TEMPLATE["ignoreDifferences"]
    assert (ignored["group"], ignored["kind"]) == ("serving.kserve.io", "InferenceService")
    for pointer in ignored["jsonPointers"]:
        *path, last = pointer.strip("/").split("/")
        place = document
        for name in path:
            place = place[name]
        place.pop(last, None)
    return document


@pytest.mark.parametrize("percent", [0, 25, 100])
def test_argo_cd_sees_no_difference_in_what_rollouts_change(percent, built):
    """And what does not differ it does not apply: `ApplyOutOfSyncOnly`."""
    desired = service(built["prod"])
    stable = Model(version="a" * 64, uri=desired["spec"]["predictor"]["model"]["storageUri"])
    canary = Model(version="b" * 64, uri="gs://films-prod/registry/versions/b")
    world = World(stable=stable, canary=canary, percent=percent)
    live = standard(copy.deepcopy(desired), world, snapshot(desired))
    live["metadata"]["annotations"]["marquee.dev/rollout"] = "{}"
    live["metadata"]["labels"]["app.kubernetes.io/version"] = "0.0.9"
    assert live != desired
    assert without_ignored(live) == without_ignored(desired)
    options = TEMPLATE["syncPolicy"]["syncOptions"]
    assert {"ApplyOutOfSyncOnly=true", "RespectIgnoreDifferences=true"} <= set(options)


def test_prod_is_synced_by_people_at_a_tag():
    assert not ENVIRONMENTS["prod"]["automated"]
    assert ENVIRONMENTS["prod"]["revision"].startswith("v")
    assert "automated" not in TEMPLATE["syncPolicy"], "the patch adds it where it is wanted"
    assert "{{- if .automated }}" in SET["templatePatch"]
