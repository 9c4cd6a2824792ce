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
from marquee import __version__
from monitoring.component import monitor
from pipelines.retrain_component import retrain
from pipelines.skip import skip

__all__ = [
    "POLICIES",
    "SPANS_AT_A_TIME",
    "add_kubeflow",
    "add_tmdb_token",
    "add_webhook",
    "make_task",
]

IMAGE_PREFIX = os.environ.get("MARQUEE_IMAGE_PREFIX", "marquee")
"""Registry and repository of our images, read when a pipeline is compiled."""


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
    function: Callable[..., typing.Any]


POLICIES: dict[str, Policy] = {
    "plan-ingest": Policy(image="data", cache=False, retries=3, function=plan),
    "ingest": Policy(image="data", cache=False, retries=3, function=ingest),
    "merge": Policy(image="data", cache=False, retries=2, function=merge),
    "validate": Policy(image="data", cache=True, retries=0, function=validate),
    "balance": Policy(image="data", cache=True, retries=0, function=balance),
    "train": Policy(image="train", cache=True, retries=2, function=train),
    "evaluate": Policy(image="train", cache=True, retries=1, function=evaluate),
    "register": Policy(image="train", cache=False, retries=2, function=register),
    "skip": Policy(image="data", cache=True, retries=0, function=skip),
    "gate": Policy(image="train", cache=False, retries=0, function=gate),
    "rollout": Policy(image="train", cache=False, retries=3, function=rollout),
    "notify": Policy(image="train", cache=False, retries=0, function=notify),
    "score": Policy(image="train", cache=False, retries=3, function=score),
    "monitor": Policy(image="monitoring", cache=False, retries=2, function=monitor),
    "retrain": Policy(image="monitoring", cache=False, retries=2, function=retrain),
}
"""Every step of every pipeline."""


_SIGNING, _PLACES = ("register", "gate", "rollout"), "marquee"
"""The steps that sign or verify, and the ConfigMap that tells them where things are."""
_MODEL_PLACES = {
    "models": "MARQUEE_MODELS",
    "prometheus": "MARQUEE_PROMETHEUS",
    "records": "MARQUEE_RECORDS",
    "kserve-namespace": "MARQUEE_KSERVE_NAMESPACE",
}


def make_task(step: str, name: str = "", **arguments: typing.Any) -> dsl.PipelineTask:
    """Add a step to the pipeline that is being built.

    Args:
        step: A name in `POLICIES`.
        name: The task's own name; the step's without it.
        arguments: The step's inputs.

    Returns:
        The task, its cache and retry policy set.
    """
    policy = POLICIES[step]
    task = _component(policy, name or step)(**arguments)
    task.set_caching_options(policy.cache)
    if policy.retries:
        task.set_retry(policy.retries, backoff_duration="10s", backoff_factor=2.0)
    if step in _SIGNING:
        _add_secret(task, "marquee-signing", "key.pem", "MARQUEE_SIGNING_KEY")
        _add_places(task, _MODEL_PLACES)
    if step == "rollout":
        _add_secret(task, "marquee-token", "token", "MARQUEE_TOKEN")
    return task


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


def _component(policy: Policy, name: str) -> typing.Any:
    function = policy.function
    # Component files name kfp's types in annotations only, so that they load without kfp.
    hints = typing.get_type_hints(function, vars(dsl), include_extras=True)
    if hints.get("return") is type(None):
        del hints["return"]  # KFP would take it for an artifact
    function.__annotations__ = hints
    component = dsl.component(
        function,
        base_image=f"{IMAGE_PREFIX}-{policy.image}:{__version__}",
        install_kfp_package=False,
    )
    # A task is named after its component, and two architectures must not share a name.
    named = copy.copy(component)
    named.component_spec = copy.deepcopy(component.component_spec)
    named.component_spec.name = name
    return named
