"""Posters on their way into a network: read by range, decoded in workers, never held."""

import hashlib
import mmap
import os
import signal
import threading
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import cv2
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from components.train.world import World
from marquee.catalog import Catalog
from marquee.errors import MarqueeError, UsageError, explain
from marquee.genres import label_columns, label_matrix
from marquee.images import Preprocessing, resize
from marquee.split import SplitPlan

COLUMNS: tuple[str, ...] = (
    "era",
    "sha256",
    "brightness",
    "contrast",
    "saturation",
    "hue",
    "width",
    "height",
    "shard_offset",
    "size",
)


@dataclass(frozen=True)
class Subset:
    """The posters of one split: facts and labels, no pixels."""

    catalog: Catalog
    frame: pd.DataFrame
    """N rows with `COLUMNS`, part, weight and repeats."""
    labels: NDArray[np.float32]
    """[N, G] of zeros and ones."""
    label_weights: NDArray[np.float32]
    """How much each label counts in the loss [N, G], 0..1."""

    def __len__(self) -> int:
        return len(self.frame)

    def take(self, rows: NDArray[np.int64]) -> "Subset":
        """Give some of the posters."""
        frame = self.frame.iloc[rows].reset_index(drop=True)
        return Subset(self.catalog, frame, self.labels[rows], self.label_weights[rows])

    def beside(self, other: "Subset") -> "Subset":
        """Give these posters and those of another split of the same catalog."""
        frame = pd.concat([self.frame, other.frame], ignore_index=True)
        labels = np.concatenate([self.labels, other.labels])
        weights = np.concatenate([self.label_weights, other.label_weights])
        return Subset(self.catalog, frame, labels, weights)


def read_subset(catalog: Catalog, plan: SplitPlan, split: str) -> Subset:
    """Read a split's rows.

    Args:
        catalog: The catalog that the plan was made for.
        plan: The split plan.
        split: `train`, `validation` or `test`.
    """
    chosen = plan.frame[plan.frame["split"] == split].drop(columns=["split", "group_id"])
    told = label_columns(plan.genres)
    frames, labels, weights = [], [], []
    for found in catalog.by_part((*COLUMNS, *told), chosen):
        labels.append(label_matrix(found, plan.genres).astype(np.float32))
        weights.append(np.stack(found["label_weights"].tolist()).astype(np.float32))
        frames.append(found.drop(columns=["label_weights", *told]))
    frame = pd.concat(frames, ignore_index=True)
    subset = Subset(catalog, frame, np.concatenate(labels), np.concatenate(weights))
    # In the plan's order: what chance does goes by it.
    places = pd.Index(frame["poster_id"]).get_indexer(chosen["poster_id"])
    return subset.take(places[places >= 0])


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


_GRACE_SECONDS = 20.0

_LUMA = np.array([0.299, 0.587, 0.114])


class Turn(NamedTuple):
    """When a poster comes up; all that chance does to it follows from that."""

    row: int
    epoch: int = 0
    copy: int = 0
    """How often it came before in the epoch."""
    step: int = 0
    """The step of the epoch, which all posters of a batch share."""


class Turns:
    """Which posters each step shows: the same, however many processes share its batch.

    Args:
        regimen: Orders the posters of an epoch.
        batch_size: Posters a step, of all processes together.
        accumulate: Parts in which a process goes through its share of a batch.
        world: The processes.

    Raises:
        UsageError: A part would have fewer than two posters.
    """

    def __init__(self, regimen: Regimen, batch_size: int, accumulate: int, world: World) -> None:
        self._regimen = regimen
        self.size = min(batch_size, len(regimen))
        """Posters a step."""
        if self.size // (world.size * accumulate) < 2:
            raise UsageError(
                f"a step of {self.size} posters, shared by {world.size} processes in {accumulate} "
                "parts each, leaves fewer than 2 for a part",
                remedy="raise train.batch_size, or lower train.processes or train.accumulate",
            )
        self._accumulate = accumulate
        self._world = world
        self.steps = len(regimen) // self.size
        """Steps an epoch; posters that do not fill a batch are left out of it."""

    def rows(self, epoch: int, step: int) -> NDArray[np.int64]:
        """Give the rows of a step's batch."""
        return self._order(epoch)[step * self.size : (step + 1) * self.size]

    def parts(self, epoch: int, first: int) -> list[list[Turn]]:
        """Give what this process goes through in an epoch, `accumulate` parts a step.

        Args:
            epoch: The epoch.
            first: The step to begin with.
        """
        order = self._order(epoch)
        rows = pd.Series(order)
        copies = rows.groupby(rows).cumcount().to_numpy()
        parts = []
        for step in range(first, self.steps):
            places = np.arange(step * self.size, (step + 1) * self.size)
            for part in np.array_split(self._world.share(places), self._accumulate):
                pairs = zip(order[part].tolist(), copies[part].tolist(), strict=True)
                parts.append([Turn(row, epoch, count, step) for row, count in pairs])
        return parts

    def _order(self, epoch: int) -> NDArray[np.int64]:
        if self._held is None or self._held[0] != epoch:
            self._held = epoch, self._regimen.rows(epoch)
        return self._held[1]

    _held: tuple[int, NDArray[np.int64]] | None = None


