"""Compiles the pipelines into packages for the Kubeflow UI, and into objects for Kubernetes."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kfp import compiler
from kfp.compiler.compiler_utils import KubernetesManifestOptions

from components.ingest.sources import KINDS
from components.train.order import ANY_GPU, GPU_TYPES
from marquee.errors import UsageError
from marquee.genres import LABEL_SETS
from pipelines import monitoring, scoring, training
from pipelines.cluster import version_of

CHOICES: dict[str, Iterable[str]] = {
    "source": KINDS,
    "label_set": LABEL_SETS,
    "gpu_type": (ANY_GPU, *GPU_TYPES),
}
"""The parameters that are drop-downs in the Kubeflow UI, in every pipeline that has them."""
MANIFESTS = "kubernetes"
"""The folder of the objects for Kubernetes, in that of the packages."""


def _with_choices(pipeline: Any) -> Any:
    """Say which values parameters may have: KFP's UI shows them, its SDK has no word for it."""
    parameters = pipeline.pipeline_spec.root.input_definitions.parameters
    for name in CHOICES.keys() & parameters.keys():
        for choice in CHOICES[name]:
            parameters[name].literals.add().string_value = choice
    return pipeline


PIPELINES: dict[str, Any] = {
    training.NAME: _with_choices(training.training),
    scoring.NAME: _with_choices(scoring.scoring),
    monitoring.NAME: _with_choices(monitoring.monitoring),
}


def compile_all(folder: Path) -> list[Path]:
    """Compile every pipeline, for the UI and for Kubernetes.

    Args:
        folder: Where they go, as `<name>.yaml` and `kubernetes/<name>.yaml`.

    Returns:
        The files.
    """
    packages = [compile_pipeline(name, folder) for name in PIPELINES]
    return [*packages, *(_compile_manifest(package, folder / MANIFESTS) for package in packages)]


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


def _compile_manifest(package: Path, folder: Path) -> Path:
    """Write a pipeline as a `Pipeline` and a `PipelineVersion`, for KFP that keeps them so."""
    name, version = package.stem, version_of(package)
    folder.mkdir(parents=True, exist_ok=True)
    manifest = folder / package.name
    options = KubernetesManifestOptions(
        pipeline_name=name,
        # A version cannot be changed: another package is another one.
        pipeline_version_name=f"{name}-{version}",
        pipeline_version_display_name=version,
        include_pipeline_manifest=True,
    )
    compiler.Compiler().compile(
        find(name),
        str(manifest),
        kubernetes_manifest_format=True,
        kubernetes_manifest_options=options,
    )
    return manifest


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
