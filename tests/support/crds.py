"""KServe's own schemas from ../shared/crds: what an API server with strict validation would say."""

from functools import cache

import yaml
from helpers import ROOT
from jsonschema import Draft202012Validator

FOLDER = ROOT.parent / "shared/crds"
NEWER = ()
"""Fields that only KServe 0.21 knows: the schemas are those of 0.20."""


@cache
def schema(file, version):
    """Give the schema of a CRD, every object closed to unknown fields."""
    document = yaml.safe_load((FOLDER / file).read_text())
    (found,) = (v for v in document["spec"]["versions"] if v["name"] == version)
    return _closed(found["schema"]["openAPIV3Schema"])


def _closed(node):
    if isinstance(node, list):
        return [_closed(item) for item in node]
    if not isinstance(node, dict):
        return node
    closed = {key: _closed(value) for key, value in node.items()}
    if closed.pop("x-kubernetes-int-or-string", False):
        closed.pop("type", None)
        closed["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    open_ = closed.pop("x-kubernetes-preserve-unknown-fields", False)
    if "properties" in closed and isinstance(closed["properties"], dict) and not open_:
        closed.setdefault("additionalProperties", False)
    return closed


def problem_of(document, file="kserve/serving.kserve.io_inferenceservices.yaml", version="v1beta1"):
    """Say what is wrong with an object; nothing if it is valid."""
    document = {key: value for key, value in document.items() if key != "status"}
    metadata = document.pop("metadata")
    assert metadata["name"]
    root = dict(schema(file, version))
    root["properties"] = {
        k: v for k, v in root["properties"].items() if k not in ("metadata", "status")
    }
    errors = list(Draft202012Validator(root).iter_errors(document))
    return "; ".join(f"{'.'.join(map(str, e.path))}: {e.message[:200]}" for e in errors[:3])
