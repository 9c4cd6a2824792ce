"""Profiles: how posters and predictions are distributed, in counts that are added up.

The reference profile is sealed in the bundle, so that drift can be measured without the training
data. It is drawn from the validation split: the model did not train on it. The profile of a window
of predictions is counted in the same way.
"""

import base64
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from marquee.contract import check_schema_version
from marquee.eras import ERAS, UNKNOWN_ERA
from marquee.errors import DataError
from marquee.histograms import bins_of, coarsen

SCHEMA_VERSION = 2
BINS = 100
"""Equal bins, of probabilities and measures alike."""

ATTRIBUTES: tuple[str, ...] = ("brightness", "contrast", "saturation", "hue")
"""What a catalog and a record say of a poster's look, each in 0..1."""

MEASURES: Mapping[str, tuple[float, float]] = {
    **dict.fromkeys(ATTRIBUTES, (0.0, 1.0)),
    "size": (8.0, 26.0),
    "shape": (0.0, 2.0),
}
"""What is measured of a poster, and from where to where: size is the binary logarithm of its
pixels, shape its width divided by its height."""

PREDICTED = "predicted "
"""Stands before an era that the model guessed: it is never mixed with one that was given."""

SLICES: tuple[str, ...] = (*ERAS, UNKNOWN_ERA, *(PREDICTED + era for era in ERAS))
"""Eras that were given, no era, and eras that the model guessed."""

GIVEN = len(ERAS) + 1
"""How many slices come before the predicted ones."""

NO, YES, UNLABELLED = range(3)
"""Whether a poster has a genre, as far as anybody knows."""

