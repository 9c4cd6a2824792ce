"""Which objects the chart and the overlays have: the golden file tests/helm/objects.yaml.

`make manifests` writes it. What the objects are is in manifests/base; this shows which ones a
choice of values adds and leaves out.
"""

import re

import yaml
from chart import OVERLAYS, build, render
from chart_cases import CASES
from helpers import ROOT
from objects import name_of

FILE = ROOT / "tests/helm/objects.yaml"


def summary():
    """Give the file's content."""
    found = {f"values {name}": _names(render(values)) for name, values in CASES.items()}
    found |= {f"overlay {path.name}": _names(build(path)) for path in OVERLAYS}
    defaults = found.pop("values defaults")
    shown = {"values defaults": sorted(defaults)}
    for name, names in found.items():
        more, less = sorted(names - defaults), sorted(defaults - names)
        shown[name] = {key: each for key, each in (("with", more), ("without", less)) if each}
    return "# Written by `make manifests`.\n" + yaml.safe_dump(shown, sort_keys=False)


def _names(objects):
    return {_name(each) for each in objects}


def _name(document):
    name = re.sub(r"-[0-9a-f]{8}$", "-HASH", name_of(document))
    is_hook = "helm.sh/hook" in document["metadata"].get("annotations", {})
    return f"{name} (hook)" if is_hook else name


if __name__ == "__main__":
    FILE.write_text(summary())
