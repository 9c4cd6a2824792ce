"""The pipeline's steps as KFP components: which image each runs in, and how it is treated."""

import copy
import os
import typing
from collections.abc import Callable
from dataclasses import dataclass

from kfp import dsl, kubernetes

from components.balance.component import balance
from components.evaluate.component import evaluate
from components.evaluate.gate_component import gate
from components.ingest.component import ingest
from components.ingest.merge_component import merge
from components.ingest.plan_component import plan
from components.ingest.spans import SPANS_AT_A_TIME
from components.register.component import register
from components.rollout.component import rollout
from components.rollout.notify_component import notify
from components.score.component import score
from components.train.component import train
from components.validate.component import validate
from marquee import __version__, storage
from monitoring.component import monitor
from pipelines.retrain_component import retrain
from pipelines.skip import skip

__all__ = [
    "POLICIES",
    "SPANS_AT_A_TIME",
    "add_kubeflow",
    "add_tmdb_token",
    "add_webhook",
    "limits",
    "make_task",
]

IMAGE_PREFIX = os.environ.get("MARQUEE_IMAGE_PREFIX", "marquee")
"""Registry and repository of our images, read when a pipeline is compiled."""


STORAGE_PVC = os.environ.get("MARQUEE_STORAGE_PVC", "")
"""A volume that every step has at `storage.VOLUME`, where there is no object storage; likewise."""
_STORAGE = "marquee-storage"
"""The optional secret that opens the object storage, where workload identity does not."""
_DAY = 24 * 3600
_USER = 10001
"""That of our images."""
_SECRET_PATH, _CACHE_PATH = "/etc/marquee-storage", "/var/cache/marquee"


@dataclass(frozen=True, kw_only=True)
class Policy:
    """How KFP treats a step.

    A step that acts on the world, or reads what may have changed, is never served from the cache:
    a cached register would register nothing. A gate that says no is not asked again; a rollout is,
    as it goes on where it was, and one that has ended only says so again.
    """

    image: str
    """Which of our images it runs in: `data`, `train` or `monitoring`."""
    cache: bool
    retries: int
    hours: float
    """After these a try of it is ended."""
    cpus: str
    """CPUs that it asks for, and may use."""
    memory: str
    """Memory that it asks for, and may use."""
    function: Callable[..., typing.Any]


POLICIES: dict[str, Policy] = {
    "plan-ingest": Policy(
        image="data", cache=False, retries=3, hours=1, cpus="500m", memory="1Gi", function=plan
    ),
    "ingest": Policy(
        image="data", cache=False, retries=3, hours=24, cpus="2", memory="4Gi", function=ingest
    ),
    "merge": Policy(
        image="data", cache=False, retries=2, hours=4, cpus="1", memory="4Gi", function=merge
    ),
    "validate": Policy(
        image="data", cache=True, retries=0, hours=4, cpus="2", memory="4Gi", function=validate
    ),
    "balance": Policy(
        image="data", cache=True, retries=0, hours=2, cpus="2", memory="4Gi", function=balance
    ),
    "train": Policy(
        image="train", cache=True, retries=2, hours=49, cpus="4", memory="16Gi", function=train
    ),
    "evaluate": Policy(
        image="train", cache=True, retries=1, hours=6, cpus="4", memory="8Gi", function=evaluate
    ),
    "register": Policy(
        image="train", cache=False, retries=2, hours=1, cpus="500m", memory="2Gi", function=register
    ),
    "skip": Policy(
        image="data", cache=True, retries=0, hours=0.5, cpus="250m", memory="512Mi", function=skip
    ),
    "gate": Policy(
        image="train", cache=False, retries=0, hours=2, cpus="2", memory="4Gi", function=gate
    ),
    "rollout": Policy(
        image="train", cache=False, retries=3, hours=96, cpus="1", memory="4Gi", function=rollout
    ),
    "notify": Policy(
        image="train", cache=False, retries=0, hours=0.5, cpus="250m", memory="1Gi", function=notify
    ),
    "score": Policy(
        image="train", cache=False, retries=3, hours=24, cpus="4", memory="8Gi", function=score
    ),
    "monitor": Policy(
        image="monitoring", cache=False, retries=2, hours=6, cpus="2", memory="8Gi",
        function=monitor,
    ),
    "retrain": Policy(
        image="monitoring", cache=False, retries=2, hours=1, cpus="500m", memory="2Gi",
        function=retrain,
    ),
}  # fmt: skip
"""Every step of every pipeline. What `train` asks for is for each of the pods that it starts."""


_SIGNING, _PLACES = ("register", "gate", "rollout"), "marquee"
"""The steps that sign or verify, and the ConfigMap that tells them where things are."""
_CACHING = ("evaluate", "score")
"""The steps that keep what can be made again on their disk."""
_MODEL_PLACES = {
    "models": "MARQUEE_MODELS",
    "prometheus": "MARQUEE_PROMETHEUS",
    "records": "MARQUEE_RECORDS",
    "kserve-namespace": "MARQUEE_KSERVE_NAMESPACE",
}
_PASSED_ON = [
    dsl.TaskConfigField.RESOURCES,
    dsl.TaskConfigField.KUBERNETES_NODE_SELECTOR,
    dsl.TaskConfigField.KUBERNETES_TOLERATIONS,
    dsl.TaskConfigField.KUBERNETES_AFFINITY,
    # The step itself reads and writes below run_uri.
    dsl.TaskConfigPassthrough(field=dsl.TaskConfigField.ENV, apply_to_task=True),
    dsl.TaskConfigPassthrough(field=dsl.TaskConfigField.KUBERNETES_VOLUMES, apply_to_task=True),
]
"""What the train step's task carries for the pods of the TrainJob that it starts."""


