"""KServe's model server with our model in it, on the address we are told."""

import asyncio
import gc
import socket
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, cast

import uvicorn
from fastapi import Request, Response
from grpc import aio
from starlette.exceptions import HTTPException

from marquee import signing
from marquee.bundle import load
from marquee.endpoint import MODEL_NAME
from serving import openapi, page
from serving.gate import Gate
from serving.grpc_server import grpc_server
from serving.http_protocol import BoundedHttpProtocol
from serving.kserve_api import (
    FASTAPI_APP_IMPORT_STRING,
    DataPlane,
    ModelNotFound,
    ModelRepository,
    ModelRepositoryExtension,
    RESTServer,
    app,
)
from serving.listener import doubled, listen, url_of
from serving.prediction_log import PredictionLog
from serving.predictor import PosterGenreModel
from serving.refusals import NotFound, failure, json_response, refusal
from serving.routes import handlers
from serving.samples import SampleStore
from serving.settings import ServingSettings
from serving.tokens import Tokens
from serving.tracing import Tracing

_GRACE_SECONDS = 18
"""For requests in flight; leaves 12 of Kubernetes' 30 seconds for records and traces."""
_TURN_SECONDS = 0.0005
"""How long a thread keeps Python's lock while another wants it. By default it is ten times longer:
in a crowd the threads that decode waited for the event loop while CPUs were idle."""


def serve(bundle_uri: str, settings: ServingSettings, announce: Callable[[str], object]) -> None:
    """Serve a bundle until SIGTERM or SIGINT; requests in flight are answered, records written.

    Args:
        bundle_uri: The bundle.
        settings: How to serve it.
        announce: Gets one line when the server is ready.

    Raises:
        DataError: The bundle is missing, damaged or changed, or its signature does not count.
        UsageError: The token file cannot be used.
        InfrastructureError: The address cannot be listened on.
    """
    tokens = Tokens(Path(settings.token_file)) if settings.token_file else None
    bundle = load(bundle_uri)
    signing.check(bundle, bundle_uri, required=settings.require_signature)
    with ExitStack() as ends:
        tracing = Tracing.configured(bundle.version)
        if tracing:
            ends.callback(tracing.close)  # last: spans are worth less than records
        records = _records(settings)
        if records:
            ends.enter_context(records)
        samples = _samples(settings)
        if samples:
            ends.enter_context(samples)
        model = PosterGenreModel(bundle, settings, records, tracing, samples)
        model.load()
        with listen(settings.host, settings.port) as listener:
            server = PosterServer(model, settings, tokens)
            # Connections wait in the listener's backlog until the event loop runs.
            server.run(doubled(listener), lambda: announce(_ready_line(model, listener)))


def _records(settings: ServingSettings) -> PredictionLog | None:
    if not settings.records:
        return None
    return PredictionLog(settings.records, seconds=settings.record_seconds)


def _samples(settings: ServingSettings) -> SampleStore | None:
    if not settings.samples:
        return None
    return SampleStore(settings.samples, settings.sample_share, settings.sample_hours)


def _keep_for_good() -> None:
    """Exempt what is loaded from garbage collection: looking through it takes 100 ms, each time.

    Requests leave next to nothing for it, while in a crowd it stopped them for 10 to 80 ms, several
    times a second: so it is rarer, too.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


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
            ModelRepositoryExtension(models),
            http_port=0,
            grace_period=_GRACE_SECONDS,
        )
        self._model = model
        self._settings = settings
        self._tokens = tokens
        gate = Gate(
            app,
            version=model.version,
            tokens=tokens,
            bodies=model.bodies,
            handlers=handlers(model, self.dataplane),
            check_load=model.batcher.check,
            metrics=model.metrics,
            tracing=model.tracing,
        )
        self.config.app = gate
        protocol = partial(BoundedHttpProtocol, refuse=gate.refusal_at_once)
        self.config.http = cast(type[asyncio.Protocol], protocol)
        self.config.ws = "none"
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
        _keep_for_good()
        sys.setswitchinterval(_TURN_SECONDS)
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
            await _Server(self.config, grpc).serve(sockets)
        finally:
            await self._model.close()

    def _grpc_server(self) -> aio.Server | None:
        if self._settings.grpc_port is None:
            return None
        host = f"[{self._settings.host}]" if ":" in self._settings.host else self._settings.host
        return grpc_server(
            f"{host}:{self._settings.grpc_port}",
            self.dataplane,
            self._model.metrics,
            version=self._model.version,
            tokens=self._tokens,
            bodies=self._model.bodies,
            tracing=self._model.tracing,
        )

    def create_application(self) -> None:
        """Add our routes before KServe's, which would win otherwise, and our handlers after."""
        page.add_routes(app)
        super().create_application()
        app.add_exception_handler(ModelNotFound, _no_model)
        app.add_exception_handler(HTTPException, _unknown)
        app.add_exception_handler(Exception, _failure)
        app.openapi = lambda: openapi.document(self._model.genres)

    def _add_middlewares(self, app: Any) -> None:
        """Leave out KServe's, which measures what the metrics measure already."""


class _Server(uvicorn.Server):
    """Ends gRPC while it ends HTTP: one after the other would take twice as long."""

    def __init__(self, config: uvicorn.Config, grpc: aio.Server | None) -> None:
        super().__init__(config)
        self._grpc = grpc

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        ends = [super().shutdown(sockets)]
        if self._grpc:
            ends.append(self._grpc.stop(_GRACE_SECONDS))
        await asyncio.gather(*ends)


class _PosterDataPlane(DataPlane):
    def metadata(self) -> dict[str, Any]:
        """Name the extensions that this server has, not KServe's."""
        return super().metadata() | {"extensions": ["binary_tensor_data"]}

    async def model_metadata(self, model_name: str) -> dict[str, Any]:
        """Add what KServe leaves out: the bundle's version and what runs it."""
        document = await super().model_metadata(model_name)
        version = self.get_model_from_registry(model_name).version
        return document | {"platform": "marquee_onnx", "versions": [version]}


async def _no_model(request: Request, error: Exception) -> Response:
    return refusal(NotFound(str(error), remedy=f"use {MODEL_NAME}"))


async def _unknown(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException), "Starlette calls it for nothing else"
    reason = f"{error.detail}: see /openapi.json for what there is"
    return json_response({"error": reason}, error.status_code, error.headers)


async def _failure(request: Request, error: Exception) -> Response:
    return failure()
