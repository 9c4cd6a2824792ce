"""InferenceServices as a rollout wants them: plain documents in, plain documents out.

KServe has two canary APIs. In Knative mode the predictor itself becomes the canary's, and
`canaryTrafficPercent` says how much goes to it; the revision before it keeps the rest. In Standard
mode `spec.canary` lists further predictors. In the wrong mode each is silently ignored, so the mode
is read from the object and never guessed.
"""

import copy
import enum
import math
import re
from typing import Any

from components.rollout.backends import Readiness
from components.rollout.state import Model, World
from marquee.errors import InfrastructureError, UsageError

Document = dict[str, Any]

MODE = "serving.kserve.io/deploymentMode"
TAG_ROUTING = "serving.kserve.io/enable-tag-routing"
_SCHEMES = ("gs", "s3", "hdfs", "webhdfs", "https", "http", "pvc", "hf", "oci")
_FRAMEWORKS = (
    *("sklearn", "xgboost", "tensorflow", "pytorch", "triton", "onnx", "huggingface", "pmml"),
    *("lightgbm", "paddle", "model"),
)
_CONTAINER = "kserve-container"
"""A model's name is its container's, which KServe looks for by this one. It is the default, but the
schema wants it said in a canary."""
_NOT_OF_A_CANARY = (
    *("workerSpec", "maxReplicas", "scaleTarget", "scaleMetric", "scaleMetricType"),
    *("autoScaling", "canaryTrafficPercent"),
)
"""What KServe's webhook refuses in a canary's predictor."""


class Mode(enum.StrEnum):
    """How KServe deploys an InferenceService."""

    KNATIVE = "knative"
    STANDARD = "standard"


_MODES = {"Knative": Mode.KNATIVE, "Serverless": Mode.KNATIVE, "Standard": Mode.STANDARD}
"""KServe's names of the modes. The old name of Standard, RawDeployment, is not one whose canaries
it serves."""
_MOST = 99
"""Per cent that a canary gets in Knative mode before it is promoted. At 100 KServe takes it for the
revision to fall back to, and would give it all traffic again once the stable bundle is restored."""
STATE, REQUEST = "marquee.dev/rollout", "marquee.dev/rollout-request"
_REVISION = "marquee.dev/rollout-canary-revision"
"""The revision that a roll back leaves."""
OURS = (STATE, REQUEST, _REVISION)
"""Annotations of ours: KServe must be told not to copy them to pods."""


def mode_of(service: Document) -> Mode:
    """Tell in which mode an InferenceService is deployed.

    Args:
        service: The object as the API server gives it.

    Raises:
        UsageError: It does not say so, or says something unknown; or it is in Standard mode by a
            default of the cluster, which KServe's canaries do not count.
    """
    annotation = service["metadata"].get("annotations", {}).get(MODE)
    status = service.get("status", {}).get("deploymentMode")
    said = annotation or status
    name = service["metadata"]["name"]
    if said not in _MODES:
        raise UsageError(
            f"the InferenceService {name} does not say how it is deployed ({said!r})",
            remedy=f"annotate it with {MODE}: Standard or Knative, as your KServe has it",
        )
    mode = _MODES[said]
    if mode is Mode.STANDARD and not annotation:
        raise UsageError(
            f"the InferenceService {name} is in Standard mode by the cluster's default, and "
            "KServe ignores canaries of such",
            remedy=f"annotate it with {MODE}: Standard",
        )
    return mode


def served(service: Document) -> str:
    """Give the storage URI of the predictor.

    Raises:
        UsageError: The predictor names none.
    """
    uri = service["spec"]["predictor"].get("model", {}).get("storageUri")
    if not uri:
        raise UsageError(
            f"the InferenceService {service['metadata']['name']} names no bundle",
            remedy="give it spec.predictor.model with modelFormat marquee and a storageUri",
        )
    return str(uri)


def snapshot(service: Document) -> Document:
    """Keep of an InferenceService what a rollout changes; the rest is its owner's.

    Raises:
        UsageError: It has a canary already.
    """
    spec, metadata = service["spec"], service["metadata"]
    predictor = spec["predictor"]
    if predictor.get("canaryTrafficPercent") is not None or spec.get("canary"):
        raise UsageError(
            f"the InferenceService {metadata['name']} has a canary already",
            remedy="promote or remove it first: spec.canary, or canaryTrafficPercent",
        )
    return {
        "storageUri": served(service),
        "name": predictor.get("name"),
        "minReplicas": predictor.get("minReplicas"),
        "tag_routing": metadata.get("annotations", {}).get(TAG_ROUTING),
    }


