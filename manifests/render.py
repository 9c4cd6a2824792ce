"""Writes manifests/base: what the chart renders of manifests/values.yaml, one file a template.

It has no namespace of its own and is not Helm's: overlays say where it goes. `make manifests` calls
this; a test asks whether what is there is fresh.
"""

import re
import subprocess
from pathlib import Path

from helm import golden

ROOT = Path(__file__).parents[1]
BASE = ROOT / "manifests/base"
NAMESPACE = "films"
_HEAD = "# Written by `make manifests` from helm/marquee and manifests/values.yaml.\n"
_KUSTOMIZATION = """\
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
labels:
  - pairs: {{app.kubernetes.io/version: "{version}"}}
resources:
  - ../../monitoring/dashboards
"""


def rendered() -> dict[Path, str]:
    """Give the files of manifests/base, and what belongs into them.

    Raises:
        subprocess.CalledProcessError: The chart does not render; helm says why.
    """
    command = [f"{ROOT}/.tools/helm/bin/helm", "template", "marquee", f"{ROOT}/helm/marquee"]
    command += ["--namespace", NAMESPACE, "--values", f"{ROOT}/manifests/values.yaml"]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    texts: dict[str, str] = {}
    for document in re.split(r"^---\n", out, flags=re.M):
        found = re.match(r"# Source: marquee/templates/(.*)\n", document)
        if found:
            texts[found[1]] = texts.get(found[1], "") + "---\n" + _free(document[found.end() :])
    files = {BASE / name: _HEAD + text for name, text in texts.items()}
    names = "".join(f"  - {name}\n" for name in sorted(texts))
    chart = (ROOT / "helm/marquee/Chart.yaml").read_text()
    version = re.search(r"^appVersion: (.*)$", chart, re.M)
    kustomization = _KUSTOMIZATION.format(version=version and version[1])
    return files | {BASE / "kustomization.yaml": _HEAD + kustomization + names}


def _free(document: str) -> str:
    """Take out where it was rendered for, and that Helm manages it."""
    document = re.sub(rf"^  namespace: {NAMESPACE}\n", "", document, flags=re.M)
    document = document.replace(f", namespace: {NAMESPACE}}}", "}")  # of subjects
    document = document.replace("managed-by: Helm", "managed-by: kustomize")
    # Blank lines of the templates, too.
    return re.sub(r"^ *(helm\.sh/(chart|resource-policy): .*)?\n", "", document, flags=re.M)


def there() -> list[Path]:
    """Give the files of manifests/base."""
    return list(BASE.glob("*"))


if __name__ == "__main__":
    golden.renew(rendered(), there())
