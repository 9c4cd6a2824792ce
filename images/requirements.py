"""Prints what an extra of pyproject.toml installs, one requirement a line, for an image's build.

pip has no way to install a project's dependencies without its code, which belongs to a later layer.
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def requirements(*extras: str) -> list[str]:
    """List the project's dependencies and those of extras, the extras that these name included.

    Args:
        extras: Names in `[project.optional-dependencies]`.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    ours = re.compile(rf"{project['name']}\[(.+)\]")
    lines, waiting = list(project["dependencies"]), list(extras)
    while waiting:
        for line in project["optional-dependencies"][waiting.pop()]:
            if named := ours.fullmatch(line):
                waiting += named[1].split(",")
            else:
                lines.append(line)
    return lines


if __name__ == "__main__":
    print(*requirements(*sys.argv[1:]), sep="\n")
