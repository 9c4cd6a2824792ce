"""The search on a cluster: a Katib Experiment whose trials are TrainJobs, as a plain document."""

import dataclasses
import re
from datetime import UTC, datetime
from decimal import Decimal

from components.train.architectures import architecture
from components.train.order import Order
from components.train.pods import NODE, Document, check_seen, runtime_patch
from components.train.search import (
    RANDOM_TRIALS,
    UNPRUNED,
    Parameter,
    SearchSpace,
    first_pruned,
)
from components.train.settings import resolve_settings
from marquee import storage
from marquee.errors import UsageError
from marquee.settings import check_range

METRIC = "validation_macro_map"
"""What a trial prints after each epoch, and Katib collects; see `metric_line`."""
_LONGEST_NAME = 31
"""Katib adds 9 letters for a trial's name, and JobSet more for that of a pod."""
_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_PLAIN = re.compile(r"[\w@%+=:,./-]+")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trials:
    """How Katib is to search.

    Raises:
        UsageError: A number is out of range, or a name is none.
    """

    name: str
    """The experiment's."""
    count: int
    parallel: int = 2
    """How many train at a time."""
    runtime: str = "marquee-cpu"
    """A ClusterTrainingRuntime of the chart for one node."""
    namespace: str = ""
    """That of kubectl without it."""
    seed: int = 0
    storage_pvc: str = ""
    """The volume that runs lie on, where no object storage is; features are kept there too."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or len(self.name) > _LONGEST_NAME:
            raise UsageError(
                f"{self.name!r} is no name for an experiment",
                remedy="use lower-case letters, digits and hyphens, a letter first, "
                f"{_LONGEST_NAME} at most",
            )
        check_range("trials", self.count, 1, 100_000)
        check_range("parallel", self.parallel, 1, self.count)


def experiment(order: Order, space: SearchSpace, trials: Trials) -> Document:
    """Build the Experiment of a search.

    Args:
        order: What is trained on what; trials keep their checkpoints below its `checkpoints`.
        space: What is tuned.
        trials: How Katib is to search.

    Returns:
        The object; conditions and labels by which Katib follows a TrainJob are its defaults.

    Raises:
        UsageError: Pods would not see what is to be read, or a URI does not survive the shell that
            Katib wraps the command in.
    """
    _check_places(order, trials)
    labels = _LABELS | {"marquee.dev/architecture": order.architecture}
    metadata: Document = {"name": trials.name, "labels": labels}
    if trials.namespace:
        metadata["namespace"] = trials.namespace
    epochs = resolve_settings(space.architecture, space.settings).epochs
    return {
        "apiVersion": "kubeflow.org/v1beta1",
        "kind": "Experiment",
        "metadata": metadata,
        "spec": {
            "objective": {"type": "maximize", "objectiveMetricName": METRIC},
            # Served by Optuna, as `marquee tune run` is.
            "algorithm": {
                "algorithmName": "multivariate-tpe",
                "algorithmSettings": _settings(
                    random_state=trials.seed, n_startup_trials=RANDOM_TRIALS
                ),
            },
            "earlyStopping": {
                "algorithmName": "medianstop",
                "algorithmSettings": _settings(
                    min_trials_required=UNPRUNED, start_step=first_pruned(epochs)
                ),
            },
            "maxTrialCount": trials.count,
            "parallelTrialCount": trials.parallel,
            # A trial that diverges has failed.
            "maxFailedTrialCount": min(trials.count, max(3, trials.count // 5)),
            "resumePolicy": "Never",
            "metricsCollectorSpec": {"collector": {"kind": "StdOut"}},
            "parameters": [_parameter(item) for item in space.parameters],
            "trialTemplate": {
                "primaryContainerName": NODE,
                "trialParameters": [
                    *({"name": item.name, "reference": item.name} for item in space.parameters),
                    {"name": "trial", "reference": "${trialSpec.Name}"},
                ],
                "trialSpec": _train_job(order, space, trials),
            },
        },
    }


_LABELS = {
    "app.kubernetes.io/name": "marquee",
    "app.kubernetes.io/component": "tuning",
    "app.kubernetes.io/managed-by": "marquee",
}


def metric_line(score: float) -> str:
    """Give the line that tells Katib a score: name and value, after the time."""
    return f"{datetime.now(UTC).isoformat(timespec='milliseconds')} {METRIC}={score:.6f}"


def _settings(**values: int) -> list[Document]:
    return [{"name": name, "value": str(value)} for name, value in values.items()]


def _parameter(item: Parameter) -> Document:
    """Give a parameter as Katib has it: all values are text."""
    if item.choices:
        space: Document = {"list": [_text(choice) for choice in item.choices]}
        return {"name": item.name, "parameterType": "categorical", "feasibleSpace": space}
    space = {"min": _text(item.extremes[0]), "max": _text(item.extremes[1])}
    if item.log:
        space["distribution"] = "logUniform"
    kind = "int" if item.whole else "double"
    return {"name": item.name, "parameterType": kind, "feasibleSpace": space}


def _text(value: object) -> str:
    if isinstance(value, float):
        # Not 3e-05, which YAML would take for a number.
        return format(Decimal(repr(value)), "f")
    return str(value).lower() if isinstance(value, bool) else str(value)


def _train_job(order: Order, space: SearchSpace, trials: Trials) -> Document:
    command = [
        *("marquee", "tune", "trial", "--arch", order.architecture, "--weights", order.weights),
        *("--catalog", order.catalog_uri, "--split", order.split_uri),
        *("--checkpoints", storage.join(order.checkpoints, "${trialParameters.trial}")),
        *(
            f"--set=train.{space.architecture}.{item.name}=${{trialParameters.{item.name}}}"
            for item in space.parameters
        ),
    ]
    variables = _variables(space)
    if trials.storage_pvc:
        variables["MARQUEE_CACHE"] = f"{storage.VOLUME}/cache"
    trainer: Document = {"command": command, "numNodes": 1}
    if variables:
        trainer["env"] = [{"name": name, "value": value} for name, value in variables.items()]
    spec: Document = {"runtimeRef": {"name": trials.runtime}, "trainer": trainer}
    if trials.storage_pvc:
        spec["runtimePatches"] = [_mounted(trials.storage_pvc)]
    return {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": {"labels": _LABELS},
        "spec": spec,
    }


def _variables(space: SearchSpace) -> dict[str, str]:
    """Give what is set here and is not the default: pods have no marquee.toml.

    Not as words of the command, which Katib hands to a shell without quotes.
    """
    resolved = resolve_settings(space.architecture, space.settings)
    defaults = architecture(space.architecture).settings(resolved.preset)
    tuned = {item.name for item in space.parameters}
    own = {
        f"MARQUEE_TRAIN__{space.architecture}__{item.name}": getattr(resolved, item.name)
        for item in dataclasses.fields(resolved)
        if item.name not in tuned and getattr(resolved, item.name) != getattr(defaults, item.name)
    }
    licence = {
        f"MARQUEE_LICENCE__{name}": value
        for name, value in vars(space.settings.licence).items()
        if value
    }
    return {name.upper(): _text(value) for name, value in (own | licence).items()}


def _mounted(claim: str) -> Document:
    """Give a patch of the runtime that mounts the volume where runs expect it."""
    mount = {"name": claim, "mountPath": storage.VOLUME}
    pod = {
        "volumes": [{"name": claim, "persistentVolumeClaim": {"claimName": claim}}],
        "containers": [{"name": NODE, "volumeMounts": [mount]}],
    }
    return runtime_patch("marquee.dev/tune", pod)


def _check_places(order: Order, trials: Trials) -> None:
    check_seen(
        (order.catalog_uri, order.split_uri, order.checkpoints),
        [storage.VOLUME] if trials.storage_pvc else [],
        f"give a run in a bucket, or --storage-pvc and a run below {storage.VOLUME}",
    )
    for word in (order.catalog_uri, order.split_uri, order.checkpoints, order.weights):
        if not _PLAIN.fullmatch(word):
            raise UsageError(
                f"{word!r} has a letter in it that the shell of Katib's wrapper reads otherwise",
                remedy="use letters, digits and @ % + = : , . / - _",
            )
