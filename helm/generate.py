"""Writes what the chart keeps copies of: README.md from values.yaml, and the files of monitoring/.

Helm reads only what lies in the chart, and a packaged chart has no monitoring/ beside it. `make
manifests` calls this; a test asks whether what is there is fresh.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from helm import golden

ROOT = Path(__file__).parents[1]
CHART = ROOT / "helm/marquee"
_KEY = re.compile(r"(?P<indent> *)(?P<key>[A-Za-z]\w*):(?P<rest>.*)")
_HEAD = """\
# The chart `marquee`

{description}. How it is installed, upgraded and removed: [docs/install.md](../../docs/install.md).

```sh
helm install marquee helm/marquee --namespace films --values my-values.yaml
helm test marquee --namespace films
```

There is one release a namespace: the pipelines' steps find its objects by their names. The
definitions of KServe's, Trainer's and Prometheus' kinds are their projects' to install, and secrets
are yours to make: [docs/install.md](../../docs/install.md) lists them.

## Values

`helm/generate.py` writes this page from the comments of [values.yaml](values.yaml).

| value | default | what |
|---|---|---|
"""


def generated() -> dict[Path, str]:
    """Give the files that are generated, and what belongs into them."""
    files = {CHART / "README.md": _readme()}
    for folder, pattern in (("alerts", "*.yaml"), ("dashboards", "*.json")):
        for source in sorted((ROOT / "monitoring" / folder).glob(pattern)):
            files[CHART / "files" / folder / source.name] = source.read_text()
    return files


def there() -> list[Path]:
    """Give the files of the chart that nobody else writes."""
    return [path for path in (CHART / "files").glob("*/*") if path.is_file()]


def _readme() -> str:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    text = (CHART / "values.yaml").read_text()
    values = yaml.safe_load(text)
    rows = [
        f"| `{name}` | {_shown(_at(values, name))} | {said} |" for name, said in _described(text)
    ]
    return _HEAD.format(description=chart["description"]) + "\n".join(rows) + "\n"


def _described(text: str) -> Iterator[tuple[str, str]]:
    """Give each value that a comment `# --` stands above, and the comment."""
    path: list[tuple[int, str]] = []
    said: list[str] = []
    for line in text.splitlines():
        comment = line.strip()
        if comment.startswith("# -- "):
            said = [comment.removeprefix("# -- ")]
        elif comment.startswith("# ") and said:
            said.append(comment.removeprefix("# "))
        elif found := _KEY.fullmatch(line):
            depth = len(found["indent"])
            path = [(at, key) for at, key in path if at < depth] + [(depth, found["key"])]
            if said:
                yield ".".join(key for _, key in path), " ".join(said)
            said = []


def _at(values: Any, name: str) -> Any:
    for key in name.split("."):
        values = values[key]
    return values


def _shown(value: Any) -> str:
    if value in ("", [], {}):
        return "none"
    text = value if isinstance(value, str) else json.dumps(value)
    return f"`{text}`"


if __name__ == "__main__":
    golden.renew(generated(), there())
