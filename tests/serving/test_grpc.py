"""KServe's v2 protocol over gRPC."""

import re
import socket
import struct
import threading
import time

import grpc
import numpy as np
import pytest
import requests
from bundles import tiny_bundle
from helpers import encode, noise_poster
from servers import start_server

from marquee.engine import Engine
from marquee.images import preprocess
from marquee.processes import free_port
from serving.kserve_api import grpc_messages as messages

POSTERS = [encode(noise_poster(number, 60, 90)) for number in range(3)]


class Client:
    """Calls the server as a stub of KServe's would."""

    def __init__(self, address):
        from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

        self.channel = grpc.insecure_channel(address)
        self.stub = GRPCInferenceServiceStub(self.channel)

    def infer(self, request, **options):
        return self.stub.ModelInfer(request, timeout=30, **options)


def request(posters=POSTERS, raw=False, **changes):
    tensor = messages.ModelInferRequest.InferInputTensor(
        name="image", datatype="BYTES", shape=[len(posters)]
    )
    message = messages.ModelInferRequest(model_name="poster-genre", inputs=[tensor])
    if raw:
        elements = b"".join(struct.pack("<I", len(poster)) + poster for poster in posters)
        message.raw_input_contents.append(elements)
    else:
        message.inputs[0].contents.bytes_contents.extend(posters)
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def probabilities(response):
    tensor = next(output for output in response.outputs if output.name == "probabilities")
    if response.raw_output_contents:
        place = list(response.outputs).index(tensor)
        values = np.frombuffer(response.raw_output_contents[place], "<f4")
    else:
        values = np.array(tensor.contents.fp32_contents)
    return values.reshape(tensor.shape)


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("grpc")
    port = free_port()
    server = start_server(tiny_bundle(folder / "bundle"), folder / "log", "--grpc-port", port)
    yield f"127.0.0.1:{port}", server
    server.process.kill()
    server.process.wait()


@pytest.fixture
def client(address):
    return Client(address[0])


@pytest.mark.parametrize("raw", [False, True])
def test_it_agrees_with_the_engine(client, address, raw):
    bundle = address[1].bundle
    pixels = np.stack([preprocess(poster, bundle.info.preprocessing) for poster in POSTERS])
    response = client.infer(request(raw=raw))
    np.testing.assert_allclose(
        probabilities(response), Engine(bundle).probabilities(pixels), atol=1e-5
    )
    assert response.model_version == bundle.version
    assert len(response.parameters["prediction_ids"].string_param.split(",")) == 3


def test_it_tells_of_itself(client, address):
    assert client.stub.ServerLive(messages.ServerLiveRequest(), timeout=10).live
    assert client.stub.ServerReady(messages.ServerReadyRequest(), timeout=10).ready
    ready = client.stub.ModelReady(messages.ModelReadyRequest(name="poster-genre"), timeout=10)
    assert ready.ready
    document = client.stub.ModelMetadata(
        messages.ModelMetadataRequest(name="poster-genre"), timeout=10
    )
    assert list(document.versions) == [address[1].bundle.version]
    assert [tensor.name for tensor in document.inputs] == ["image", "year"]


