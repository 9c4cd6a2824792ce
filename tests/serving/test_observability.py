"""What a server lets its operators see: metrics, access log, traces."""

import base64
import json
import socket
import time

import pytest
from bundles import tiny_bundle
from helpers import encode, noise_poster
from prometheus_client.parser import text_string_to_metric_families

from serving.gate import AccessLog

POSTER = base64.b64encode(encode(noise_poster(1, 60, 90))).decode()
BODY = json.dumps({"instances": [{"image": {"b64": POSTER}}] * 3})


def samples(server):
    """All values by name and labels."""
    families = text_string_to_metric_families(server.get("/metrics").text)
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


@pytest.fixture
def server(start, tmp_path):
    return start(tiny_bundle(tmp_path / "bundle"), "--records", tmp_path / "records")


def test_requests_are_counted_by_outcome_and_version(server):
    server.predict(BODY)
    server.predict(BODY)
    server.predict("nonsense")
    server.infer("nonsense")
    found = samples(server)
    version = ("model_version", server.bundle.version)

    def count(endpoint, outcome):
        labels = (("endpoint", endpoint), version, ("outcome", outcome))
        return found[("marquee_requests_total", *labels)]

    assert count("predict", "ok") == 2
    assert count("predict", "refused") == 1
    assert count("infer", "refused") == 1


def test_what_has_not_happened_yet_counts_zero(server):
    found = {key: value for key, value in samples(server).items() if "marquee_requests" in key[0]}
    labels = [dict(key[1:]) for key in found]
    assert {(one["endpoint"], one["outcome"]) for one in labels} == {
        (endpoint, outcome)
        for endpoint in ("predict", "explain", "infer", "grpc")
        for outcome in ("ok", "refused", "unauthorized", "overloaded", "left", "failed")
    }
    assert set(found.values()) == {0}


def test_stages_batches_and_probabilities_are_counted(server):
    predictions = server.predict(BODY).json()["predictions"]
    found = samples(server)
    for stage, count in {"decode": 1, "queue": 3, "infer": 1, "log": 1}.items():
        assert found[("marquee_stage_seconds_count", ("stage", stage))] == count
        assert found[("marquee_stage_seconds_sum", ("stage", stage))] > 0
    assert found[("marquee_batch_posters_sum",)] == 3
    assert found[("marquee_queue_posters",)] == 0
    for genre, probability in predictions[0]["probabilities"].items():
        name = ("genre", genre)
        assert found[("marquee_probability_count", name)] == 3
        assert found[("marquee_probability_sum", name)] == pytest.approx(3 * probability, abs=1e-4)
        below = [
            value
            for (metric, *labels), value in found.items()
            if metric == "marquee_probability_bucket"
            and name in labels
            and float(dict(labels)["le"]) < probability
        ]
        assert max(below, default=0) == 0
    info = {key for key in found if key[0] == "marquee_build_info"}
    (labels,) = (dict(key[1:]) for key in info)
    assert labels["model_version"] == server.bundle.version
    assert labels["precision"] == "fp32"


def test_what_the_log_did_is_counted(server):
    assert samples(server)[("marquee_prediction_log_records_total", ("outcome", "dropped"))] == 0
    assert ("marquee_prediction_log_spooled_bytes",) in samples(server)


def lines_of(text):
    return [json.loads(line[line.index("{") :]) for line in text.splitlines() if '"status"' in line]


def test_the_access_log_is_json(server):
    server.predict(BODY)
    server.infer("nonsense")
    assert server.stop() == 0
    first, second = lines_of(server.log.read_text())
    assert first.keys() == {"method", "path", "status", "ms", "client"}
    assert (first["path"], first["status"]) == ("/v1/models/poster-genre:predict", 200)
    assert (second["path"], second["status"]) == ("/v2/models/poster-genre/infer", 400)


def test_the_access_log_thins_out(caplog, monkeypatch):
    now = 1000.0
    monkeypatch.setattr("serving.gate.time.monotonic", lambda: now)
    caplog.set_level("INFO", "serving.gate")
    log = AccessLog()
    scope = {"method": "POST", "path": "/v1/models/poster-genre:predict", "client": ("::1", 5)}
    for _ in range(50):
        log.note(scope, 200, 0.01)
    now = 1001.0
    for _ in range(2):
        log.note(scope, 503, 0.01)
    lines = [json.loads(record.message) for record in caplog.records]
    assert [line["status"] for line in lines] == [200] * 20 + [503] * 2
    assert [line.get("skipped") for line in lines] == [None] * 20 + [30, None]


def test_a_client_that_leaves_is_no_failure(server):
    host, port = server.url.removeprefix("http://").split(":")
    head = f"POST /v1/models/poster-genre:predict HTTP/1.1\r\nHost: {host}\r\n"
    with socket.create_connection((host, int(port)), timeout=5) as client:
        client.sendall(head.encode() + b"Content-Length: 1000\r\n\r\nhalf")
    labels = (("endpoint", "predict"), ("model_version", server.bundle.version))
    name = ("marquee_requests_total", *labels, ("outcome", "left"))
    deadline = time.monotonic() + 10
    while name not in samples(server) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert samples(server)[name] == 1


def test_traces_go_where_the_environment_says(start, tmp_path, collector):
    server = start(tiny_bundle(tmp_path / "bundle"), "--records", tmp_path / "records")
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    server.predict(BODY, traceparent=f"00-{trace_id}-b7ad6b7169203331-01")
    assert server.stop() == 0
    spans = {span.name: span for span, _ in collector.spans}
    assert spans.keys() == {
        "POST /v1/models/poster-genre:predict",
        "decode",
        "predict",
        "log",
    }
    assert {span.trace_id.hex() for span in spans.values()} == {trace_id}
    request = spans["POST /v1/models/poster-genre:predict"]
    assert spans["decode"].parent_span_id == request.span_id
    attributes = {item.key: item.value for item in request.attributes}
    assert attributes["http.response.status_code"].int_value == 200
    assert collector.spans[0][1]["service.name"] == "poster-genre"
    assert collector.spans[0][1]["marquee.model_version"] == server.bundle.version


def test_a_collector_that_does_not_answer_delays_the_end_little(start, tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        server = start(tiny_bundle(tmp_path / "bundle"), "--records", tmp_path / "records")
        assert server.predict(BODY).status_code == 200
        server.process.terminate()
        # OpenTelemetry's own patience is 10 s a request and 30 s in all.
        assert server.process.wait(timeout=8) == 0
    assert list((tmp_path / "records").rglob("*.parquet"))