def limits(days: int) -> dsl.PipelineConfig:
    """Say how long runs of a pipeline may take, and how long Kubernetes keeps those that ended.

    Args:
        days: After these a run is ended.
    """
    return dsl.PipelineConfig(
        active_deadline_seconds=days * _DAY, ttl_seconds_after_finished=7 * _DAY
    )


def make_task(step: str, name: str = "", **arguments: typing.Any) -> dsl.PipelineTask:
    """Add a step to the pipeline that is being built.

    Args:
        step: A name in `POLICIES`.
        name: The task's own name; the step's without it.
        arguments: The step's inputs.

    Returns:
        The task, its policy set.
    """
    policy = POLICIES[step]
    task = _component(step, policy, name or step)(**arguments)
    task.set_caching_options(policy.cache)
    if policy.retries:
        task.set_retry(policy.retries, backoff_duration="10s", backoff_factor=2.0)
    task.set_cpu_request(policy.cpus).set_cpu_limit(policy.cpus)
    task.set_memory_request(policy.memory).set_memory_limit(policy.memory)
    kubernetes.set_timeout(task, round(3600 * policy.hours))
    kubernetes.set_security_context(
        task, run_as_user=_USER, run_as_group=_USER, run_as_non_root=True
    )
    _add_storage(task)
    if step == "train":
        task.set_env_variable("MARQUEE_TRAIN_IMAGE", _image(policy))
        _add_places(
            task,
            {
                "training-runtimes": "MARQUEE_TRAINING_RUNTIMES",
                "train-image": "MARQUEE_TRAIN_IMAGE_HERE",
            },
        )
    if step in _CACHING:
        kubernetes.empty_dir_mount(task, "cache", _CACHE_PATH, size_limit="20Gi")
    if step in _SIGNING:
        _add_secret(task, "marquee-signing", "key.pem", "MARQUEE_SIGNING_KEY")
        _add_places(task, _MODEL_PLACES)
    if step == "rollout":
        _add_secret(task, "marquee-token", "token", "MARQUEE_TOKEN")
    return task


def _add_storage(task: dsl.PipelineTask) -> None:
    """Let a task read and write where runs are kept."""
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL")
    kubernetes.use_secret_as_env(
        task, _STORAGE, secret_key_to_env={name: name for name in names}, optional=True
    )
    if STORAGE_PVC:
        # KFP names volumes after what is in them, so not beside the secret of the same name.
        kubernetes.mount_pvc(task, STORAGE_PVC, storage.VOLUME)
    else:
        kubernetes.use_secret_as_volume(task, _STORAGE, _SECRET_PATH, optional=True)


def _add_secret(task: dsl.PipelineTask, secret: str, key: str, variable: str) -> None:
    """Give a task a variable from a secret, if the namespace has that."""
    kubernetes.use_secret_as_env(
        task, secret_name=secret, secret_key_to_env={key: variable}, optional=True
    )


def _add_places(task: dsl.PipelineTask, variables: dict[str, str]) -> None:
    """Tell a task where things of the cluster are, as far as the ConfigMap says it."""
    kubernetes.use_config_map_as_env(
        task, config_map_name=_PLACES, config_map_key_to_env=variables, optional=True
    )


def add_tmdb_token(task: dsl.PipelineTask) -> None:
    """Give a task TMDB's token from the secret `marquee-tmdb`, if the namespace has one.

    Args:
        task: A task that calls TMDB.
    """
    _add_secret(task, "marquee-tmdb", "read-access-token", "TMDB_READ_ACCESS_TOKEN")


def add_webhook(task: dsl.PipelineTask) -> None:
    """Give a task the webhook from the secret `marquee-webhook`, if the namespace has one.

    Args:
        task: A task that tells people how a run ended.
    """
    _add_secret(task, "marquee-webhook", "url", "MARQUEE_WEBHOOK")


def add_kubeflow(task: dsl.PipelineTask) -> None:
    """Tell a task where Kubeflow starts runs, and its token, as far as the namespace has them.

    Args:
        task: A task that starts runs.
    """
    _add_secret(task, "marquee-kfp", "token", "MARQUEE_KFP_TOKEN")
    _add_places(
        task,
        {
            "kfp-endpoint": "MARQUEE_KFP_ENDPOINT",
            "kfp-namespace": "MARQUEE_KFP_NAMESPACE",
        },
    )


def _image(policy: Policy) -> str:
    return f"{IMAGE_PREFIX}-{policy.image}:{__version__}"


def _component(step: str, policy: Policy, name: str) -> typing.Any:
    function = policy.function
    # Component files name kfp's types in annotations only, so that they load without kfp.
    hints = typing.get_type_hints(function, vars(dsl), include_extras=True)
    if hints.get("return") is type(None):
        del hints["return"]  # KFP would take it for an artifact
    function.__annotations__ = hints
    component = dsl.component(
        function,
        base_image=_image(policy),
        install_kfp_package=False,
        task_config_passthroughs=_PASSED_ON if step == "train" else None,
    )
    # A task is named after its component, and two architectures must not share a name.
    named = copy.copy(component)
    named.component_spec = copy.deepcopy(component.component_spec)
    named.component_spec.name = name
    return named
