"""Finds the place of a rollout: a deployment of this machine, or an InferenceService."""

import os
from datetime import UTC, datetime
from pathlib import Path

from components.rollout.backends import Backend
from components.rollout.backends.local import SAID, LocalBackend, said_by
from components.rollout.evidence import Answers
from marquee import storage
from marquee.bundle import read_version
from marquee.client import first_token
from marquee.errors import UsageError
from marquee.records import RecordReader

KINDS = ("auto", "knative", "standard", "local")


def local_folder(name: str) -> Path:
    """Give the folder of a deployment of this machine.

    Raises:
        UsageError: The name is no file name.
    """
    if not name or Path(name).name != name:
        raise UsageError(f"{name!r} is no name of a deployment", remedy="use a-z, 0-9 and -")
    root = os.environ.get("MARQUEE_DEPLOYMENTS") or "~/.local/state/marquee/deployments"
    return storage.local_path(root) / name


def open_local(name: str) -> LocalBackend:
    """Open a deployment of this machine.

    Raises:
        UsageError: There is none of that name.
    """
    folder = local_folder(name)
    if not folder.exists():
        raise UsageError(
            f"there is no deployment {name} on this machine", remedy=f"see {folder.parent}"
        )
    return LocalBackend(folder)


def open_place(
    name: str, kind: str, *, namespace: str = "", port: int = 0, watches: bool = True
) -> Backend:
    """Open the place of a rollout.

    Args:
        name: Of the deployment, or of the InferenceService.
        kind: `local`, `knative`, `standard`, or `auto`: a deployment of this machine if there is
            one of that name or no cluster to talk to, and else what the InferenceService is.
        namespace: Of the InferenceService; that of this pod or context without it.
        port: Of a new local deployment.
        watches: Whether traffic is to be looked at, as by who leads a rollout.

    Raises:
        UsageError: There is no such place, it is of another kind, or nobody says where its traffic
            is to be looked at.
    """
    if kind not in KINDS:
        raise UsageError(f"the backend is {kind!r}", remedy=f"use one of: {', '.join(KINDS)}")
    folder = local_folder(name)
    if kind == "local" or (kind == "auto" and (folder.exists() or not _has_cluster())):
        return LocalBackend(folder, port)
    return _open_kserve(name, kind, namespace, watches)


def _has_cluster() -> bool:
    from marquee.kubernetes import is_configured

    return is_configured()


def _open_kserve(name: str, kind: str, namespace: str, watches: bool) -> Backend:
    from components.rollout.backends.cluster import Cluster
    from components.rollout.backends.kserve import KServeBackend
    from components.rollout.backends.prometheus import COUNTERS, Prometheus
    from marquee.kubernetes import default_namespace

    cluster = Cluster(namespace or default_namespace())
    url = os.environ.get("MARQUEE_PROMETHEUS", "")
    records = os.environ.get("MARQUEE_RECORDS", "")
    if watches and not (url and records):
        raise UsageError(
            "nobody says where traffic is counted and predictions are recorded",
            remedy="set MARQUEE_PROMETHEUS to Prometheus' address and MARQUEE_RECORDS to the URI "
            "of the prediction records",
        )
    backend = KServeBackend(
        cluster,
        name,
        lambda mode: Prometheus(url, cluster.namespace, COUNTERS[mode]),
        RecordedAnswers(records),
        read_version,
        _token(),
        os.environ.get("MARQUEE_KSERVE_NAMESPACE", "kserve"),
    )
    if kind not in ("auto", backend.mode):
        raise UsageError(
            f"the InferenceService {name} is in {backend.mode} mode",
            remedy=f"say --backend {backend.mode}, or auto",
        )
    return backend


def _token() -> str:
    """Give the models' access token, if there is one."""
    file = os.environ.get("MARQUEE_TOKEN_FILE", "")
    return first_token(Path(file)) if file else os.environ.get("MARQUEE_TOKEN", "")


class RecordedAnswers:
    """What models said, from prediction records.

    Args:
        uri: The folder of all records.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._reader = RecordReader(uri)

    def answers(self, version: str, since: float, until: float) -> Answers:
        """Give what a version said in a stretch of time (Unix times)."""
        first, end = (datetime.fromtimestamp(moment, UTC) for moment in (since, until))
        return said_by(version, self._reader.read(first, end, SAID).to_pylist())
