"""The chart as helm renders it, and the overlays as kubectl does."""

import json
import os
import subprocess
from functools import cache

import yaml
from helpers import ROOT, require_tool

CHART = ROOT / "helm/marquee"
OVERLAYS = sorted(path.parent for path in ROOT.glob("manifests/overlays/*/kustomization.yaml"))
NAMESPACE = "films"


def run_tool(name, *arguments, folder="helm", stdin=None, environment=None):
    """Run a tool of `.tools`; give its exit code and all that it said."""
    done = subprocess.run(
        [require_tool(name, folder=folder), *map(str, arguments)],
        capture_output=True,
        text=True,
        input=stdin,
        env={**os.environ, **(environment or {})},
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@cache
def _template(values, namespace, chart):
    options = ("--namespace", namespace, "--values", "-")
    code, out, said = run_tool("helm", "template", "marquee", chart, *options, stdin=values)
    assert code == 0, said
    return out


def render(values, namespace=NAMESPACE, chart=CHART):
    """Give the objects that the chart makes of values, hooks among them."""
    out = _template(json.dumps(values), namespace, chart)
    return [each for each in yaml.safe_load_all(out) if each]


@cache
def _built(overlay):
    code, out, said = run_tool("kubectl", "kustomize", overlay)
    assert code == 0, said
    return out


def build(overlay):
    """Give the objects of an overlay."""
    return [each for each in yaml.safe_load_all(_built(overlay)) if each]
