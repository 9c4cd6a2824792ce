"""The few kinds that kubectl and helm send as protobuf, read into what they would be as JSON.

Field numbers are those of Kubernetes' generated.proto files.
"""

import base64

CONTENT = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\x00"

_OWNER = {
    1: ("kind", str),
    3: ("name", str),
    4: ("uid", str),
    5: ("apiVersion", str),
    6: ("controller", bool),
    7: ("blockOwnerDeletion", bool),
}
_METADATA = {
    1: ("name", str),
    2: ("generateName", str),
    3: ("namespace", str),
    5: ("uid", str),
    6: ("resourceVersion", str),
    11: ("labels", {str: str}),
    12: ("annotations", {str: str}),
    13: ("ownerReferences", [_OWNER]),
    14: ("finalizers", [str]),
}
_ATTRIBUTES = {
    1: ("namespace", str),
    2: ("verb", str),
    3: ("group", str),
    4: ("version", str),
    5: ("resource", str),
    6: ("subresource", str),
    7: ("name", str),
}
_KINDS = {
    "Secret": {
        1: ("metadata", _METADATA),
        2: ("data", {str: bytes}),
        3: ("type", str),
        5: ("immutable", bool),
    },
    "ConfigMap": {1: ("metadata", _METADATA), 2: ("data", {str: str}), 4: ("immutable", bool)},
    "Namespace": {1: ("metadata", _METADATA)},
    "ServiceAccount": {1: ("metadata", _METADATA)},
    "DeleteOptions": {
        2: ("preconditions", {1: ("uid", str), 2: ("resourceVersion", str)}),
        4: ("propagationPolicy", str),
        5: ("dryRun", [str]),
    },
    "SelfSubjectAccessReview": {
        1: ("metadata", _METADATA),
        2: ("spec", {1: ("resourceAttributes", _ATTRIBUTES)}),
    },
    "SubjectAccessReview": {
        1: ("metadata", _METADATA),
        2: (
            "spec",
            {1: ("resourceAttributes", _ATTRIBUTES), 3: ("user", str), 4: ("groups", [str])},
        ),
    },
    "TokenRequest": {
        1: ("metadata", _METADATA),
        2: ("spec", {1: ("audiences", [str]), 4: ("expirationSeconds", int)}),
    },
}


def read(data):
    """Give an object as JSON would have it; None if its kind is not known here."""
    envelope = dict(_fields(data.removeprefix(_MAGIC)))
    about = dict(_fields(envelope[1]))
    kind = about[2].decode()
    if kind not in _KINDS:
        return None
    document = _message(envelope.get(2, b""), _KINDS[kind])
    return {"apiVersion": about[1].decode(), "kind": kind} | document


def _message(data, fields):
    document = {}
    for number, value in _fields(data):
        if number not in fields:
            continue
        name, kind = fields[number]
        if isinstance(kind, list):
            document.setdefault(name, []).append(_value(value, kind[0]))
        elif isinstance(kind, dict) and str in kind:
            entry = dict(_fields(value))
            document.setdefault(name, {})[entry.get(1, b"").decode()] = _value(
                entry.get(2, b""), kind[str]
            )
        else:
            found = _value(value, kind)
            if found != "":
                document[name] = found
    return document


def _value(value, kind):
    if isinstance(kind, dict):
        return _message(value, kind)
    if kind is str:
        return value.decode()
    return base64.b64encode(value).decode() if kind is bytes else kind(value)


def _fields(data):
    """Give a message's fields by number: bytes, or a number."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        if tag & 7 == 0:
            value, at = _varint(data, at)
        else:
            assert tag & 7 == 2, f"wire type {tag & 7}"
            length, at = _varint(data, at)
            value, at = data[at : at + length], at + length
        yield tag >> 3, value


def _varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
