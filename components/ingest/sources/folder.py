"""The folder source: how people bring their own posters.

A folder holds `posters.csv` (one row a poster) and, beside it, the images as `images/<id>.jpg`
(or .jpeg, .png, .webp) or in plain tars `images-*.tar`. It may lie on a disk or in a bucket.
"""

import csv
import hashlib
import heapq
import io
import re
import tarfile
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath

from components.ingest.source import Offer
from marquee import licences, storage
from marquee.catalog import Facts, Known, Refusal
from marquee.eras import FIRST_YEAR, LAST_YEAR
from marquee.errors import DataError, InvalidImage, UsageError
from marquee.genres import split_genres, suggest

POSTERS_FILE = "posters.csv"
REQUIRED_COLUMNS: tuple[str, ...] = ("id", "title", "year", "genres")
_LABEL_COLUMN = "genres_"
_IMAGE_SUFFIXES: tuple[str, ...] = (".jpg", ".jpeg", ".png", ".webp")
_TAR = r"images-[^/]*\.tar"
_SURPLUS = "(surplus)"
_LONGEST_CELL = 10_000
_VALID_ID = re.compile(r"[^\s/\\.][^/\\\x00-\x1f]{0,127}")


class RowRefused(DataError):
    """A row that cannot be used."""


@dataclass(frozen=True)
class _Place:
    """Where an image lies: a file, or a stretch of a tar."""

    uri: str
    start: int | None = None
    end: int | None = None

    def read(self) -> bytes:
        try:
            return storage.read_bytes(self.uri, self.start, self.end)
        except OSError as error:
            if not storage.is_local(self.uri):
                raise
            raise InvalidImage(
                f"{self.uri} cannot be read ({error.strerror})", remedy="mend or replace the file"
            ) from error


class FolderSource:
    """Offers the posters of a folder, in the order of its `posters.csv`.

    Args:
        path: The folder.
        limit: Offer this many rows only, chosen by a hash of their ids, so that a small run sees
            all decades and genres and not just the first rows.
        licence: What rows are under that do not say it themselves.

    Raises:
        UsageError: The folder or its `posters.csv` is missing, or `limit` is not positive.
        DataError: `posters.csv` cannot be read, or lacks a column.
    """

    def __init__(
        self, path: str, limit: int | None = None, licence: str = licences.ASSERTED
    ) -> None:
        if limit is not None and limit < 1:
            raise UsageError(f"the limit is {limit}", remedy="use 1 or more")
        place = storage.local_path(path).resolve() if storage.is_local(path) else path
        self.name = f"folder:{place}"
        self._uri = path
        self._licence = licence
        self._csv = storage.join(path, POSTERS_FILE)
        if not storage.exists(path):
            raise UsageError(f"there is no folder {path}", remedy="check --path")
        if not storage.exists(self._csv):
            raise UsageError(
                f"{path} has no {POSTERS_FILE}",
                remedy=f"write one with the columns {', '.join(REQUIRED_COLUMNS)}, and put the "
                "images into images/ beside it",
            )
        self._chosen = self._choose(limit)
        self._images = _index_images(path)

    def total(self, known: Known) -> int:
        """Count the rows that will be offered."""
        return len(self._chosen)

    def items(self, known: Known) -> Iterator[Offer | Refusal]:
        """Give each row's poster, or why the row cannot be used."""
        first_rows: dict[str, int] = {}
        for line, row in _read_rows(self._csv):
            if line not in self._chosen:
                continue
            try:
                facts = _facts(row, self._licence)
                if facts.poster_id in first_rows:
                    raise RowRefused(
                        f"the id {facts.poster_id!r} stands in row {first_rows[facts.poster_id]} "
                        "already",
                        remedy="give each poster an id of its own; the first row was kept",
                    )
                first_rows[facts.poster_id] = line
                place = self._place(facts.poster_id)
            except RowRefused as error:
                yield Refusal(
                    id=(row.get("id") or "").strip(),
                    row=line,
                    source=self.name,
                    reason=error.message,
                    remedy=error.remedy,
                )
                continue
            yield Offer(facts=facts, row=line, read=place.read)

    def _choose(self, limit: int | None) -> set[int]:
        rows = ((line, row.get("id") or "") for line, row in _read_rows(self._csv))
        if limit is None:
            return {line for line, _ in rows}
        return {line for line, _ in heapq.nsmallest(limit, rows, key=_hash_of_id)}

    def _place(self, poster_id: str) -> _Place:
        places = self._images.get(unicodedata.normalize("NFC", poster_id), [])
        if not places:
            raise RowRefused(
                f"there is no image for the id {poster_id!r}",
                remedy=f"put it at images/{poster_id}.jpg (or .png, .webp), or remove the row",
            )
        if len(places) > 1:
            raise RowRefused(
                f"{len(places)} images have the name {poster_id!r}: "
                f"{', '.join(place.uri for place in places)}",
                remedy="keep one of them",
            )
        return places[0]


