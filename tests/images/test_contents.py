"""Each image holds what its steps and commands import, and nothing that only others need."""

import ast
import importlib.metadata
import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from helpers import ROOT
from our_images import IMAGES, closure
from packaging.utils import canonicalize_name

from images.requirements import requirements
from pipelines.steps import POLICIES

ROOMS = ("marquee", "components", "pipelines", "serving", "monitoring")


def file_of(module: str) -> Path | None:
    path = ROOT / Path(*module.split("."))
    candidates = (path / "__init__.py", path.with_suffix(".py"))
    return next((file for file in candidates if file.is_file()), None)


@cache
def imports(module: str, inside: frozenset[str] | None) -> frozenset[str]:
    """What a module of ours imports.

    Args:
        module: Its name.
        inside: The functions whose imports count as well as those at the top; without it, all.
    """
    tree = ast.parse(file_of(module).read_text())
    left_out = {
        node
        for part in ast.walk(tree)
        if isinstance(part, ast.If) and ast.unparse(part.test) == "TYPE_CHECKING"
        for statement in part.body
        for node in ast.walk(statement)
    }
    if inside is not None:
        left_out |= {
            node
            for part in tree.body
            if isinstance(part, ast.FunctionDef) and part.name not in inside
            for node in ast.walk(part)
        }
    found: set[str] = set()
    for node in set(ast.walk(tree)) - left_out:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(found)


def loaded(image: str) -> Iterator[tuple[str, str]]:
    """What can be loaded in an image, each with the module of ours that imports it.

    The functions of steps that run elsewhere do not count, nor those of other commands.
    """
    steps = {
        policy.function.__module__: policy.function.__name__
        for policy in POLICIES.values()
        if policy.image == image
    }
    elsewhere = {policy.function.__module__ for policy in POLICIES.values()} - steps.keys()
    waiting, seen = [*steps, *IMAGES[image].commands], set()
    while waiting:
        module = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        waiting.append(module.rpartition(".")[0] or module)
        command = module.startswith("marquee.cli") and module not in IMAGES[image].commands
        apart = frozenset() if command or module in elsewhere else None
        for name in imports(module, apart):
            if name.partition(".")[0] in ROOMS:
                waiting += [name] if file_of(name) else []
                yield name, module
            else:
                yield name.partition(".")[0], module


ABSENT = {
    "data": set(),
    # A search goes on where somebody sits; a trial of Katib's, which runs there, needs none of it.
    "train": {"optuna"},
    # It reads what bundles say of themselves, and runs none.
    "monitoring": {"onnxruntime", "openvino"},
    # Without it sigstore's signatures are not verified, which the server says; of the registry it
    # reads the purged posters, which lie in files.
    "serving": {"model_registry", "mr_openapi"},
}
"""What modules of ours can import and an image lacks, because nothing there comes to that."""


@cache
def providers() -> dict[str, set[str]]:
    """The packages that each importable module comes from."""
    found = importlib.metadata.packages_distributions()
    return {module: set(map(canonicalize_name, names)) for module, names in found.items()}


def unlisted(image: str, packages: frozenset[str]) -> set[str]:
    tops = {name for name, _ in loaded(image)} - sys.stdlib_module_names
    return {
        name
        for name in tops
        # Several packages share a module such as `google`: one of them is enough.
        if name.partition(".")[0] not in ROOMS and packages.isdisjoint(providers().get(name, []))
    }


@pytest.mark.parametrize("image", IMAGES)
def test_what_our_modules_import_is_listed(image):
    assert unlisted(image, closure(image)) == ABSENT[image]


NEEDED = {
    "data": "imagehash",
    "train": "kubernetes",
    "monitoring": "evidently",
    "serving": "aiohttp",
}


@pytest.mark.parametrize("image", IMAGES)
def test_what_is_not_listed_is_found(image):
    assert unlisted(image, closure(image) - {NEEDED[image]}) == ABSENT[image] | {NEEDED[image]}


@pytest.mark.parametrize("image", IMAGES)
def test_no_code_is_reached_that_the_image_does_not_hold(image):
    rooms = {name.partition(".")[0] for name, _ in loaded(image)} & set(ROOMS)
    assert rooms == IMAGES[image].rooms | {"marquee"}


@pytest.mark.parametrize("image", IMAGES)
def test_an_extra_brings_nothing_of_other_images(image):
    assert closure(image).isdisjoint(IMAGES[image].foreign)
    others = set().union(*(closure(other) for other in IMAGES))
    assert IMAGES[image].foreign <= others, "a name is mistyped, or nobody needs it any more"


def test_every_step_of_a_pipeline_can_be_run_by_kfp_without_pip():
    for image in {policy.image for policy in POLICIES.values()}:
        assert "kfp" in closure(image)


def test_each_image_is_an_extra_and_all_are_in_the_environment_of_developers():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert IMAGES.keys() <= extras["optional-dependencies"].keys()
    assert set().union(*(requirements(image) for image in IMAGES)) <= set(requirements("dev"))


def test_serving_loads_nothing_of_other_images():
    """What is installed for KServe's package costs memory only if it is loaded."""
    modules = [f"serving.{path.stem}" for path in (ROOT / "serving").glob("[a-z]*.py")]
    code = f"import json, sys, {', '.join(modules)}\nprint(json.dumps(list(sys.modules)))"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    found = set(json.loads(result.stdout))
    assert {"serving", "kserve", "uvicorn"} < found
    others = {"torch", "torchvision", "kfp", "evidently", "great_expectations", "sklearn"}
    assert found.isdisjoint(others | {"kubernetes"})
