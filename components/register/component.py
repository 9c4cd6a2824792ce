"""The register step as Kubeflow Pipelines sees it."""

from __future__ import annotations


def register(
    run_uri: str, registry_uri: str, architecture: str, bundle_version: str, macro_f1: float
) -> str:  # fmt: skip
    """Keep a bundle and its test metrics in the registry as a candidate; give its version."""
    from components.register.register import register as keep
    from marquee import step

    with step.step(f"register {architecture}", run_uri) as layout:
        registry = registry_uri or layout.registry
        places = (layout.bundle(architecture), layout.evaluation(architecture))
        entry = keep(*places, registry, bundle_version)
    return entry.version