def _hash_of_id(line_and_id: tuple[int, str]) -> tuple[str, int]:
    line, poster_id = line_and_id
    return hashlib.sha256(poster_id.encode()).hexdigest(), line


def _read_rows(uri: str) -> Iterator[tuple[int, dict[str, str | None]]]:
    """Read a CSV file; give each row with the line it starts in, as an editor counts."""
    csv.field_size_limit(2**24)
    with storage.open_binary(uri) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
        reader = csv.DictReader(text, restkey=_SURPLUS, strict=True)
        start = 1
        try:
            _check_columns(uri, reader.fieldnames or [])
            start = reader.line_num + 1
            for row in reader:
                yield start, row
                start = reader.line_num + 1
        except UnicodeDecodeError as error:
            raise DataError(
                f"{uri} is not UTF-8 text ({error})", remedy="save it as UTF-8"
            ) from None
        except csv.Error as error:
            raise DataError(
                f"{uri}: the row that begins at line {start} is no CSV ({error})",
                remedy="look for a quote that is not closed there",
            ) from None


def _check_columns(uri: str, columns: Sequence[str]) -> None:
    missing = [name for name in REQUIRED_COLUMNS if name not in columns]
    if missing:
        commas = ", and separate the cells by commas" if len(columns) == 1 else ""
        raise DataError(
            f"{uri} lacks the column(s) {', '.join(missing)}",
            remedy=f"its first line must name {', '.join(REQUIRED_COLUMNS)}{commas}",
        )


def _facts(row: dict[str, str | None], licence: str) -> Facts:
    if _SURPLUS in row or None in row.values():
        raise RowRefused(
            "the row has more or fewer cells than the first line",
            remedy="quote cells that hold a comma",
        )
    cells = {name: (value or "").strip() for name, value in row.items()}
    longest = max(cells, key=lambda name: len(cells[name]))
    if len(cells[longest]) > _LONGEST_CELL:
        raise RowRefused(
            f"the cell in the column {longest} has {len(cells[longest]):,} characters",
            remedy="look for a quote that is not closed",
        )
    poster_id = cells["id"]
    if not _VALID_ID.fullmatch(poster_id):
        raise RowRefused(
            f"the id {poster_id!r} cannot name a file",
            remedy="use up to 128 letters, digits, '-' or '_'",
        )
    genres = _genres(cells["genres"], "genres")
    if not genres:
        raise RowRefused("the row has no genre", remedy="give one or more, joined by '|'")
    label_cells = {
        name.removeprefix(_LABEL_COLUMN): value
        for name, value in cells.items()
        if name.startswith(_LABEL_COLUMN) and value
    }
    return Facts(
        poster_id=poster_id,
        film_id=cells.get("film_id") or poster_id,
        imdb_id=cells.get("imdb_id") or None,
        tmdb_id=_integer(cells, "tmdb_id"),
        collection_id=_integer(cells, "collection_id"),
        title=cells["title"],
        year=_year(cells["year"]),
        genres=genres,
        label_sources={
            name: _genres(value, f"{_LABEL_COLUMN}{name}") for name, value in label_cells.items()
        },
        keywords=_keywords(cells.get("keywords", "")),
        source=cells.get("source") or "folder",
        licence=cells.get("licence") or licence,
        terms_version=cells.get("terms_version") or None,
        expires_at=_expiry(cells.get("expires_at")),
    )