BAD = {
    "no image": (request([b"nonsense"]), "INVALID_ARGUMENT", "instance 0: not an image"),
    "nothing": (request([]), "INVALID_ARGUMENT", "has shape [0] and 0 elements"),
    "another model": (request(model_name="vgg"), "NOT_FOUND", "no model vgg"),
    "another version": (request(model_version="1"), "NOT_FOUND", "no model poster-genre 1"),
    "too many": (request([b""] * 65), "INVALID_ARGUMENT", "has 65 posters: send at most 64"),
    "millions of elements": (
        messages.ModelInferRequest(
            model_name="poster-genre",
            inputs=request().inputs,
            raw_input_contents=[bytes(4_000_000)],
        ),
        "INVALID_ARGUMENT",
        "more than 1,000 elements",
    ),
    "too many inputs": (
        messages.ModelInferRequest(model_name="poster-genre", inputs=[*request().inputs] * 17),
        "INVALID_ARGUMENT",
        "17 inputs",
    ),
    "cut raw contents": (
        messages.ModelInferRequest(
            model_name="poster-genre",
            inputs=request().inputs,
            raw_input_contents=[b"\x05\x00\x00\x00ab"],
        ),
        "INVALID_ARGUMENT",
        "cut off",
    ),
    "raw contents of no input": (
        messages.ModelInferRequest(
            model_name="poster-genre", inputs=request().inputs, raw_input_contents=[b"", b""]
        ),
        "INVALID_ARGUMENT",
        "1 inputs have 2 raw contents",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_requests(client, name):
    message, code, reason = BAD[name]
    with pytest.raises(grpc.RpcError) as caught:
        client.infer(message)
    assert caught.value.code() == grpc.StatusCode[code]
    assert reason in caught.value.details()


OTHER = {
    "metadata of another model": (
        "ModelMetadata",
        messages.ModelMetadataRequest(name="vgg"),
        "NOT_FOUND",
    ),
    "readiness of another model": (
        "ModelReady",
        messages.ModelReadyRequest(name="vgg"),
        "NOT_FOUND",
    ),
    "readiness of another version": (
        "ModelReady",
        messages.ModelReadyRequest(name="poster-genre", version="1"),
        "NOT_FOUND",
    ),
    "load": (
        "RepositoryModelLoad",
        messages.RepositoryModelLoadRequest(model_name="poster-genre"),
        "INVALID_ARGUMENT",
    ),
    "unload": (
        "RepositoryModelUnload",
        messages.RepositoryModelUnloadRequest(model_name="poster-genre"),
        "INVALID_ARGUMENT",
    ),
}


@pytest.mark.parametrize("name", OTHER)
def test_what_it_does_not_do(client, address, name):
    method, message, code = OTHER[name]
    with pytest.raises(grpc.RpcError) as caught:
        getattr(client.stub, method)(message, timeout=10)
    assert caught.value.code() == grpc.StatusCode[code]
    assert ": use poster-genre" in caught.value.details() or "one bundle" in caught.value.details()
    assert "Traceback" not in address[1].log.read_text()


def test_the_version_that_is_served_may_be_named(client, address):
    version = address[1].bundle.version
    assert client.infer(request(model_version=version)).model_version == version


def test_it_ends_together_with_http(start, tmp_path):
    """One grace period after the other would be longer than Kubernetes waits."""
    port = free_port()
    server = start(tiny_bundle(tmp_path / "bundle"), "--grpc-port", port)
    client = Client(f"127.0.0.1:{port}")
    client.infer(request())
    host, http_port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(http_port)), timeout=30) as unfinished:
        unfinished.sendall(b"POST /v1/models/poster-genre:predict HTTP/1.1\r\nHost: a\r\n")
        unfinished.sendall(b"Content-Length: 1000\r\n\r\nhalf")
        time.sleep(0.2)
        server.process.terminate()
        time.sleep(1)
        assert server.process.poll() is None, "HTTP waits for what is in flight"
        with pytest.raises(grpc.RpcError) as caught:
            Client(f"127.0.0.1:{port}").infer(request())
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert server.process.wait(timeout=10) == 0


@pytest.fixture
def guarded(start, tmp_path):
    """A client of a server that asks for the token `secret`."""
    (tmp_path / "tokens").write_text("secret\n")
    port = free_port()
    server = start(
        tiny_bundle(tmp_path / "bundle"),
        *("--grpc-port", port, "--token-file", tmp_path / "tokens"),
    )
    client = Client(f"127.0.0.1:{port}")
    client.http = server.url
    return client


def test_it_asks_for_tokens(guarded):
    for metadata in ((), (("authorization", "Bearer wrong"),)):
        with pytest.raises(grpc.RpcError) as caught:
            guarded.infer(request(), metadata=metadata)
        assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
    counts = requests.get(f"{guarded.http}/metrics", timeout=10).text
    assert re.search(r'marquee_requests_total{endpoint="grpc".*outcome="unauthorized"} 2.0', counts)
    answer = guarded.infer(request(), metadata=(("authorization", "Bearer secret"),))
    assert probabilities(answer).shape == (3, 4)
    assert guarded.stub.ServerReady(messages.ServerReadyRequest(), timeout=10).ready


def test_a_call_is_traced_with_its_stages(start, tmp_path, collector):
    port = free_port()
    server = start(tiny_bundle(tmp_path / "bundle"), "--grpc-port", port)
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    metadata = (("traceparent", f"00-{trace_id}-b7ad6b7169203331-01"),)
    Client(f"127.0.0.1:{port}").infer(request(), metadata=metadata)
    assert server.stop() == 0
    spans = {span.name: span for span, _ in collector.spans}
    assert spans.keys() == {
        "gRPC /inference.GRPCInferenceService/ModelInfer",
        "decode",
        "predict",
    }
    assert {span.trace_id.hex() for span in spans.values()} == {trace_id}


def test_calls_without_a_token_keep_no_others_out(guarded):
    end = threading.Event()

    def never_sent():
        end.wait(30)
        yield from ()

    call = guarded.channel.stream_unary("/inference.GRPCInferenceService/ModelInfer")
    calls = [call.future(never_sent()) for _ in range(70)]
    try:
        for unfinished in calls:
            assert unfinished.code() == grpc.StatusCode.UNAUTHENTICATED
        answer = guarded.infer(request(), metadata=(("authorization", "Bearer secret"),))
        assert probabilities(answer).shape == (3, 4)
    finally:
        end.set()
