"""Poster eras: spans of release years in which posters look alike."""

from bisect import bisect_right

_STARTS: dict[str, int] = {
    "golden_age": 1930,
    "new_hollywood": 1960,
    "painted_blockbuster": 1980,
    "photographic": 1990,
    "digital": 2000,
    "streaming": 2010,
    "current": 2020,
}

ERAS: tuple[str, ...] = ("silent", *_STARTS)
"""Era names in order of time."""

UNKNOWN_ERA = "unknown"
"""The slice of films without a year; it is never mixed with an era."""

FIRST_YEAR, LAST_YEAR = 1874, 2100
"""Years outside are taken for errors: the oldest film was shot in 1874 (Passage de Venus)."""


def era_of(year: int) -> str:
    """Name the era of a release year; eras are half-open, so 1930 is golden age.

    Args:
        year: Release year.

    Returns:
        One of `ERAS`.
    """
    return ERAS[bisect_right(tuple(_STARTS.values()), year)]
