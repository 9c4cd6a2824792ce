"""The chart's objects are what the rest of the project reads, runs and watches."""

import copy
import dataclasses
import json
import re
import shutil

import pytest
import yaml
from chart import CHART, render
from chart_cases import CASES, DIGEST, EVERYTHING, PROMETHEUS
from helpers import ROOT
from kubernetes.utils.quantity import parse_quantity
from objects import VERSIONS, containers_of, pods_of
from rules import SECRETS

from components.train import torchrun, trainjob
from components.train.job import runtime_of, train_job
from components.train.order import Order, Place
from components.train.settings import LaunchSettings
from marquee import __version__
from marquee.errors import Stopped
from pipelines.steps import POLICIES

GPU = "nvidia.com/gpu"
PLACES = (
    *(Place(), Place(gpus=1), Place(gpus=2), Place(gpus=8)),
    *(Place(nodes=2), Place(nodes=2, gpus=1), Place(nodes=3, gpus=8)),
)
PACKAGES = sorted((ROOT / "pipelines/compiled").glob("*.yaml"))


def everything(kind):
    return {each["metadata"]["name"]: each for each in render(EVERYTHING) if each["kind"] == kind}


def executors(package):
    """Give what the tasks of a compiled pipeline ask Kubernetes for."""
    for document in yaml.safe_load_all(package.read_text()):
        kubernetes = document.get("platforms", {}).get("kubernetes", {})
        yield from kubernetes.get("deploymentSpec", {}).get("executors", {}).values()


def taken(package, field, name, key):
    """Give names and keys of what a package's tasks take their variables from."""
    for executor in executors(package):
        for source in executor.get(field, ()):
            yield from ((source[name], each[key]) for each in source["keyToEnv"])


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.stem)
def test_what_steps_take_from_the_namespace_is_what_the_chart_makes_or_asks_for(package):
    maps = everything("ConfigMap")
    for name, key in taken(package, "configMapAsEnv", "configMapName", "configMapKey"):
        assert key in maps[name]["data"], f"{package.name} reads {key} of {name}"
    for name, key in taken(package, "secretAsEnv", "secretName", "secretKey"):
        assert key in SECRETS[name], f"{package.name} reads {key} of {name}"
    claims = everything("PersistentVolumeClaim")
    for executor in executors(package):
        for volume in executor.get("secretAsVolume", ()):
            assert volume["secretName"] in SECRETS
        for mount in executor.get("pvcMount", ()):
            assert mount["constant"] in claims


def test_secrets_are_those_that_people_are_told_to_make():
    page = (ROOT / "docs/install.md").read_text()
    rows = re.findall(r"^\| `(marquee-[a-z]+)` \| ([^|]*) \|", page, re.M)
    assert {name: set(re.findall(r"`([^`]+)`", keys)) for name, keys in rows} == SECRETS


def test_packages_take_something():
    """Otherwise the test above would look in the wrong places."""
    found = [
        pair
        for package in PACKAGES
        for pair in taken(package, "configMapAsEnv", "configMapName", "configMapKey")
    ]
    assert ("marquee", "records") in found


def test_images_are_those_that_steps_run_in():
    found = {
        container["image"]
        for pod in pods_of(render({}) + render(CASES["served"]))
        for container in containers_of(pod.spec)
    }
    known = {f"marquee-{policy.image}:{__version__}" for policy in POLICIES.values()}
    assert found == known - {f"marquee-data:{__version__}"} | {f"marquee-serving:{__version__}"}


def test_the_chart_is_of_marquee_s_version():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == __version__


def test_rules_are_those_of_monitoring():
    made = everything("PrometheusRule")
    sources = [yaml.safe_load(path.read_text()) for path in ROOT.glob("monitoring/alerts/*.yaml")]
    assert {name: each["spec"] for name, each in made.items()} == {
        each["metadata"]["name"]: each["spec"] for each in sources
    }


def test_dashboards_are_those_of_monitoring():
    made = [each["data"] for name, each in everything("ConfigMap").items() if "dashboard" in name]
    texts = {key: json.loads(text) for data in made for key, text in data.items()}
    assert texts == {
        f"marquee-{path.name}": json.loads(path.read_text())
        for path in ROOT.glob("monitoring/dashboards/*.json")
    }


def test_links_go_where_people_read_the_docs():
    values = {"docsUrl": "https://wiki.films.example/marquee", **PROMETHEUS}
    objects = render({"prometheus": values})
    said = json.dumps([each for each in objects if each["kind"] in ("PrometheusRule", "ConfigMap")])
    assert "wiki.films.example/marquee/runbooks/" in said
    assert "marquee.example/docs" not in said


def test_another_version_selects_the_same_pods(tmp_path):
    """Selectors cannot be changed, and a selector with a version would lose its pods."""
    newer = tmp_path / "marquee"
    shutil.copytree(CHART, newer)
    about = (newer / "Chart.yaml").read_text()
    (newer / "Chart.yaml").write_text(about.replace(__version__, "9.9.9"))
    now, then = (selecting(render(EVERYTHING, chart=chart)) for chart in (CHART, newer))
    assert now == then
    assert {"Deployment", "Service", "PodMonitor", "NetworkPolicy"} <= {kind for kind, _ in now}


def selecting(objects):
    found = {}
    for each in objects:
        spec = each.get("spec", {})
        selectors = [spec[name] for name in ("selector", "podSelector") if name in spec]
        if selectors:
            found[each["kind"], each["metadata"]["name"]] = selectors
    return found


