"""The compiled packages: what the Kubeflow UI gets."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from crds import FOLDER, problem_of
from helpers import ROOT
from kfp import components

from components.ingest.sources import make_source
from components.train.order import Place
from components.train.settings import LaunchSettings
from marquee.errors import UsageError
from marquee.genres import label_set
from pipelines.arguments import check_arguments
from pipelines.cluster import version_of
from pipelines.package import CHOICES, MANIFESTS, PIPELINES, compile_all
from pipelines.steps import POLICIES, SPANS_AT_A_TIME

GOLDEN = ROOT / "pipelines/compiled"


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    compiled = compile_all(tmp_path_factory.mktemp("compiled"))
    return {path.stem: path for path in compiled if path.parent.name != MANIFESTS}


@pytest.fixture
def package(packages):
    """That of the training pipeline."""
    return packages["marquee-training"]


@pytest.fixture(params=PIPELINES)
def any_package(packages, request):
    return packages[request.param]


def test_the_package_in_git_is_fresh(any_package):
    """`make pipelines` refreshes it."""
    assert any_package.read_text() == (GOLDEN / any_package.name).read_text()
    manifest = f"{MANIFESTS}/{any_package.name}"
    assert (any_package.parent / manifest).read_text() == (GOLDEN / manifest).read_text()


def test_a_package_loads_in_kfps_sdk(any_package):
    loaded = components.load_component_from_file(str(any_package))
    assert set(loaded.component_spec.inputs) == set(_parameters(any_package))


def test_the_objects_for_kubernetes_are_valid_and_hold_the_same_pipeline(any_package):
    manifest = any_package.parent / MANIFESTS / any_package.name
    pipeline, version = yaml.safe_load_all(manifest.read_text())
    if FOLDER.exists():
        assert [problem_of(document) for document in (pipeline, version)] == ["", ""]
    assert pipeline["metadata"]["name"] == version["spec"]["pipelineName"] == any_package.stem
    spec, platform = yaml.safe_load_all(any_package.read_text())
    assert version["spec"]["pipelineSpec"] == spec
    assert version["spec"]["platformSpec"] == platform
    # Kubernetes cannot change a version: what is in the package is in the name.
    assert version["metadata"]["name"] == f"{any_package.stem}-{version_of(any_package)}"
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", version["metadata"]["name"])


def _spec(package):
    """The pipeline; what only Kubernetes needs to know follows it in a document of its own."""
    return next(yaml.safe_load_all(package.read_text()))


def _parameters(package):
    return _spec(package)["root"]["inputDefinitions"]["parameters"]


def _groups(package):
    """The tasks of the pipeline itself, and of each group of it."""
    spec = _spec(package)
    dags = [spec["root"], *spec["components"].values()]
    return [dag["dag"]["tasks"] for dag in dags if "dag" in dag]


def _tasks(package):
    return {
        name: task
        for tasks in _groups(package)
        for name, task in tasks.items()
        if not name.startswith(("condition", "for-loop", "exit-handler"))
    }


def _executors(package):
    """What Kubernetes has to know of each."""
    _, platform = yaml.safe_load_all(package.read_text())
    return platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


def _policy(task):
    return POLICIES.get(task) or POLICIES[task.partition("-")[0]]


def test_each_architecture_has_tasks_of_its_own_name(package):
    tasks = _tasks(package)
    assert set(tasks) == {
        "plan-ingest",
        "ingest",
        "merge",
        "validate",
        "balance",
        *(
            f"{step}-{architecture}"
            for step in ("train", "evaluate", "register", "skip")
            for architecture in ("custom-cnn", "vgg16")
        ),
        "gate",
        "rollout",
        "notify",
    }


def test_a_catalog_is_scored_in_one_step(packages):
    assert set(_tasks(packages["poster-scoring"])) == {"score"}


def test_every_task_has_the_policy_of_the_table(any_package):
    for name, task in _tasks(any_package).items():
        policy = _policy(name)
        assert bool(task["cachingOptions"].get("enableCache")) == policy.cache, name
        retries = int(task.get("retryPolicy", {}).get("maxRetryCount", 0))
        assert retries == policy.retries, name


def test_steps_that_act_on_the_world_are_never_cached():
    acting = {
        *("plan-ingest", "ingest", "merge", "register", "gate", "rollout", "notify", "score"),
        *("monitor", "retrain"),
    }
    assert {step for step, policy in POLICIES.items() if not policy.cache} == acting


def test_slices_are_ingested_side_by_side_and_then_merged(package):
    ((tasks, name, loop),) = (
        (tasks, name, task)
        for tasks in _groups(package)
        for name, task in tasks.items()
        if "parameterIterator" in task
    )
    assert loop["iteratorPolicy"]["parallelismLimit"] == SPANS_AT_A_TIME
    assert "plan-ingest" in str(loop["parameterIterator"])
    collected = tasks["merge"]["inputs"]["parameters"]["spans"]["taskOutputParameter"]
    assert collected["producerTask"] == name


def test_every_task_has_the_resources_and_the_deadline_of_the_table(any_package):
    containers = _spec(any_package)["deploymentSpec"]["executors"]
    for name, executor in _executors(any_package).items():
        policy = _policy(name.removeprefix("exec-"))
        resources = containers[name]["container"]["resources"]
        for kind in ("Request", "Limit"):
            assert resources[f"resourceCpu{kind}"] == policy.cpus, name
            assert resources[f"resourceMemory{kind}"] == policy.memory, name
        assert int(executor["activeDeadlineSeconds"]) == 3600 * policy.hours, name


def test_a_run_ends_some_day_and_what_ended_is_cleared_away(any_package):
    _, platform = yaml.safe_load_all(any_package.read_text())
    config = platform["platforms"]["kubernetes"]["pipelineConfig"]
    longest = max(int(e["activeDeadlineSeconds"]) for e in _executors(any_package).values())
    assert longest < int(config["activeDeadlineSeconds"]) <= 7 * 24 * 3600
    assert int(config["resourceTtlOnCompletion"]) == 7 * 24 * 3600


def test_the_table_of_the_docs_is_the_codes():
    rows = [
        f"| `{name}` | `{p.image}` | {'yes' if p.cache else 'no'} | {p.retries} | {p.hours:g} h "
        f"| {p.cpus} | {p.memory} |"
        for name, p in POLICIES.items()
    ]
    found = (ROOT / "docs/pipeline.md").read_text().splitlines()
    start = found.index(rows[0])
    assert found[start : start + len(rows)] == rows


def test_no_step_is_root(any_package):
    for executor in _executors(any_package).values():
        assert executor["securityContext"] == {
            "runAsUser": "10001", "runAsGroup": "10001", "runAsNonRoot": True,
        }  # fmt: skip


@pytest.mark.parametrize("name", CHOICES)
def test_closed_parameters_are_drop_downs(name, packages):
    having = [p for p in map(_parameters, packages.values()) if name in p]
    assert having
    for parameters in having:
        assert parameters[name]["literals"] == list(CHOICES[name])
        assert parameters[name]["defaultValue"] in parameters[name]["literals"]


ACCEPTED = {
    "source": lambda name: make_source(name, path="."),
    "label_set": lambda name: name == "subgenres" or label_set(name),
    "gpu_type": lambda name: Place(gpu_type=name),
}


@pytest.mark.parametrize("name", CHOICES)
def test_the_code_takes_what_a_drop_down_offers_and_nothing_else(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("posters.csv").write_text("id,title,year,genres\n")
    monkeypatch.setenv("TMDB_READ_ACCESS_TOKEN", "token")
    for choice in CHOICES[name]:
        assert ACCEPTED[name](choice)
    with pytest.raises(UsageError, match="nonsense"):
        ACCEPTED[name]("nonsense")


def test_another_choice_is_refused_before_anything_is_sent(package):
    with pytest.raises(UsageError, match="'gpu_type' cannot be 'K80'") as caught:
        check_arguments(_spec(package), {"run_uri": "gs://b/r", "gpu_type": "K80"})
    assert "any, T4, L4" in caught.value.remedy


def test_the_train_step_gets_what_its_pods_are_to_have(package):
    spec = _spec(package)
    component = spec["components"]["comp-train-vgg16"]
    parameters = component["inputDefinitions"]["parameters"]
    assert parameters["task_config"]["parameterType"] == "TASK_CONFIG"
    passed = {p["field"]: p.get("applyToTask", False) for p in component["taskConfigPassthroughs"]}
    # The step is a launcher: it reads and writes below run_uri, and needs no CPUs.
    assert passed == {
        "RESOURCES": False,
        "KUBERNETES_NODE_SELECTOR": False,
        "KUBERNETES_TOLERATIONS": False,
        "KUBERNETES_AFFINITY": False,
        "ENV": True,
        "KUBERNETES_VOLUMES": True,
    }
    container = spec["deploymentSpec"]["executors"]["exec-train-vgg16"]["container"]
    assert container["env"] == [{"name": "MARQUEE_TRAIN_IMAGE", "value": container["image"]}]
    others = [name for name in spec["components"] if "train" not in name]
    assert not any("taskConfigPassthroughs" in spec["components"][name] for name in others)


def test_the_training_ends_before_its_step_does():
    assert LaunchSettings().deadline_hours < POLICIES["train"].hours


def test_every_step_may_open_the_storage(any_package):
    for executor in _executors(any_package).values():
        (secret,) = (s for s in executor["secretAsEnv"] if s["secretName"] == "marquee-storage")
        assert len(secret["keyToEnv"]) == 3
        (volume,) = executor["secretAsVolume"]
        assert volume["optional"]
        assert volume["mountPath"] == "/etc/marquee-storage"


def test_a_volume_takes_the_place_of_the_storage_where_there_is_none(tmp_path):
    code = (
        "import sys, pathlib\n"
        "from pipelines.package import compile_pipeline\n"
        "compile_pipeline('marquee-training', pathlib.Path(sys.argv[1]))\n"
    )
    environment = os.environ | {"MARQUEE_STORAGE_PVC": "marquee-storage"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment, check=True)
    for name, executor in _executors(tmp_path / "marquee-training.yaml").items():
        (claim,) = executor["pvcMount"]
        assert (claim["constant"], claim["mountPath"]) == ("marquee-storage", "/mnt/marquee"), name
        # KFP would name a second volume alike.
        assert "secretAsVolume" not in executor


SECRETS = {
    "plan-ingest": ["TMDB_READ_ACCESS_TOKEN"],
    "ingest": ["TMDB_READ_ACCESS_TOKEN"],
    "register-custom-cnn": ["MARQUEE_SIGNING_KEY"],
    "register-vgg16": ["MARQUEE_SIGNING_KEY"],
    "gate": ["MARQUEE_SIGNING_KEY"],
    "rollout": ["MARQUEE_SIGNING_KEY", "MARQUEE_TOKEN"],
    "notify": ["MARQUEE_WEBHOOK"],
}


def test_secrets_go_to_the_steps_that_need_them_and_need_not_be_there(package):
    found = {}
    for name, executor in _executors(package).items():
        secrets = executor["secretAsEnv"]
        assert all(secret["optional"] for secret in secrets)
        own = [secret for secret in secrets if secret["secretName"] != "marquee-storage"]
        keys = [key["envVar"] for secret in own for key in secret["keyToEnv"]]
        if keys:
            found[name.removeprefix("exec-")] = keys
    assert found == SECRETS


def test_people_are_told_however_the_run_ends(package):
    """KFP runs the exit task after the group, whether that failed or not."""
    (told,) = (tasks["notify"] for tasks in _groups(package) if "notify" in tasks)
    assert told["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"


def test_a_rollout_begins_only_after_the_gate_let_the_model_through(package):
    (tasks,) = (tasks for tasks in _groups(package) if "gate" in tasks)
    (condition,) = (t for t in tasks.values() if t["taskInfo"]["name"] == "if-rollout")
    assert "gate" in condition["dependentTasks"]
    assert "rollout_to" in condition["triggerPolicy"]["condition"]


def test_a_cached_step_depends_on_what_it_reads(package):
    tasks = _tasks(package)
    reads = {"validate": "catalog_digest", "balance": "catalog_digest", "train": "split_digest"}
    for name, task in tasks.items():
        digest = reads.get(name.partition("-")[0])
        if digest:
            source = task["inputs"]["parameters"][digest]
            assert "Output" in str(source), name
    # A run's name or id among the inputs would make every run a cache miss.
    assert "{{$.pipeline_job" not in package.read_text()


def test_no_step_runs_pip_and_every_image_is_ours(any_package):
    text = any_package.read_text()
    assert "pip install" not in text
    executors = _spec(any_package)["deploymentSpec"]["executors"].values()
    images = {executor["container"]["image"].rpartition(":")[0] for executor in executors}
    assert images <= {"marquee-data", "marquee-train", "marquee-monitoring"}


def test_parameters_are_few_and_described(any_package):
    spec = _spec(any_package)
    parameters = spec["root"]["inputDefinitions"]["parameters"]
    assert len(parameters) - ("overrides" in parameters) <= 15
    for name, parameter in parameters.items():
        assert parameter.get("description"), name


def test_component_files_stay_short():
    for path in (ROOT / "components").glob("*/*component.py"):
        assert len(path.read_text().splitlines()) <= 25, path


def test_every_pipeline_is_compiled():
    assert set(PIPELINES) == {Path(path).stem for path in GOLDEN.glob("*.yaml")}
