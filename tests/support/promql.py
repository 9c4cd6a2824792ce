"""What PromQL expressions read, and whether it is exported: no parser, but enough for ours."""

import re
from collections.abc import Mapping, Sequence

Series = Mapping[str, Sequence[Mapping[str, str]]]
"""Names of metrics to the labels of each of their series."""

TARGET_LABELS = {"namespace", "job", "instance"}
"""What Prometheus adds to whatever it visits."""
OF_PROMETHEUS = {
    "up": [{}],
    "ALERTS": [{"alertname": "MarqueeX", "alertstate": "firing", "severity": "warning"}],
}
"""Metrics that Prometheus makes itself."""

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_CLAUSE = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_RANGE = re.compile(r"\[[^\]]*\]")
_SELECTOR = re.compile(r"(?<![\w.:])([a-zA-Z_:][\w:]*)\s*(\(|\{[^}]*\})?")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"(\d+)"')
_WORDS = {"and", "or", "unless", "bool", "offset"}


def complaints(expression: str, exported: Series) -> list[str]:
    """Say what an expression reads that nobody exports.

    Args:
        expression: PromQL; a value that a variable of Grafana stands for may be any.
        exported: All there is.

    Returns:
        Names of metrics, of labels, and matchers that no series meets; empty if all is there.
    """
    strings = _STRING.findall(expression)
    numbers = iter(range(len(strings)))
    text = _RANGE.sub("", _STRING.sub(lambda _: f'"{next(numbers)}"', expression))
    clauses = [name.strip() for found in _CLAUSE.findall(text) for name in found.split(",")]
    text = _CLAUSE.sub("", text)
    known = TARGET_LABELS.union(*(labels for series in exported.values() for labels in series))
    wrong = [f"label {name}" for name in clauses if name and name not in known]
    for name, rest in _SELECTOR.findall(text):
        if rest == "(" or name in _WORDS:
            continue
        matchers = [(key, how, strings[int(n)][1:-1]) for key, how, n in _MATCHER.findall(rest)]
        if name not in exported:
            wrong.append(f"metric {name}")
        elif not any(all(_meets(one, *m) for m in matchers) for one in exported[name]):
            wrong.append(f"series {name} of {matchers}")
    return wrong


def _meets(labels: Mapping[str, str], name: str, how: str, value: str) -> bool:
    if name in TARGET_LABELS:
        return True
    if name not in labels:
        return False
    if "$" in value:
        return True
    same = bool(re.fullmatch(value, labels[name])) if "~" in how else value == labels[name]
    return same is not how.startswith("!")
