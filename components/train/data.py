"""Posters on their way into a network: read by range, decoded in workers, never held."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from marquee.catalog import Catalog
from marquee.genres import multi_hot
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
    """N rows with `COLUMNS`, part, weight and label_mask."""
    labels: NDArray[np.float32]
    """[N, G] of zeros and ones."""

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def weights(self) -> NDArray[np.float32]:
        """Each poster's weight [N], mean 1 over the training split."""
        return self.frame["weight"].to_numpy(dtype=np.float32)

    @property
    def masks(self) -> NDArray[np.float32]:
        """Which labels count [N, G]."""
        return np.array(self.frame["label_mask"].tolist(), dtype=np.float32)


def read_subset(catalog: Catalog, plan: SplitPlan, split: str) -> Subset:
    """Read a split's rows.

    Args:
        catalog: The catalog that the plan was made for.
        plan: The split plan.
        split: `train`, `validation` or `test`.
    """
    chosen = plan.frame[plan.frame["split"] == split]
    frame = chosen.merge(catalog.frame(COLUMNS), on="poster_id", validate="one_to_one")
    labels = np.array(multi_hot(frame["genres"], plan.genres), dtype=np.float32)
    return Subset(catalog, frame, labels)


class PosterDataset(Dataset[tuple[Tensor, int]]):
    """Gives preprocessed posters by (epoch, row); augmented if asked for.

    The augmentation of a poster is drawn from (seed, epoch, poster_id): the same whatever the
    number of workers or the order.

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

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int]:
        epoch, row = key
        poster_id, part, offset, size = self._places[row]
        image = decode(self._subset.catalog.read_image(part, offset, size))
        if self._augment_seed is None:
            pixels = resize(image, self._preprocessing)
        else:
            random = random_for(self._augment_seed, epoch, poster_id)
            pixels = augment(image, self._preprocessing, random)
        return torch.from_numpy(pixels.copy()), row


def random_for(seed: int, epoch: int, poster_id: str) -> np.random.Generator:
    """Give the random numbers of one poster in one epoch."""
    name = hashlib.sha256(f"{seed}/{epoch}/{poster_id}".encode()).digest()
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


class EpochSampler(Sampler[tuple[int, int]]):
    """Gives all rows of an epoch as (epoch, row), shuffled by (seed, epoch) if asked for.

    Args:
        rows: How many.
        seed: Turns shuffling on.
    """

    def __init__(self, rows: int, seed: int | None = None) -> None:
        self._rows = rows
        self._seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return self._rows

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.arange(self._rows)
        if self._seed is not None:
            np.random.default_rng([self._seed, self.epoch]).shuffle(order)
        return iter([(self.epoch, int(row)) for row in order])


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
