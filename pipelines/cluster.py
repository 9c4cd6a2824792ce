"""Kubeflow Pipelines as our commands and the retraining trigger use it: upload, start, follow.

It speaks through the API client that KFP generates, not through `kfp.Client`: that one reads
~/.config/kfp/context.json, calls the server as soon as it is made, prints links and loads in 2 s.
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kfp_server_api as api
from kfp_server_api.exceptions import ApiException
from urllib3 import Retry
from urllib3.exceptions import HTTPError

from marquee import __version__
from marquee.errors import InfrastructureError, MarqueeError, Stopped, UsageError
from marquee.step import read_failure
from pipelines.arguments import check_arguments

logger = logging.getLogger(__name__)

EXPERIMENT = "marquee"
"""Where runs and schedules go unless another experiment is named."""
_TIMEOUT_S = (5, 60)
"""To connect, and to answer."""
_RETRIES = Retry(
    total=3,
    backoff_factor=0.5,
    status_forcelist=(429, 500, 502, 503, 504),
    # A write that failed may have been done all the same: whoever asked looks before asking again.
    allowed_methods=("GET",),
    raise_on_status=False,
)
_PAGE = 100
_EQUALS = 1
_ENDED = {"SUCCEEDED", "SKIPPED", "FAILED", "CANCELED"}
_PATIENCE = 30
"""How often in a row a run's state may be unknown before whoever follows it gives up."""
_DIGITS = 12
_CHECK = "check the endpoint, --namespace and what was asked for"


class NotThere(UsageError):
    """The server has no such thing, or has it no more."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run of a pipeline.

    Args:
        run_id: Its id.
        name: Its name.
        url: Its page in the UI.
        state: KFP's word, such as `RUNNING`.
        error: What KFP says of its failure.
        arguments: What it was started with.
        tasks: How each task stands, as a line, by the task's id.
    """

    run_id: str
    name: str
    url: str
    state: str
    error: str
    arguments: Mapping[str, Any]
    tasks: Mapping[str, str]

    @property
    def ended(self) -> bool:
        """Whether it will not change any more."""
        return self.state in _ENDED


@dataclass(frozen=True, kw_only=True)
class Uploaded:
    """What an upload did.

    Args:
        pipeline: The pipeline's name.
        version: The name of its latest version.
        new: Whether that had to be sent.
    """

    pipeline: str
    version: str
    new: bool


