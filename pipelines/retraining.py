"""Starts the trainings that drift asks for: on this machine, or by the uploaded pipeline's name."""

import fcntl
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from marquee import storage
from marquee.errors import Inconclusive, QualityGateFailed, UsageError
from marquee.run_layout import RunLayout
from marquee.settings import load
from marquee.step import JUDGES, read_failure
from monitoring.archive import documents
from monitoring.retrain import Launcher, RetrainRequest, Status, consider, follow
from pipelines.arguments import parse_arguments
from pipelines.cluster import Cluster, NotThere, run_state, start_run

PIPELINE = "marquee-training"
"""Not taken from its module: KFP builds no pipelines within a step, which is where this runs."""
_WITHIN = "_KFP_RUNTIME"
_JUDGED = (QualityGateFailed.exit_code, Inconclusive.exit_code, 6)
"""Of a gate or rollout that said no, was not sure, or rolled back; else it could not judge."""
ENDPOINT, NAMESPACE = "MARQUEE_KFP_ENDPOINT", "MARQUEE_KFP_NAMESPACE"

logger = logging.getLogger(__name__)


class Here:
    """Trains on this machine; starting a training is to wait for its end.

    Args:
        runs: The folder of the runs.
    """

    def __init__(self, runs: str) -> None:
        self._runs = runs

    def start(self, request: RetrainRequest) -> str:
        """Run the training pipeline, unless it is running; give the run's folder."""
        folder = storage.join(self._runs, request.id)
        overrides = json.loads(request.training.get("overrides", "{}"))
        given = request.training | {
            "run_uri": folder,
            "overrides": json.dumps({"rollout.backend": "local"} | overrides),
        }
        command = [sys.executable, "-m", "marquee", "pipeline", "run", PIPELINE]
        for name, value in given.items():
            command += ["--set-param", f"{name}={value}"]
        # Within a step, KFP leaves out of itself what builds pipelines.
        environment = {name: value for name, value in os.environ.items() if name != _WITHIN}
        with _alone(folder) as lock:
            if lock is not None:
                # It holds the lock as well, for if this process ends first; `state` tells the rest.
                subprocess.run(command, env=environment, pass_fds=[lock], check=False)
        return folder

    def state(self, request: RetrainRequest) -> tuple[Status, str]:
        """Tell how the run has ended, or that it has not."""
        with _alone(request.run) as lock:
            if lock is None:
                return Status.RUNNING, "running"
        return _outcome(request.run)


@contextmanager
def _alone(folder: str) -> Iterator[int | None]:
    """Lock a run's folder; give the lock's file, or None if a process that runs has it."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    file = os.open(Path(folder) / ".lock", os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield None
    else:
        yield file
    finally:
        os.close(file)


class Kubeflow:
    """Starts runs of the training pipeline that was uploaded.

    Args:
        cluster: Where.
        runs: The URI below which runs leave what they make.
    """

    def __init__(self, cluster: Cluster, runs: str) -> None:
        self._cluster = cluster
        self._runs = runs

    def start(self, request: RetrainRequest) -> str:
        """Start a run, unless there is one of this request; give its page in the UI."""
        given = request.training | {"run_uri": self._uri(request)}
        spec = self._cluster.latest(PIPELINE).pipeline_spec
        arguments = parse_arguments(spec, [f"{name}={value}" for name, value in given.items()])
        return start_run(self._cluster, PIPELINE, arguments, run_name=f"retrain-{request.id}").url

    def state(self, request: RetrainRequest) -> tuple[Status, str]:
        """Tell how the run stands."""
        try:
            run = run_state(self._cluster, request.run.rpartition("/")[2])
        except NotThere as error:
            return Status.FAILED, error.message
        if not run.ended:
            return Status.RUNNING, run.state
        if run.state == "SUCCEEDED" or read_failure(self._uri(request)):
            return _outcome(self._uri(request))
        return Status.FAILED, run.error or run.state

    def _uri(self, request: RetrainRequest) -> str:
        return storage.join(self._runs, request.id)


def launcher(layout: RunLayout) -> Launcher:
    """Choose where trainings run: where $MARQUEE_KFP_ENDPOINT is, or else on this machine.

    Args:
        layout: The monitoring run, below which trainings leave what they make.

    Raises:
        UsageError: There is no endpoint, and the run is on no machine.
    """
    endpoint = os.environ.get(ENDPOINT, "")
    if endpoint:
        return Kubeflow(Cluster(endpoint, os.environ.get(NAMESPACE, "")), layout.trainings)
    if not storage.is_local(layout.uri):
        raise UsageError(
            f"{layout.uri} is on no machine that could train",
            remedy=f"set {ENDPOINT} (on Kubeflow: kfp-endpoint in the ConfigMap marquee)",
        )
    return Here(layout.trainings)


def consider_reports(
    layout: RunLayout,
    launcher: Launcher,
    training: Mapping[str, str],
    overrides: Mapping[str, Any],
) -> str:
    """Ask for training if one of the last reports gives reason to.

    Args:
        layout: The monitoring run.
        launcher: Starts trainings.
        training: The training pipeline's arguments.
        overrides: Settings by dotted name.

    Returns:
        What was asked for, or why not, in a sentence.
    """
    settings = load(overrides)
    follow(layout.drift, launcher)
    latest = list(islice(documents(layout.drift), settings.monitor.truth_windows))
    said = []
    for document in reversed(latest):
        if document["version"] != latest[0]["version"]:
            continue  # another model serves by now
        request = consider(document, layout.drift, settings.retrain, launcher, training)
        if request:
            said.append(
                f"request {request.id} is {request.status}: {request.reason or request.why}"
            )
            logger.info("retrain: %s", said[-1])
    return "; ".join(said) or "no report gives reason to train"


def _outcome(run_uri: str) -> tuple[Status, str]:
    """Tell from what a run has left how it ended; a model that was not good enough is an end."""
    failure = read_failure(run_uri)
    if failure:
        judged = failure.step in JUDGES and failure.exit_code in _JUDGED
        return Status.DONE if judged else Status.FAILED, failure.message
    layout = RunLayout(run_uri)
    said = [verdict.sentence() for verdict in layout.verdicts()]
    if not said:
        return Status.FAILED, f"the training was broken off; see {run_uri}"
    return Status.DONE, said[-1]
