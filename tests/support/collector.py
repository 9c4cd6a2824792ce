"""An OpenTelemetry collector that keeps what it is sent."""

import http.server
import threading
from contextlib import contextmanager

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Collector(http.server.HTTPServer):
    """Takes spans, each with what is said of the service that sent it."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.spans = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        message = ExportTraceServiceRequest()
        message.ParseFromString(self.rfile.read(int(self.headers["Content-Length"])))
        for resource in message.resource_spans:
            names = {item.key: item.value.string_value for item in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.server.spans.extend((span, names) for span in scope.spans)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments):
        pass


@contextmanager
def collecting():
    """Run a collector."""
    collector = Collector()
    threading.Thread(target=collector.serve_forever, daemon=True).start()
    try:
        yield collector
    finally:
        collector.shutdown()
