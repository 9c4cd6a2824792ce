"""What the frozen part of a network makes of posters: computed once, kept in `$MARQUEE_CACHE`.

The key is the frozen layers' weights, the preprocessing, the precision and whether the poster is
mirrored, so that the same poster in another catalog, split or label set is not computed again.
Features are saved as they come: a run that is killed goes on where it was.
"""

import hashlib
import json
import logging
from collections.abc import Generator, Sequence
from dataclasses import asdict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from components.train.data import Inputs, PosterDataset, Posters, Subset, Turn, random_for
from components.train.device import autocast, resolved
from components.train.model import PosterModel
from components.train.settings import TrainSettings
from components.train.weights import digest
from components.train.world import World
from marquee import __version__, feature_cache
from marquee.images import REVISION, Preprocessing
from marquee.log import progress

logger = logging.getLogger(__name__)

_BATCH = 16
_SAVE_EVERY = 256


class Features:
    """Inputs of a network that does not vary: cached features, as they are.

    Args:
        view: The features of N posters.
    """

    def __init__(self, view: "View") -> None:
        self._view = view

    def batches(self, turns: Sequence[Sequence[Turn]]) -> Generator[Tensor, None, None]:
        """Give the features [B, ...] of each batch of posters."""
        for batch in turns:
            yield torch.from_numpy(np.stack([self._view[turn.row] for turn in batch]))


class VariedFeatures:
    """Cached features of posters, mirrored and trimmed as chance has it, to train on.

    Chance is drawn from (seed, epoch, poster_id, copy), as in `PosterDataset`; the size to which
    maps are trimmed, one for all of a batch, from (seed, epoch, step).

    Args:
        plain: The features of the N posters.
        mirrored: Those of the posters mirrored, if training is to take either.
        poster_ids: N ids.
        crop: The most that is trimmed of each side of a feature map (0..1).
        seed: What chance begins from.
    """

    def __init__(
        self,
        plain: "View",
        mirrored: "View | None",
        poster_ids: Sequence[str],
        crop: float,
        seed: int,
    ) -> None:
        self._views = (plain, mirrored or plain)
        self._poster_ids = poster_ids
        self._crop = crop
        self._seed = seed

    def moments(self) -> tuple[Tensor, Tensor]:
        """Give the mean and the variance of each feature [...] of the posters as they are."""
        return self._views[0].moments()

    def batches(self, turns: Sequence[Sequence[Turn]]) -> Generator[Tensor, None, None]:
        """Give the features [B, ...] of each batch of posters."""
        for batch in turns:
            random = np.random.default_rng([self._seed, batch[0].epoch, batch[0].step])
            kept = 1 - self._crop * random.random()
            yield torch.from_numpy(np.stack([self._one(turn, kept) for turn in batch]))

    def _one(self, turn: Turn, kept: float) -> NDArray[np.float32]:
        random = random_for(self._seed, turn.epoch, self._poster_ids[turn.row], turn.copy)
        features = self._views[random.random() < 0.5][turn.row]
        sides = np.array(features.shape[1:], dtype=np.int64)
        sizes = np.ceil(kept * sides).astype(np.int64)
        starts = random.integers(0, sides - sizes, endpoint=True)
        window = [slice(start, start + size) for start, size in zip(starts, sizes, strict=True)]
        return features[:, *window]


