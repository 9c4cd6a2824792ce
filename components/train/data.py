"""Posters on their way into a network: read by range, decoded in workers, never held."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from marquee.catalog import Catalog
from marquee.genres import label_columns, label_matrix
from marquee.images import Preprocessing, decode, resize
from marquee.split import SplitPlan

COLUMNS: tuple[str, ...] = (
    "genres",
    "era",
    "sha256",
    "brightness",
    "contrast",
    "saturation",
    "hue",
    "shard_offset",
    "size",
)


@dataclass(frozen=True)
class Subset:
    """The posters of one split: facts and labels, no pixels."""

    catalog: Catalog
    frame: pd.DataFrame
    """N rows with `COLUMNS`, part, weight, repeats and label_weights."""
    labels: NDArray[np.float32]
    """[N, G] of zeros and ones."""

    def __len__(self) -> int:
        return len(self.frame)

    @cached_property
    def label_weights(self) -> NDArray[np.float32]:
        """How much each label counts in the loss [N, G], 0..1."""
        return np.stack(self.frame["label_weights"].tolist()).astype(np.float32)


def read_subset(catalog: Catalog, plan: SplitPlan, split: str) -> Subset:
    """Read a split's rows.

    Args:
        catalog: The catalog that the plan was made for.
        plan: The split plan.
        split: `train`, `validation` or `test`.
    """
    chosen = plan.frame[plan.frame["split"] == split]
    columns = (*COLUMNS, *label_columns(plan.genres))
    frame = chosen.merge(catalog.frame(columns), on="poster_id", validate="one_to_one")
    return Subset(catalog, frame, label_matrix(frame, plan.genres).astype(np.float32))


class Regimen:
    """What a strategy of balancing means in training; nothing else looks at it.

    ============= ============================ =============== ================
    strategy      posters of an epoch          poster weights  positive weights
    ============= ============================ =============== ================
    none          each once                    1               1
    class_weights each once                    `weight`        `class_weights`
    sampler       N drawn by `weight`          1               1
    oversample    each `repeats` times         1               1
    ============= ============================ =============== ================

    Args:
        subset: The N training posters.
        plan: The split plan that they are from.
        seed: Chooses the order, and what is drawn.
    """

    weights: NDArray[np.float32]
    """How much each poster counts in the loss [N]."""
    positives: NDArray[np.float32]
    """What a positive label of each genre counts in the loss [G], a negative one being 1."""

    def __init__(self, subset: Subset, plan: SplitPlan, seed: int) -> None:
        self._seed = seed
        self._rows = np.arange(len(subset))
        self._chances: NDArray[np.float64] | None = None
        self.weights = np.ones(len(subset), np.float32)
        self.positives = np.ones(len(plan.genres), np.float32)
        if plan.strategy == "class_weights":
            self.weights = subset.frame["weight"].to_numpy(np.float32)
            self.positives = _positive_weights(subset, plan)
        elif plan.strategy == "sampler":
            weights = subset.frame["weight"].to_numpy(np.float64)
            self._chances = weights / weights.sum()
        elif plan.strategy == "oversample":
            self._rows = np.repeat(self._rows, subset.frame["repeats"].to_numpy())

    def __len__(self) -> int:
        """How many posters an epoch shows."""
        return len(self._rows)

    def rows(self, epoch: int) -> NDArray[np.int64]:
        """Give the rows of an epoch, in the order in which they train."""
        random = np.random.default_rng([self._seed, epoch])
        if self._chances is None:
            return random.permutation(self._rows)
        return random.choice(self._rows, len(self._rows), p=self._chances)


def _positive_weights(subset: Subset, plan: SplitPlan) -> NDArray[np.float32]:
    """Give the plan's class weights [G]; for a plan of version 1, sqrt(negatives / positives)."""
    if plan.class_weights is not None:
        return np.array([plan.class_weights[genre] for genre in plan.genres], np.float32)
    positives = np.maximum(subset.labels.sum(axis=0), 1.0)
    weights: NDArray[np.float32] = np.sqrt((len(subset) - positives).clip(1.0) / positives)
    return weights


