"""The table of our container images, and what their lists of packages bring."""

import functools
import importlib.metadata
import re
from dataclasses import dataclass

from helpers import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from images.requirements import requirements


@dataclass(frozen=True, kw_only=True)
class OurImage:
    """What is special about an image; its name is that of its target and of its extra."""

    dockerfile: str
    rooms: frozenset[str]
    """The folders of code in it, besides the kernel."""
    commands: tuple[str, ...]
    """The modules whose commands run there, such as a TrainJob's; steps are in `POLICIES`."""
    foreign: frozenset[str]
    """What other images need, and this one must not carry."""

    @property
    def text(self) -> str:
        """Its Dockerfile."""
        return (ROOT / self.dockerfile).read_text()


def _image(dockerfile: str, rooms: str, commands: str, foreign: str) -> OurImage:
    return OurImage(
        dockerfile=dockerfile,
        rooms=frozenset(rooms.split()),
        commands=tuple(commands.split()),
        foreign=frozenset(foreign.split()),
    )


IMAGES = {
    "data": _image(
        "components/Dockerfile",
        rooms="components",
        commands="",
        foreign="torch torchvision openvino onnxruntime kserve evidently model-registry",
    ),
    "train": _image(
        "components/Dockerfile",
        rooms="components",
        commands="marquee.cli.tune components.train.torchrun components.train.worker",
        foreign="kserve evidently great-expectations duckdb",
    ),
    "monitoring": _image(
        "monitoring/Dockerfile",
        rooms="components monitoring pipelines",
        commands="marquee.cli.reports marquee.cli.pipeline marquee.cli.preflight "
        "marquee.cli.monitor marquee.cli.drift marquee.cli.retrain",
        foreign="torch torchvision openvino onnxruntime kserve great-expectations",
    ),
    "serving": _image(
        "serving/Dockerfile",
        rooms="serving",
        commands="marquee.cli.serve marquee.cli.receive",
        foreign="torch torchvision kfp evidently great-expectations scikit-learn model-registry",
    ),
}


@functools.cache
def closure(name: str) -> frozenset[str]:
    """The packages that an image's list brings, as far as they are installed here."""
    found: set[str] = set()
    waiting = [Requirement(line) for line in requirements(name)]
    while waiting:
        requirement = waiting.pop()
        package = canonicalize_name(requirement.name)
        extras = requirement.extras or {""}
        if package in found and extras == {""}:
            continue
        found.add(package)
        for line in importlib.metadata.requires(package) or []:
            further = Requirement(line)
            if further.marker is None or any(
                further.marker.evaluate({"extra": extra}) for extra in extras
            ):
                waiting.append(further)
    return frozenset(found)


def version() -> str:
    """Marquee's, which images are tagged with; read, as a script reads it."""
    (found,) = re.findall(r'__version__ = "(.*)"', (ROOT / "marquee/__init__.py").read_text())
    return found
