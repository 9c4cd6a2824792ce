"""Validate: the data gate, Great Expectations on the catalog's facts."""

import logging
import os

# Great Expectations calls home unless told not to, and stalls without a network.
os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")

import great_expectations as gx
import great_expectations.expectations as gxe
import pandas as pd
from great_expectations.data_context.types.base import ProgressBarsConfig

from marquee.catalog import Catalog
from marquee.eras import FIRST_YEAR, LAST_YEAR
from marquee.images import MAX_PIXELS, MIN_SIDE
from marquee.settings import ValidateSettings
from marquee.verdict import Check, Outcome, Verdict

# It announces its temporary folders.
logging.getLogger("great_expectations.data_context.types.base").setLevel(logging.WARNING)

COLUMNS: tuple[str, ...] = (
    "poster_id",
    "film_id",
    "title",
    "year",
    "genres",
    "licence",
    "sha256",
    "width",
    "height",
    "contrast",
)
BLANK_CONTRAST = 0.01
"""A poster whose luma varies by less than this (standard deviation, 0..1) is blank."""
_BLAMED = 20


def validate(catalog_uri: str, settings: ValidateSettings) -> Verdict:
    """Judge whether a catalog can train a model.

    Args:
        catalog_uri: The catalog.
        settings: The bounds.

    Returns:
        The verdict of the data gate; it blames the offending poster ids.
    """
    catalog = Catalog(catalog_uri)
    frame = catalog.frame(COLUMNS)
    manifest = catalog.manifest
    return Verdict(
        gate="data",
        subject=f"catalog {manifest.digest}",
        checks=(
            *check_frame(frame, settings),
            _quarantine_check(manifest.rows, manifest.quarantined, settings),
        ),
    )


def _derive(frame: pd.DataFrame) -> pd.DataFrame:
    """Add the columns that expectations need: they know numbers, not lists or pixels."""
    return frame.assign(
        genre_count=frame["genres"].map(len),
        short_side=frame[["width", "height"]].min(axis=1),
        pixels=frame["width"] * frame["height"],
    ).drop(columns="genres")


def _expectations(settings: ValidateSettings) -> dict[str, gxe.Expectation]:
    """The suite: what is checked, by the name people read."""
    return {
        "number of posters": gxe.ExpectTableRowCountToBeBetween(min_value=settings.min_posters),
        "poster ids are unique": gxe.ExpectColumnValuesToBeUnique(column="poster_id"),
        "every poster has a film": gxe.ExpectColumnValuesToNotBeNull(column="film_id"),
        "every poster has a licence": gxe.ExpectColumnValuesToNotBeNull(column="licence"),
        "image hashes are sha256": gxe.ExpectColumnValuesToMatchRegex(
            column="sha256", regex="^[0-9a-f]{64}$"
        ),
        "every poster has 1 to 19 genres": gxe.ExpectColumnValuesToBeBetween(
            column="genre_count", min_value=1, max_value=19
        ),
        "years are known": gxe.ExpectColumnValuesToNotBeNull(
            column="year", mostly=1 - settings.max_unknown_year_share
        ),
        "years are release years": gxe.ExpectColumnValuesToBeBetween(
            column="year", min_value=FIRST_YEAR, max_value=LAST_YEAR
        ),
        "posters are large enough": gxe.ExpectColumnValuesToBeBetween(
            column="short_side", min_value=MIN_SIDE
        ),
        "posters are small enough": gxe.ExpectColumnValuesToBeBetween(
            column="pixels", max_value=MAX_PIXELS
        ),
        "posters are not blank": gxe.ExpectColumnValuesToBeBetween(
            column="contrast",
            min_value=BLANK_CONTRAST,
            mostly=1 - settings.max_blank_share,
        ),
    }


def check_frame(frame: pd.DataFrame, settings: ValidateSettings) -> list[Check]:
    """Run the suite.

    Args:
        frame: One row a poster with `COLUMNS`.
        settings: The bounds.

    Returns:
        One check an expectation.
    """
    frame = _derive(frame)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    batch = (
        context.data_sources.add_pandas("catalog")
        .add_dataframe_asset("posters")
        .add_batch_definition_whole_dataframe("all")
        .get_batch({"dataframe": frame})
    )
    result_format = {"result_format": "COMPLETE", "unexpected_index_column_names": ["poster_id"]}
    return [
        _to_check(name, expectation, batch.validate(expectation, result_format=result_format))
        for name, expectation in _expectations(settings).items()
    ]


def _to_check(name: str, expectation: gxe.Expectation, result: object) -> Check:
    document = result.to_json_dict()  # type: ignore[attr-defined]
    found = document["result"]
    blame = [str(row["poster_id"]) for row in found.get("unexpected_index_list") or []]
    passed = bool(document["success"])
    return Check(
        name=name,
        outcome=Outcome.PASSED if passed else Outcome.FAILED,
        measured=_measured(found),
        bound=_bound(expectation),
        blame=() if passed else tuple(blame[:_BLAMED]),
        remedy="" if passed else "mend or remove these posters at their source and ingest again",
    )


def _measured(found: dict[str, object]) -> str:
    if "observed_value" in found:
        return str(found["observed_value"])
    return f"{found['unexpected_count']} of {found['element_count']} break it"


def _bound(expectation: gxe.Expectation) -> str:
    low = getattr(expectation, "min_value", None)
    high = getattr(expectation, "max_value", None)
    mostly = float(getattr(expectation, "mostly", 1.0))
    parts = [
        f"at least {low:,g}" if low is not None else "",
        f"at most {high:,.10g}" if high is not None else "",
        f"for {mostly:.0%} of the posters" if mostly < 1 else "",
    ]
    return " ".join(filter(None, parts)) or "for every poster"


def _quarantine_check(rows: int, quarantined: int, settings: ValidateSettings) -> Check:
    share = quarantined / max(rows + quarantined, 1)
    passed = share <= settings.max_quarantined_share
    return Check(
        name="share of rows in quarantine",
        outcome=Outcome.PASSED if passed else Outcome.FAILED,
        measured=f"{share:.1%} ({quarantined} of {rows + quarantined})",
        bound=f"at most {settings.max_quarantined_share:.1%}",
        remedy="" if passed else "see quarantine.jsonl in the catalog, and mend the rows",
    )