class PosterDataset(Dataset[tuple[Tensor, int]]):
    """Gives preprocessed posters by (epoch, row, copy); augmented if asked for.

    The augmentation of a poster is drawn from (seed, epoch, poster_id, copy): the same whatever the
    number of workers or the order, and another for each copy of a poster in an epoch.

    Args:
        subset: The posters.
        preprocessing: The network's input.
        augment_seed: Turns augmentation on.
    """

    def __init__(
        self, subset: Subset, preprocessing: Preprocessing, augment_seed: int | None = None
    ) -> None:
        self._subset = subset
        self._preprocessing = preprocessing
        self._augment_seed = augment_seed
        places = subset.frame[["poster_id", "part", "shard_offset", "size"]]
        self._places = list(places.itertuples(index=False, name=None))

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, key: tuple[int, int, int]) -> tuple[Tensor, int]:
        epoch, row, copy = key
        poster_id, part, offset, size = self._places[row]
        image = decode(self._subset.catalog.read_image(part, offset, size))
        if self._augment_seed is None:
            pixels = resize(image, self._preprocessing)
        else:
            random = random_for(self._augment_seed, epoch, poster_id, copy)
            pixels = augment(image, self._preprocessing, random)
        return torch.from_numpy(pixels.copy()), row


def random_for(seed: int, epoch: int, poster_id: str, copy: int = 0) -> np.random.Generator:
    """Give the random numbers of one poster in one epoch, or of a further copy of it."""
    words = f"{seed}/{epoch}/{poster_id}" + (f"/{copy}" if copy else "")
    name = hashlib.sha256(words.encode()).digest()
    return np.random.default_rng(int.from_bytes(name[:8], "big"))


def augment(
    image: Image.Image, preprocessing: Preprocessing, random: np.random.Generator
) -> NDArray[np.uint8]:
    """Vary a poster as reprints and scans vary: trimmed, mirrored, paler, flatter or darker.

    Args:
        image: A decoded poster.
        preprocessing: The network's input.
        random: Where chance comes from.

    Returns:
        The network's input [H, W, 3] for a poster with the same genres.
    """
    size = np.array(image.size)
    kept = size * random.uniform(0.84, 1.0, size=2)
    left, top = random.uniform(0, 1, size=2) * (size - kept)
    trimmed = image.crop((int(left), int(top), int(left + kept[0]), int(top + kept[1])))
    # Colours are varied after resizing: there are far fewer pixels then.
    small = Image.fromarray(resize(trimmed, preprocessing))
    if random.random() < 0.5:
        small = small.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for enhance in (ImageEnhance.Color, ImageEnhance.Contrast, ImageEnhance.Brightness):
        small = enhance(small).enhance(random.uniform(0.8, 1.2))
    return np.asarray(small, dtype=np.uint8)


class EpochSampler(Sampler[tuple[int, int, int]]):
    """Gives the rows of an epoch as (epoch, row, copy): copy counts how often a row came before.

    Args:
        length: How many rows an epoch has.
        rows: Gives the rows of an epoch; all in order without it.
    """

    def __init__(self, length: int, rows: Callable[[int], NDArray[np.int64]] | None = None) -> None:
        self._length = length
        self._rows = rows or (lambda _epoch: np.arange(length))
        self.epoch = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        rows = pd.Series(self._rows(self.epoch))
        copies = rows.groupby(rows).cumcount()
        return ((self.epoch, row, copy) for row, copy in zip(rows.tolist(), copies, strict=True))


def make_loader(
    dataset: PosterDataset,
    sampler: EpochSampler,
    batch_size: int,
    workers: int,
    drop_last: bool = False,
) -> DataLoader[tuple[Tensor, int]]:
    """Give batches of (images [B, H, W, 3], rows [B])."""
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=workers,
        persistent_workers=workers > 0,
        drop_last=drop_last,
        # A worker needs no threads of its own: the network has the cores.
        worker_init_fn=_one_thread,
    )


def _one_thread(_worker: int) -> None:
    torch.set_num_threads(1)
