"""How a server starts, refuses to start, fails, and ends."""

import base64
import dataclasses
import json
import signal
import socket
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
import pyarrow.parquet as pq
import pytest
from bundles import tiny_bundle
from helpers import encode, noise_poster
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from servers import command

from marquee.bundle import MODEL_FILE, Bundle, seal
from marquee.errors import InfrastructureError
from marquee.images import decode, measure
from serving.listener import listen

POSTER = encode(noise_poster(1, 120, 180))


def body(count=1, **fields):
    image = {"b64": base64.b64encode(POSTER).decode()}
    return json.dumps({"instances": [{"image": image, **fields}] * count}).encode()


def post_slowly(server, content, between):
    """Send a request in two halves; call `between` amid them; read until the server hangs up."""
    host, port = server.url.removeprefix("http://").split(":")
    head = f"POST /v1/models/poster-genre:predict HTTP/1.1\r\nHost: {host}\r\n"
    head += f"Content-Length: {len(content)}\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=30) as client:
        client.sendall(head.encode() + content[:1000])
        time.sleep(0.3)
        between()
        time.sleep(0.3)
        client.sendall(content[1000:])
        return b"".join(iter(lambda: client.recv(1 << 16), b""))


def test_sigterm_lets_requests_finish_and_writes_the_records(start, tmp_path):
    bundle = tiny_bundle(tmp_path / "bundle")
    server = start(bundle, "--records", tmp_path / "records")
    began = datetime.now(UTC)
    asked = {"year": 1985, "film_id": "tt0088763", "client_id": "web"}
    (first,) = server.predict(body(**asked)).json()["predictions"]
    assert server.predict(b"nonsense").status_code == 400
    answer = post_slowly(server, body(2), between=server.process.terminate)
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert server.process.wait(timeout=30) == 0

    (file,) = (tmp_path / "records").rglob("*.parquet")
    assert file.parent.parent.name == f"date={began:%Y-%m-%d}"
    rows = pq.ParquetFile(file).read().to_pylist(maps_as_pydicts="strict")
    assert all(row["prediction_id"].encode() in answer for row in rows[1:])
    assert [(row["film_id"], row["era"], row["era_source"]) for row in rows] == [
        ("tt0088763", "painted_blockbuster", "given"),
        (None, "unknown", "none"),
        (None, "unknown", "none"),
    ]
    row = rows[0]
    assert began <= row.pop("time") <= datetime.now(UTC)
    assert 0 < row.pop("latency_ms") < 10_000
    assert len(row.pop("embedding")) == 64
    assert row.pop("probabilities") == pytest.approx(first["probabilities"], abs=1e-6)
    attributes = dataclasses.asdict(measure(decode(POSTER)))
    assert {name: row.pop(name) for name in attributes} == pytest.approx(attributes, abs=1e-6)
    assert row == {
        "prediction_id": first["prediction_id"],
        "model_version": bundle.version,
        "film_id": "tt0088763",
        "client_id": "web",
        "genres": first["genres"],
        "unsure": first["unsure"],
        "era": "painted_blockbuster",
        "era_source": "given",
        "width": 120,
        "height": 180,
        "outcome": "ok",
    }


def bundle_that_fails_on_white(folder):
    """A bundle whose model fails when a poster has a white cell; OpenVINO's would answer."""
    bundle = tiny_bundle(folder, engine="onnxruntime")
    model = onnx.load(folder / MODEL_FILE)
    (logits,) = (node for node in model.graph.node if node.output == ["logits"])
    logits.output[0] = "plain logits"
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(1, "f4"), "zero"))
    model.graph.node.extend(
        [
            helper.make_node("ReduceMax", ["scaled"], ["brightest"], keepdims=0),
            helper.make_node("Cast", ["brightest"], ["index"], to=TensorProto.INT64),
            helper.make_node("Gather", ["zero", "index"], ["nothing"]),
            helper.make_node("Add", ["plain logits", "nothing"], ["logits"]),
        ]
    )
    onnx.save(model, folder / MODEL_FILE)
    seal(folder, bundle.info)
    return Bundle(folder, bundle.info)


def test_a_failure_of_ours_is_logged_and_not_told(start, tmp_path):
    server = start(bundle_that_fails_on_white(tmp_path / "bundle"))
    white = base64.b64encode(encode(Image.new("RGB", (60, 90), "white"))).decode()
    response = server.predict(json.dumps({"instances": [{"image": {"b64": white}}]}))
    assert response.status_code == 500
    assert response.json() == {"error": "the server failed; its log says why"}
    assert server.predict(body()).status_code == 200
    assert server.stop() == 0
    log = server.log.read_text()
    assert log.count("Traceback") == 1
    assert "indices element out of data bounds" in log


def test_sigterm_while_it_starts(tmp_path):
    """As process 1 of a container, it would not notice a signal that it has no handler for."""
    bundle = tiny_bundle(tmp_path / "bundle")
    process = subprocess.Popen(command(bundle.folder, "--port", 0), stdout=subprocess.PIPE)
    status = Path(f"/proc/{process.pid}/status")
    while not int(status.read_text().split("SigCgt:")[1].split()[0], 16) >> signal.SIGTERM - 1 & 1:
        time.sleep(0.01)
    process.terminate()
    assert process.wait(timeout=30) == 0
    assert process.stdout.read() == b"", "it was ready already: its handlers come too late"


def test_a_port_that_is_taken(server, refused):
    status, text = refused(server.bundle.folder, "--port", server.url.rpartition(":")[2])
    assert status == 5
    assert "cannot listen on 127.0.0.1" in text
    assert "Address already in use" in text
    assert "Traceback" not in text


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host"])
def test_a_host_that_is_not_ours(host):
    with pytest.raises(InfrastructureError, match=f"cannot listen on {host}"):
        listen(host, 0)


def test_a_tampered_bundle(refused, tmp_path):
    bundle = tiny_bundle(tmp_path / "bundle")
    model = bundle.folder / MODEL_FILE
    model.write_bytes(model.read_bytes() + b"\0")
    status, text = refused(bundle.folder)
    assert status == 2
    assert "model.onnx was changed after the bundle was sealed" in text.replace("\n", " ")
    assert "Traceback" not in text


def test_it_listens_where_it_is_told(server):
    port = int(server.url.rpartition(":")[2])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port), timeout=5)
