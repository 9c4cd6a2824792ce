"""What the data gate expects of a catalog: one table, theme by theme."""

import os
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import NamedTuple

# Great Expectations calls home unless told not to, and stalls without a network.
os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")

import great_expectations.expectations as gxe

from marquee.eras import FIRST_YEAR
from marquee.images import MAX_PIXELS
from marquee.licences import ASSERTED, Obstacle
from marquee.settings import ValidateSettings
from marquee.verdict import Severity

_UNSTATED = [ASSERTED, "unspecified"]
"""Licences that nobody looked up."""


class Rule(NamedTuple):
    """An expectation, and what people need to know of it."""

    severity: Severity
    name: str
    """The trouble that it looks for."""
    expectation: gxe.Expectation
    remedy: str
    """What to do if it does not hold."""
    table: str = "posters"
    """What it looks at: a field of `Tables`, or `columns`."""
    unit: str = ""
    """What its bounds are: `%` for a share, `year`, or a word such as `px`."""


_critical = partial(Rule, Severity.CRITICAL)
_warning = partial(Rule, Severity.WARNING)
_info = partial(Rule, Severity.INFO)

SCHEMA = {
    "schema": [
        _critical(
            "columns of the wrong type",
            gxe.ExpectColumnPairValuesToBeEqual(column_A="found", column_B="wanted"),
            "these rows were not written by `marquee ingest`: ingest into a new catalog",
            table="columns",
        )
    ]
}
"""What must hold before anything else can be judged."""