class PosterDataset(Dataset[NDArray[np.uint8] | MarqueeError]):
    """Gives preprocessed posters by their turns; augmented if asked for.

    The augmentation of a poster is drawn from (seed, epoch, poster_id, copy): the same whatever the
    number of workers or the order, and another for each copy of a poster in an epoch.

    Args:
        subset: The posters.
        preprocessing: The network's input.
        augment_seed: Turns augmentation on.
        mirrored: Mirror each poster.
    """

    def __init__(
        self,
        subset: Subset,
        preprocessing: Preprocessing,
        augment_seed: int | None = None,
        mirrored: bool = False,
    ) -> None:
        self._catalog = subset.catalog
        self.preprocessing = preprocessing
        self._augment_seed = augment_seed
        self._mirrored = mirrored
        names = ("poster_id", "part", "shard_offset", "size", "sha256")
        # Columns: a row of a frame takes a tenth of the time that a poster takes.
        self._places = [subset.frame[name].to_numpy() for name in names]

    def __len__(self) -> int:
        return len(self._places[0])

    def __getitem__(self, turn: Turn) -> NDArray[np.uint8] | MarqueeError:
        """Give a poster [H, W, 3]; an error is given too: raised in a worker, it would be lost."""
        try:
            poster_id, image = self._image(turn.row)
        except Exception as fault:
            error = explain(fault)
            if error is None:
                raise
            return error
        if self._augment_seed is None:
            pixels = resize(image, self.preprocessing)
        else:
            random = random_for(self._augment_seed, turn.epoch, poster_id, turn.copy)
            pixels = augment(image, self.preprocessing, random)
        return pixels[:, ::-1] if self._mirrored else pixels

    def _image(self, row: int) -> tuple[str, NDArray[np.uint8]]:
        poster_id, part, offset, size, sha256 = [column[row] for column in self._places]
        image = self._catalog.read_poster(poster_id, part, int(offset), int(size), sha256)
        return poster_id, image


class Inputs(Protocol):
    """What a part of a network is fed with: posters, or cached features of them."""

    def batches(self, turns: Sequence[Sequence[Turn]]) -> Generator[Tensor, None, None]:
        """Give the inputs [B, ...] of each batch of posters."""
        ...


_PREFETCHED = 2
"""Batches that a process decodes ahead."""


class Posters:
    """A network's inputs: posters, decoded in processes beside the training.

    Args:
        dataset: Gives the posters.
        workers: How many processes decode; 0 decodes in this one.
        most: The largest batch.
    """

    def __init__(self, dataset: PosterDataset, workers: int, most: int) -> None:
        self._slots = _shared_slots(workers * _PREFETCHED + 1, most, dataset.preprocessing)
        self._wanted = _Wanted(len(self._slots))
        self._loader = DataLoader(
            _IntoSlots(dataset, self._slots),
            sampler=self._wanted,
            batch_size=None,
            num_workers=workers,
            prefetch_factor=_PREFETCHED if workers else None,
            persistent_workers=workers > 0,
            worker_init_fn=_begin_worker,
            # Only what is forked has the slots.
            multiprocessing_context="fork" if workers else None,
            # Of its own: the state of the global one is that of the training.
            generator=torch.Generator(),
        )
        if workers:
            # Forked now, while this process is small: each would keep what it changes later.
            iter(self._loader)

    def batches(self, turns: Sequence[Sequence[Turn]]) -> Generator[Tensor, None, None]:
        """Give the posters [B, H, W, 3] of each batch.

        Raises:
            MarqueeError: A poster cannot be read.
        """
        self._wanted.turns = turns
        for number, error in enumerate(self._loader):
            if error is not None:
                raise error
            slot = self._slots[number % len(self._slots)]
            yield torch.from_numpy(slot[: len(turns[number])].copy())


