"""KServe's v2 protocol over gRPC, on the address we are told."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import grpc
from grpc import StatusCode, aio

from marquee.errors import DataError, InfrastructureError
from serving import v2
from serving.batching import Overloaded
from serving.kserve_api import (
    DataPlane,
    InferenceServicer,
    ModelNotFound,
    ModelRepositoryExtension,
    grpc_messages,
    register_servicer,
)
from serving.metrics import ServerMetrics
from serving.tokens import Tokens

_STATUS: tuple[tuple[type[Exception], StatusCode, str], ...] = (
    (Overloaded, StatusCode.UNAVAILABLE, "overloaded"),
    (DataError, StatusCode.INVALID_ARGUMENT, "refused"),
    (ModelNotFound, StatusCode.NOT_FOUND, "refused"),
)
logger = logging.getLogger(__name__)

_FAILED = "the server failed; its log says why"
_PROTECTED = ("ModelInfer", "RepositoryModelLoad", "RepositoryModelUnload")


def grpc_server(
    address: str,
    dataplane: DataPlane,
    models: ModelRepositoryExtension,
    metrics: ServerMetrics,
    *,
    tokens: Tokens | None,
    max_bytes: int,
) -> aio.Server:
    """Build the gRPC server; it has to be started on the event loop.

    Args:
        address: Host and port, such as `127.0.0.1:8081`.
        dataplane: Answers.
        models: Loads and unloads models, or refuses to.
        metrics: Counts requests.
        tokens: Who may use the model; anybody without it.
        max_bytes: The largest request.

    Returns:
        The server, listening.

    Raises:
        InfrastructureError: The address cannot be listened on.
    """
    server = aio.server(
        interceptors=[_Access(tokens)] if tokens else [],
        options=[("grpc.max_receive_message_length", max_bytes), ("grpc.so_reuseport", 0)],
    )
    register_servicer(_Servicer(dataplane, models, metrics), server)
    try:
        server.add_insecure_port(address)
    except RuntimeError as error:
        raise InfrastructureError(
            f"cannot listen on {address} for gRPC ({error})",
            remedy="stop what listens there, or give another --grpc-port",
        ) from error
    return server


class _Servicer(InferenceServicer):
    def __init__(
        self, dataplane: DataPlane, models: ModelRepositoryExtension, metrics: ServerMetrics
    ) -> None:
        super().__init__(dataplane, models)
        self._dataplane = dataplane
        self._metrics = metrics

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802 - KServe's name
        """Predict; KServe's own would decode raw images as UTF-8."""
        outcome = "ok"
        try:
            response, _ = await self._dataplane.infer(
                request.model_name, v2.read_grpc_request(request), {}
            )
            return response.to_grpc()
        except Exception as error:
            code, outcome = _code(error)
            if outcome == "failed":
                # grpc would tell the client what went wrong inside.
                logger.exception("a gRPC request failed")
            await context.abort(code, _FAILED if outcome == "failed" else str(error))
        finally:
            self._metrics.request("grpc", outcome)

    async def ModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Describe the model, its version among it, which KServe leaves out."""
        try:
            document = await self._dataplane.model_metadata(request.name)
        except ModelNotFound as error:
            await context.abort(StatusCode.NOT_FOUND, str(error))
        return grpc_messages.ModelMetadataResponse(**document)


def _code(error: Exception) -> tuple[StatusCode, str]:
    for kind, code, outcome in _STATUS:
        if isinstance(error, kind):
            return code, outcome
    return StatusCode.INTERNAL, "failed"


class _Access(aio.ServerInterceptor):
    """Lets calls of the model pass that bear a token."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        details: grpc.HandlerCallDetails,
    ) -> Any:
        given = dict(details.invocation_metadata).get("authorization")
        if not details.method.endswith(_PROTECTED) or self._tokens.allows(given):
            return await continuation(details)
        return grpc.unary_unary_rpc_method_handler(_unauthenticated)


async def _unauthenticated(request: Any, context: Any) -> NoReturn:
    await context.abort(
        StatusCode.UNAUTHENTICATED, "no valid access token: send authorization: Bearer TOKEN"
    )
    raise AssertionError("abort raises")
