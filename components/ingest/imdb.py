"""IMDb's genres, from its dataset `title.basics.tsv.gz`, to cross-check a source's labels.

The file has 12 million rows, three quarters of them episodes. It is streamed: only titles with a
genre of ours stay, as one number each in a sorted array (8 bytes a title).
"""

import dataclasses
import gzip
import io
import logging
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import requests
import urllib3
from numpy.typing import NDArray

from marquee import licences, storage
from marquee.agreement import IMDB, IMDB_LIMIT, label_status
from marquee.catalog import Facts
from marquee.errors import DataError, InfrastructureError, UsageError
from marquee.genres import VISUAL_GENRES
from marquee.log import progress

logger = logging.getLogger(__name__)

DATASET_URL = "https://datasets.imdbws.com/title.basics.tsv.gz"
"""Where IMDb publishes the file, daily, for personal and non-commercial use."""

TARGETS: dict[str, str] = {
    **{genre: genre for genre in VISUAL_GENRES},
    "Sci-Fi": "Science Fiction",
    "Musical": "Music",
}
"""IMDb's genres to TMDB's."""

WITHOUT_TARGET: frozenset[str] = frozenset(
    {
        *("Adult", "Biography", "Film-Noir", "Game-Show", "News"),
        *("Reality-TV", "Short", "Sport", "Talk-Show"),
    }
)
"""IMDb's genres that are none of TMDB's, or no matter of a poster."""

_COLUMNS = ("tconst", "titleType", "genres")
_NO_GENRES = ("\\N", "")
_EPISODE = "tvEpisode"
_ID_IN_FILE = r"^tt[0-9]{1,12}$"
_ID = re.compile(r"(?:tt)?([0-9]{1,12})")
_GZIP_MAGIC = b"\x1f\x8b"
_LONGEST_HEADER = 10_000
# Blocks this small keep Arrow's buffers below 100 MB; larger ones are no faster.
_BLOCK_BYTES = 2 * 2**20
_DOWNLOAD_AGAIN = f"download it again from {DATASET_URL}"

# A title is its number, shifted, and a bit for each genre of VISUAL_GENRES. One more bit says that
# IMDb's list was full, names without a target counted.
_FULL_BIT = 1 << len(VISUAL_GENRES)
_SHIFT = len(VISUAL_GENRES) + 1
_GENRE_BITS = {name: 1 << VISUAL_GENRES.index(genre) for name, genre in TARGETS.items()}


class ImdbLabels:
    """IMDb's genres by IMDb id. Episodes are left out: posters are of films.

    A title whose genres all lack a target (Short alone, say) counts as one without an opinion: it
    says nothing on any of our genres.

    Args:
        titles: A number a title, sorted; `load` makes them.
    """

    def __init__(self, titles: NDArray[np.int64]) -> None:
        self._titles = titles

    @classmethod
    def load(cls, uri: str) -> Self:
        """Read IMDb's file, packed or not, in bounded memory.

        Args:
            uri: A local path, `gs://` or `http(s)://`.

        Raises:
            UsageError: There is no such file.
            DataError: It is cut off, damaged, or no `title.basics`.
            InfrastructureError: The connection broke.
        """
        blocks = []
        with _open(uri) as (stream, header), progress("IMDb titles", None) as advance:
            for batch in _batches(uri, stream, header):
                blocks.append(_pack(batch, uri))
                advance(batch.num_rows)
        titles = np.concatenate(blocks)
        titles.sort()
        logger.info("IMDb: %s titles with genres in %s", f"{len(titles):,}", uri)
        return cls(titles)

    def __len__(self) -> int:
        return len(self._titles)

    def genres(self, imdb_id: str | None) -> tuple[str, ...] | None:
        """Look a title's genres up.

        Args:
            imdb_id: Such as `tt0133093`; leading zeros and the `tt` do not matter.

        Returns:
            One genre or more in TMDB's spelling, in the order of `VISUAL_GENRES`; None if IMDb
            does not know the id or has no opinion.
        """
        bits = self._find(imdb_id)
        if not bits:
            return None
        return tuple(genre for place, genre in enumerate(VISUAL_GENRES) if bits >> place & 1)

    def is_full(self, imdb_id: str | None) -> bool:
        """Tell whether IMDb lists as many genres as it ever does, those without a target counted.

        Args:
            imdb_id: As for `genres`.
        """
        return bool(self._find(imdb_id) & _FULL_BIT)

    def _find(self, imdb_id: str | None) -> int:
        """Give a title's bits; 0 if there is none."""
        match = _ID.fullmatch(imdb_id or "")
        if not match:
            return 0
        number = int(match[1])
        place = int(np.searchsorted(self._titles, number << _SHIFT))
        title = int(self._titles[place]) if place < len(self._titles) else 0
        return title & ((1 << _SHIFT) - 1) if title >> _SHIFT == number else 0


def with_imdb(facts: Facts, labels: ImdbLabels) -> Facts:
    """Join IMDb's genres to a poster's facts, with the licence they come under.

    Args:
        facts: The facts; what they say of IMDb already, from a folder's own column, stays.
        labels: IMDb's genres.

    Returns:
        The facts with the label source `imdb`, or as they were if IMDb has no opinion.
    """
    genres = labels.genres(facts.imdb_id)
    if genres is None or IMDB in facts.label_sources:
        return facts
    return dataclasses.replace(
        facts,
        label_sources={**facts.label_sources, IMDB: genres},
        label_licences={**facts.label_licences, IMDB: licences.IMDB},
    )


