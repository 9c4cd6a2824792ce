"""A `kserve.Model` as KServe's documentation writes one."""

import logging
from typing import Any

from kserve import Model, ModelServer

from benchmarks.peers.model import PORT, PosterModel


class PosterGenre(Model):
    def __init__(self) -> None:
        super().__init__("poster-genre")
        self._model = PosterModel()
        self.ready = True

    def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
        posters = [self._model.decode(item["image"]["b64"]) for item in payload["instances"]]
        return {"predictions": self._model.predict(posters)}


def serve(model: Model) -> None:
    """Serve without access and timing logs."""
    server = ModelServer(http_port=PORT, enable_grpc=False)
    for name in ("uvicorn.access", "kserve.trace"):
        logging.getLogger(name).setLevel(logging.WARNING)
    server.start([model])


if __name__ == "__main__":
    serve(PosterGenre())
