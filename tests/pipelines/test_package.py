"""The compiled packages: what the Kubeflow UI gets."""

from pathlib import Path

import pytest
import yaml
from helpers import ROOT

from pipelines.package import PIPELINES, compile_all
from pipelines.steps import POLICIES, SPANS_AT_A_TIME

GOLDEN = ROOT / "pipelines/compiled"


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    return {path.stem: path for path in compile_all(tmp_path_factory.mktemp("compiled"))}


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


def _spec(package):
    """The pipeline; what only Kubernetes needs to know follows it in a document of its own."""
    return next(yaml.safe_load_all(package.read_text()))


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
        keys = [key["envVar"] for secret in secrets for key in secret["keyToEnv"]]
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