def knative(service: Document, world: World, original: Document) -> Document:
    """Give the next InferenceService on the way to a world, in Knative mode.

    Rolling back takes three moves, each waiting for the one before: all traffic to the revision
    that was stable, then its bundle again (a new revision without traffic), then no canary.

    Args:
        service: The object as it is.
        world: What is to be served.
        original: What `snapshot` kept before the rollout.
    """
    changed = copy.deepcopy(service)
    predictor = changed["spec"]["predictor"]
    if world.canary:
        _set_knative_canary(changed, world.canary, world.percent)
    elif world.stable and world.stable.uri != original["storageUri"]:
        predictor["model"]["storageUri"] = world.stable.uri
        _end_knative_canary(changed, original)
    elif predictor["model"]["storageUri"] != original["storageUri"]:
        _leave_knative_canary(changed, original)
    elif _stable_is_back(service):
        _end_knative_canary(changed, original)
    return changed


def _set_knative_canary(changed: Document, canary: Model, percent: int) -> None:
    predictor = changed["spec"]["predictor"]
    predictor["model"]["storageUri"] = canary.uri
    predictor["canaryTrafficPercent"] = min(percent, _MOST)
    # Without one, a revision without traffic is scaled to zero before it was ever asked.
    predictor["minReplicas"] = max(1, predictor.get("minReplicas", 1))
    changed["metadata"].setdefault("annotations", {})[TAG_ROUTING] = "true"


def _leave_knative_canary(changed: Document, original: Document) -> None:
    predictor = changed["spec"]["predictor"]
    if predictor.get("canaryTrafficPercent") != 0:
        predictor["canaryTrafficPercent"] = 0
    elif _previous_has_all(changed):
        predictor["model"]["storageUri"] = original["storageUri"]
        # With it: each of these alone would make one more revision.
        _put_replicas_back(predictor, original)
        _put_back(changed["metadata"]["annotations"], TAG_ROUTING, original["tag_routing"])
        revision = _component(changed).get("latestCreatedRevision", "")
        changed["metadata"].setdefault("annotations", {})[_REVISION] = revision


def _end_knative_canary(changed: Document, original: Document) -> None:
    """Give all traffic to the latest revision.

    Tag routing stays allowed after a promotion: taking that back would make a revision that nobody
    has judged.
    """
    predictor = changed["spec"]["predictor"]
    predictor.pop("canaryTrafficPercent", None)
    _put_replicas_back(predictor, original)
    changed["metadata"]["annotations"].pop(_REVISION, None)


def _put_replicas_back(predictor: Document, original: Document) -> None:
    if predictor.get("minReplicas") == 1:
        _put_back(predictor, "minReplicas", original["minReplicas"])


def _put_back(document: Document, name: str, value: Any) -> None:
    document.pop(name, None) if value is None else document.update({name: value})


def _previous_has_all(service: Document) -> bool:
    """Tell whether all traffic goes to the revision that was stable."""
    traffic = _component(service).get("traffic", [])
    return bool(traffic) and not _percent_of_latest(service)


def _stable_is_back(service: Document) -> bool:
    """Tell whether the stable bundle's new revision, and not the canary's, is what is ready."""
    left = service["metadata"].get("annotations", {}).get(_REVISION)
    return _latest_is_ready(service) and _component(service)["latestReadyRevision"] != left


def _latest_is_ready(service: Document) -> bool:
    status = _component(service)
    created = status.get("latestCreatedRevision")
    return bool(created) and created == status.get("latestReadyRevision")


def _component(service: Document) -> Document:
    status: Document = service.get("status", {}).get("components", {}).get("predictor", {})
    return status


def standard(service: Document, world: World, original: Document) -> Document:
    """Give the InferenceService of a world, in Standard mode.

    Args:
        service: The object as it is.
        world: What is to be served.
        original: What `snapshot` kept before the rollout.
    """
    changed = copy.deepcopy(service)
    predictor, model = changed["spec"]["predictor"], changed["spec"]["predictor"]["model"]
    if world.stable and world.stable.uri != original["storageUri"]:
        # With its name, the canary's pods stay and become the stable ones: nothing restarts.
        predictor["name"] = predictor_name(world.stable)
        model["storageUri"] = world.stable.uri
    else:
        _put_back(predictor, "name", original["name"])
        model["storageUri"] = original["storageUri"]
    changed["spec"].pop("canary", None)
    if world.canary:
        canary = _canary_predictor(predictor, world.canary, world.percent)
        changed["spec"]["canary"] = [{"trafficPercent": world.percent, "predictor": canary}]
    return changed


