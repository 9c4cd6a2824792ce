"""Looks at what accounts may do, verb by verb."""

from collections.abc import Callable, Iterator, Sequence

from marquee.kubernetes import Forbidden
from marquee.verdict import Check, Severity
from pipelines.preflight.api import ROLE_BINDINGS
from pipelines.preflight.context import Cluster, judged
from pipelines.preflight.needs import Need, Scope, needs

_PREFIX = "system:serviceaccount:"
_STEPS = "marquee-steps"
_DEFAULTS = {_STEPS: ("pipeline-runner",)}
"""The accounts of each binding, as the chart has them, where it is missing or cannot be read."""


def permission_looks(
    cluster: Cluster,
) -> Iterator[tuple[str, Callable[[Cluster], Iterator[Check]]]]:
    """Give a look an account: who asks, and those that pipelines' steps run as.

    Args:
        cluster: Where.

    Yields:
        What it looks at, and the look.
    """
    asks = cluster.api.who()
    accounts = dict.fromkeys(_accounts(cluster))
    if asks not in {user for user, _ in accounts}:
        yield (f"Permissions: {_short(cluster, asks)}", _look_at(asks, _STEPS, asks))
    for user, binding in accounts:
        yield f"Permissions: {_short(cluster, user)}", _look_at(user, binding, asks)


def _accounts(cluster: Cluster) -> Iterator[tuple[str, str]]:
    """Give the accounts that have to be allowed something, each with the binding that does it."""
    if cluster.question.accounts:
        for name in cluster.question.accounts:
            yield f"{_PREFIX}{cluster.namespace}:{name}", _STEPS
        return
    for binding in needs() if cluster.is_installed else ():
        for account in _bound(cluster, binding):
            yield f"{_PREFIX}{account}", binding


def _bound(cluster: Cluster, binding: str) -> Sequence[str]:
    """Give the service accounts of a binding, as `namespace:name`; people are left out."""
    try:
        found = cluster.api.find(ROLE_BINDINGS, binding, cluster.namespace)
    except Forbidden:
        found = None
    if found is None:
        return [f"{cluster.namespace}:{name}" for name in _DEFAULTS.get(binding, ())]
    return [
        f"{subject['namespace']}:{subject['name']}"
        for subject in found.get("subjects") or ()
        if subject["kind"] == "ServiceAccount"
    ]


def _look_at(user: str, binding: str, asks: str) -> Callable[[Cluster], Iterator[Check]]:
    own = user == asks

    def look(cluster: Cluster) -> Iterator[Check]:
        for need in needs(training=bool(cluster.runtime_prefix))[binding]:
            yield _check(cluster, user, need, own)

    return look


def _check(cluster: Cluster, user: str, need: Need, own: bool) -> Check:
    missing = [
        f"{verb} {name}".strip()
        for verb in need.verbs
        for name in need.names or ("",)
        if not cluster.api.may(_attributes(cluster, need, verb, name), "" if own else user)
    ]
    account = user.startswith(_PREFIX)
    where = {Scope.RELEASE: cluster.namespace, Scope.KSERVE: cluster.kserve_namespace}
    return judged(
        f"Permissions: {_short(cluster, user)}: {need.full}",
        not missing,
        measured=f"may not {', '.join(missing)}" if missing else "may all of it",
        bound=f"{', '.join(need.verbs)} in {where[need.scope]}",
        remedy=f"{need.why}: name the account in pipelines.serviceAccounts of the chart, or bind "
        "the chart's Roles to it"
        if account
        else f"nothing, unless rollouts or trainings are started from here ({need.why})",
        severity=Severity.CRITICAL if account else Severity.INFO,
    )


def _attributes(cluster: Cluster, need: Need, verb: str, name: str) -> dict[str, str]:
    resource, _, subresource = need.resource.partition("/")
    namespaces = {Scope.RELEASE: cluster.namespace, Scope.KSERVE: cluster.kserve_namespace}
    return {
        "verb": verb,
        "group": need.group,
        "resource": resource,
        "subresource": subresource,
        "namespace": namespaces[need.scope],
        "name": name,
    }


def _short(cluster: Cluster, user: str) -> str:
    """Name an account for people; one of another namespace with that."""
    return user.removeprefix(f"{_PREFIX}{cluster.namespace}:").removeprefix(_PREFIX)
