"""Behavioural tests: what a change that leaves the genre alone does to the probabilities."""

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from components.evaluate.predict import Seen
from marquee.engine import Engine
from marquee.images import decode, resize
from marquee.verdict import Check, Outcome, Severity

POSTERS = 200
"""Posters that are changed, or all if there are fewer; they are drawn at random."""
_SEED = 0


@dataclass(frozen=True)
class Change:
    """A change of a poster, and how far it may move the probabilities."""

    name: str
    words: str
    make: Callable[[Image.Image], Image.Image]
    bound: float | None = None
    """Largest mean absolute change of a probability; None reports it only."""


def _jpeg(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=50)
    return Image.fromarray(decode(buffer.getvalue()))


def _brightness(factor: float) -> Callable[[Image.Image], Image.Image]:
    return lambda image: ImageEnhance.Brightness(image).enhance(factor)


def _blur(image: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(image.width / 100))


def _grey(image: Image.Image) -> Image.Image:
    return image.convert("L").convert("RGB")


def _crop(image: Image.Image) -> Image.Image:
    width, height = image.size
    x, y = round(width / 20), round(height / 20)
    return image.crop((x, y, width - x, height - y))


CHANGES: tuple[Change, ...] = (
    Change("horizontal_flip", "mirrored left to right", ImageOps.mirror, 0.03),
    Change("jpeg_50", "saved as JPEG of quality 50", _jpeg, 0.03),
    Change("brighter", "20% brighter", _brightness(1.2), 0.06),
    Change("darker", "20% darker", _brightness(0.8), 0.06),
    Change("blur", "blurred (radius 1% of the width)", _blur),
    Change("grey", "without colour", _grey),
    Change("crop", "5% cut off each side", _crop),
)


@dataclass(frozen=True, kw_only=True)
class Moved:
    """What one change did, on average."""

    change: str
    words: str
    mean_change: float
    """Mean absolute change of a probability, over posters and genres."""
    bound: float | None
    same_top: float
    """Share of the posters whose most probable genre stayed the same."""


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """What all changes did."""

    posters: int
    between_posters: float
    """For scale: how much the probabilities of two different posters differ, measured alike."""
    changes: tuple[Moved, ...]

    def checks(self) -> list[Check]:
        """Hold what the changes did against their bounds."""
        return [_check(moved, moved.bound) for moved in self.changes if moved.bound is not None]


def _check(moved: Moved, bound: float) -> Check:
    holds = moved.mean_change <= bound
    return Check(
        name=f"A poster {moved.words}",
        outcome=Outcome.PASSED if holds else Outcome.FAILED,
        measured=f"probabilities move by {moved.mean_change:.3f}; the same genre comes first on "
        f"{moved.same_top:.0%}",
        bound=f"at most {bound:g}",
        severity=Severity.WARNING,
        remedy="" if holds else "train with augmentation of this kind, or treat such images apart",
    )


class BehaviourTest:
    """Changes some of the posters that pass by, and compares what the model says.

    Args:
        engine: Runs the bundle.
        posters: How many posters will pass by.
    """

    def __init__(self, engine: Engine, posters: int) -> None:
        self._engine = engine
        random = np.random.default_rng(_SEED)
        self._rows = set(random.permutation(posters)[:POSTERS].tolist())
        self._seen: list[NDArray[np.float64]] = []

    def see(self, seen: Seen) -> None:
        """Test those of some posters that were drawn."""
        for row, data in zip(seen.rows, seen.data, strict=True):
            if row in self._rows:
                self._seen.append(self._try(Image.fromarray(decode(data))))

    def _try(self, image: Image.Image) -> NDArray[np.float64]:
        """Give the probabilities of a poster, and of each change of it [1 + changes, G]."""
        variants = [image, *(change.make(image) for change in CHANGES)]
        preprocessing = self._engine.bundle.info.preprocessing
        inputs = np.stack([resize(np.asarray(variant), preprocessing) for variant in variants])
        return self._engine.probabilities(inputs)

    def result(self) -> Behaviour:
        """Sum up."""
        seen = np.stack(self._seen)
        plain, changed = seen[:, 0], seen[:, 1:]
        distances = np.abs(changed - plain[:, None]).mean(axis=(0, 2))
        same = (changed.argmax(axis=2) == plain.argmax(axis=1)[:, None]).mean(axis=0)
        return Behaviour(
            posters=len(seen),
            between_posters=float(np.abs(plain - np.roll(plain, 1, axis=0)).mean()),
            changes=tuple(
                Moved(
                    change=change.name,
                    words=change.words,
                    mean_change=float(distances[n]),
                    bound=change.bound,
                    same_top=float(same[n]),
                )
                for n, change in enumerate(CHANGES)
            ),
        )
