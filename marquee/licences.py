"""What the sources of posters and labels allow, and until when.

A row's `licence` says what its poster and facts are under, `label_licences` the same for labels
joined from elsewhere. TMDB's terms and IMDb's forbid training without a written agreement; what is
said here is how Marquee reads them (October 2023), not legal advice.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import pandas as pd

from marquee.errors import DataGateFailed
from marquee.settings import IngestSettings, LicenceSettings

TMDB = "TMDB API Terms of Use"
TMDB_TERMS_VERSION = "2023-10-20"
IMDB = "IMDb Non-Commercial Datasets"
ASSERTED = IngestSettings.licence
"""The licence of a folder's row that names none."""

COLUMNS: tuple[str, ...] = ("licence", "label_licences", "expires_at")
"""Columns of the catalog that the licence gate needs."""


@dataclass(frozen=True, kw_only=True)
class _Terms:
    signs: tuple[str, ...]
    """A licence whose text has one of these in it, whatever the case, is under these terms."""
    setting: str
    """The setting that names a written agreement."""
    terms: str
    attribution: str


_GATED: tuple[_Terms, ...] = (
    _Terms(
        signs=("tmdb", "themoviedb", "the movie database"),
        setting="tmdb_agreement",
        terms="TMDB's terms of use (2023-10-20) allow no use of its content in connection with "
        "machine learning, training included, without a separate written agreement",
        attribution="This product uses TMDB and the TMDB APIs but is not endorsed, certified, or "
        "otherwise approved by TMDB.",
    ),
    _Terms(
        signs=("imdb", "internet movie database"),
        setting="imdb_agreement",
        terms="IMDb gives its datasets for personal and non-commercial use only; training a model "
        "on labels joined from them needs IMDb's written agreement",
        attribution="Information courtesy of IMDb (https://www.imdb.com). Used with permission.",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Obstacle:
    """A reason why rows must not train a model."""

    reason: str
    poster_ids: tuple[str, ...]
    remedy: str


def obstacles(
    frame: pd.DataFrame, settings: LicenceSettings, now: datetime | None = None
) -> list[Obstacle]:
    """Find the rows that must not train a model.

    Args:
        frame: Rows with poster_id and `COLUMNS`.
        settings: The written agreements there are.
        now: The time to judge expiry by; the present without it.

    Returns:
        One obstacle for each kind of terms that no agreement covers, and one for expired rows.
    """
    found = []
    for terms in _GATED:
        rows = _under(frame, terms)
        if rows.any() and not getattr(settings, terms.setting).strip():
            found.append(
                Obstacle(
                    reason=f"{int(rows.sum()):,} posters: {terms.terms}",
                    poster_ids=tuple(frame.loc[rows, "poster_id"]),
                    remedy=f"name the agreement in the settings (--set licence.{terms.setting}="
                    "REFERENCE), or train without these rows",
                )
            )
    return [*found, *_expiry(frame, now)]


def expired(frame: pd.DataFrame, now: datetime | None = None) -> pd.Series:
    """Tell of each row whether its terms are over.

    Args:
        frame: Rows with expires_at.
        now: The time to judge by; the present without it.
    """
    now = now or datetime.now(UTC)
    # One by one: as a column, a date such as 9999-12-31 is out of the bounds of pandas.
    rows = [bool(pd.notna(moment) and moment <= now) for moment in frame["expires_at"]]
    return pd.Series(rows, index=frame.index, dtype=bool)


def _expiry(frame: pd.DataFrame, now: datetime | None) -> list[Obstacle]:
    rows = expired(frame, now)
    if not rows.any():
        return []
    return [
        Obstacle(
            reason=f"{int(rows.sum()):,} posters have expired: their terms do not allow keeping "
            "them any longer",
            poster_ids=tuple(frame.loc[rows, "poster_id"]),
            remedy="ingest them again, or remove them with `marquee catalog purge CATALOG "
            "--expired`",
        )
    ]


def check_training_use(frame: pd.DataFrame, settings: LicenceSettings) -> None:
    """Refuse to train on rows whose terms forbid it or whose time is over.

    Args:
        frame: Rows with poster_id and `COLUMNS`.
        settings: The written agreements there are.

    Raises:
        DataGateFailed: Some row must not train a model; the message explains the terms.
    """
    _refuse(obstacles(frame, settings))


def check_not_expired(frame: pd.DataFrame) -> None:
    """Refuse any use of rows whose time is over.

    Args:
        frame: Rows with poster_id and expires_at.

    Raises:
        DataGateFailed: Some row has expired.
    """
    _refuse(_expiry(frame, None))


def _refuse(found: list[Obstacle]) -> None:
    if found:
        raise DataGateFailed(
            "; ".join(
                f"{item.reason} (such as {', '.join(item.poster_ids[:3])})" for item in found
            ),
            remedy="; ".join(item.remedy for item in found),
        )


def attributions(frame: pd.DataFrame) -> list[str]:
    """Give the sentences that must stand where data of these rows is shown.

    Args:
        frame: Rows with licence and label_licences.
    """
    return [terms.attribution for terms in _GATED if _under(frame, terms).any()]


def _under(frame: pd.DataFrame, terms: _Terms) -> pd.Series:
    rows = [
        any(sign in text for text in _texts(licence, labels) for sign in terms.signs)
        for licence, labels in zip(frame["licence"], frame["label_licences"], strict=True)
    ]
    return pd.Series(rows, index=frame.index, dtype=bool)


def _texts(licence: str | None, label_licences: Mapping[str, str] | None) -> Iterator[str]:
    """Give the texts of a row's licences; columns that a row lacks come as None or NaN."""
    joined = label_licences.values() if isinstance(label_licences, Mapping) else ()
    return (text.casefold() for text in (licence, *joined) if isinstance(text, str))
