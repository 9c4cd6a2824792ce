"""A rollout on KServe, in either of its two modes."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Protocol

from components.rollout.backends import Readiness, Request, asking
from components.rollout.backends import inference_service as objects
from components.rollout.backends.cluster import Cluster
from components.rollout.backends.inference_service import OURS, REQUEST, STATE, Document, Mode
from components.rollout.evidence import Answers, Side, Sighting, Traffic
from components.rollout.replay import Ask
from components.rollout.state import Model, State, World
from marquee.errors import UsageError
from marquee.log import in_pod
from marquee.storage import Conflict

_ARRANGE: Mapping[Mode, Callable[[Document, World, Document], Document]] = {
    Mode.KNATIVE: objects.knative,
    Mode.STANDARD: objects.standard,
}


class Metrics(Protocol):
    """Where a cluster's traffic is counted."""

    def traffic(self, target: str, since: float, until: float, *, lenient: bool) -> Traffic:
        """Give what went to a Kubernetes service or revision in a stretch of time."""
        ...


class Records(Protocol):
    """Where prediction records are."""

    @property
    def uri(self) -> str:
        """Their folder."""
        ...

    def answers(self, version: str, since: float, until: float) -> Answers:
        """Give what a version said in a stretch of time."""
        ...


class KServeBackend:
    """An InferenceService; the rollout's state is one of its annotations.

    Args:
        cluster: Where it is.
        name: Its name.
        metrics: Gives where traffic is counted in a mode.
        records: Where its prediction records are.
        resolve: Gives the version of the bundle at a URI.
        token: The models' access token; none is sent without it.
        kserve_namespace: Where KServe itself is.
    """

    def __init__(
        self,
        cluster: Cluster,
        name: str,
        metrics: Callable[[Mode], Metrics],
        records: Records,
        resolve: Callable[[str], str],
        token: str = "",
        kserve_namespace: str = "kserve",
    ) -> None:
        self._cluster = cluster
        self._name = name
        self._records = records
        self._resolve = resolve
        self._token = token
        self._kserve_namespace = kserve_namespace
        self.mode = objects.mode_of(cluster.get(name))
        self._metrics = metrics(self.mode)

    @property
    def url(self) -> str:
        """Where users send requests; empty if nobody knows yet."""
        return str(self._cluster.get(self._name).get("status", {}).get("url", ""))

    @property
    def records(self) -> str:
        """Where the models' prediction records are."""
        return self._records.uri

    def stable(self) -> Model | None:
        """Give the model that is served."""
        uri = objects.served(self._cluster.get(self._name))
        return Model(version=self._resolve(uri), uri=uri)

    def snapshot(self) -> dict[str, Any]:
        """Keep what the rollout will change.

        Raises:
            UsageError: It has a canary already, or KServe would restart pods at every look.
        """
        self._refuse_copied_annotations()
        return objects.snapshot(self._cluster.get(self._name))

    def _refuse_copied_annotations(self) -> None:
        """Ask that KServe does not copy our annotations to pods: that would restart them."""
        settings = self._cluster.kserve_settings(self._kserve_namespace)
        copied = sorted(set(OURS) - set(settings.get("serviceAnnotationDisallowedList", [])))
        if copied:
            raise UsageError(
                f"KServe would copy {', '.join(copied)} to pods, which restarts them at every look",
                remedy="add them to serviceAnnotationDisallowedList in `inferenceService` of the "
                f"ConfigMap inferenceservice-config in {self._kserve_namespace}",
            )

    def read(self) -> tuple[State | None, str]:
        """Give the latest rollout, and a token of this version."""
        text = _annotation(self._cluster.get(self._name), STATE)
        return (State.from_json(text, self._where) if text else None), _token(text)

    def write(self, state: State, token: str) -> str:
        """Replace the state unless somebody else did so; give the new token."""
        text = state.to_json()

        def change(service: Document) -> Document:
            self._check_token(service, token)
            return _annotated(service, STATE, text)

        self._cluster.change(self._name, change)
        return _token(text)

    def _check_token(self, service: Document, token: str) -> None:
        if _token(_annotation(service, STATE)) != token:
            raise Conflict(f"{self._where} was changed by another", remedy="see its status")

    def request(self) -> Request | None:
        """Give what a person asked for last."""
        text = _annotation(self._cluster.get(self._name), REQUEST)
        return Request(**json.loads(text)) if text else None

    def post(self, request: Request) -> None:
        """Leave what a person asks for."""
        text = json.dumps(asdict(request))
        self._cluster.change(self._name, lambda service: _annotated(service, REQUEST, text))

    def arrange(self, world: World, original: dict[str, Any], token: str) -> None:
        """Write the object that is next on the way to a world."""

        def change(service: Document) -> Document:
            self._check_token(service, token)
            return _ARRANGE[self.mode](service, world, original)

        self._cluster.change(self._name, change)

    def rehearse(self, world: World, original: dict[str, Any]) -> None:
        """Have the API server check the object of a world."""
        arrange = _ARRANGE[self.mode]
        self._cluster.rehearse(self._name, lambda service: arrange(service, world, original))

    def readiness(self, world: World) -> Readiness:
        """Tell whether KServe has followed."""
        return objects.readiness(self._cluster.get(self._name), self.mode, world)

    def sighting(self, since: float, until: float) -> Sighting:
        """Give what Prometheus counted, and what the records of a little earlier say."""
        service = self._cluster.get(self._name)
        state, _ = self.read()
        assert state, "a rollout has a state"
        behind = state.policy.records_seconds
        sides = {}
        for side, model in (("stable", state.stable), ("canary", state.canary)):
            target = objects.target(service, self.mode, canary=side == "canary")
            sides[side] = Side(
                traffic=self._metrics.traffic(target, since, until, lenient=side == "canary"),
                answers=self._records.answers(
                    model.version if model else "", since - behind, until - behind
                ),
            )
        return Sighting(**sides)

    def ask(self, canary: bool) -> Ask:
        """Give a way to ask one of the models itself, through its own address."""
        url = objects.address(
            self._cluster.get(self._name), self.mode, canary=canary, inside=in_pod()
        )
        return asking(url, self._token)

    def wait(self, seconds: float) -> None:
        """Wait; no longer than until there is a new request."""
        before = self.request()
        for service in self._cluster.changes(self._name, seconds):
            text = _annotation(service, REQUEST)
            if text and (before is None or before.id not in text):
                return

    @property
    def _where(self) -> str:
        return f"the rollout of {self._name} in {self._cluster.namespace}"


def _annotation(service: Document, name: str) -> str:
    return str(service["metadata"].get("annotations", {}).get(name, ""))


def _annotated(service: Document, name: str, text: str) -> Document:
    metadata = service["metadata"]
    annotations = metadata.get("annotations", {}) | {name: text}
    return service | {"metadata": metadata | {"annotations": annotations}}


def _token(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
