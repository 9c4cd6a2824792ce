"""What a purge is about: how people choose it, and the rows, ids and hashes that it comes to."""

import hashlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pandas as pd

from marquee import storage
from marquee.catalog import Catalog, Refusal
from marquee.contract import check_schema_version, parse_json
from marquee.errors import UsageError
from marquee.licences import expired

SCHEMA_VERSION = 1
"""Of the note that a purge leaves while it is under way."""

COLUMNS: tuple[str, ...] = (
    "poster_id",
    "film_id",
    "imdb_id",
    "tmdb_id",
    "source",
    "expires_at",
    "sha256",
    "shard_offset",
    "size",
)
"""Columns of the catalog that choosing needs."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One source, some films, or what has expired."""

    source: str = ""
    """As the catalog's column `source` has it, such as `tmdb`."""
    films: tuple[str, ...] = ()
    """Film ids; TMDB's and IMDb's will do."""
    expired: bool = False
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    """The time to judge expiry by."""

    def __post_init__(self) -> None:
        if sum((bool(self.source), bool(self.films), self.expired)) != 1:
            raise UsageError(
                "a purge needs exactly one way of choosing what goes",
                remedy="give --source NAME, or --film ID (as often as you like), or --expired",
            )

    def __str__(self) -> str:
        if self.films:
            return f"film {', '.join(sorted(self.films))}"
        return f"source {self.source}" if self.source else "what has expired"

    def matches(self, frame: pd.DataFrame) -> pd.Series:
        """Tell of each row whether it goes.

        Args:
            frame: Rows with `COLUMNS`.
        """
        if self.films:
            return _film_names(frame).isin(self.films).any(axis=1).astype(bool)
        return frame["source"] == self.source if self.source else expired(frame, self.now)

    def covers(self, refusal: Refusal) -> bool:
        """Tell whether a line of quarantine goes.

        Args:
            refusal: The line; its source may be a slice or a folder, such as `folder:/posters`.
        """
        named = refusal.source.partition(":")[0] == self.source
        return refusal.id in self.films or (bool(self.source) and named)

    def not_found(self, frame: pd.DataFrame) -> list[str]:
        """Name the films that no row has.

        Args:
            frame: Rows with `COLUMNS`.
        """
        names = set(_film_names(frame).to_numpy().ravel())
        return [film for film in self.films if film not in names]


def _film_names(frame: pd.DataFrame) -> pd.DataFrame:
    tmdb = frame["tmdb_id"].astype("Int64").astype("string").astype(object)
    return frame[["film_id", "imdb_id"]].assign(tmdb_id=tmdb)


@dataclass(frozen=True, kw_only=True)
class Gone:
    """What goes, by id, by place and by hash."""

    choice: Choice
    poster_ids: frozenset[str]
    superseded: dict[str, list[int]]
    """Rows that go although their posters stay: part to the rows' `shard_offset`."""
    hashes: frozenset[str]
    """sha256 of the images that no row uses any more."""
    digests: frozenset[str]
    """The catalog's digest when this purge was begun, and whenever it went on."""
    rows: int
    """Rows that are still there, superseded ones and those of unlisted parts among them."""
    bytes: int
    """Bytes of these rows' images."""

    def __bool__(self) -> bool:
        return bool(self.poster_ids or self.rows)

    def has(self, frame: pd.DataFrame) -> pd.Series:
        """Tell of each row whether it goes.

        Args:
            frame: Rows with `COLUMNS`.
        """
        named = frame["poster_id"].isin(self.poster_ids) | frame["sha256"].isin(self.hashes)
        return named | self.choice.matches(frame)

    def covers(self, refusal: Refusal) -> bool:
        """Tell whether a line of quarantine goes."""
        return refusal.id in self.poster_ids or self.choice.covers(refusal)


def find(catalog: Catalog, choice: Choice, strays: pd.DataFrame) -> Gone:
    """Find what goes: posters whose newest row matches, and single rows that match.

    A superseded row that matches goes alone where its poster has a newer row that does not: the
    poster stays, and with it the models that it trained.

    Args:
        catalog: The catalog.
        choice: What is to go.
        strays: Rows of parts that the catalog's list does not name, with `COLUMNS`.
    """
    listed = catalog.rows(COLUMNS).assign(listed=True)
    frames = [frame for frame in (listed, strays.assign(listed=False)) if len(frame)]
    frame = pd.concat(frames, ignore_index=True) if frames else listed
    in_list = frame["listed"].astype(bool)
    begun = _begun(catalog, choice)
    matching = choice.matches(frame)
    newest = in_list & ~frame[in_list].duplicated("poster_id", keep="last").reindex(
        frame.index, fill_value=True
    )
    staying = set(frame.loc[newest & ~matching, "poster_id"])
    poster_ids = (frozenset(frame.loc[matching, "poster_id"]) | begun["poster_ids"]) - staying
    goes = matching | frame["poster_id"].isin(poster_ids)
    alone = frame[in_list & goes & ~frame["poster_id"].isin(poster_ids)]
    used = frozenset(frame.loc[in_list & ~goes, "sha256"])
    return Gone(
        choice=choice,
        poster_ids=poster_ids,
        superseded={str(part): list(rows["shard_offset"]) for part, rows in alone.groupby("part")},
        hashes=(frozenset(frame.loc[goes, "sha256"]) | begun["hashes"]) - used,
        digests=begun["digests"] | {catalog.manifest.digest},
        rows=int(goes.sum()),
        bytes=int(frame.loc[goes, "size"].sum()),
    )


NOTE = "purging-"
"""How the name of a note begins."""
_NOTED = ("poster_ids", "hashes", "digests")


def _note(catalog: Catalog, choice: Choice) -> str:
    name = hashlib.sha256(str(choice).encode()).hexdigest()[:12]
    return storage.join(catalog.uri, f"{NOTE}{name}.json")


def write_note(catalog: Catalog, gone: Gone) -> None:
    """Note in the catalog what a purge is about, so that the same purge can go on.

    The note holds ids and hashes only.
    """
    document = {name: sorted(getattr(gone, name)) for name in _NOTED}
    text = json.dumps({"schema_version": SCHEMA_VERSION, **document})
    storage.write_text(_note(catalog, gone.choice), text + "\n")


def remove_note(catalog: Catalog, gone: Gone) -> None:
    """Take the note away: the purge is over."""
    storage.remove(_note(catalog, gone.choice))


def _begun(catalog: Catalog, choice: Choice) -> dict[str, frozenset[str]]:
    place = _note(catalog, choice)
    data, _ = storage.read_versioned(place)
    if data is None:
        return dict.fromkeys(_NOTED, frozenset())
    document = parse_json(data, place)
    check_schema_version(document, SCHEMA_VERSION, place)
    return {name: frozenset(document[name]) for name in _NOTED}
