"""KServe's model server with our model in it, on the address we are told."""

import asyncio
import socket
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from fastapi import Request, Response
from grpc import aio

from marquee.endpoint import MODEL_NAME
from marquee.errors import DataError
from serving import openapi, page
from serving.gate import Gate
from serving.grpc_server import grpc_server
from serving.kserve_api import (
    FASTAPI_APP_IMPORT_STRING,
    DataPlane,
    ModelRepository,
    ModelRepositoryExtension,
    RESTServer,
    app,
)
from serving.listener import listen, url_of
from serving.prediction_log import PredictionLog
from serving.predictor import PosterGenreModel
from serving.routes import REFUSALS, failure, handlers, refusal
from serving.settings import ServingSettings
from serving.tokens import Tokens

_GRACE_SECONDS = 20
"""For requests in flight; leaves 10 of Kubernetes' 30 seconds for the records."""


def serve(bundle_uri: str, settings: ServingSettings, announce: Callable[[str], object]) -> None:
    """Serve a bundle until SIGTERM or SIGINT; requests in flight are answered, records written.

    Args:
        bundle_uri: The bundle.
        settings: How to serve it.
        announce: Gets one line when the server is ready.

    Raises:
        DataError: The bundle is missing, damaged or changed.
        UsageError: The token file cannot be used.
        InfrastructureError: The address cannot be listened on.
    """
    tokens = Tokens(Path(settings.token_file)) if settings.token_file else None
    with PredictionLog(settings.records) if settings.records else nullcontext() as records:
        model = PosterGenreModel(bundle_uri, settings, records)
        model.load()
        with listen(settings.host, settings.port) as listener:
            server = PosterServer(model, settings, tokens)
            # Connections wait in the listener's backlog until the event loop runs.
            server.run([listener], lambda: announce(_ready_line(model, listener)))


def _ready_line(model: PosterGenreModel, listener: socket.socket) -> str:
    url = url_of(listener)
    # Through a pipe: as an argument, a poster of 100 kB would be too long.
    image = "base64 < poster.jpg | tr -d '\\n'"
    body = f"""printf '{{"instances":[{{"image":{{"b64":"'; {image}; printf '"}}}}]}}'"""
    return (
        f"{MODEL_NAME} is ready at {url} (bundle {model.version[:12]}); "
        f"try: ({body}) | curl -s -d @- {url}/v1/models/{MODEL_NAME}:predict"
    )


class PosterServer(RESTServer):
    """KServe's REST server with one model, our routes, and our answers to errors.

    Its `run` takes sockets; KServe's `ModelServer.start` does not, and always binds 0.0.0.0.

    Args:
        model: The loaded model.
        settings: How to serve it.
        tokens: Who may use it; anybody without it.
    """

    def __init__(
        self, model: PosterGenreModel, settings: ServingSettings, tokens: Tokens | None
    ) -> None:
        models = ModelRepository()
        models.update(model)
        super().__init__(
            FASTAPI_APP_IMPORT_STRING,
            _PosterDataPlane(models),
            _FixedModels(models),
            http_port=0,
            grace_period=_GRACE_SECONDS,
        )
        self._model = model
        self._settings = settings
        self._tokens = tokens
        self._max_bytes = int(settings.max_request_mb * 1e6)
        self.config.app = Gate(
            app,
            tokens=tokens,
            max_bytes=self._max_bytes,
            handlers=handlers(model),
            check_load=model.batcher.check,
            metrics=model.metrics,
            tracing=model.tracing,
        )
        self.config.access_log = False  # the gate has one
        self.config.server_header = False
        self.config.proxy_headers = False

    def run(
        self, sockets: list[socket.socket] | None = None, ready: Callable[[], object] = lambda: None
    ) -> None:
        """Answer requests until a signal comes.

        Args:
            sockets: Where to listen.
            ready: Is called when all is up.
        """
        self.create_application()
        with asyncio.Runner(loop_factory=self.config.get_loop_factory()) as runner:
            runner.run(self._serve(sockets, ready))

    async def _serve(
        self, sockets: list[socket.socket] | None, ready: Callable[[], object]
    ) -> None:
        grpc = self._grpc_server()
        if grpc:
            await grpc.start()
        try:
            ready()
            await self._server.serve(sockets)
        finally:
            if grpc:
                await grpc.stop(_GRACE_SECONDS)
            await self._model.close()

    def _grpc_server(self) -> aio.Server | None:
        if self._settings.grpc_port is None:
            return None
        host = f"[{self._settings.host}]" if ":" in self._settings.host else self._settings.host
        return grpc_server(
            f"{host}:{self._settings.grpc_port}",
            self.dataplane,
            self.model_repository_extension,
            self._model.metrics,
            tokens=self._tokens,
            max_bytes=self._max_bytes,
        )

    def create_application(self) -> None:
        """Add our routes before KServe's, which would win otherwise, and our handlers after."""
        page.add_routes(app)
        super().create_application()
        for kind in REFUSALS:
            app.add_exception_handler(kind, _refusal)
        app.add_exception_handler(Exception, _failure)
        app.openapi = lambda: openapi.document(self._model.genres)

    def _add_middlewares(self, app: Any) -> None:
        """Leave out KServe's, which measures what the metrics measure already."""


class _PosterDataPlane(DataPlane):
    def decode(
        self, body: bytes, headers: dict[str, str], *args: Any, **options: Any
    ) -> tuple[Any, dict[str, Any]]:
        """Read the body as JSON whatever its type says: `curl -d` calls it a form."""
        return super().decode(
            body, headers | {"content-type": "application/json"}, *args, **options
        )

    def metadata(self) -> dict[str, Any]:
        """Name the extensions that this server has, not KServe's."""
        return super().metadata() | {"extensions": ["binary_tensor_data"]}

    async def model_metadata(self, model_name: str) -> dict[str, Any]:
        """Add what KServe leaves out: the bundle's version and what runs it."""
        document = await super().model_metadata(model_name)
        version = self.get_model_from_registry(model_name).version
        return document | {"platform": "marquee_onnx", "versions": [version]}


class _FixedModels(ModelRepositoryExtension):
    """Refuses to load or unload: any client could take the model away with one request."""

    async def load(self, model_name: str) -> None:
        raise _fixed()

    async def unload(self, model_name: str) -> None:
        raise _fixed()


def _fixed() -> DataError:
    return DataError("this server serves one bundle", remedy="start another server for another")


async def _refusal(request: Request, error: Exception) -> Response:
    return refusal(error)


async def _failure(request: Request, error: Exception) -> Response:
    return failure()