def themes(
    s: ValidateSettings, now: datetime, obstacles: Sequence[Obstacle] = ()
) -> dict[str, list[Rule]]:
    """Give all expectations but the one on the schema.

    Args:
        s: The bounds.
        now: The time of judging: films may be announced some years ahead.
        obstacles: Why rows must not train a model; they say what to do about it.

    Returns:
        The rules by theme.
    """
    return {
        "ids": [
            _critical(
                "repeated poster ids",
                gxe.ExpectColumnValuesToBeUnique(column="poster_id"),
                "give each poster an id of its own, and ingest again",
            ),
            _critical(
                "posters without a film",
                gxe.ExpectColumnValuesToNotBeNull(column="film_id"),
                "name each poster's film: a film's posters must stay in one split",
            ),
            _warning(
                "films with the same IMDb or TMDB id",
                gxe.ExpectColumnValuesToBeNull(column="shared_id"),
                "correct the ids, or give posters of one film the same film_id",
            ),
        ],
        "volume": [
            _critical(
                "number of posters",
                gxe.ExpectTableRowCountToBeBetween(min_value=s.min_posters),
                "bring more posters",
            ),
            _critical(
                "share of rows in quarantine",
                gxe.ExpectColumnMaxToBeBetween(
                    column="quarantined_share", max_value=s.max_quarantined_share
                ),
                "see quarantine.jsonl in the catalog, and mend the rows",
                table="catalog",
                unit="%",
            ),
        ],
        "time": [
            _critical(
                "implausible years",
                _between("year", FIRST_YEAR, now.year + s.max_years_ahead),
                "correct the years at their source or leave them empty, and ingest again",
                unit="year",
            ),
            _warning(
                "posters without a year",
                gxe.ExpectColumnValuesToNotBeNull(
                    column="year", mostly=_most(s.max_unknown_year_share)
                ),
                "add release years: a film without one counts for no era",
            ),
            _warning(
                "sparse eras",
                _between("posters", low=s.min_era_posters),
                "add posters of the sparse eras; until then, trust no figure on them",
                table="eras",
                unit="posters",
            ),
            _warning(
                "stale rows",
                _between("age_days", high=s.max_age_days),
                "ingest again: labels and posters change at their sources",
                unit="days",
            ),
            _info(
                "rows about to expire",
                _between("days_left", low=s.expiry_notice_days),
                "ingest again before these rows expire",
                unit="days",
            ),
        ],
        "labels": [
            _critical(
                "unknown genres",
                gxe.ExpectColumnValuesToBeNull(column="unknown_genre"),
                "write genres in TMDB's spelling (docs/posters.md), and ingest again",
            ),
            _critical(
                "posters without a genre",
                _between("genre_count", low=1),
                "label these posters or remove them, and ingest again",
                unit="genre",
            ),
            _warning(
                "posters with many genres",
                _between("genre_count", high=s.max_genres),
                "look whether labels of several films were merged",
                unit="genres",
            ),
            _warning(
                "label cardinality",
                gxe.ExpectColumnMeanToBeBetween(
                    column="genre_count", min_value=1, max_value=s.max_mean_genres
                ),
                "give films fewer genres: the more each has, the less a genre says",
                unit="genres on average",
            ),
            _warning(
                "rare genres",
                _between("posters", low=s.min_genre_posters),
                "add posters of these genres, or predict a smaller label set",
                table="genres",
                unit="posters",
            ),
            _warning(
                "disputed labels",
                _between("agreement", low=s.min_agreement),
                "mask or weigh down disputed labels (--set balance.disagreement=mask)",
                table="genres",
                unit="%",
            ),
        ],
        "images": [
            _critical(
                "malformed image hashes",
                gxe.ExpectColumnValuesToMatchRegex(column="sha256", regex="^[0-9a-f]{64}$"),
                "these rows were not written by `marquee ingest`: ingest them again",
            ),
            _critical(
                "unmeasured images",
                gxe.ExpectColumnValuesToBeNull(column="unmeasured"),
                "ingest these posters again: their pixels were never decoded",
            ),
            _critical(
                "images too small",
                _between("short_side", low=s.min_side),
                "replace these images by larger ones, or remove them",
                unit="px",
            ),
            _critical(
                "images too large",
                _between("pixels", high=MAX_PIXELS),
                "scale these images down, and ingest again",
                unit="px in all",
            ),
            _warning(
                "low resolution",
                _between("short_side", low=s.good_side, share=s.max_low_resolution_share),
                "fetch larger posters, such as TMDB's w342",
                unit="px",
            ),
            _warning(
                "odd aspect ratios",
                _between("aspect", s.min_aspect, s.max_aspect, s.max_odd_aspect_share),
                "look for stills, covers and collages among these images",
            ),
            _info(
                "unusual pixel modes",
                gxe.ExpectColumnValuesToBeInSet(
                    column="mode", value_set=["RGB"], mostly=_most(s.max_converted_share)
                ),
                "nothing, unless colours look wrong: other modes are converted to RGB",
            ),
            _critical(
                "blank posters",
                _between("contrast", low=s.blank_contrast, share=s.max_blank_share),
                "remove these images, or fetch them again",
            ),
            _warning(
                "near-blank posters",
                _between("contrast", low=s.near_blank_contrast, share=s.max_near_blank_share),
                "look at these images: a line of text on one colour is no poster",
            ),
        ],
        "repetition": [
            _critical(
                "one picture for many films",
                _between("placeholder_share", high=s.max_placeholder_share),
                "remove the posters with this picture: it stands for films that have none",
                unit="%",
            ),
            _warning(
                "placeholder posters",
                _between("placeholder_share", high=0),
                f"look at these pictures: {s.placeholder_films} films or more share each",
                unit="%",
            ),
            _warning(
                "exact duplicates",
                _between("copies", high=1, share=s.max_duplicate_share),
                "keep one row of each picture, the one with the right film",
                unit="poster",
            ),
            _warning(
                "near duplicates",
                gxe.ExpectColumnValuesToBeNull(
                    column="looks_like", mostly=_most(s.max_near_duplicate_share)
                ),
                "look whether these are different films; balance keeps them in one split",
            ),
        ],
        "sources": [
            _warning(
                "source bias in genres",
                _between("source_bias", high=s.max_source_bias),
                "take these genres from several sources, and compare scores by source: a model "
                "may learn the source in place of the genre",
                table="genres",
            ),
            _warning(
                "source bias in resolution",
                _between("resolution_gap", high=s.max_resolution_gap),
                "fetch one size from all sources: sharpness gives the source away",
                table="sources",
                unit="%",
            ),
        ],
        "licence": [
            _critical(
                "posters without a licence",
                gxe.ExpectColumnValuesToNotBeNull(column="licence"),
                "name the licence of each poster, and ingest again",
            ),
            _critical(
                "terms that forbid training",
                gxe.ExpectColumnValuesToBeNull(column="obstacle"),
                "; ".join(obstacle.remedy for obstacle in obstacles),
            ),
            _info(
                "unstated licences",
                gxe.ExpectColumnValuesToNotBeInSet(column="licence", value_set=_UNSTATED),
                "look the licences up, and name them in the column licence",
            ),
        ],
    }


def _between(
    column: str, low: float | None = None, high: float | None = None, share: float = 0.0
) -> gxe.Expectation:
    """Expect values between two bounds, but for a share of the rows."""
    return gxe.ExpectColumnValuesToBeBetween(
        column=column, min_value=low, max_value=high, mostly=_most(share)
    )


def _most(share: float) -> float:
    """Give the share of rows that must hold where this share need not."""
    # Just below, so that exactly this share is allowed whatever the last bit says.
    return max(1 - share - 1e-9, 0.0) if share else 1.0