def predictor_name(model: Model) -> str:
    """Name a model's predictor: its Service is `<InferenceService>-<name>-predictor`."""
    return f"v{model.version[:8]}"


def _canary_predictor(stable: Document, canary: Model, percent: int) -> Document:
    predictor = copy.deepcopy(stable)
    for name in _NOT_OF_A_CANARY:
        predictor.pop(name, None)
    predictor["name"] = predictor_name(canary)
    predictor["model"] |= {"name": _CONTAINER, "storageUri": canary.uri}
    # KServe's own default is none at 0 %.
    replicas = stable.get("minReplicas", 1)
    predictor["minReplicas"] = max(1, math.ceil(replicas * percent / 100))
    return predictor


def check(service: Document) -> None:
    """Refuse what the API server would take although KServe cannot.

    Args:
        service: An InferenceService that is about to be written.

    Raises:
        UsageError: Something in it is wrong.
    """
    name, spec = service["metadata"]["name"], service["spec"]
    if not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name):
        raise _wrong(name, f"its name is {name!r}", "use a-z, 0-9 and - only")
    canaries = spec.get("canary", [])
    mode = mode_of(service)
    if mode is Mode.STANDARD and "canaryTrafficPercent" in spec["predictor"]:
        raise _wrong(name, "canaryTrafficPercent says nothing in Standard mode", "use spec.canary")
    if mode is Mode.KNATIVE and canaries:
        raise _wrong(name, "spec.canary says nothing in Knative mode", "use canaryTrafficPercent")
    total = sum(canary["trafficPercent"] for canary in canaries)
    if total > 100:
        raise _wrong(name, f"its canaries get {total} % of the traffic", "give 100 or less")
    names = [canary["predictor"].get("name", "") for canary in canaries]
    if len({*names, spec["predictor"].get("name", "")}) != len(names) + 1:
        raise _wrong(name, "two of its predictors have the same name", "name them apart")
    for predictor in (spec["predictor"], *(canary["predictor"] for canary in canaries)):
        _check_predictor(name, predictor)
    fewest = spec["predictor"].get("minReplicas", 1)
    if any(canary["predictor"].get("minReplicas", 0) > max(1, fewest) for canary in canaries):
        raise _wrong(name, "a canary has more minReplicas than the stable predictor", "give fewer")


def _check_predictor(name: str, predictor: Document) -> None:
    percent = predictor.get("canaryTrafficPercent", 0)
    if not 0 <= percent <= 100:
        raise _wrong(name, f"canaryTrafficPercent is {percent}", "give 0 to 100")
    most = predictor.get("maxReplicas", 0)
    if most and predictor.get("minReplicas", 1) > most:
        raise _wrong(name, f"minReplicas is more than maxReplicas ({most})", "give fewer")
    frameworks = [framework for framework in _FRAMEWORKS if framework in predictor]
    if frameworks != ["model"]:
        raise _wrong(name, f"its predictor names {frameworks}", "name `model` alone")
    uri = predictor["model"].get("storageUri", "")
    if uri.partition("://")[0] not in _SCHEMES:
        raise _wrong(name, f"its storageUri is {uri!r}", f"use one of: {', '.join(_SCHEMES)}")


def _wrong(name: str, what: str, remedy: str) -> UsageError:
    return UsageError(f"the InferenceService {name} is wrong: {what}", remedy=remedy)


def readiness(service: Document, mode: Mode, world: World) -> Readiness:
    """Tell whether KServe serves a world.

    Args:
        service: The object with its status.
        mode: How it is deployed.
        world: What is to be served.
    """
    status = service.get("status", {})
    failure = _failure(status, world)
    if failure:
        return Readiness(ready=False, reason=failure, hopeless=True)
    for name in ("Ready", *(["CanaryPredictorReady"] if _in_canary_list(mode, world) else [])):
        condition = _condition(status, name)
        if condition.get("status") != "True":
            said = condition.get("message") or condition.get("reason") or "not reported yet"
            return Readiness(ready=False, reason=f"{name}: {said}")
    missing = (_standard_gap if mode is Mode.STANDARD else _knative_gap)(service, world)
    return Readiness(ready=not missing, reason=missing)


