"""What an API server says to objects of other projects' kinds: their schemas, from ../shared/crds.

At least as strict as a server with `fieldValidation=Strict`: unknown fields are refused, lists keep
their keys apart, and the schemas' CEL rules are evaluated after defaults are filled in.
"""

import copy
import json
import re
from functools import cache

import cel
import yaml
from helpers import ROOT
from jsonschema import Draft202012Validator, ValidationError, validators

FOLDER = ROOT.parent / "shared/crds"


class Loader(yaml.CSafeLoader):
    """Of the rules that a schema has, some are a lone `=`, which YAML 1.1 keeps for itself."""


Loader.add_constructor("tag:yaml.org,2002:value", lambda loader, node: node.value)


@cache
def places():
    """Find the CRD of each group and kind, without parsing all of them."""
    found = {}
    for path in sorted(FOLDER.rglob("*.yaml")):
        for text in re.split(r"^---\s*$", path.read_text(), flags=re.M):
            group = re.search(r'^  group: "?([\w.-]+)', text, re.M)
            kind = re.search(r'^    kind: "?(\w+)', text, re.M)
            if group and kind and "kind: CustomResourceDefinition" in text:
                found[group[1], kind[1]] = text
    return found


def has_schema(document):
    """Tell whether there is a CRD for an object."""
    return (document["apiVersion"].partition("/")[0], document["kind"]) in places()


@cache
def schema(group, version, kind):
    """Give the schema of a kind, every object closed to unknown fields."""
    document = yaml.load(places()[group, kind], Loader=Loader)
    versions = {each["name"]: each for each in document["spec"]["versions"] if each["served"]}
    if version not in versions:
        raise KeyError(f"{group} serves {kind} as {sorted(versions)}, not as {version}")
    root = closed(versions[version]["schema"]["openAPIV3Schema"])
    known = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}}
    named = {"metadata": {"type": "object", "required": ["name"]}}
    return {**root, "properties": known | root.get("properties", {}) | named}


def closed(node):
    """Close what the API server would prune; in allOf, anyOf, oneOf and not are conditions only."""
    node = dict(node)
    if node.pop("x-kubernetes-int-or-string", False):
        node.pop("type", None)
        node["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if node.pop("nullable", False) and "type" in node:
        node["type"] = [node["type"], "null"]
    for name in ("properties", "items", "additionalProperties"):
        children = node.get(name)
        if name == "properties" and children is not None:
            node[name] = {key: closed(child) for key, child in children.items()}
        elif isinstance(children, dict):
            node[name] = closed(children)
    keeps = node.get("x-kubernetes-preserve-unknown-fields")
    if node.get("type") == "object" and not keeps and "additionalProperties" not in node:
        node["additionalProperties"] = False
        if node.get("x-kubernetes-embedded-resource"):
            node["properties"] = {
                "apiVersion": {},
                "kind": {},
                "metadata": {},
                **node.get("properties", {}),
            }
    return node


def _distinct(validator, keys, value, schema):
    seen = set()
    for item in value if isinstance(value, list) else ():
        key = json.dumps([item.get(name) for name in keys] if keys else item)
        if key in seen:
            yield ValidationError(f"{key} is there twice")
        seen.add(key)


def _list_type(validator, kind, value, schema):
    if kind == "set":
        yield from _distinct(validator, (), value, schema)


@cache
def _compiled(rule):
    return cel.compile(rule)


def _cel(validator, rules, value, schema):
    for rule in rules:
        if "oldSelf" in rule["rule"]:
            continue  # about changes only
        try:
            holds = _compiled(rule["rule"]).execute({"self": value})
        except (ValueError, RuntimeError, TypeError) as error:
            yield ValidationError(f"the rule {rule['rule']!r} cannot be evaluated: {error}")
            continue
        if holds is not True:
            yield ValidationError(f"{value!r:.80}: {rule.get('message') or rule['rule']}")


Validator = validators.extend(
    Draft202012Validator,
    {
        "x-kubernetes-validations": _cel,
        "x-kubernetes-list-map-keys": _distinct,
        "x-kubernetes-list-type": _list_type,
    },
)


def fill(value, schema):
    """Fill in the schema's defaults, as the API server does before it looks at rules."""
    if isinstance(value, dict):
        for name, child in schema.get("properties", {}).items():
            if name not in value and "default" in child:
                value[name] = copy.deepcopy(child["default"])
            if name in value:
                fill(value[name], child)
        others = schema.get("additionalProperties")
        if isinstance(others, dict):
            for name in value.keys() - schema.get("properties", {}).keys():
                fill(value[name], others)
    elif isinstance(value, list):
        for item in value:
            fill(item, schema.get("items", {}))


def problem_of(document):
    """Say what is wrong with an object of a kind that has a CRD; nothing if it is valid."""
    document = copy.deepcopy({key: value for key, value in document.items() if key != "status"})
    group, _, version = document["apiVersion"].partition("/")
    root = schema(group, version, document["kind"])
    root = {**root, "properties": {k: v for k, v in root["properties"].items() if k != "status"}}
    fill(document, root)
    errors = list(Validator(root).iter_errors(document))
    return "; ".join(f"{'.'.join(map(str, e.path))}: {e.message[:200]}" for e in errors[:3])
