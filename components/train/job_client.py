"""TrainJobs of one namespace, and what is below them, on an API server."""

from contextlib import AbstractContextManager
from datetime import datetime

from kubernetes import client
from kubernetes.client.exceptions import ApiException

from components.train.pods import Document
from marquee.errors import UsageError
from marquee.kubernetes import TIMEOUTS, NotThere, api_client, default_namespace, explained

_KIND = ("trainer.kubeflow.org", "v1alpha1")
_PLURAL = "trainjobs"
_CONTAINER = "node"


class JobClient:
    """One namespace's TrainJobs.

    Args:
        namespace: The namespace; that of this pod or of kubectl without it.
        kubeconfig: Its path; the pod's own account, or what kubectl would use, without it.
    """

    def __init__(self, namespace: str = "", kubeconfig: str = "") -> None:
        self.namespace = namespace or default_namespace()
        self._api = client.CustomObjectsApi(api_client(kubeconfig))
        self._core = client.CoreV1Api(self._api.api_client)

    def create(self, job: Document) -> None:
        """Create a TrainJob.

        Raises:
            UsageError: Trainer or the runtime is missing, this account may not, or the object is
                refused.
            InfrastructureError: The API server cannot be reached.
        """
        name, runtime = job["metadata"]["name"], job["spec"]["runtimeRef"]["name"]
        try:
            with self._explained("create", name):
                self._api.create_namespaced_custom_object(
                    *_KIND,
                    self.namespace,
                    _PLURAL,
                    job,
                    field_validation="Strict",
                    _request_timeout=TIMEOUTS,
                )
        except NotThere as error:
            raise NotThere(
                "this cluster has no TrainJobs (trainer.kubeflow.org/v1alpha1)",
                remedy="install Kubeflow Trainer 2.3, or set train.launcher to torchrun",
            ) from error
        except UsageError as error:
            # What Trainer's webhook says of a runtime that is missing.
            if "must be created before" in error.message:
                raise UsageError(
                    f"this cluster has no ClusterTrainingRuntime {runtime}",
                    remedy="install the chart helm/marquee with its training runtimes",
                ) from error
            raise

    def get(self, name: str) -> Document | None:
        """Read a TrainJob; None if there is none."""
        try:
            with self._explained("get", name):
                found: Document = self._api.get_namespaced_custom_object(
                    *_KIND, self.namespace, _PLURAL, name, _request_timeout=TIMEOUTS
                )
        except NotThere:
            return None
        return found

    def own(self, name: str, owner: Document) -> None:
        """Make a pod the owner of a TrainJob, in place of the one that was."""
        with self._explained("patch", name):
            self._api.patch_namespaced_custom_object(
                *_KIND,
                self.namespace,
                _PLURAL,
                name,
                {"metadata": {"ownerReferences": [owner]}},
                field_validation="Strict",
                _request_timeout=TIMEOUTS,
            )

    def delete(self, name: str) -> None:
        """Delete a TrainJob; it is gone once its pods are."""
        try:
            with self._explained("delete", name):
                self._api.delete_namespaced_custom_object(
                    *_KIND,
                    self.namespace,
                    _PLURAL,
                    name,
                    propagation_policy="Foreground",
                    _request_timeout=TIMEOUTS,
                )
        except NotThere:
            return

    def pods(self, name: str) -> list[Document]:
        """List the pods of a TrainJob."""
        with explained("list", "pods", f"the pods of {name} in {self.namespace}"):
            found = self._core.list_namespaced_pod(
                self.namespace,
                label_selector=f"jobset.sigs.k8s.io/jobset-name={name}",
                _request_timeout=TIMEOUTS,
            )
        pods: list[Document] = self._core.api_client.sanitize_for_serialization(found)["items"]
        return pods

    def log(self, pod: str, seconds: int | None = None, lines: int | None = None) -> list[str]:
        """Read the log of a pod, each line after its time.

        Args:
            pod: Its name.
            seconds: The last seconds only.
            lines: The last lines only.

        Returns:
            The lines; none if there is no log yet or any longer.
        """
        options = {"since_seconds": seconds, "tail_lines": lines}
        with explained("get", "pods/log", f"the log of the pod {pod} in {self.namespace}"):
            try:
                answer = self._core.read_namespaced_pod_log(
                    pod,
                    self.namespace,
                    container=_CONTAINER,
                    timestamps=True,
                    _preload_content=False,
                    _request_timeout=TIMEOUTS,
                    **{name: value for name, value in options.items() if value},
                )
            except ApiException as error:
                if error.status in (400, 404):
                    return []
                raise
        # Not splitlines(): a progress bar's \r is no new line, and has no time of its own.
        return [line for line in answer.data.decode(errors="replace").split("\n") if line]

    def warnings(self, name: str) -> list[str]:
        """Give what Kubernetes warns of in what belongs to a TrainJob, the latest last."""
        with explained("list", "events", f"the events in {self.namespace}"):
            found = self._core.list_namespaced_event(
                self.namespace, field_selector="type=Warning", _request_timeout=TIMEOUTS
            )
        # In no order of time: etcd lists by name.
        return [
            f"{event.involved_object.kind} {event.involved_object.name}: {event.message}"
            for event in sorted(found.items, key=_time)
            if event.involved_object.name.startswith(name)
        ]

    def _explained(self, verb: str, name: str) -> AbstractContextManager[None]:
        kind = f"{_PLURAL}.{_KIND[0]}"
        return explained(verb, kind, f"the TrainJob {name} in {self.namespace}")


def _time(event: client.CoreV1Event) -> datetime:
    """Tell when an event was seen last; who writes it fills in one field or another."""
    time: datetime = event.last_timestamp or event.event_time or event.metadata.creation_timestamp
    return time
