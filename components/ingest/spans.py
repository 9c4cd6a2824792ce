"""How the slices of a source share what they have in common."""

import dataclasses

from marquee.settings import Settings

SPANS_AT_A_TIME = 2
"""How many slices the pipeline ingests beside each other."""


def share(settings: Settings, spans: int) -> Settings:
    """Give the settings of one slice: those beside it call the same API.

    Args:
        settings: The run's.
        spans: How many slices there are.
    """
    parts = min(spans, SPANS_AT_A_TIME)
    concurrency = max(1, settings.tmdb.concurrency // parts)
    tmdb = dataclasses.replace(
        settings.tmdb, rate=settings.tmdb.rate / parts, concurrency=concurrency
    )
    return dataclasses.replace(settings, tmdb=tmdb)
