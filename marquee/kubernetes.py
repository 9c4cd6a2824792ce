"""A Kubernetes API server: which one, who asks, how long is waited, and what a refusal means.

Loads the `kubernetes` client: whoever may run without a cluster imports this where it is needed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from marquee.errors import InfrastructureError, UsageError
from marquee.storage import Conflict

TIMEOUTS = (5, 30)
"""Seconds to connect, and to wait for an answer."""
_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class NotThere(UsageError):
    """The API server has no such object, or no such kind of objects."""


class Forbidden(UsageError):
    """This account may not do what it asked for."""


class Forgotten(Exception):
    """The API server no longer has what was watched (410)."""


def api_client(kubeconfig: str = "") -> Any:
    """Give a client of the API server.

    Args:
        kubeconfig: Its path; without it the pod's own account, or what kubectl would use.

    Raises:
        UsageError: Neither says which server.
    """
    try:
        if kubeconfig:
            return config.new_client_from_config(kubeconfig)
        try:
            config.load_incluster_config()
            return client.ApiClient()
        except config.ConfigException:
            return config.new_client_from_config()
    except (config.ConfigException, OSError) as error:
        raise UsageError(
            f"no cluster to talk to ({error})", remedy="set KUBECONFIG, or run in a pod"
        ) from error


def is_configured() -> bool:
    """Tell whether a pod's account or a kubeconfig says which cluster to talk to."""
    try:
        api_client()
    except UsageError:
        return False
    return True


def default_namespace() -> str:
    """Give the namespace of this pod, or of what kubectl would use."""
    own = _ACCOUNT / "namespace"
    if own.exists():
        return own.read_text(encoding="utf-8").strip()
    try:
        context = config.list_kube_config_contexts()[1]
    except (config.ConfigException, OSError):
        return "default"
    return str(context["context"].get("namespace", "default"))


@contextmanager
def explained(verb: str, kind: str, what: str, missing: str = "check its name") -> Iterator[None]:
    """Turn what the API server refuses into an error of ours.

    Args:
        verb: What is asked for, as a Role names it, such as `create`.
        kind: Of what, likewise, such as `trainjobs.trainer.kubeflow.org`.
        what: The object, for messages.
        missing: What to do if there is no such object.

    Raises:
        NotThere: There is no such object or kind.
        Conflict: Another was faster.
        Forgotten: What was watched is too long ago.
        Forbidden: This account may not.
        UsageError: The object is wrong.
        InfrastructureError: The server cannot be reached, or is at fault.
    """
    try:
        yield
    except ApiException as error:
        raise _explain(error, verb, kind, what, missing) from error
    except (HTTPError, OSError) as error:
        raise InfrastructureError(
            f"the API server cannot be reached ({error})", remedy="check the kubeconfig"
        ) from error


def _explain(error: ApiException, verb: str, kind: str, what: str, missing: str) -> Exception:
    match error.status:
        case 409:
            return Conflict(f"{what} was changed by another", remedy="try again")
        case 410:
            return Forgotten()
        case 404:
            return NotThere(f"there is no {what}", remedy=missing)
        case 401:
            return UsageError("the API server does not know who asks", remedy="log in again")
        case 403 if "admission webhook" not in str(error.body):
            return Forbidden(
                f"this account may not {verb} {what}",
                remedy=f"give it the verb {verb!r} on {kind} there",
            )
        case 400 | 403 | 422:
            return UsageError(f"{what} was refused: {error.body}", remedy="mend the object")
    return InfrastructureError(
        f"the API server answered {error.status} ({error.reason})", remedy="try again"
    )
