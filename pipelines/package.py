"""Compiles the pipelines into packages for the Kubeflow UI."""

from pathlib import Path
from typing import Any

from kfp import compiler

from marquee.errors import UsageError
from pipelines import monitoring, scoring, training

PIPELINES: dict[str, Any] = {
    training.NAME: training.training,
    scoring.NAME: scoring.scoring,
    monitoring.NAME: monitoring.monitoring,
}


def compile_all(folder: Path) -> list[Path]:
    """Compile every pipeline.

    Args:
        folder: Where the packages go, as `<name>.yaml`.

    Returns:
        The packages.
    """
    return [compile_pipeline(name, folder) for name in PIPELINES]


def compile_pipeline(name: str, folder: Path) -> Path:
    """Compile a pipeline.

    Args:
        name: A name in `PIPELINES`.
        folder: Where the package goes, as `<name>.yaml`.

    Returns:
        The package.

    Raises:
        UsageError: There is no such pipeline.
    """
    pipeline = find(name)
    folder.mkdir(parents=True, exist_ok=True)
    package = folder / f"{name}.yaml"
    compiler.Compiler().compile(pipeline, str(package))
    return package


def find(name: str) -> Any:
    """Give a pipeline.

    Args:
        name: A name in `PIPELINES`.

    Raises:
        UsageError: There is no such pipeline.
    """
    if name not in PIPELINES:
        raise UsageError(
            f"there is no pipeline {name!r}", remedy=f"choose one of {', '.join(PIPELINES)}"
        )
    return PIPELINES[name]