def test_a_server_is_not_restarted_by_an_upgrade_that_changes_nothing_of_it(tmp_path):
    """What a runtime gives its pods has no version but the image's."""
    newer = tmp_path / "marquee"
    shutil.copytree(CHART, newer)
    about = (newer / "Chart.yaml").read_text()
    (newer / "Chart.yaml").write_text(about.replace(__version__, "9.9.9"))
    values = {**EVERYTHING, "images": {**EVERYTHING["images"], "tag": __version__}}
    now, then = (runtime(render(values, chart=chart)) for chart in (CHART, newer))
    assert now == then


def runtime(objects):
    return next(each["spec"] for each in objects if each["kind"] == "ServingRuntime")


def test_the_schemas_are_of_the_kubernetes_that_the_chart_asks_for():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["kubeVersion"] == f">={VERSIONS[0]}.0-0"


@pytest.mark.parametrize("prefix", ["", "horror"])
def test_each_training_finds_its_runtime(prefix, monkeypatch):
    values = {"training": {"runtimePrefix": prefix}} if prefix else {}
    objects = render(values)
    names = [
        each["metadata"]["name"] for each in objects if each["kind"] == "ClusterTrainingRuntime"
    ]
    data = next(each for each in objects if each["metadata"]["name"] == "marquee")["data"]
    monkeypatch.setenv("MARQUEE_TRAINING_RUNTIMES", data["training-runtimes"])
    assert {runtime_of(place) for place in PLACES} == set(names)


@pytest.mark.parametrize("place", PLACES, ids=lambda place: f"{place.nodes}x{place.gpus}")
def test_what_a_training_s_pods_ask_for_is_what_kubernetes_accepts(place):
    """Trainer merges a TrainJob's resources into the runtime's, amount by amount."""
    resources = copy.deepcopy(
        training_runtimes({})[runtime_of(place)]["containers"][0]["resources"]
    )
    for kind, amounts in resources_of(place).items():
        resources[kind].update(amounts)
    asked, bound = resources["requests"], resources["limits"]
    assert bound.get(GPU, 0) == asked.get(GPU, 0) == place.gpus
    for name in asked.keys() & bound.keys():
        assert parse_quantity(asked[name]) <= parse_quantity(bound[name])


def resources_of(place):
    """Give what a TrainJob of the compiled pipeline asks for each pod."""
    task = {"resources": {kind: {"cpu": "4", "memory": "16Gi"} for kind in ("requests", "limits")}}
    order = Order(
        architecture="vgg16", weights="random",
        **{f"{name}_uri": f"gs://b/{name}" for name in ("catalog", "split", "bundle")},
    )  # fmt: skip
    job = train_job(order, dataclasses.replace(place, task=task), LaunchSettings(), "d", None)
    return job["spec"]["trainer"]["resourcesPerNode"]


def training_runtimes(values):
    """Give the pods of the chart's runtimes by name."""
    return {
        each["metadata"]["name"]: each["spec"]["template"]["spec"]["replicatedJobs"][0]["template"][
            "spec"
        ]["template"]["spec"]
        for each in render(values)
        if each["kind"] == "ClusterTrainingRuntime"
    }


def test_gpu_nodes_are_for_trainings_with_gpus():
    chosen = {"nodeSelector": {"pool": "gpu"}, "tolerations": [{"key": "gpu"}]}
    pods = training_runtimes({"training": {"gpu": chosen}})
    for name, pod in pods.items():
        wants = GPU in pod["containers"][0]["resources"]["limits"]
        assert wants == name.endswith("gpu")
        assert (pod.get("nodeSelector") == chosen["nodeSelector"]) == wants
        assert (pod.get("tolerations") == chosen["tolerations"]) == wants


def test_what_another_try_would_not_mend_is_not_begun_anew():
    """Also a training that nobody follows any longer."""
    for each in render({}):
        if each["kind"] != "ClusterTrainingRuntime":
            continue
        spec = each["spec"]["template"]["spec"]
        by_message, failing = spec["failurePolicy"]["rules"]
        assert by_message["onJobFailureMessagePatterns"] == [f"exit code {Stopped.exit_code} "]
        assert failing["action"] == "FailJobSet"
        rules = spec["replicatedJobs"][0]["template"]["spec"]["podFailurePolicy"]["rules"]
        codes = [rule["onExitCodes"]["values"] for rule in rules if "onExitCodes" in rule]
        assert codes == [list(trainjob._HOPELESS), [Stopped.exit_code]]
    assert torchrun._ABANDONED in trainjob._HOPELESS


def test_trainings_that_ended_stay_until_their_owner_goes():
    """JobSet would take itself away, and Trainer make it anew for the TrainJob that stays."""
    for each in render({}):
        if each["kind"] == "ClusterTrainingRuntime":
            assert "ttlSecondsAfterFinished" not in each["spec"]["template"]["spec"]


IMAGES = {
    "the one that packages name": ({}, None),
    "another tag": ({"tag": "2"}, "marquee-train:2"),
    "a tag of its own": ({"train": {"tag": "3"}}, "marquee-train:3"),
    "a digest": ({"train": {"digest": DIGEST}}, f"marquee-train@{DIGEST}"),
}


@pytest.mark.parametrize("name", IMAGES)
def test_trainings_run_in_the_image_that_the_chart_names(name):
    images, wanted = IMAGES[name]
    objects = render({"images": images})
    data = next(each for each in objects if each["metadata"]["name"] == "marquee")["data"]
    assert data.get("train-image") == wanted


def test_every_key_of_the_config_map_is_read_by_somebody():
    read = {
        key
        for package in PACKAGES
        for _, key in taken(package, "configMapAsEnv", "configMapName", "configMapKey")
    }
    assert set(everything("ConfigMap")["marquee"]["data"]) == read
