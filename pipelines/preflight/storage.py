"""Looks at storage, secrets, and the accounts that pods reach storage with."""

import uuid
from collections.abc import Iterator

from marquee import storage
from marquee.errors import UsageError
from marquee.verdict import Check, Severity
from pipelines.preflight.api import CLAIMS, SECRETS, SERVICE_ACCOUNTS, STORAGE_CLASSES
from pipelines.preflight.context import Cluster, judged

_CLAIM = "marquee-storage"
_ACCOUNTS = ("marquee-serving", "marquee-training", "marquee-monitoring")
_IDENTITIES = {
    "gs://": "iam.gke.io/gcp-service-account",
    "s3://": "eks.amazonaws.com/role-arn",
}
"""The annotation that gives an account its identity in a cloud, by the cloud's URIs."""
_STORAGE_SECRET = "marquee-storage"
_SECRETS = {
    "marquee-signing": ("key.pem", "bundles and verdicts are not signed without it"),
    "marquee-token": ("token", "rollouts cannot ask models that want a token without it"),
    "marquee-tmdb": ("read-access-token", "the source tmdb needs it"),
    "marquee-webhook": ("url", "nobody is told how a run ended without it"),
    "marquee-kfp": ("token", "Kubeflow Pipelines with a login wants it"),
}
"""Secrets that may be missing: their key, and what that means."""


def uris(cluster: Cluster) -> list[str]:
    """Give the URIs that Marquee is to write below."""
    models, records = (
        cluster.place(key, f"MARQUEE_{key.upper()}") for key in ("models", "records")
    )
    named = (models, records, *cluster.question.run_uris)
    return list(dict.fromkeys(filter(None, named)))


def place(cluster: Cluster, uri: str) -> Iterator[Check]:
    """Try to write, read and remove below a URI, from here.

    Args:
        cluster: Where.
        uri: A folder.
    """
    name = f"Storage: {uri}"
    if f"{uri}/".startswith(f"{storage.VOLUME}/") and not storage.exists(storage.VOLUME):
        yield judged(
            name,
            False,
            measured="not tried: the volume is not mounted here",
            bound="write, read, remove",
            remedy="run it where marquee-storage is mounted: helm test does",
            severity=Severity.INFO,
        )
        return
    probe = storage.join(uri, f".preflight-{uuid.uuid4().hex}")
    storage.write_bytes(probe, b"preflight")
    try:
        same = storage.read_bytes(probe) == b"preflight"
    finally:
        storage.remove(probe)
    yield judged(
        name,
        same and not storage.exists(probe),
        measured="written, read, removed" if same else "what was written is not what is read",
        bound="write, read, remove",
        remedy="check the bucket, and what this account may do there",
    )
    guarded = storage.is_guarded(uri)
    yield judged(
        f"{name}: two writers",
        guarded,
        measured="the late one is refused" if guarded else "the late one overwrites",
        bound="the late one is refused",
        remedy="use storage with conditional writes (gs://, S3 since 2024): catalog and registry "
        "have several writers",
    )


def secrets(cluster: Cluster) -> Iterator[Check]:
    """Look whether secrets have their keys; what they hold is not looked at."""
    if not cluster.is_installed:
        return
    tokens = _tokens_secret(cluster)
    if tokens:
        yield _secret(
            cluster, tokens, "tokens", "servers do not start without it", Severity.CRITICAL
        )
    for name, (key, meaning) in _SECRETS.items():
        yield _secret(cluster, name, key, meaning, Severity.INFO)


def _tokens_secret(cluster: Cluster) -> str:
    """Give the secret with the servers' list of tokens; empty if they want none."""
    volumes = ((cluster.runtime or {}).get("spec") or {}).get("volumes") or ()
    found = [v["secret"]["secretName"] for v in volumes if v["name"] == "tokens" and "secret" in v]
    return found[0] if found else ""


def _secret(cluster: Cluster, name: str, key: str, meaning: str, severity: Severity) -> Check:
    found = cluster.api.find(SECRETS, name, cluster.namespace)
    has_key = bool(found and (found.get("data") or {}).get(key))
    return judged(
        f"Secret: {name}",
        has_key,
        measured="there" if has_key else "not there" if found is None else f"has no {key}",
        bound=f"the key {key}",
        remedy=f"{meaning}: kubectl create secret generic {name} -n {cluster.namespace} "
        f"--from-file={key}=FILE",
        # That there is none may be meant so; a secret without its key is a mistake.
        severity=Severity.WARNING if found and severity is Severity.INFO else severity,
    )


def storage_classes(cluster: Cluster) -> Iterator[Check]:
    """Look whether volumes that name no storage class get one."""
    key = "storageclass.kubernetes.io/is-default-class"
    classes = cluster.api.list(STORAGE_CLASSES)
    defaults = [
        item["metadata"]["name"]
        for item in classes
        if (item["metadata"].get("annotations") or {}).get(key) == "true"
    ]
    yield judged(
        "Storage: default class",
        bool(defaults),
        measured=", ".join(defaults) or f"none of {len(classes)}",
        bound="a default StorageClass",
        remedy="make one the default, or set storage.pvc.storageClass and the pipelines' "
        "storage class",
        severity=Severity.WARNING,
    )


def claim(cluster: Cluster) -> Iterator[Check]:
    """Look whether the volume of clusters without object storage is bound, if there is one."""
    found = cluster.api.find(CLAIMS, _CLAIM, cluster.namespace)
    if found is None:
        return
    phase = found.get("status", {}).get("phase", "unknown")
    yield judged(
        f"Storage: volume {_CLAIM}",
        phase == "Bound",
        measured=phase,
        bound="Bound",
        remedy=f"see kubectl describe pvc {_CLAIM} -n {cluster.namespace}; some storage classes "
        "bind with the first pod",
        severity=Severity.CRITICAL if phase == "Lost" else Severity.WARNING,
    )


def accounts(cluster: Cluster) -> Iterator[Check]:
    """Look whether the chart's service accounts are there, and how they reach storage."""
    if not cluster.is_installed:
        return
    found = {
        name: cluster.api.find(SERVICE_ACCOUNTS, name, cluster.namespace) for name in _ACCOUNTS
    }
    missing = [name for name, account in found.items() if account is None]
    yield judged(
        "Accounts: ours",
        not missing,
        measured=f"{len(found) - len(missing)} of {len(found)}",
        bound=", ".join(_ACCOUNTS),
        remedy="upgrade the release",
        blame=missing,
    )
    for scheme, annotation in _IDENTITIES.items():
        if not any(uri.startswith(scheme) for uri in uris(cluster)):
            continue
        without = [
            name
            for name, account in found.items()
            if account and annotation not in (account["metadata"].get("annotations") or {})
        ]
        secret = cluster.api.find(SECRETS, _STORAGE_SECRET, cluster.namespace) if without else None
        yield judged(
            f"Accounts: identity for {scheme}",
            not without or secret is not None,
            measured=f"the secret {_STORAGE_SECRET}" if secret else f"{len(without)} without",
            bound=f"the annotation {annotation}, or a secret",
            remedy="set serviceAccounts.*.annotations or storage.secret.enabled of the chart, "
            "unless the nodes or a federation gives pods an identity",
            severity=Severity.WARNING,
            blame=without,
        )


def explain_storage(fault: Exception, uri: str) -> UsageError:
    """Say that a place cannot be used.

    Args:
        fault: What its client raised.
        uri: The place.
    """
    return UsageError(
        f"{uri} cannot be used from here ({type(fault).__name__}: {fault})"[:300],
        remedy="check the URI, and that this account may write, read and delete there",
    )
