"""OpenTelemetry traces: a span a request and one a stage, if the environment names a collector."""

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Self

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagate import extract
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind

from marquee.endpoint import MODEL_NAME

_COLLECTORS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_CLOSE_SECONDS = 2.0


class Tracing:
    """Sends spans to a collector, in the background; OpenTelemetry's variables say where and how.

    Args:
        model_version: The bundle's version, said with every span.
    """

    def __init__(self, model_version: str) -> None:
        name = os.environ.get("OTEL_SERVICE_NAME", MODEL_NAME)
        resource = Resource.create({"service.name": name, "marquee.model_version": model_version})
        self._provider = TracerProvider(resource=resource)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("marquee")

    @classmethod
    def configured(cls, model_version: str) -> Self | None:
        """Give tracing if the environment names a collector.

        Args:
            model_version: The bundle's version.
        """
        return cls(model_version) if any(map(os.environ.get, _COLLECTORS)) else None

    @contextmanager
    def request(self, method: str, path: str, headers: Mapping[str, str]) -> Iterator[Span]:
        """Span a request, as part of the client's trace if it names one.

        Args:
            method: Such as `POST`.
            path: The URL's path.
            headers: The request's headers, in lower case.

        Yields:
            The span; the caller adds `http.response.status_code`.
        """
        with self._tracer.start_as_current_span(
            f"{method} {path}",
            context=extract(headers),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": method, "url.path": path},
        ) as span:
            yield span

    def stage(self, name: str, start: float, end: float) -> None:
        """Span a stage of the current request that has ended.

        Args:
            name: Such as `decode`.
            start: When it began (`time.perf_counter`).
            end: When it ended.
        """
        since = time.time() - time.perf_counter()  # of the counter's zero
        span = self._tracer.start_span(name, start_time=int((since + start) * 1e9))
        span.end(int((since + end) * 1e9))

    def close(self) -> None:
        """Send what waits, and stop; a collector that does not answer is not waited for."""
        # OpenTelemetry would wait for 30 s, which is all the time that Kubernetes gives a pod.
        sending = threading.Thread(target=self._provider.shutdown, daemon=True)
        sending.start()
        sending.join(_CLOSE_SECONDS)
