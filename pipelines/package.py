"""Compiles the pipelines into packages for the Kubeflow UI."""

from pathlib import Path
from typing import Any

from kfp import compiler

from pipelines import scoring, training

PIPELINES: dict[str, Any] = {
    training.NAME: training.training,
    scoring.NAME: scoring.scoring,
}


def compile_all(folder: Path) -> list[Path]:
    """Compile every pipeline.

    Args:
        folder: Where the packages go, as `<name>.yaml`.

    Returns:
        The packages.
    """
    folder.mkdir(parents=True, exist_ok=True)
    packages = []
    for name, pipeline in PIPELINES.items():
        package = folder / f"{name}.yaml"
        compiler.Compiler().compile(pipeline, str(package))
        packages.append(package)
    return packages
