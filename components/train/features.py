"""Features of a frozen backbone: computed once a poster, and kept in `$MARQUEE_CACHE`.

A feature's key is the backbone's weights, the preprocessing and the image's sha256, so that the
same poster in another catalog, split or label set is not computed again. Features are saved as they
come: a run that is killed goes on where it was.
"""

import hashlib
import json
import logging
from dataclasses import asdict

import numpy as np
import torch
from numpy.typing import NDArray

from components.train.data import PosterDataset, Subset
from components.train.device import autocast, computes_in_bf16, pick_device
from components.train.model import PosterModel
from components.train.weights import digest
from marquee import feature_cache
from marquee.images import Preprocessing
from marquee.log import progress

logger = logging.getLogger(__name__)

_BATCH = 16
_SAVE_EVERY = 256


class FeatureCache:
    """Pooled features by image hash.

    Args:
        model: The model whose backbone is frozen.
        preprocessing: Its input.
        precision: What the backbone runs in.
    """

    def __init__(self, model: PosterModel, preprocessing: Preprocessing, precision: str) -> None:
        self._model = model
        self._preprocessing = preprocessing
        self._device = pick_device()
        self._precision = precision
        self._key = self._name()
        self._known: dict[str, NDArray[np.float32]] = {}

    def _name(self) -> str:
        native = self._precision == "auto" and computes_in_bf16(self._device)
        parts = {
            "weights": digest(self._model.backbone),
            "preprocessing": asdict(self._preprocessing),
            "precision": "bf16" if native else self._precision,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]

    def features(self, subset: Subset) -> NDArray[np.float32]:
        """Give the pooled features of posters, computing what is not known yet.

        Args:
            subset: N posters.

        Returns:
            [N, 2C].
        """
        hashes = subset.frame["sha256"].tolist()
        self._known |= feature_cache.read(self._key, set(hashes))
        missing = [row for row, name in enumerate(hashes) if name not in self._known]
        if missing:
            self._compute(subset, missing)
        return np.stack([self._known[name] for name in hashes])

    def _compute(self, subset: Subset, rows: list[int]) -> None:
        hashes = subset.frame["sha256"].tolist()
        dataset = PosterDataset(subset, self._preprocessing)
        logger.info("features: %d of %d posters to compute", len(rows), len(hashes))
        pending: list[str] = []
        model = self._model.to(self._device).to(memory_format=torch.channels_last).eval()
        with progress("features", len(rows)) as advance, torch.no_grad():
            for start in range(0, len(rows), _BATCH):
                chosen = rows[start : start + _BATCH]
                images = torch.stack([dataset[0, row, 0][0] for row in chosen]).to(self._device)
                with autocast(self._device, self._precision):
                    pooled = model.pooled(images).float().cpu().numpy()
                for row, vector in zip(chosen, pooled, strict=True):
                    self._known[hashes[row]] = vector
                    pending.append(hashes[row])
                if len(pending) >= _SAVE_EVERY or start + _BATCH >= len(rows):
                    feature_cache.save(self._key, {name: self._known[name] for name in pending})
                    pending = []
                advance(len(chosen))
