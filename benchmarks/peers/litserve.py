"""LitServe, which batches, in the process beside its HTTP server."""

from fastapi import Request
from litserve import LitAPI, LitServer  # type: ignore[import-not-found]

from benchmarks.peers.model import BATCH, BATCH_SECONDS, PORT, Pixels, PosterModel


class PosterGenre(LitAPI):
    def setup(self, device: str) -> None:
        self._model = PosterModel()

    # LitServe reads the argument's name and type; what it passes is the parsed JSON.
    def decode_request(self, request: Request) -> Pixels:
        return self._model.decode(request["image"]["b64"])

    def batch(self, inputs: list[Pixels]) -> list[Pixels]:
        return inputs

    def predict(self, posters: list[Pixels]) -> list[dict[str, float]]:
        return self._model.predict(posters)

    def unbatch(self, output: list[dict[str, float]]) -> list[dict[str, float]]:
        return output

    def encode_response(self, output: dict[str, float]) -> dict[str, float]:
        return output


if __name__ == "__main__":
    LitServer(
        PosterGenre(max_batch_size=BATCH, batch_timeout=BATCH_SECONDS), accelerator="cpu"
    ).run(port=PORT, generate_client_file=False, access_log=False)