EMBEDDINGS = 512
"""How many embeddings a profile keeps."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Profile:
    """Counts of posters and of what a model said of them, by era.

    G genres, S slices (`SLICES`), M measures (`MEASURES`), B bins. Of a reference, each poster is
    in the slice of its era and, if the model guesses eras, in the guessed one's as well; of a
    window, in one slice only.
    """

    genres: tuple[str, ...]
    is_reference: bool
    posters: NDArray[np.int64]
    """[S]."""
    unsure: NDArray[np.int64]
    """[S]."""
    chosen: NDArray[np.int64]
    """How many posters got a genre [G, S]."""
    scores: NDArray[np.int64]
    """How often a genre's probability fell into a bin, by whether the poster has it [G, S, 3, B]:
    no, yes, unlabelled."""
    measures: NDArray[np.int64]
    """[M, S, B]."""
    embeddings: NDArray[np.float32]
    """Of some of the posters [n, 64]; none if nobody knows any."""

    @property
    def whole(self) -> slice:
        """The slices in which each poster is once."""
        return slice(GIVEN) if self.is_reference else slice(None)

    @property
    def total(self) -> int:
        """How many posters were counted."""
        return int(self.posters[self.whole].sum())

    @property
    def bins(self) -> int:
        """How many bins its histograms have."""
        return self.scores.shape[-1]

    def with_bins(self, bins: int) -> Self:
        """Join neighbouring bins until there are so many."""
        return replace(
            self, scores=coarsen(self.scores, bins), measures=coarsen(self.measures, bins)
        )

    def to_document(self) -> dict[str, Any]:
        """Give plain values for JSON; arrays of counts are packed."""
        return {
            "schema_version": SCHEMA_VERSION,
            "is_reference": self.is_reference,
            "genres": list(self.genres),
            "slices": list(SLICES),
            "measures": list(MEASURES),
            "bins": self.bins,
            "posters": self.total,
            "packed": {name: _pack(getattr(self, name)) for name in _ARRAYS},
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any], where: str) -> "Profile":
        """Read what `to_document` gave, or the reference profile of an older bundle.

        Args:
            document: Plain values.
            where: Where they are, for error messages.

        Raises:
            DataError: There are none, they are damaged, or newer than this code.
        """
        if not document:
            raise DataError(f"{where} has no reference profile", remedy="train it again")
        check_schema_version(dict(document), SCHEMA_VERSION, f"the profile of {where}")
        try:
            if document["schema_version"] == 1:
                return _first_version(document)
            arrays = {name: _unpack(document["packed"][name]) for name in _ARRAYS}
            profile = cls(
                genres=tuple(document["genres"]), is_reference=document["is_reference"], **arrays
            )
        except (KeyError, TypeError, ValueError, zlib.error) as error:
            raise DataError(
                f"the profile of {where} is damaged ({error})", remedy="restore it"
            ) from None
        names = (tuple(document["slices"]), tuple(document["measures"]))
        if names != (SLICES, tuple(MEASURES)):
            raise DataError(f"the profile of {where} has other slices", remedy="train it again")
        return profile


_ARRAYS = tuple(
    item.name for item in fields(Profile) if item.name not in ("genres", "is_reference")
)


def profile_of(
    genres: Sequence[str],
    frame: pd.DataFrame,
    probabilities: NDArray[Any],
    chosen: NDArray[Any],
    *,
    unsure: NDArray[np.bool_],
    labels: NDArray[Any] | None = None,
    guessed: Sequence[str] = (),
    embeddings: NDArray[Any] | None = None,
) -> Profile:
    """Count labelled posters and what a model says of them: a reference.

    Args:
        genres: The G names.
        frame: N posters with `era`, `width`, `height` and the `ATTRIBUTES`.
        probabilities: [N, G] in 0..1.
        chosen: Which genres were chosen [N, G].
        unsure: Of which posters the model is unsure [N].
        labels: Which genres the posters have [N, G]; unknown without.
        guessed: The era that the model guesses of each poster; none if it guesses none.
        embeddings: [N, 64]; some are kept.

    Returns:
        The reference profile.
    """
    known = {name: number for number, name in enumerate(SLICES)}
    places = [frame["era"].map(known).to_numpy()]
    if len(guessed):
        places.append(np.array([known[PREDICTED + era] for era in guessed]))
    if labels is None:
        label = np.full(probabilities.shape, UNLABELLED)
    else:
        label = np.asarray(labels).astype(np.int64)
    empty = empty_profile(genres, is_reference=True)
    score_bins = bins_of(probabilities, BINS)
    measured = measure_bins(frame)
    for place in places:
        np.add.at(empty.posters, place, 1)
        np.add.at(empty.unsure, place, unsure.astype(np.int64))
        for g in range(len(genres)):
            np.add.at(empty.chosen[g], place, chosen[:, g].astype(np.int64))
            np.add.at(empty.scores[g], (place, label[:, g], score_bins[:, g]), 1)
        for m, bins in enumerate(measured):
            np.add.at(empty.measures[m], (place, bins), 1)
    if embeddings is None:
        return empty
    rows = np.linspace(0, len(embeddings) - 1, min(len(embeddings), EMBEDDINGS))
    return replace(empty, embeddings=np.asarray(embeddings, dtype=np.float32)[rows.astype(int)])


def measure_bins(frame: pd.DataFrame) -> list[NDArray[np.int64]]:
    """Tell into which bin each measure of posters falls.

    Args:
        frame: N posters with `width`, `height` and the `ATTRIBUTES`.

    Returns:
        [N] for each of `MEASURES`.
    """
    pixels = frame["width"].to_numpy(dtype=float) * frame["height"].to_numpy(dtype=float)
    values = {
        **{name: frame[name].to_numpy(dtype=float) for name in ATTRIBUTES},
        "size": np.log2(np.maximum(pixels, 1.0)),
        "shape": frame["width"].to_numpy(dtype=float)
        / np.maximum(frame["height"].to_numpy(dtype=float), 1.0),
    }
    return [
        bins_of((values[name] - low) / (high - low), BINS) for name, (low, high) in MEASURES.items()
    ]


def empty_profile(genres: Sequence[str], *, is_reference: bool, bins: int = BINS) -> Profile:
    """Give a profile in which nothing was counted yet; its arrays may be written.

    Args:
        genres: The G names.
        is_reference: Whether it is to be one.
        bins: Of its histograms.
    """
    count, slices = len(genres), len(SLICES)
    return Profile(
        genres=tuple(genres),
        is_reference=is_reference,
        posters=np.zeros(slices, np.int64),
        unsure=np.zeros(slices, np.int64),
        chosen=np.zeros((count, slices), np.int64),
        scores=np.zeros((count, slices, 3, bins), np.int64),
        measures=np.zeros((len(MEASURES), slices, bins), np.int64),
        embeddings=np.zeros((0, 64), np.float32),
    )


def _pack(array: NDArray[Any]) -> dict[str, Any]:
    kind = "<f4" if array.dtype == np.float32 else "<i8"
    data = base64.b64encode(zlib.compress(array.astype(kind).tobytes(), 9)).decode()
    return {"shape": list(array.shape), "type": kind, "zlib_base64": data}


def _unpack(packed: Mapping[str, Any]) -> NDArray[Any]:
    data = zlib.decompress(base64.b64decode(packed["zlib_base64"]))
    if packed["type"] not in ("<i8", "<f4"):
        raise ValueError(f"an array of {packed['type']}")
    return np.frombuffer(data, packed["type"]).reshape(packed["shape"])


def _first_version(document: Mapping[str, Any]) -> Profile:
    """Read a profile of Marquee 0.1: it knew no labels, sizes or embeddings."""
    genres = tuple(document["all"]["genres"])
    found = empty_profile(genres, is_reference=True, bins=document["bins"])
    for era, said in document["eras"].items():
        place = SLICES.index(era)
        found.posters[place] = said["posters"]
        for m, name in enumerate(ATTRIBUTES):
            found.measures[m, place] = said["attributes"][name]
        for g, genre in enumerate(genres):
            counted = said["genres"][genre]
            found.chosen[g, place] = math.floor(counted["chosen"] * said["posters"] + 0.5)
            found.scores[g, place, UNLABELLED] = counted["probability"]
    return found
