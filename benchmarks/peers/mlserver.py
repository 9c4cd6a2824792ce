"""MLServer with adaptive batching; the v2 protocol, posters in base64."""

import asyncio
import json

from mlserver import MLModel, MLServer, ModelSettings, Settings  # type: ignore[import-not-found]
from mlserver.types import (  # type: ignore[import-not-found]
    InferenceRequest,
    InferenceResponse,
    ResponseOutput,
)

from benchmarks.peers.model import BATCH, BATCH_SECONDS, PORT, PosterModel


class PosterGenre(MLModel):
    async def load(self) -> bool:
        self._model = PosterModel()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        posters = [self._model.decode(text) for text in payload.inputs[0].data]
        found = [json.dumps(probabilities) for probabilities in self._model.predict(posters)]
        output = ResponseOutput(name="genres", datatype="BYTES", shape=[len(found)], data=found)
        return InferenceResponse(model_name=self.name, outputs=[output])


async def main() -> None:
    settings = Settings(
        host="127.0.0.1",
        http_port=PORT,
        grpc_port=0,
        metrics_endpoint=None,
        parallel_workers=1,
        debug=False,
    )
    model = ModelSettings(
        name="poster-genre",
        implementation="benchmarks.peers.mlserver.PosterGenre",
        max_batch_size=BATCH,
        max_batch_time=BATCH_SECONDS,
    )
    await MLServer(settings).start([model])


if __name__ == "__main__":
    asyncio.run(main())