def _shared_slots(slots: int, posters: int, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Give room for batches that this process shares with those that it forks.

    Sent as tensors, batches would take a tenth of the time that decoding them takes; and they would
    lie in /dev/shm, which in a pod is 64 MiB unless told otherwise.
    """
    shape = (slots, posters, preprocessing.height, preprocessing.width, 3)
    return np.frombuffer(mmap.mmap(-1, int(np.prod(shape))), np.uint8).reshape(shape)


_Job = tuple[int, Sequence[Turn]]
"""A slot, and the posters that belong there."""


class _Wanted(Sampler[_Job]):
    """The jobs of an epoch; a slot's turn comes again when its batch has been taken away."""

    turns: Sequence[Sequence[Turn]] = ()

    def __init__(self, slots: int) -> None:
        self._slots = slots

    def __len__(self) -> int:
        return len(self.turns)

    def __iter__(self) -> Iterator[_Job]:
        return ((number % self._slots, batch) for number, batch in enumerate(self.turns))


class _IntoSlots(Dataset[MarqueeError | None]):
    def __init__(self, dataset: PosterDataset, slots: NDArray[np.uint8]) -> None:
        self._dataset, self._slots = dataset, slots

    def __getitem__(self, job: _Job) -> MarqueeError | None:
        """Put posters into a slot; give the error if one cannot be read."""
        slot, batch = job
        for place, turn in enumerate(batch):
            poster = self._dataset[turn]
            if isinstance(poster, MarqueeError):
                return poster
            self._slots[slot, place] = poster
        return None


def _begin_worker(_worker: int) -> None:
    """Begin a process that decodes: it needs no threads, and the training says when it ends.

    Whoever stops a whole family of processes must not take the posters from under a step that the
    training is about to finish.
    """
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: _end_soon())


def _end_soon() -> None:
    timer = threading.Timer(_GRACE_SECONDS, os._exit, [1])
    timer.daemon = True
    timer.start()


def random_for(seed: int, epoch: int, poster_id: str, copy: int = 0) -> np.random.Generator:
    """Give the random numbers of one poster in one epoch, or of a further copy of it."""
    words = f"{seed}/{epoch}/{poster_id}" + (f"/{copy}" if copy else "")
    name = hashlib.sha256(words.encode()).digest()
    return np.random.default_rng(int.from_bytes(name[:8], "big"))


def augment(
    image: NDArray[np.uint8], preprocessing: Preprocessing, random: np.random.Generator
) -> NDArray[np.uint8]:
    """Vary a poster as reprints and scans vary: trimmed, mirrored, paler, flatter or darker.

    Args:
        image: A decoded poster [h, w, 3].
        preprocessing: The network's input.
        random: Where chance comes from.

    Returns:
        The network's input [H, W, 3] for a poster with the same genres.
    """
    size = np.array(image.shape[1::-1])
    kept = size * random.uniform(0.84, 1.0, size=2)
    left, top = random.uniform(0, 1, size=2) * (size - kept)
    trimmed = image[int(top) : int(top + kept[1]), int(left) : int(left + kept[0])]
    # Colours are varied after resizing: there are far fewer pixels then.
    small = resize(trimmed, preprocessing)
    if random.random() < 0.5:
        small = np.asarray(cv2.flip(small, 1), dtype=np.uint8)
    return recolour(small, *random.uniform(0.8, 1.2, size=3))


def recolour(
    image: NDArray[np.uint8], colour: float, contrast: float, brightness: float
) -> NDArray[np.uint8]:
    """Vary the colours of an image as Pillow's `ImageEnhance` does, in one step.

    Args:
        image: RGB [h, w, 3].
        colour: Share of each pixel's distance from its grey (ITU-R BT.601) that is kept; 1 is all.
        contrast: The same of the distance from the image's mean grey.
        brightness: The same of the distance from black.
    """
    mean = _LUMA @ cv2.mean(image)[:3]
    colours = contrast * brightness * (colour * np.eye(3) + (1 - colour) * _LUMA)
    offsets = np.full((3, 1), brightness * (1 - contrast) * mean)
    return np.asarray(cv2.transform(image, np.hstack([colours, offsets])), dtype=np.uint8)
