"""What several looks at a cluster have in common; two at once may both ask for it."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from components.rollout.backends.inference_service import MODE, Mode
from marquee.kubernetes import Forbidden
from marquee.verdict import Check, Outcome, Severity
from pipelines.preflight.api import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    INFERENCE_SERVICES,
    NAMESPACES,
    SERVING_RUNTIMES,
    Api,
    Document,
)

LEVEL = "pod-security.kubernetes.io/enforce"
PLACES = "marquee"
"""The ConfigMap that tells steps where things are."""
_MODES = {
    "Knative": Mode.KNATIVE,
    "Serverless": Mode.KNATIVE,
    "Standard": Mode.STANDARD,
    "RawDeployment": Mode.STANDARD,
}
INSTALL = "install the chart: helm install marquee helm/marquee -n NAMESPACE"


@dataclass(frozen=True, kw_only=True)
class Question:
    """What preflight is asked.

    Args:
        namespace: Where Marquee is, or is to be.
        service: The InferenceService.
        run_uris: URIs that runs are to write below.
        accounts: Service accounts of steps; those that the chart bound without it.
    """

    namespace: str
    service: str = "poster-genre"
    run_uris: Sequence[str] = ()
    accounts: Sequence[str] = ()


@dataclass
class Cluster:
    """A cluster as the looks see it."""

    api: Api
    question: Question
    namespace: str = field(init=False)

    def __post_init__(self) -> None:
        self.namespace = self.question.namespace

    @cached_property
    def config(self) -> Document | None:
        """The ConfigMap `marquee`; None if the chart is not installed."""
        return self.api.find(CONFIG_MAPS, PLACES, self.namespace)

    @cached_property
    def _readable(self) -> bool:
        try:
            _ = self.config
        except Forbidden:
            return False
        return True

    @property
    def is_installed(self) -> bool:
        """Whether the chart is installed, as far as this account may see."""
        return not self._readable or self.config is not None

    def place(self, key: str, variable: str = "", default: str = "") -> str:
        """Say where something is.

        Args:
            key: In the ConfigMap.
            variable: That steps get from it; it goes first, even if it is empty, and does where
                the account of a step may not read the ConfigMap.
            default: What it is if neither says.
        """
        if variable in os.environ:
            return os.environ[variable]
        config = self.config if self._readable else None
        data: Mapping[str, str] = (config or {}).get("data") or {}
        return data.get(key, default)

    @property
    def runtime_prefix(self) -> str:
        """What the names of our ClusterTrainingRuntimes begin with; empty if Trainer is not used.

        The chart leaves the key out where `training.enabled` is false.
        """
        known = self._readable and self.config is not None
        default = "" if known else "marquee"
        return self.place("training-runtimes", "MARQUEE_TRAINING_RUNTIMES", default)

    @cached_property
    def groups(self) -> Mapping[str, Sequence[str]]:
        """The versions of each API group."""
        found = self.api.raw("/apis")["groups"]
        return {group["name"]: [v["version"] for v in group["versions"]] for group in found}

    def kinds(self, version: str) -> frozenset[str]:
        """Give the plurals of a group's version; none if it is not served."""
        group, _, name = version.partition("/")
        if name not in self.groups.get(group, ()):
            return frozenset()
        found = self.api.raw(f"/apis/{version}")["resources"]
        return frozenset(item["name"] for item in found)

    def schema(self, version: str, kind: str) -> Document:
        """Give a kind's schema, as the API server tells it everybody; empty if it has none."""
        group, _, name = version.partition("/")
        if name not in self.groups.get(group, ()):
            return {}
        described = self.api.raw(f"/openapi/v3/apis/{version}")
        for schema in described.get("components", {}).get("schemas", {}).values():
            names = [each["kind"] for each in schema.get("x-kubernetes-group-version-kind", ())]
            if kind in names:
                found: Document = schema
                return found
        return {}

    @property
    def kserve_namespace(self) -> str:
        """Where KServe itself is."""
        return self.place("kserve-namespace", "MARQUEE_KSERVE_NAMESPACE", "kserve")

    @cached_property
    def labels(self) -> Mapping[str, str]:
        """The namespace's labels."""
        return self.api.get(NAMESPACES, self.namespace)["metadata"].get("labels") or {}

    @property
    def security_level(self) -> str:
        """The level of Pod Security that the namespace enforces; empty if there is none."""
        return self.labels.get(LEVEL, "")

    @cached_property
    def kserve_config(self) -> Document | None:
        """How KServe is set up; None if it is not there."""
        return self.api.find(CONFIG_MAPS, "inferenceservice-config", self.kserve_namespace)

    def kserve_settings(self, section: str) -> Mapping[str, Any]:
        """Give a section of KServe's settings; nothing if it is not there."""
        data = (self.kserve_config or {}).get("data") or {}
        found: dict[str, Any] = json.loads(data.get(section, "{}"))
        return found

    @cached_property
    def service(self) -> Document | None:
        """The InferenceService, if there is one."""
        return self.api.find(INFERENCE_SERVICES, self.question.service, self.namespace)

    @cached_property
    def runtime(self) -> Document | None:
        """The chart's ServingRuntime, if there is one."""
        return self.api.find(SERVING_RUNTIMES, "marquee", self.namespace)

    @cached_property
    def mode(self) -> Mode:
        """How models are deployed: the InferenceService's way, KServe's default, or Standard."""
        annotations = (self.service or {"metadata": {}})["metadata"].get("annotations") or {}
        said = annotations.get(MODE)
        said = said or self.kserve_settings("deploy").get("defaultDeploymentMode", "Standard")
        return _MODES.get(said, Mode.STANDARD)

    def controllers(self, *names: str) -> list[Document]:
        """Find Deployments of these names, wherever they are."""
        found: list[Document] = []
        for name in names:
            found += self.api.list(DEPLOYMENTS, fields=f"metadata.name={name}")
        return found


def judged(
    name: str,
    holds: bool,
    *,
    measured: str,
    bound: str,
    remedy: str,
    severity: Severity = Severity.CRITICAL,
    blame: Sequence[str] = (),
) -> Check:
    """Make a check of what was seen; the remedy is left out if it holds."""
    return Check(
        name=name,
        outcome=Outcome.PASSED if holds else Outcome.FAILED,
        measured=measured,
        bound=bound,
        severity=severity,
        blame=() if holds else tuple(blame),
        remedy="" if holds else remedy,
    )


def release(text: str) -> tuple[int, ...]:
    """Give the numbers of a version, such as those of `v1.36.3-gke.1`; none if there are none."""
    found = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", text)
    return tuple(int(number) for number in found.groups() if number) if found else ()


def dotted(version: Sequence[int]) -> str:
    """Write a version."""
    return ".".join(map(str, version))
