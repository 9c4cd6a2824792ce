"""Whether label sources agree: the status of a film's labels, and statistics over a catalog.

A source has an opinion on a film if it gives it one of the 18 visual genres or more. Whether a
film was made for television is no opinion on its poster.
"""

import enum
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import combinations
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from marquee.contract import check_schema_version, parse_json
from marquee.eras import ERAS
from marquee.errors import DataError
from marquee.genres import GENRES, VISUAL_GENRES

SCHEMA_VERSION = 1

TMDB = "tmdb"
"""TMDB's name among the label sources."""

IMDB = "imdb"
"""IMDb's name among the label sources."""

IMDB_LIMIT = 3
"""IMDb's dataset lists at most this many genres a title."""

COLUMNS: tuple[str, ...] = ("film_id", "era", "label_sources", "agreement")
"""Columns of the catalog that `label_agreement` reads."""


class LabelStatus(enum.StrEnum):
    """What TMDB and IMDb together say of one genre of one film."""

    AGREE = "agree"
    TMDB_ONLY = "tmdb_only"
    IMDB_ONLY = "imdb_only"
    UNKNOWN = "unknown"
    """The other source has no opinion, or could not have said it."""


def label_status(
    label_sources: Mapping[str, Sequence[str]], imdb_full: bool | None = None
) -> dict[str, str]:
    """Compare what TMDB and IMDb say of a film.

    IMDb's dataset stops at three genres, so its silence on a fourth is no disagreement: where its
    list is full, a genre that TMDB alone gives is `unknown`. TMDB has no such limit, so a genre
    that IMDb alone gives is `imdb_only` all the same. IMDb has no TV Movie: always `unknown`.

    Args:
        label_sources: Genres by label source; sources other than `tmdb` and `imdb` do not matter.
        imdb_full: Whether IMDb's list was full before names without a target were dropped.
            Without it, a list of exactly three counts as full; a longer one shows that it comes
            from elsewhere and was never cut.

    Returns:
        A `LabelStatus` for each genre that either of the two gives, in the order of `GENRES`.
    """
    tmdb, imdb = (frozenset(label_sources.get(name, ())) for name in (TMDB, IMDB))
    if imdb_full is None:
        imdb_full = len(imdb) == IMDB_LIMIT
    comparable = not tmdb.isdisjoint(VISUAL_GENRES) and not imdb.isdisjoint(VISUAL_GENRES)

    def status(genre: str) -> LabelStatus:
        if not comparable or genre not in VISUAL_GENRES:
            return LabelStatus.UNKNOWN
        if genre not in imdb:
            return LabelStatus.UNKNOWN if imdb_full else LabelStatus.TMDB_ONLY
        return LabelStatus.AGREE if genre in tmdb else LabelStatus.IMDB_ONLY

    return {genre: status(genre) for genre in GENRES if genre in tmdb | imdb}


@dataclass(frozen=True, kw_only=True)
class GenreAgreement:
    """How two label sources use one genre, on the films on which both have an opinion."""

    films: int
    """Films on which both sources have an opinion, whatever it is."""
    both: int
    """Films that both give the genre."""
    first_only: int
    """Films that only the first source gives it."""
    second_only: int
    """Films that only the second source gives it."""

    @property
    def either(self) -> int:
        """Films that at least one of the two gives the genre."""
        return self.both + self.first_only + self.second_only

    @property
    def jaccard(self) -> float | None:
        """Films that both give the genre, as a share (0..1) of those that either does.

        Jaccard's coefficient, |A and B| / |A or B| (P. Jaccard, The distribution of the flora in
        the alpine zone, New Phytologist 11, 1912). None if neither source ever gives it.
        """
        return self.both / self.either if self.either else None

    @property
    def kappa(self) -> float | None:
        """Agreement beyond chance (-1..1): 0 is what two independent sources would reach.

        Cohen's kappa, (p_o - p_e) / (1 - p_e), with p_o the share of films on which the sources
        agree and p_e the share expected from how often each gives the genre (J. Cohen, A
        coefficient of agreement for nominal scales, Educational and Psychological Measurement
        20, 1960). For yes and no, with n films, b both, f and s first and second only and
        k = n - b - f - s neither, it is 2 (b k - f s) / ((b + f)(f + k) + (b + s)(s + k)).
        None where chance alone explains everything: both sources give the genre to all films,
        or to none.
        """
        b, f, s = self.both, self.first_only, self.second_only
        k = self.films - self.either
        expected = (b + f) * (f + k) + (b + s) * (s + k)
        return 2 * (b * k - f * s) / expected if expected else None

    def to_dict(self) -> dict[str, Any]:
        """Give the counts with what follows from them."""
        return {**vars(self), "jaccard": self.jaccard, "kappa": self.kappa}