def _genres(cell: str, column: str) -> tuple[str, ...]:
    known, unknown = split_genres(cell)
    if unknown:
        raise RowRefused(
            f"{unknown[0]!r} in the column {column} is no genre", remedy=suggest(unknown[0])
        )
    return tuple(known)


def _keywords(cell: str) -> tuple[str, ...]:
    return tuple(sorted({part.strip() for part in cell.split("|")} - {""}))


def _year(cell: str) -> int | None:
    if not cell:
        return None
    # pandas writes whole numbers of a column with gaps as 1999.0.
    match = re.fullmatch(r"(\d{4})(\.0+)?", cell)
    if not match or not FIRST_YEAR <= int(match[1]) <= LAST_YEAR:
        raise RowRefused(
            f"{cell[:20]!r} is no release year",
            remedy=f"give a year from {FIRST_YEAR} to {LAST_YEAR}, or leave the cell empty",
        )
    return int(match[1])


def _expiry(cell: str | None) -> datetime | None:
    """Read when a row's terms end; a time without a zone is UTC, a date means its first moment."""
    if not cell:
        return None
    try:
        moment = datetime.fromisoformat(cell)
        moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise RowRefused(
            f"{cell[:40]!r} in the column expires_at is no date",
            remedy="write it as 2031-12-31 or 2031-12-31T18:00:00+00:00, or leave the cell empty",
        ) from None
    if moment <= datetime.now(UTC):
        raise RowRefused(
            f"the terms of the row ended on {cell}",
            remedy="remove the row, or correct expires_at if they were renewed",
        )
    return moment


def _integer(cells: dict[str, str], column: str) -> int | None:
    cell = cells.get(column)
    if not cell:
        return None
    match = re.fullmatch(r"(\d{1,18})(\.0+)?", cell)
    if not match:
        raise RowRefused(
            f"{cell[:30]!r} in the column {column} is no whole number",
            remedy="mend the cell or leave it empty",
        )
    return int(match[1])


def _index_images(folder: str) -> dict[str, list[_Place]]:
    """Find every image by its id; those in images/ hide those in tars."""
    tars = [name for name in storage.list_files(folder) if re.fullmatch(_TAR, name)]
    packed = [place for name in tars for place in _index_tar(storage.join(folder, name))]
    images = storage.join(folder, "images")
    loose = [
        (PurePosixPath(name), _Place(storage.join(images, name)))
        for name in storage.list_files(images)
    ]
    return _by_id(packed) | _by_id(loose)


def _by_id(files: list[tuple[PurePosixPath, _Place]]) -> dict[str, list[_Place]]:
    """Group files by their stem; one with an image's suffix hides others, such as notes."""
    images: dict[str, list[_Place]] = {}
    others: dict[str, list[_Place]] = {}
    for path, place in files:
        group = images if path.suffix.lower() in _IMAGE_SUFFIXES else others
        group.setdefault(unicodedata.normalize("NFC", path.stem), []).append(place)
    return others | images


def _index_tar(uri: str) -> list[tuple[PurePosixPath, _Place]]:
    with storage.open_binary(uri) as stream:
        try:
            with tarfile.open(fileobj=stream, mode="r:") as tar:
                return [
                    (
                        PurePosixPath(member.name),
                        _Place(uri, member.offset_data, member.offset_data + member.size),
                    )
                    for member in tar
                    if member.isfile()
                ]
        except tarfile.TarError as error:
            raise DataError(
                f"{uri} is no plain tar ({error})", remedy="pack it without compression"
            ) from None
