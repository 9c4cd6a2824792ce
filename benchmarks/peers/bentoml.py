"""BentoML with adaptive batching."""

import os
import sys

import bentoml  # type: ignore[import-not-found]

from benchmarks.peers.model import BATCH, PORT, PosterModel


@bentoml.service(workers=1, logging={"access": {"enabled": False}}, metrics={"enabled": True})
class PosterGenre:
    def __init__(self) -> None:
        self._model = PosterModel()

    @bentoml.api(batchable=True, max_batch_size=BATCH)
    def predict(self, posters: list[str]) -> list[dict[str, float]]:
        return self._model.predict([self._model.decode(text) for text in posters])


if __name__ == "__main__":
    command = [sys.executable, "-m", "bentoml", "serve", "benchmarks.peers.bentoml:PosterGenre"]
    os.execv(sys.executable, [*command, "--host", "127.0.0.1", "--port", str(PORT)])