def _in_canary_list(mode: Mode, world: World) -> bool:
    return mode is Mode.STANDARD and world.canary is not None


def _standard_gap(service: Document, world: World) -> str:
    """Say how far the status is from a world in Standard mode.

    `observedGeneration` tells nothing: it is that of the stable predictor's Deployment.
    """
    found = [
        (item.get("name"), item.get("trafficPercent", 0), item.get("ready", False))
        for item in service.get("status", {}).get("canaryStatuses", [])
    ]
    canary = world.canary
    wanted = [(predictor_name(canary), world.percent, True)] if canary else []
    return "" if found == wanted else f"canaries are {found}, not {wanted} yet"


def _knative_gap(service: Document, world: World) -> str:
    """Say how far the status is from a world in Knative mode."""
    if not world.canary and "canaryTrafficPercent" in service["spec"]["predictor"]:
        return "the stable bundle's new revision is starting"
    if not _latest_is_ready(service):
        return "the latest revision is starting"
    latest, previous = (_traffic_entry(service, canary=side) for side in (True, False))
    if world.canary and latest.get("revisionName") == previous.get("revisionName"):
        return "the canary has no revision yet"
    wanted = min(world.percent, _MOST) if world.canary else 100
    found = _percent_of_latest(service)
    return "" if found == wanted else f"the latest revision gets {found} %, not {wanted} yet"


def _percent_of_latest(service: Document) -> int:
    traffic = _component(service).get("traffic", [])
    return sum(item.get("percent", 0) for item in traffic if item.get("latestRevision"))


def _condition(status: Document, kind: str) -> Document:
    found = [item for item in status.get("conditions", []) if item.get("type") == kind]
    return found[0] if found else {}


def _failure(status: Document, world: World) -> str:
    """Say why a model can never be loaded, if KServe says so."""
    models = [status.get("modelStatus", {})]
    models += [item.get("modelStatus", {}) for item in status.get("canaryStatuses", [])]
    for model in models if world.canary else ():
        if model.get("transitionStatus") in ("BlockedByFailedLoad", "InvalidSpec"):
            info = model.get("lastFailureInfo", {})
            return str(info.get("message") or info.get("reason") or model["transitionStatus"])
    return ""


def target(service: Document, mode: Mode, *, canary: bool) -> str:
    """Name what a model's traffic is counted by: a revision, or a predictor's Service.

    Args:
        service: The object with its status.
        mode: How it is deployed.
        canary: Which of the two models.
    """
    if mode is Mode.KNATIVE:
        entry = _traffic_entry(service, canary=canary)
        return str(entry.get("revisionName", ""))
    return _service_name(service, canary=canary)


def address(service: Document, mode: Mode, *, canary: bool, inside: bool) -> str:
    """Give the address of one of the models itself.

    Args:
        service: The object with its status.
        mode: How it is deployed.
        canary: Of the canary, instead of the stable model.
        inside: The address within the cluster, which needs neither DNS nor a gateway; in Standard
            mode there is no other.

    Raises:
        InfrastructureError: KServe has not given it one yet.
    """
    namespace = service["metadata"]["namespace"]
    if mode is Mode.KNATIVE:
        entry = _traffic_entry(service, canary=canary)
        url = entry.get("url")
        if url and inside:
            name = service["metadata"]["name"]
            return f"http://{entry.get('tag')}-{name}-predictor.{namespace}.svc.cluster.local"
        if not url:
            raise InfrastructureError(
                f"the {'latest' if canary else 'previous'} revision of "
                f"{service['metadata']['name']} has no address of its own yet",
                remedy=f"is {TAG_ROUTING} allowed on this cluster?",
            )
        return str(url)
    return f"http://{_service_name(service, canary=canary)}.{namespace}.svc.cluster.local"


def _traffic_entry(service: Document, *, canary: bool) -> Document:
    for item in _component(service).get("traffic", []):
        if bool(item.get("latestRevision")) == canary:
            return dict(item)
    return {}


def _service_name(service: Document, *, canary: bool) -> str:
    name, spec = service["metadata"]["name"], service["spec"]
    if canary and not spec.get("canary"):
        return ""
    predictor = spec["canary"][0]["predictor"] if canary else spec["predictor"]
    own = predictor.get("name")
    return f"{name}-{own}-predictor" if own else f"{name}-predictor"
