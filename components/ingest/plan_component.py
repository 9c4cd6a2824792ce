"""The planning of the ingest step as Kubeflow Pipelines sees it."""

from __future__ import annotations


def plan(run_uri: str, source: str, path: str, limit: int, overrides: dict[str, str]) -> list[str]:
    """Claim the run's folder for these posters, and cut the source into slices."""
    from components.ingest import sources
    from marquee import settings, step

    step.forget_failure(run_uri)
    with step.step("plan-ingest", run_uri) as layout:
        resolved = settings.load(overrides)
        spans = sources.plan(source, resolved.tmdb)
        years = {"from_year": resolved.tmdb.from_year, "to_year": resolved.tmdb.to_year}
        posters = {"source": source, "path": path, "limit": limit, **years}
        layout.claim(posters, resolved.to_dict())
        layout.forget_verdicts()
    return spans