@dataclass(frozen=True, kw_only=True)
class PairAgreement:
    """How two label sources agree."""

    first: str
    second: str
    films: int
    """Films on which both have an opinion."""
    genres: dict[str, GenreAgreement]
    """Each visual genre over all films."""
    eras: dict[str, dict[str, GenreAgreement]]
    """The same for the films of each era that has any."""

    @property
    def one_sided(self) -> dict[str, str]:
        """Genres that one of the two never gives, on any film, though the other does.

        Such a source does not know the genre (MovieLens has no History): nothing can be compared.

        Returns:
            Genre to the source that never gives it.
        """
        found = {}
        for genre, counts in self.genres.items():
            if counts.both == 0 and (counts.first_only == 0) != (counts.second_only == 0):
                found[genre] = self.second if counts.first_only else self.first
        return found

    @property
    def macro_jaccard(self) -> float | None:
        """The mean Jaccard of the genres that both sources know; None if there is none."""
        return self._macro("jaccard")

    @property
    def macro_kappa(self) -> float | None:
        """The mean kappa of the genres that both sources know; None if there is none."""
        return self._macro("kappa")

    def _macro(self, measure: str) -> float | None:
        skipped = self.one_sided
        values = [
            getattr(counts, measure)
            for genre, counts in self.genres.items()
            if genre not in skipped
        ]
        defined = [value for value in values if value is not None]
        return sum(defined) / len(defined) if defined else None

    def to_dict(self) -> dict[str, Any]:
        """Give the statistics as plain values."""
        return {
            "first": self.first,
            "second": self.second,
            "films": self.films,
            "macro_jaccard": self.macro_jaccard,
            "macro_kappa": self.macro_kappa,
            "one_sided": self.one_sided,
            "genres": _plain(self.genres),
            "eras": {era: _plain(genres) for era, genres in self.eras.items()},
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Read what `to_dict` gave."""
        return cls(
            first=document["first"],
            second=document["second"],
            films=document["films"],
            genres=_counts(document["genres"]),
            eras={era: _counts(genres) for era, genres in document["eras"].items()},
        )


_COUNTS = ("films", "both", "first_only", "second_only")


def _plain(genres: Mapping[str, GenreAgreement]) -> dict[str, dict[str, Any]]:
    return {genre: counts.to_dict() for genre, counts in genres.items()}


def _counts(genres: Mapping[str, Mapping[str, Any]]) -> dict[str, GenreAgreement]:
    return {
        genre: GenreAgreement(**{name: values[name] for name in _COUNTS})
        for genre, values in genres.items()
    }


@dataclass(frozen=True, kw_only=True)
class LabelAgreement:
    """How the label sources of a catalog agree."""

    films: int
    """Films in the catalog; several posters of one film count once."""
    sources: dict[str, int]
    """Label source to the number of films on which it has an opinion."""
    pairs: tuple[PairAgreement, ...]
    """Every pair of sources that have an opinion on some film both; TMDB and IMDb first."""
    statuses: dict[str, dict[str, int]] = field(default_factory=dict)
    """Genre to films by `LabelStatus`, as the catalog's column `agreement` has it."""
    schema_version: int = SCHEMA_VERSION

    def to_dict(self) -> dict[str, Any]:
        """Give the statistics as plain values."""
        return {**vars(self), "pairs": [pair.to_dict() for pair in self.pairs]}

    def to_json(self) -> str:
        """Write the statistics as JSON."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, where: str) -> Self:
        """Read the statistics.

        Args:
            text: What `to_json` wrote.
            where: Its URI, for error messages.

        Raises:
            DataError: It is damaged, or newer than this code.
        """
        document = parse_json(text, where)
        check_schema_version(document, SCHEMA_VERSION, where)
        try:
            return cls(
                films=document["films"],
                sources=document["sources"],
                pairs=tuple(PairAgreement.from_dict(pair) for pair in document["pairs"]),
                statuses=document["statuses"],
            )
        except (KeyError, TypeError) as error:
            raise DataError(
                f"{where} holds no agreement of labels: {error!r}", remedy="write it anew"
            ) from None


def label_agreement(frame: pd.DataFrame) -> LabelAgreement:
    """Measure how the label sources of a catalog agree.

    Args:
        frame: Rows of a catalog with `COLUMNS`. Without `film_id` every row counts as a film;
            without `agreement` there are no statuses.

    Returns:
        Counts for every pair of sources, by genre and by genre and era.
    """
    films = frame["film_id"] if "film_id" in frame else pd.Series(range(len(frame)))
    film_codes = pd.factorize(films)[0]
    labels = _encode(frame["label_sources"])
    era_names = _ordered(frame["era"].unique(), ERAS)
    eras = pd.Categorical(frame["era"], categories=era_names).codes
    sources = _ordered(labels, (TMDB, IMDB))
    pairs = []
    for first, second in combinations(sources, 2):
        rows = np.flatnonzero((labels[first] != 0) & (labels[second] != 0))
        rows = rows[_first_of_each(film_codes[rows])]
        if rows.size:
            counts = _count(labels[first][rows], labels[second][rows], eras[rows], len(era_names))
            pairs.append(_pair(first, second, counts, era_names))
    return LabelAgreement(
        films=int(film_codes.max(initial=-1)) + 1,
        sources={name: len(np.unique(film_codes[labels[name] != 0])) for name in sources},
        pairs=tuple(pairs),
        statuses=_statuses(frame, film_codes),
    )


def _ordered(names: Iterable[str], first: Sequence[str]) -> list[str]:
    """Order names: those of `first` as they stand there, then the others by alphabet."""
    places = {name: place for place, name in enumerate(first)}
    return sorted(names, key=lambda name: (places.get(name, len(places)), name))


def _first_of_each(codes: NDArray[Any]) -> NDArray[np.intp]:
    first: NDArray[np.intp] = np.unique(codes, return_index=True)[1]
    return first


def _encode(rows: Iterable[Mapping[str, Sequence[str]] | None]) -> dict[str, NDArray[np.int32]]:
    """Give each source's genres as bits [rows]: bit g is `VISUAL_GENRES[g]`, 0 no opinion."""
    rows = list(rows)
    labels: dict[str, NDArray[np.int32]] = {}
    for place, row in enumerate(rows):
        for source, genres in (row or {}).items():
            if source not in labels:
                labels[source] = np.zeros(len(rows), np.int32)
            labels[source][place] = _bits(tuple(genres))
    return {source: bits for source, bits in labels.items() if bits.any()}


@lru_cache(maxsize=65_536)
def _bits(genres: tuple[str, ...]) -> int:
    return sum(1 << place for place, genre in enumerate(VISUAL_GENRES) if genre in genres)


def _count(
    first: NDArray[np.int32], second: NDArray[np.int32], eras: NDArray[Any], era_count: int
) -> NDArray[np.int64]:
    """Count films [E, G, 4]: all, those given a genre by both, by the first, by the second only.

    Args:
        first: Bits of the first source [N].
        second: Bits of the second source [N].
        eras: Place of each film's era [N].
        era_count: Number of eras E.
    """
    places = np.arange(len(VISUAL_GENRES), dtype=np.int32)
    one, other = ((bits[:, None] >> places & 1).astype(bool) for bits in (first, second))
    cells = np.stack([np.ones_like(one), one & other, one & ~other, ~one & other], axis=2)
    members = eras == np.arange(era_count)[:, None]
    return np.stack([cells[rows].sum(axis=0) for rows in members])


def _pair(
    first: str, second: str, counts: NDArray[np.int64], era_names: Sequence[str]
) -> PairAgreement:
    return PairAgreement(
        first=first,
        second=second,
        films=int(counts[:, 0, 0].sum()),
        genres=_by_genre(counts.sum(axis=0)),
        eras={
            era: _by_genre(cells)
            for era, cells in zip(era_names, counts, strict=True)
            if cells[0, 0]
        },
    )


def _by_genre(cells: NDArray[np.int64]) -> dict[str, GenreAgreement]:
    return {
        genre: GenreAgreement(**dict(zip(_COUNTS, row, strict=True)))
        for genre, row in zip(VISUAL_GENRES, cells.tolist(), strict=True)
    }


def _statuses(frame: pd.DataFrame, film_codes: NDArray[Any]) -> dict[str, dict[str, int]]:
    if "agreement" not in frame:
        return {}
    rows = frame["agreement"].iloc[_first_of_each(film_codes)]
    counts = Counter((genre, status) for row in rows for genre, status in (row or {}).items())
    return {
        genre: {status.value: counts[genre, status.value] for status in LabelStatus}
        for genre in GENRES
        if any((genre, status.value) in counts for status in LabelStatus)
    }
