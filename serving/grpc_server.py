"""KServe's v2 protocol over gRPC, on the address we are told."""

import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NoReturn

import grpc
from grpc import StatusCode, aio

from marquee.endpoint import MODEL_NAME
from marquee.errors import DataError, InfrastructureError
from serving import v2
from serving.bodies import Bodies
from serving.kserve_api import (
    DataPlane,
    InferenceServicer,
    grpc_messages,
    register_servicer,
)
from serving.metrics import ServerMetrics
from serving.refusals import CLIENT_LEFT, FAILED, UNAUTHORIZED, NotFound, outcome, status_of
from serving.tokens import Tokens
from serving.tracing import Tracing

logger = logging.getLogger(__name__)

_INFER = "ModelInfer"
_PROTECTED = (_INFER, "RepositoryModelLoad", "RepositoryModelUnload")
_CODES = {
    400: StatusCode.INVALID_ARGUMENT,
    404: StatusCode.NOT_FOUND,
    503: StatusCode.UNAVAILABLE,
}
_MOST_CALLS = 64
"""At a time; further ones are RESOURCE_EXHAUSTED before their message is read."""


def grpc_server(
    address: str,
    dataplane: DataPlane,
    metrics: ServerMetrics,
    *,
    version: str,
    tokens: Tokens | None,
    bodies: Bodies,
    tracing: Tracing | None,
) -> aio.Server:
    """Build the gRPC server; it has to be started on the event loop.

    Args:
        address: Host and port, such as `127.0.0.1:8081`.
        dataplane: Answers.
        metrics: Counts requests.
        version: The model's.
        tokens: Who may use the model; anybody without it.
        bodies: Bounds what is held of requests.
        tracing: Traces calls, if that is asked for.

    Returns:
        The server, listening.

    Raises:
        InfrastructureError: The address cannot be listened on.
    """
    server = aio.server(
        interceptors=[*([_Access(tokens, metrics)] if tokens else []), _Answers(metrics, tracing)],
        options=[("grpc.max_receive_message_length", bodies.max_bytes), ("grpc.so_reuseport", 0)],
        maximum_concurrent_rpcs=_MOST_CALLS,
    )
    register_servicer(_Servicer(dataplane, version, bodies), server)
    try:
        server.add_insecure_port(address)
    except RuntimeError as error:
        raise InfrastructureError(
            f"cannot listen on {address} for gRPC ({error})",
            remedy="stop what listens there, or give another --grpc-port",
        ) from error
    return server


class _Servicer(InferenceServicer):
    def __init__(self, dataplane: DataPlane, version: str, bodies: Bodies) -> None:
        super().__init__(dataplane, None)
        self._version = version
        self._bodies = bodies

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802 - KServe's name
        """Predict; KServe's own would decode raw images as UTF-8."""
        self._check_name(request.model_name, request.model_version)
        with self._bodies.hold(request.ByteSize()):
            response, _ = await self._data_plane.infer(
                request.model_name, v2.read_grpc_request(request), {}
            )
        return response.to_grpc()

    async def ModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Describe the model, its version among it, which KServe leaves out."""
        self._check_name(request.name, request.version)
        document = await self._data_plane.model_metadata(request.name)
        return grpc_messages.ModelMetadataResponse(**document)

    async def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Tell whether the model of this version is ready; KServe ignores the version."""
        self._check_name(request.name, request.version)
        return await super().ModelReady(request, context)

    async def RepositoryModelLoad(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Refuse: any client could take the model away with one request."""
        raise _fixed()

    async def RepositoryModelUnload(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Refuse: any client could take the model away with one request."""
        raise _fixed()

    def _check_name(self, name: str, version: str) -> None:
        if name != MODEL_NAME or version not in ("", self._version):
            raise NotFound(
                f"no model {name[:100]} {version[:64]}",
                remedy=f"use {MODEL_NAME}, and no version or {self._version}",
            )


def _fixed() -> DataError:
    return DataError("this server serves one bundle", remedy="start another server for another")


Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler | None]]


class _Answers(aio.ServerInterceptor):
    """Answers what a call raises, and counts predictions by how they ended."""

    def __init__(self, metrics: ServerMetrics, tracing: Tracing | None) -> None:
        self._metrics = metrics
        self._tracing = tracing

    def _span(self, details: grpc.HandlerCallDetails) -> AbstractContextManager[Any]:
        if self._tracing is None or not details.method.endswith(_INFER):
            return nullcontext()
        return self._tracing.request("gRPC", details.method, dict(details.invocation_metadata))

    async def intercept_service(
        self, continuation: Continuation, details: grpc.HandlerCallDetails
    ) -> Any:
        handler = await continuation(details)
        if handler is None:
            return None
        call, is_counted = handler.unary_unary, details.method.endswith(_INFER)

        async def answer(request: Any, context: Any) -> Any:
            status = CLIENT_LEFT  # unless it ends
            try:
                with self._span(details):
                    response = await call(request, context)
                status = 200
                return response
            except Exception as error:
                status = status_of(error)
                if status in _CODES:
                    await context.abort(_CODES[status], str(error))
                logger.exception("a gRPC request failed")
                # grpc would tell the client what went wrong inside.
                await context.abort(StatusCode.INTERNAL, FAILED)
            finally:
                if is_counted:
                    self._metrics.request("grpc", outcome(status))

        return grpc.unary_unary_rpc_method_handler(
            answer, handler.request_deserializer, handler.response_serializer
        )


class _Access(aio.ServerInterceptor):
    """Lets calls of the model pass that bear a token."""

    def __init__(self, tokens: Tokens, metrics: ServerMetrics) -> None:
        self._tokens = tokens
        self._metrics = metrics

    async def intercept_service(
        self, continuation: Continuation, details: grpc.HandlerCallDetails
    ) -> Any:
        given = dict(details.invocation_metadata).get("authorization")
        if not details.method.endswith(_PROTECTED) or self._tokens.allows(given):
            return await continuation(details)
        if details.method.endswith(_INFER):
            self._metrics.request("grpc", outcome(401))
        # Not unary: that would wait for the message, and hold one of the calls that there may be.
        return grpc.stream_unary_rpc_method_handler(_unauthenticated)


async def _unauthenticated(messages: Any, context: Any) -> NoReturn:
    await context.abort(StatusCode.UNAUTHENTICATED, UNAUTHORIZED)
    raise AssertionError("abort raises")