class Cluster:
    """A Kubeflow Pipelines server.

    The token comes from `$MARQUEE_KFP_TOKEN`; without it, from the service account's file, which
    `$KF_PIPELINES_SA_TOKEN_PATH` names and the kubelet renews; without that, none is sent.

    Args:
        endpoint: The address of its UI, such as http://localhost:8080.
        namespace: The profile's namespace, if the server has several users.
        ca_file: The certificates to trust instead of the public ones.

    Raises:
        UsageError: The endpoint or the file is wrong.
    """

    def __init__(self, endpoint: str, namespace: str = "", ca_file: str = "") -> None:
        self.endpoint = endpoint.rstrip("/")
        self.namespace = namespace or None
        if not self.endpoint.startswith(("http://", "https://")):
            raise UsageError(
                f"the endpoint of Kubeflow Pipelines is {self.endpoint!r}",
                remedy="give --endpoint or set MARQUEE_KFP_ENDPOINT: the address of the UI, with "
                "http:// or https://",
            )
        if ca_file and not Path(ca_file).is_file():
            raise UsageError(f"there is no file {ca_file}", remedy="check --ca-file")
        self._client = api.ApiClient(_configuration(self.endpoint, ca_file))
        self._pipelines = api.PipelineServiceApi(self._client)
        self._uploads = api.PipelineUploadServiceApi(self._client)
        self._experiments = api.ExperimentServiceApi(self._client)
        self._runs = api.RunServiceApi(self._client)
        self.recurring = api.RecurringRunServiceApi(self._client)

    def call(self, what: str, ask: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Ask the server something, and turn what goes wrong into an error of ours.

        Args:
            what: What is asked for, in words that follow `cannot`.
            ask: A method of the API client.
            arguments: Its arguments.
            options: Its options; None leaves one out.

        Returns:
            The answer.

        Raises:
            UsageError: The server refused it: no access, or a wrong request.
            InfrastructureError: The server is away or at fault.
        """
        given = {name: value for name, value in options.items() if value is not None}
        try:
            answer = ask(*arguments, _request_timeout=_TIMEOUT_S, **given)
        except ApiException as error:
            raise self._refusal(what, error) from error
        except (HTTPError, OSError) as error:
            raise InfrastructureError(
                f"cannot {what}: {self.endpoint} cannot be reached ({_cause(error)})",
                remedy="check the endpoint, the network and --ca-file",
            ) from error
        kind = self._client.last_response.getheader("content-type") or ""
        if "json" not in kind:
            # A gateway sends people who are not logged in to a page, with status 200.
            raise UsageError(
                f"cannot {what}: {self.endpoint} answered with a page ({kind}), not with the API",
                remedy="check the endpoint; if there is a login before it, set MARQUEE_KFP_TOKEN",
            )
        return answer

    def items(
        self, what: str, ask: Callable[..., Any], kind: str, *arguments: Any, **options: Any
    ) -> Iterator[Any]:
        """Give everything that a method lists, page by page.

        Args:
            what: What is asked for, in words that follow `cannot`.
            ask: A method of the API client that lists.
            kind: The answer's field with the items.
            arguments: Its arguments.
            options: Its options; `name` leaves only what is called so.

        Yields:
            The API client's objects.
        """
        if "name" in options:
            options["filter"] = _named(options.pop("name"))
        token = None
        while True:
            page = self.call(what, ask, *arguments, page_token=token, page_size=_PAGE, **options)
            yield from getattr(page, kind) or []
            token = page.next_page_token
            if not token:
                return

    def upload(self, package: Path) -> Uploaded:
        """Upload a compiled pipeline, unless its latest version is the same.

        Args:
            package: The package, called `<pipeline>.yaml`.

        Returns:
            What was done.

        Raises:
            UsageError: The server refused it.
            InfrastructureError: The server is away or at fault.
        """
        name, version = package.stem, version_of(package)
        pipeline = self._find_pipeline(name) or self.call(
            f"make the pipeline {name}",
            self._pipelines.pipeline_service_create_pipeline,
            api.V2beta1Pipeline(name=name, display_name=name, namespace=self.namespace),
        )
        names = [item.display_name for item in self._versions(pipeline)]
        if names and names[0].partition(".r")[0] == version:
            return Uploaded(pipeline=name, version=names[0], new=False)
        # What was the latest once and is to be so again needs a name that is free.
        again = sum(known.partition(".r")[0] == version for known in names)
        version += f".r{again}" if again else ""
        self.call(
            f"upload {name}",
            self._uploads.upload_pipeline_version,
            str(package),
            name=version,
            pipelineid=pipeline.pipeline_id,
        )
        return Uploaded(pipeline=name, version=version, new=True)

    def latest(self, pipeline: str) -> api.V2beta1PipelineVersion:
        """Give an uploaded pipeline's latest version.

        Args:
            pipeline: Its name.

        Raises:
            UsageError: It was never uploaded.
        """
        found = self._find_pipeline(pipeline)
        version = next(self._versions(found), None) if found else None
        if version is None:
            raise UsageError(
                f"{self.endpoint} has no pipeline {pipeline!r}"
                + (f" in the namespace {self.namespace}" if self.namespace else ""),
                remedy=f"marquee pipeline upload {pipeline}",
            )
        return version

    def experiment(self, name: str) -> str:
        """Give the id of an experiment, which is made if it is missing.

        Args:
            name: Its name.
        """
        found = next(
            self.items(
                "list experiments",
                self._experiments.experiment_service_list_experiments,
                "experiments",
                namespace=self.namespace,
                name=name,
            ),
            None,
        )
        return (
            found
            or self.call(
                f"make the experiment {name}",
                self._experiments.experiment_service_create_experiment,
                api.V2beta1Experiment(display_name=name, namespace=self.namespace),
            )
        ).experiment_id

    def find_run(self, name: str, experiment_id: str) -> Run | None:
        """Find a run by its name.

        Args:
            name: Its name.
            experiment_id: The experiment it is in.

        Returns:
            The first of that name, if there is one.
        """
        found = self.items(
            "list runs",
            self._runs.run_service_list_runs,
            "runs",
            experiment_id=experiment_id,
            sort_by="created_at asc",
            name=name,
        )
        return next(map(self._run, found), None)

    def create_run(self, body: api.V2beta1Run) -> Run:
        """Start a run.

        Args:
            body: What to run.
        """
        what = f"start {body.display_name}"
        return self._run(self.call(what, self._runs.run_service_create_run, body))

    def get_run(self, run_id: str) -> Run:
        """Ask how a run stands.

        Args:
            run_id: The run.
        """
        return self._run(self.call(f"see run {run_id}", self._runs.run_service_get_run, run_id))

    def _run(self, item: api.V2beta1Run) -> Run:
        details = (item.run_details and item.run_details.task_details) or []
        return Run(
            run_id=item.run_id,
            name=item.display_name,
            url=f"{self.endpoint}/#/runs/details/{item.run_id}",
            state=item.state or "PENDING",
            error=(item.error and item.error.message) or "",
            arguments=(item.runtime_config and item.runtime_config.parameters) or {},
            tasks={
                task.task_id: f"{task.display_name}: {task.state.lower()}"
                for task in details
                if task.state and not (task.display_name or "-driver").endswith("-driver")
            },
        )

    def _find_pipeline(self, name: str) -> Any:
        return next(
            self.items(
                "list pipelines",
                self._pipelines.pipeline_service_list_pipelines,
                "pipelines",
                namespace=self.namespace,
                name=name,
            ),
            None,
        )

    def _versions(self, pipeline: Any) -> Iterator[Any]:
        """Give a pipeline's versions, the latest first."""
        return self.items(
            f"list the versions of {pipeline.display_name}",
            self._pipelines.pipeline_service_list_pipeline_versions,
            "pipeline_versions",
            pipeline.pipeline_id,
            sort_by="created_at desc",
        )

    def _refusal(self, what: str, error: ApiException) -> MarqueeError:
        said = f"cannot {what}: {self.endpoint} answered {error.status} ({_message(error)})"
        match error.status:
            case 401:
                return UsageError(said, remedy="set MARQUEE_KFP_TOKEN to a token that is valid")
            case 403:
                return UsageError(
                    said, remedy="check --namespace, and what its owner lets this account do"
                )
            case 404:
                return NotThere(said, remedy=_CHECK)
            case 400 | 422:
                return UsageError(said, remedy=_CHECK)
            case 409:
                return InfrastructureError(
                    said, remedy="another did the same at the same time: run the command again"
                )
        return InfrastructureError(
            said, remedy="see the log of the deployment ml-pipeline; then run the command again"
        )


def start_run(
    cluster: Cluster,
    pipeline: str,
    arguments: Mapping[str, Any],
    *,
    run_name: str,
    experiment: str = EXPERIMENT,
) -> Run:
    """Start the latest version of an uploaded pipeline, once a run name.

    A run of this name in the experiment is given back instead of started again, however it ended:
    whoever may ask twice, such as after a timeout, derives the name from what it asks for. Two who
    ask in the same moment are not kept apart: KFP lets runs share a name.

    Args:
        cluster: The server.
        pipeline: The pipeline's name.
        arguments: A value a parameter.
        run_name: The run's name.
        experiment: The experiment; it is made if it is missing.

    Returns:
        The run.

    Raises:
        UsageError: The pipeline was never uploaded, an argument does not fit it, or the server
            refused.
        InfrastructureError: The server is away or at fault.
    """
    version = cluster.latest(pipeline)
    check_arguments(version.pipeline_spec, arguments)
    experiment_id = cluster.experiment(experiment)
    return cluster.find_run(run_name, experiment_id) or cluster.create_run(
        api.V2beta1Run(
            display_name=run_name,
            experiment_id=experiment_id,
            pipeline_version_reference=reference(version),
            runtime_config=api.V2beta1RuntimeConfig(parameters=dict(arguments)),
        )
    )


def run_state(cluster: Cluster, run_id: str) -> Run:
    """Ask how a run stands.

    Args:
        cluster: The server.
        run_id: The run.

    Returns:
        The run as it is now.

    Raises:
        UsageError: There is no such run, or the server refused.
        InfrastructureError: The server is away or at fault.
    """
    return cluster.get_run(run_id)


def wait_for_run(
    cluster: Cluster, run: Run, tell: Callable[[str], None], every_s: float = 10
) -> None:
    """Follow a run to its end.

    Args:
        cluster: The server.
        run: The run.
        tell: Takes a line whenever the run or one of its tasks gets on.
        every_s: Seconds between two looks.

    Raises:
        StepFailed: A step of the run failed with an error of ours, and what it left below the
            run's URI can be read from here.
        Stopped: The run was canceled.
        InfrastructureError: The run failed otherwise, or the server stayed away.
    """
    seen: dict[str, str] = {}
    for now in _looks(cluster, run, every_s):
        lines = {**now.tasks, "": f"{now.name}: {now.state.lower()}"}
        for task, line in lines.items():
            if seen.get(task) != line:
                tell(line)
        seen = lines
        if now.ended:
            _raise_failure(now)
            return


def _looks(cluster: Cluster, run: Run, every_s: float) -> Iterator[Run]:
    """Look at a run again and again; a server that restarts meanwhile does not matter."""
    failed = 0
    while True:
        try:
            now = cluster.get_run(run.run_id)
        except InfrastructureError:
            failed += 1
            if failed == _PATIENCE:
                raise
        else:
            failed = 0
            yield now
        time.sleep(every_s)


def _raise_failure(run: Run) -> None:
    if run.state == "CANCELED":
        raise Stopped(f"the run {run.name} was canceled", remedy=f"see {run.url}")
    if run.state == "FAILED":
        raise _failure_of(run) or _unexplained(run)


def _unexplained(run: Run) -> MarqueeError:
    why = f" ({run.error})" if run.error else ""
    return InfrastructureError(f"the run {run.name} failed{why}", remedy=f"see {run.url}")


def _failure_of(run: Run) -> MarqueeError | None:
    """Read what the failed step left, if that can be reached from here."""
    uri = run.arguments.get("run_uri")
    try:
        return read_failure(uri) if uri else None
    except Exception as fault:  # whatever the storage raises, the news is that the run failed
        logger.warning("what failed cannot be read below %s (%s)", uri, fault)
        return None


def version_of(package: Path) -> str:
    """Name the version of a pipeline that a package is.

    Args:
        package: The compiled package.
    """
    return f"{__version__}-{hashlib.sha256(package.read_bytes()).hexdigest()[:_DIGITS]}"


def reference(version: api.V2beta1PipelineVersion) -> api.V2beta1PipelineVersionReference:
    """Name a version to the API.

    Args:
        version: The version.
    """
    return api.V2beta1PipelineVersionReference(
        pipeline_id=version.pipeline_id, pipeline_version_id=version.pipeline_version_id
    )


def _configuration(endpoint: str, ca_file: str) -> api.Configuration:
    configuration = api.Configuration(host=endpoint)
    configuration.retries = _RETRIES
    configuration.ssl_ca_cert = ca_file or None
    configuration.api_key_prefix["authorization"] = "Bearer"
    token = os.environ.get("MARQUEE_KFP_TOKEN", "")
    if token:
        configuration.api_key["authorization"] = token
    else:
        _use_service_account(configuration)
    return configuration


def _use_service_account(configuration: api.Configuration) -> None:
    """Send the token that the kubelet renews in a pod's file, if this is such a pod."""
    path = os.environ.get("KF_PIPELINES_SA_TOKEN_PATH", "/var/run/secrets/kubeflow/pipelines/token")
    if not Path(path).is_file():
        return
    from kfp.client import ServiceAccountTokenVolumeCredentials

    hook = ServiceAccountTokenVolumeCredentials(path).refresh_api_key_hook
    hook(configuration)
    configuration.refresh_api_key_hook = hook


def _named(name: str) -> str:
    predicate = {"operation": _EQUALS, "key": "display_name", "stringValue": name}
    return json.dumps({"predicates": [predicate]})


def _message(error: ApiException) -> str:
    """Give what the server said; it answers with a google.rpc.Status."""
    try:
        document = json.loads(error.body)
        return document.get("message") or document["error"]
    except (TypeError, ValueError, KeyError, AttributeError):
        return str(error.reason)


def _cause(error: Exception) -> str:
    """Give what is behind urllib3's "max retries exceeded"."""
    return str(getattr(error, "reason", None) or error)
