"""The pipeline's steps as KFP components: which image each runs in, and how it is treated."""

import copy
import os
import typing
from collections.abc import Callable
from dataclasses import dataclass

from kfp import dsl, kubernetes

from components.balance.component import balance
from components.evaluate.component import evaluate
from components.ingest.component import ingest
from components.ingest.merge_component import merge
from components.ingest.plan_component import plan
from components.ingest.spans import SPANS_AT_A_TIME
from components.register.component import register
from components.score.component import score
from components.train.component import train
from components.validate.component import validate
from marquee import __version__

__all__ = ["POLICIES", "SPANS_AT_A_TIME", "add_tmdb_token", "make_task"]

IMAGE_PREFIX = os.environ.get("MARQUEE_IMAGE_PREFIX", "marquee")
"""Registry and repository of our images, read when a pipeline is compiled."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """How KFP treats a step.

    A step that acts on the world, or reads what may have changed, is never served from the cache:
    a cached register would register nothing.
    """

    image: str
    """Which of our images it runs in: `data` or `train`."""
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
    "score": Policy(image="train", cache=False, retries=3, function=score),
}
"""Every step of every pipeline."""


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
    return task


def add_tmdb_token(task: dsl.PipelineTask) -> None:
    """Give a task TMDB's token from the secret `marquee-tmdb`, if the namespace has one.

    Args:
        task: A task that calls TMDB.
    """
    kubernetes.use_secret_as_env(
        task,
        secret_name="marquee-tmdb",
        secret_key_to_env={"read-access-token": "TMDB_READ_ACCESS_TOKEN"},
        optional=True,
    )


def _component(policy: Policy, name: str) -> typing.Any:
    function = policy.function
    # Component files name kfp's types in annotations only, so that they load without kfp.
    function.__annotations__ = typing.get_type_hints(function, vars(dsl), include_extras=True)
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
