"""The planning of the ingest step as Kubeflow Pipelines sees it."""

from __future__ import annotations


def plan(
    run_uri: str, source: str, path: str, films: int, limit: int, from_year: int, to_year: int,
    overrides: dict[str, str],
) -> list[str]:  # fmt: skip
    """Claim the run's folder for these posters, and cut the source into slices."""
    from components.ingest import sources
    from marquee import settings, step

    step.forget_failure(run_uri)
    with step.step("plan-ingest", run_uri) as layout:
        years = {"tmdb.from_year": from_year, "tmdb.to_year": to_year}
        resolved = settings.load(overrides | {name: year for name, year in years.items() if year})
        spans = sources.plan(source, resolved.tmdb)
        posters = {"source": source, "path": path, "films": films, "limit": limit, **years}
        layout.claim(posters, resolved.to_dict())
        layout.forget_verdicts()
    return spans