class View:
    """The features of N posters, on disk; a row is read when it is asked for.

    Args:
        stored: Features on disk.
        hashes: The posters' sha256.
    """

    def __init__(self, stored: feature_cache.Stored, hashes: Sequence[str]) -> None:
        self._files = stored.files
        self._places = np.array([stored.places[name] for name in hashes], dtype=np.int32)

    def __len__(self) -> int:
        return len(self._places)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Give the mean and the variance of each feature [...]."""
        total = square = np.zeros(1)
        for row in range(len(self)):
            values = self[row].astype(np.float64)
            total, square = total + values, square + values**2
        mean = total / len(self)
        return torch.from_numpy(mean), torch.from_numpy(square / len(self) - mean**2)

    def __getitem__(self, row: int) -> NDArray[np.float32]:
        file, place = self._places[row]
        values: NDArray[np.float32] = self._files[file]["features"][place].astype(np.float32)
        return values


class FrozenPart:
    """Computes and caches what the first stages of a network make of posters.

    Args:
        model: The network.
        last: The stage after them; with the last stage of all comes pooling.
        preprocessing: Its input.
        settings: Precision.
        world: The processes that train together; they share the work.
        below: What makes the first of these stages, and is cached too; then the rest begins there.
    """

    def __init__(
        self,
        model: PosterModel,
        last: int,
        preprocessing: Preprocessing,
        settings: TrainSettings,
        world: World,
        below: "FrozenPart | None" = None,
    ) -> None:
        self._last = last
        self._layers = model.frozen_part(below._last if below else 0, last)
        self._preprocessing = preprocessing
        self._settings = settings
        self._world = world
        self._below = below
        self._digest = digest(model.frozen_part(0, last))

    def view(self, subset: Subset, mirrored: bool = False) -> View:
        """Give the features of posters, computing what is not known yet.

        Args:
            subset: N posters.
            mirrored: Mirror them first.
        """
        hashes, key = subset.frame["sha256"].tolist(), self._key(mirrored)
        wanted = set(hashes)
        stored = feature_cache.read(key, wanted)
        missing = self._missing(stored, hashes)
        if any(self._world.gather(bool(len(missing)))):
            # In step with the others: they compute what is below together, too.
            inputs = self._inputs(subset, mirrored)
            self._compute(inputs, hashes, self._world.share(missing), key)
            self._world.gather(None)
            stored = feature_cache.read(key, wanted)
            # The cache of another machine is not ours.
            self._compute(inputs, hashes, self._missing(stored, hashes), key)
            stored = feature_cache.read(key, wanted)
        return View(stored, hashes)

    @staticmethod
    def _missing(stored: feature_cache.Stored, hashes: Sequence[str]) -> NDArray[np.int64]:
        rows = [row for row, name in enumerate(hashes) if name not in stored.places]
        return np.array(rows, dtype=np.int64)

    def _key(self, mirrored: bool) -> str:
        parts = {
            # What the layers do with their weights is a matter of the code.
            "code": __version__,
            "weights": self._digest,
            "preprocessing": asdict(self._preprocessing),
            "precision": resolved(self._settings.precision, self._world.device),
            "mirrored": mirrored,
            "pixels": REVISION,
            "by_way_of": self._below._last if self._below else 0,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]

    def _compute(
        self, inputs: Inputs, hashes: Sequence[str], rows: NDArray[np.int64], key: str
    ) -> None:
        if not len(rows):
            return
        logger.info("features: %d of %d posters to compute", len(rows), len(hashes))
        batches = [rows[start : start + _BATCH].tolist() for start in range(0, len(rows), _BATCH)]
        turns = [[Turn(row) for row in batch] for batch in batches]
        self._layers.eval()
        pending: dict[str, NDArray[np.float32]] = {}
        with progress("features", len(rows)) as advance, torch.no_grad():
            for batch, values in zip(batches, inputs.batches(turns), strict=True):
                with autocast(self._world.device, self._settings.precision):
                    made = self._layers(values.to(self._world.device)).float().cpu().numpy()
                pending |= {hashes[row]: value for row, value in zip(batch, made, strict=True)}
                if len(pending) >= _SAVE_EVERY or batch is batches[-1]:
                    feature_cache.save(key, pending)
                    pending = {}
                advance(len(batch))

    def _inputs(self, subset: Subset, mirrored: bool) -> Inputs:
        if self._below:
            return Features(self._below.view(subset, mirrored))
        # No process beside the network: decoding is a hundredth of the work.
        dataset = PosterDataset(subset, self._preprocessing, mirrored=mirrored)
        return Posters(dataset, workers=0, most=_BATCH)


def varied_features(frozen: FrozenPart, subset: Subset, settings: TrainSettings) -> VariedFeatures:
    """Give what a part of a network trains on, computing what is not known yet.

    Args:
        frozen: Makes the features.
        subset: The posters.
        settings: Whether they are mirrored, and how much is trimmed.
    """
    mirrored = frozen.view(subset, mirrored=True) if settings.mirror else None
    names = subset.frame["poster_id"].tolist()
    return VariedFeatures(frozen.view(subset), mirrored, names, settings.crop, settings.seed)