def with_agreement(facts: Facts, labels: ImdbLabels | None = None) -> Facts:
    """Set whether TMDB and IMDb agree on each genre of a poster.

    Args:
        facts: The facts with all their label sources.
        labels: What IMDb's labels were joined from, if they were: it knows whether IMDb's list was
            full before names without a target were dropped.
    """
    joined = labels is not None and IMDB in facts.label_licences
    full = labels.is_full(facts.imdb_id) if labels is not None and joined else None
    return dataclasses.replace(facts, agreement=label_status(facts.label_sources, full))


@contextmanager
def _open(uri: str) -> Iterator[tuple[Any, list[str]]]:
    """Open IMDb's file and read its first line; what goes wrong while it is read is explained.

    Yields:
        The stream, unpacked, at its second line; and the names of the columns.
    """
    try:
        with _open_raw(uri) as raw:
            stream: Any = io.BufferedReader(raw, 2**20)
            if stream.peek(2)[:2] == _GZIP_MAGIC:
                stream = gzip.GzipFile(fileobj=stream)
            yield stream, _header(stream, uri)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise UsageError(
            f"there is no file {uri}", remedy=f"download {DATASET_URL}, or check --imdb"
        ) from error
    except EOFError as error:
        raise DataError(
            f"{uri} ends before its end: the download was cut off", remedy=_DOWNLOAD_AGAIN
        ) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{uri} is damaged ({error})", remedy=_DOWNLOAD_AGAIN) from error
    except urllib3.exceptions.HTTPError as error:
        raise InfrastructureError(
            f"{uri}: the connection broke ({error})", remedy="run the command again"
        ) from error


@contextmanager
def _open_raw(uri: str) -> Iterator[Any]:
    if not uri.startswith(("http://", "https://")):
        with storage.open_binary(uri) as stream:
            yield stream
        return
    try:
        response = requests.get(uri, stream=True, timeout=60)
    except requests.RequestException as error:
        raise InfrastructureError(
            f"{uri} does not answer ({error})", remedy="check the address and the network"
        ) from error
    with response:
        if not response.ok:
            kind = UsageError if response.status_code < 500 else InfrastructureError
            raise kind(
                f"{uri} answers {response.status_code} {response.reason}",
                remedy=f"use {DATASET_URL}, or a file on this machine",
            )
        # Else it closes itself at its end, and whoever asks for more gets an error and no bytes.
        response.raw.auto_close = False
        yield response.raw


def _header(stream: Any, uri: str) -> list[str]:
    line = stream.readline(_LONGEST_HEADER).decode("utf-8", errors="replace")
    names: list[str] = line.rstrip("\r\n").split("\t")
    missing = [name for name in _COLUMNS if name not in names]
    if missing:
        raise DataError(
            f"{uri} is no title.basics.tsv: its first line, {line[:60]!r}, lacks the column(s) "
            f"{', '.join(missing)}",
            remedy=f"use {DATASET_URL}, packed or unpacked",
        )
    return names


def _batches(uri: str, stream: Any, header: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Read the rows block by block: id, type and genres."""
    words = pa.dictionary(pa.int32(), pa.string())
    done = 0
    try:
        with pa.csv.open_csv(
            stream,
            # One thread counts the rows, so that an error can name the one it found.
            pa.csv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES, column_names=header),
            # Titles have stray quotes: in IMDb's file they mean nothing.
            pa.csv.ParseOptions(delimiter="\t", quote_char=False),
            pa.csv.ConvertOptions(
                include_columns=_COLUMNS,
                column_types={"tconst": pa.string(), "titleType": words, "genres": words},
                strings_can_be_null=False,
            ),
        ) as reader:
            for batch in reader:
                yield batch
                done += batch.num_rows
    except pa.ArrowInvalid as error:
        message = " ".join(str(error).removeprefix("CSV parse error: ").split())[:160]
        raise DataError(
            f"{uri} cannot be read after {done:,} titles ({message})", remedy=_DOWNLOAD_AGAIN
        ) from error


def _pack(batch: pa.RecordBatch, uri: str) -> NDArray[np.int64]:
    """Turn rows into numbers; drop episodes and titles without an opinion."""
    types = batch.column("titleType")
    is_episode = np.array([word == _EPISODE for word in types.dictionary.to_pylist()], bool)
    genres = batch.column("genres")
    bits_of = np.array([_bits(cell) for cell in genres.dictionary.to_pylist()], np.int64)
    bits = bits_of[genres.indices.to_numpy()]
    kept = ~is_episode[types.indices.to_numpy()] & (bits != 0)
    ids = batch.column("tconst").filter(pa.array(kept))
    wrong = pc.invert(pc.match_substring_regex(ids, _ID_IN_FILE))
    if pc.any(wrong).as_py():
        raise DataError(
            f"{uri} holds {ids.filter(wrong)[0].as_py()[:40]!r} where an id such as tt0133093 "
            "belongs",
            remedy=_DOWNLOAD_AGAIN,
        )
    numbers = pc.cast(pc.utf8_slice_codeunits(ids, 2), pa.int64()).to_numpy()
    packed: NDArray[np.int64] = numbers << _SHIFT | bits[kept]
    return packed


def _bits(cell: str) -> int:
    """Turn a cell such as `Biography,Drama,Music` into bits; 0 if no genre has a target."""
    names = () if cell in _NO_GENRES else cell.split(",")
    bits = 0
    for name in names:
        if name not in _GENRE_BITS and name not in WITHOUT_TARGET:
            _warn_of(name)
        bits |= _GENRE_BITS.get(name, 0)
    return bits | _FULL_BIT if bits and len(names) >= IMDB_LIMIT else bits


@cache
def _warn_of(name: str) -> None:
    logger.warning("IMDb has a genre that Marquee does not know, left out: %r", name[:40])
