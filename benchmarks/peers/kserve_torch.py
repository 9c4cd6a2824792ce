"""The usual choice: a `kserve.Model` that runs the trained network in PyTorch, in fp32."""

import base64
import json
import os
from typing import Any

import numpy as np
import torch
from kserve import Model

from benchmarks.peers.kserve_model import serve
from components.train.architectures import architecture
from components.train.settings import resolve_settings
from components.train.weights import RANDOM, load_tensors
from marquee.bundle import WEIGHTS_FILE, load
from marquee.images import preprocess
from marquee.settings import Settings


class PosterGenre(Model):
    def __init__(self) -> None:
        super().__init__("poster-genre")
        bundle = load(os.environ["BUNDLE"])
        self._info = bundle.info
        name = self._info.architecture
        settings = Settings(train=json.loads(self._info.environment["settings"]))
        self._network = architecture(name).build(
            len(self._info.genres), resolve_settings(name, settings), RANDOM
        )
        self._network.load_state_dict(load_tensors(str(bundle.folder / WEIGHTS_FILE)))
        self._network.eval().to(memory_format=torch.channels_last)
        self.ready = True

    def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
        posters = [
            preprocess(base64.b64decode(item["image"]["b64"]), self._info.preprocessing)
            for item in payload["instances"]
        ]
        with torch.inference_mode():
            logits = self._network(torch.from_numpy(np.stack(posters))).numpy()
        rows = self._info.calibration.probabilities(logits).tolist()
        genres = self._info.genres
        return {"predictions": [dict(zip(genres, row, strict=True)) for row in rows]}


if __name__ == "__main__":
    serve(PosterGenre())
