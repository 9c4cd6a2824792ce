"""What the sources of posters and labels allow, and until when.

A row's `licence` says what its poster and facts are under, `label_licences` the same for labels
joined from elsewhere. TMDB's terms and IMDb's forbid training without a written agreement; what is
said here is how Marquee reads them (October 2023), not legal advice.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import pandas as pd

from marquee.errors import DataGateFailed
from marquee.settings import LicenceSettings

TMDB = "TMDB API Terms of Use"
TMDB_TERMS_VERSION = "2023-10-20"
IMDB = "IMDb Non-Commercial Datasets"
ASSERTED = "asserted by the user"
"""The licence of a folder's row that names none."""

RETENTION_DAYS = 180
"""How long TMDB's content may be kept at most: six months."""

COLUMNS: tuple[str, ...] = ("licence", "label_licences", "expires_at")
"""Columns of the catalog that the licence gate needs."""


@dataclass(frozen=True, kw_only=True)
class _Terms:
    sign: str
    """A licence whose text has this word in it, whatever the case, is under these terms."""
    setting: str
    """The setting that names a written agreement."""
    terms: str
    attribution: str


_GATED: tuple[_Terms, ...] = (
    _Terms(
        sign="tmdb",
        setting="tmdb_agreement",
        terms="TMDB's terms of use (2023-10-20) allow no use of its content in connection with "
        "machine learning, training included, without a separate written agreement",
        attribution="This product uses TMDB and the TMDB APIs but is not endorsed, certified, or "
        "otherwise approved by TMDB.",
    ),
    _Terms(
        sign="imdb",
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
        if rows.any() and not getattr(settings, terms.setting):
            found.append(
                Obstacle(
                    reason=f"{int(rows.sum()):,} posters: {terms.terms}",
                    poster_ids=tuple(frame.loc[rows, "poster_id"]),
                    remedy=f"name the agreement in the settings (--set licence.{terms.setting}="
                    "REFERENCE), or train without these rows",
                )
            )
    expired = _expired(frame, now or datetime.now(UTC))
    if expired.any():
        found.append(
            Obstacle(
                reason=f"{int(expired.sum()):,} posters have expired: their terms do not allow "
                "keeping them any longer",
                poster_ids=tuple(frame.loc[expired, "poster_id"]),
                remedy="ingest them again, or remove them with `marquee catalog purge`",
            )
        )
    return found


def check_training_use(frame: pd.DataFrame, settings: LicenceSettings) -> None:
    """Refuse to train on rows whose terms forbid it or whose time is over.

    Args:
        frame: Rows with poster_id and `COLUMNS`.
        settings: The written agreements there are.

    Raises:
        DataGateFailed: Some row must not train a model; the message explains the terms.
    """
    found = obstacles(frame, settings)
    if found:
        raise DataGateFailed(
            "; ".join(f"{item.reason} ({', '.join(item.poster_ids[:3])}...)" for item in found),
            remedy="; ".join(item.remedy for item in found),
        )


def attributions(frame: pd.DataFrame) -> list[str]:
    """Give the sentences that must stand where data of these rows is shown.

    Args:
        frame: Rows with licence and label_licences.
    """
    return [terms.attribution for terms in _GATED if _under(frame, terms).any()]


def _under(frame: pd.DataFrame, terms: _Terms) -> pd.Series:
    texts = frame["licence"].fillna("").astype(str)
    rows = texts.str.contains(terms.sign, case=False, regex=False)
    return rows | frame["label_licences"].map(lambda licences: _names(licences, terms.sign))


def _names(licences: Mapping[str, str] | None, sign: str) -> bool:
    return any(sign in licence.casefold() for licence in (licences or {}).values())


def _expired(frame: pd.DataFrame, now: datetime) -> pd.Series:
    return pd.to_datetime(frame["expires_at"], utc=True) <= now
