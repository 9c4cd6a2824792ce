"""The import rule of docs/architecture.md, checked on the source and in a fresh process."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("marquee", "components", "pipelines", "serving", "monitoring")
STEPS = tuple(path.name for path in (ROOT / "components").iterdir() if path.is_dir())
HEAVY = ("torch", "kfp", "kserve", "great_expectations", "evidently")


def _room(module):
    """The unit that the rule speaks of: a step is a room of its own."""
    parts = module.split(".")
    if parts[:2] in (["marquee", "cli"], ["marquee", "__main__"]):
        return "marquee.cli"
    if parts[0] == "components" and len(parts) > 1 and parts[1] in STEPS:
        return f"components.{parts[1]}"
    return parts[0] if parts[0] in ROOMS else None


def _imports(path):
    """Imported modules of a file, and whether each import runs when the file is imported."""
    tree = ast.parse(path.read_text())
    inner = {node for part in ast.walk(tree) if _waits(part) for node in ast.walk(part)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield name.name, node not in inner
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, node not in inner
            for name in node.names:
                yield f"{node.module}.{name.name}", node not in inner


def _waits(part):
    """Whether a part of a file does not run when the file is imported."""
    if isinstance(part, ast.If):
        return isinstance(part.test, ast.Name) and part.test.id == "TYPE_CHECKING"
    return isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)


def _allowed(importer, imported):
    if imported in (importer, "marquee"):
        return True
    if importer == "marquee.cli":
        return True
    if importer == "pipelines":
        return imported.startswith("components") or imported == "monitoring"
    return False


def _files():
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            yield path, ".".join(path.relative_to(ROOT).with_suffix("").parts)


def test_rooms_import_what_they_may():
    offences = []
    for path, module in _files():
        importer = _room(module)
        for imported, at_top in _imports(path):
            room = _room(imported)
            if room is None:
                continue
            if not _allowed(importer, room):
                offences.append(f"{module} imports {imported}")
            if importer == "marquee.cli" and at_top and room not in ("marquee", "marquee.cli"):
                offences.append(f"{module} imports {imported} at its top")
    assert offences == []


def _light_modules():
    for path, module in _files():
        if path.name in ("component.py", "settings.py") or module.startswith("marquee.cli"):
            yield module.removesuffix(".__init__")
    # What a cluster is asked for without training here.
    yield from ("components.train.order", "components.train.search", "components.train.experiment")


@pytest.mark.parametrize("module", ["marquee", *_light_modules()])
def test_light_modules_load_nothing_heavy(module):
    code = f"import sys, {module}; print([m for m in {HEAVY!r} if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_the_rule_can_fail():
    assert not _allowed("components.train", "components.evaluate")
    assert not _allowed("serving", "monitoring")
    assert not _allowed("marquee", "components.ingest")
    assert not _allowed("monitoring", "pipelines")
    assert _room("marquee.cli.steps") == "marquee.cli"
