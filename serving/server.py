"""KServe's model server with our model in it, on the address we are told."""

import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import Any

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from marquee.endpoint import MODEL_NAME
from marquee.errors import DataError, InfrastructureError
from serving import v2
from serving.kserve_api import (
    FASTAPI_APP_IMPORT_STRING,
    INFERENCE_CONTENT_LENGTH_HEADER,
    DataPlane,
    InvalidInput,
    ModelNotFound,
    ModelNotReady,
    ModelRepository,
    ModelRepositoryExtension,
    RESTServer,
    app,
)
from serving.prediction_log import PredictionLog
from serving.predictor import PosterGenreModel

_GRACE_SECONDS = 20
"""For requests in flight; leaves 10 of Kubernetes' 30 seconds for the records."""

_STATUS: dict[type[Exception], int] = {
    DataError: 400,
    InvalidInput: 400,
    ModelNotFound: 404,
    NotImplementedError: 501,
}


def serve(
    bundle_uri: str,
    host: str,
    port: int,
    records_uri: str | None,
    announce: Callable[[str], object],
) -> None:
    """Serve a bundle until SIGTERM or SIGINT; requests in flight are answered, records written.

    Args:
        bundle_uri: The bundle.
        host: The address to listen on.
        port: The port; 0 for any free one.
        records_uri: The folder of prediction records; none are kept without it.
        announce: Gets one line when the server is ready.

    Raises:
        DataError: The bundle is missing, damaged or changed.
        InfrastructureError: The address cannot be listened on.
    """
    # uvicorn finishes the requests in flight, then raises the signal anew: by default that would
    # end the process before the records are written.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
    with PredictionLog(records_uri) if records_uri else nullcontext() as records:
        model = PosterGenreModel(bundle_uri, records)
        model.load()
        with _listen(host, port) as listener:
            # Connections wait in the listener's backlog until the event loop runs.
            announce(_ready_line(model, listener))
            PosterServer(model).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        raise InfrastructureError(
            f"cannot listen on {host} port {port} ({error.strerror})",
            remedy="stop what listens there, or give another --port or --host",
        ) from error


def _ready_line(model: PosterGenreModel, listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    # Through a pipe: as an argument, a poster of 100 kB would be too long.
    image = "base64 < poster.jpg | tr -d '\\n'"
    body = f"""printf '{{"instances":[{{"image":{{"b64":"'; {image}; printf '"}}}}]}}'"""
    return (
        f"{MODEL_NAME} is ready at {url} (bundle {model.version[:12]}); "
        f"try: ({body}) | curl -s -d @- {url}/v1/models/{MODEL_NAME}:predict"
    )


class PosterServer(RESTServer):
    """KServe's REST server with one model, our v2 route and our answers to errors.

    Its `run` takes sockets; KServe's `ModelServer.start` does not, and always binds 0.0.0.0.

    Args:
        model: The loaded model.
    """

    def __init__(self, model: PosterGenreModel) -> None:
        models = ModelRepository()
        models.update(model)
        super().__init__(
            FASTAPI_APP_IMPORT_STRING,
            _PosterDataPlane(models),
            _FixedModels(models),
            http_port=0,
            grace_period=_GRACE_SECONDS,
        )
        # A quarter of the throughput goes into access logs, and a mesh or ingress writes them.
        self.config.access_log = False

    def create_application(self) -> None:
        """Add our routes before KServe's, which would win otherwise, and our handlers after."""
        app.add_api_route(
            "/v2/models/{model_name}/infer", self._infer, methods=["POST"], response_model=None
        )
        super().create_application()
        for error, status in _STATUS.items():
            app.add_exception_handler(error, _refusal(status))
        app.add_exception_handler(Exception, _server_error)

    async def _infer(self, model_name: str, request: Request) -> Response:
        headers = dict(request.headers)
        if not await self.dataplane.model_ready(model_name):
            raise ModelNotReady(model_name)
        infer_request = v2.read_request(
            await request.body(), headers.get(INFERENCE_CONTENT_LENGTH_HEADER), model_name
        )
        response, _ = await self.dataplane.infer(model_name, infer_request, headers)
        body, extra = self.dataplane.encode(model_name, response, {}, {})
        if isinstance(body, bytes):
            return Response(body, headers=extra, media_type="application/octet-stream")
        return JSONResponse(body)


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


def _refusal(status: int) -> Callable[[Request, Exception], Awaitable[Response]]:
    """Answer with the reason; KServe would also log a traceback for every bad request."""

    async def handle(request: Request, error: Exception) -> Response:
        return JSONResponse({"error": str(error)}, status)

    return handle


async def _server_error(request: Request, error: Exception) -> Response:
    """Keep the reason to ourselves; uvicorn logs the traceback."""
    return JSONResponse({"error": "the server failed; its log says why"}, 500)
