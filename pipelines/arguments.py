"""A pipeline's parameters as its compiled package declares them, and what is given for them."""

import json
from collections.abc import Mapping
from typing import Any

from marquee.errors import UsageError

_TYPES: dict[str, tuple[str, tuple[type, ...]]] = {
    "STRING": ("a string", (str,)),
    "NUMBER_INTEGER": ("a whole number", (int,)),
    "NUMBER_DOUBLE": ("a number", (int, float)),
    "BOOLEAN": ("true or false", (bool,)),
    "STRUCT": ("a JSON object", (dict,)),
    "LIST": ("a JSON list", (list,)),
}


def parse_arguments(spec: Mapping[str, Any], given: list[str]) -> dict[str, Any]:
    """Read arguments from the command line.

    Args:
        spec: The pipeline's compiled specification.
        given: Such as `["limit=200", "vgg16=false"]`.

    Returns:
        A value of the declared type a parameter.

    Raises:
        UsageError: An argument is unknown, of the wrong type, or missing.
    """
    declared = _declared(spec)
    arguments = {}
    for item in given:
        name, equals, text = item.partition("=")
        if not equals:
            raise UsageError(f"{item!r} names no value", remedy="write --set-param name=value")
        kind = declared.get(name, {}).get("parameterType", "STRING")
        arguments[name] = text if kind == "STRING" else _from_json(text)
    check_arguments(spec, arguments)
    return arguments


def check_arguments(spec: Mapping[str, Any], arguments: Mapping[str, Any]) -> None:
    """Check arguments against what a pipeline declares, before anything is sent.

    Args:
        spec: The pipeline's compiled specification.
        arguments: A value a parameter.

    Raises:
        UsageError: An argument is unknown, of the wrong type, or missing.
    """
    declared = _declared(spec)
    for name, value in arguments.items():
        if name not in declared:
            raise UsageError(
                f"the pipeline has no parameter {name!r}",
                remedy=f"it has {', '.join(sorted(declared)) or 'none'}",
            )
        _check(name, value, declared[name])
    missing = [
        name
        for name, parameter in declared.items()
        if name not in arguments
        and not parameter.get("isOptional")
        and "defaultValue" not in parameter
    ]
    if missing:
        raise UsageError(
            f"the pipeline needs {', '.join(missing)}",
            remedy=f"add --set-param {missing[0]}=...",
        )


def _check(name: str, value: Any, parameter: Mapping[str, Any]) -> None:
    wanted, types = _TYPES[parameter["parameterType"]]
    # To Python, True is a whole number.
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        raise UsageError(
            f"the parameter {name!r} is {wanted}, not {value!r}", remedy=f"give it {wanted}"
        )
    literals = parameter.get("literals")
    if literals and value not in literals:
        raise UsageError(
            f"the parameter {name!r} cannot be {value!r}",
            remedy=f"choose one of {', '.join(map(str, literals))}",
        )


def _declared(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    # A package with settings for Kubernetes has two documents, and KFP answers with both.
    root = spec.get("pipeline_spec", spec)["root"]
    return root.get("inputDefinitions", {}).get("parameters", {})


def _from_json(text: str) -> Any:
    """Read a value; what is no JSON stays text, and is refused as such by name."""
    try:
        return json.loads(text)
    except ValueError:
        return text
