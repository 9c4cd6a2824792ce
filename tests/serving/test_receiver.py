"""The receiver of KServe's payload logger: what it joins, refuses and gives up."""

import base64
import dataclasses
import json
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pyarrow.parquet as pq
import pytest
import requests
from cloudevents.conversion import to_structured
from cloudevents.http import CloudEvent
from helpers import encode, noise_poster
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marquee.errors import DataError
from marquee.images import decode, measure
from serving.receiver import REQUEST, RESPONSE, Asked, Joiner, read_event

POSTER = encode(noise_poster(1, 120, 180))
NOW = datetime(2026, 1, 2, 3, 59, 59, tzinfo=UTC)


def instance(**fields):
    return {"image": {"b64": base64.b64encode(POSTER).decode()}, **fields}


def prediction(name="p", **changes):
    return {
        "prediction_id": name,
        "model_version": "f" * 64,
        "probabilities": {"Comedy": 0.25, "Science Fiction": 0.75},
        "genres": ["Science Fiction"],
        "unsure": False,
        "era": {"value": "digital", "source": "given"},
    } | changes


def event(kind, data, event_id="1", when=NOW, **changes):
    """The headers and body that KServe's agent posts, as its `pkg/logger/worker.go` builds them."""
    headers = {
        "Ce-Id": event_id,
        "Ce-Type": kind,
        "Ce-Specversion": "1.0",
        "Ce-Source": "poster-genre-predictor-7d9c",
        "Ce-Time": when.strftime("%Y-%m-%dT%H:%M:%S.%f123Z"),
        "Ce-Recordedtime": when.strftime("%Y-%m-%dT%H:%M:%S.%f456Z"),
        "Ce-Inferenceservicename": "poster-genre",
        "Ce-Namespace": "films",
        "Ce-Component": "predictor",
        "Ce-Endpoint": "",
        "Ce-Metadata": "{}",
        # Of the client's request, in both events.
        "Content-Type": "application/x-www-form-urlencoded",
    } | changes
    body = data if isinstance(data, bytes) else json.dumps(data).encode()
    return {name: value for name, value in headers.items() if value is not None}, body


def asked(*instances, **options):
    return event(REQUEST, {"instances": list(instances)}, **options)


def answered(*predictions, **options):
    return event(RESPONSE, {"predictions": list(predictions)}, **options)


def structured(headers, body):
    """The same event in CloudEvents' other form."""
    attributes = {name[3:].lower(): v for name, v in headers.items() if name.startswith("Ce-")}
    return to_structured(CloudEvent(attributes, json.loads(body)))


def read(headers, body):
    return read_event({name.lower(): value for name, value in headers.items()}, body)


PAIR = (asked(instance()), answered(prediction()))


@pytest.mark.parametrize("form", [lambda *event: event, structured])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_request_and_its_response_become_records_whichever_comes_first(order, form):
    pair = (
        asked(instance(film_id="tt1", client_id="web", year=1999), instance()),
        answered(prediction("a"), prediction("b"), when=NOW + timedelta(seconds=1.25)),
    )
    joiner = Joiner()
    first, second = (form(*pair[index]) for index in order)
    assert joiner.add(*read(*first)) == []
    records = joiner.add(*read(*second))
    attributes = dataclasses.asdict(measure(decode(POSTER)))
    assert [dataclasses.asdict(record) for record in records] == [
        {
            "prediction_id": name,
            "time": NOW + timedelta(seconds=1.25),
            "model_version": "f" * 64,
            "film_id": film_id,
            "client_id": client_id,
            "probabilities": {"Comedy": 0.25, "Science Fiction": 0.75},
            "genres": ["Science Fiction"],
            "unsure": False,
            "era": "digital",
            "era_source": "given",
            "width": 120,
            "height": 180,
            **attributes,
            "embedding": [],
            "latency_ms": 1250,
            "outcome": "ok",
        }
        for name, film_id, client_id in (("a", "tt1", "web"), ("b", None, None))
    ]
    assert joiner.waiting == 0


@pytest.mark.parametrize(
    "name", ["Ce-Id", "Ce-Source", "Ce-Namespace", "Ce-Inferenceservicename", "Ce-Component"]
)
def test_events_of_others_are_not_joined(name):
    joiner = Joiner()
    assert joiner.add(*read(*asked(instance()))) == []
    assert joiner.add(*read(*answered(prediction(), **{name: "another"}))) == []
    assert joiner.waiting == 2


def test_other_numbers_of_posters_are_not_joined():
    joiner = Joiner()
    joiner.add(*read(*asked(instance())))
    with pytest.raises(DataError, match="a request of 1 posters has 2 predictions"):
        joiner.add(*read(*answered(prediction("a"), prediction("b"))))
    assert joiner.waiting == 0


def test_a_clock_that_went_backwards_gives_no_negative_latency():
    joiner = Joiner()
    joiner.add(*read(*asked(instance(), when=NOW)))
    (record,) = joiner.add(*read(*answered(prediction(), when=NOW - timedelta(seconds=1))))
    assert record.latency_ms == 0


def test_a_half_that_waits_too_long_is_given_up_and_counted(caplog):
    now = 0.0
    joiner = Joiner(seconds=60, clock=lambda: now)
    joiner.add(*read(*asked(instance(), event_id="1")))
    joiner.add(*read(*answered(prediction(), event_id="2")))
    now = 50.0
    joiner.add(*read(*asked(instance(), event_id="3")))
    assert joiner.waiting == 3
    now = 61.0
    assert joiner.add(*read(*answered(prediction(), event_id="3"))) != []
    assert (joiner.waiting, joiner.unanswered.count, joiner.unasked.count) == (0, 1, 1)
    assert "1 requests without a response so far (none came in 60 s)" in caplog.text
    assert "1 responses without a request so far (none came in 60 s)" in caplog.text


def test_the_table_is_bounded_by_posters():
    joiner = Joiner(capacity=5)
    for number in range(4):
        joiner.add(*read(*asked(instance(), instance(), event_id=str(number))))
    assert (joiner.waiting, joiner.unanswered.count) == (4, 2)
    assert joiner.add(*read(*answered(prediction(), prediction(), event_id="3"))) != []
    joiner.close()
    assert (joiner.waiting, joiner.unanswered.count) == (0, 3)


def test_an_id_that_is_used_again_replaces_what_waits():
    joiner = Joiner()
    joiner.add(*read(*asked(instance(film_id="old"))))
    joiner.add(*read(*asked(instance(film_id="new"))))
    (record,) = joiner.add(*read(*answered(prediction())))
    assert (record.film_id, joiner.unanswered.count, joiner.waiting) == ("new", 1, 0)


def test_the_images_are_not_kept():
    _, half = read(*asked(instance()))
    assert isinstance(half, Asked)
    assert not any(isinstance(value, bytes) for value in vars(half.posters[0]).values())


DEEP = b"[" * 40_000
NO_JSON = b"\xff\xfe\x00"
BAD = {
    "no headers": ({}, b"{}", "no CloudEvent"),
    "no id": (*asked(instance(), **{"Ce-Id": None}), "no CloudEvent"),
    "another version": (*asked(instance(), **{"Ce-Specversion": "9"}), "cannot be read"),
    "another type": (*event("org.example", {}), "type is 'org.example'"),
    "no data": (*event(REQUEST, b""), "cannot be read"),
    "no JSON": (*event(REQUEST, NO_JSON), "cannot be read"),
    "deep JSON": (*event(REQUEST, DEEP), "cannot be read"),
    "deep JSON, structured": ({"Content-Type": "application/cloudevents+json"}, DEEP, "be read"),
    "structured list": ({"Content-Type": "application/cloudevents+json"}, b"[]", "be read"),
    "no time": (*asked(instance(), **{"Ce-Time": "yesterday"}), "time is 'yesterday'"),
    "no time zone": (*asked(instance(), **{"Ce-Time": "2026-01-02T03:04:05"}), "time is"),
    "the end of time": (*asked(instance(), **{"Ce-Time": "9999-12-31T23:59:59-23:00"}), "time is"),
    "long id": (*asked(instance(), event_id="x" * 1000), "id is 'xxx"),
    "long namespace": (*asked(instance(), **{"Ce-Namespace": "x" * 1000}), "namespace is"),
    "no instances": (*event(REQUEST, {"instances": []}), "no instances"),
    "v2": (*event(REQUEST, {"inputs": []}), "no instances"),
    "no image": (*asked({"year": 1999}), "instance 0: it has no image"),
    "empty image": (*asked(instance(), {"image": {"b64": ""}}), "instance 1"),
    "text for an image": (*asked({"image": {"b64": "aGVsbG8="}}), "instance 0: not an image"),
    "no predictions": (*event(RESPONSE, {"ready": True}), "no predictions"),
    "predictions of others": (*answered([1, 2]), "prediction 0 is not what Marquee"),
    "no genres": (*answered(prediction(genres=[])), "prediction 0 is not"),
    "genres of numbers": (*answered(prediction(genres=[1])), "prediction 0 is 1"),
    "wild probability": (*answered(prediction(probabilities={"a": 1.5})), "prediction 0 is not"),
    "NaN": (*answered(prediction(probabilities={"a": float("nan")})), "prediction 0 is not"),
    "odd text": (*answered(prediction("\ud800")), "prediction 0 is"),
    "odd genre": (*answered(prediction(), prediction(genres=["a\x00"])), "prediction 1 is"),
}


@pytest.mark.parametrize(("headers", "body", "reason"), BAD.values(), ids=BAD)
def test_bad_events(headers, body, reason):
    with pytest.raises(DataError) as error:
        read(headers, body)
    assert reason in str(error.value)
    assert error.value.remedy
    assert len(str(error.value)) < 1000


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
ATTRIBUTES = ["specversion", "id", "type", "source", "time", "data", "extensions", "data_base64"]
STRUCTURED = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(ATTRIBUTES, JSON)
    | {
        "specversion": st.sampled_from(["1.0", "0.3"]),
        "type": st.sampled_from([REQUEST, RESPONSE]),
        "data": JSON
        | st.fixed_dictionaries({"instances": JSON | st.lists(st.just(instance()) | JSON)})
        | st.fixed_dictionaries({"predictions": JSON | st.lists(st.just(prediction()) | JSON)}),
    },
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STRUCTURED)
def test_whatever_is_sent_is_read_or_refused(document):
    headers = {"content-type": "application/cloudevents+json"}
    try:
        key, half = read_event(headers, json.dumps(document).encode())
    except DataError:
        return
    assert len(key) == 6
    assert half.posters


class Receiver:
    def __init__(self, records, log):
        self.log = log
        with log.open("w") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "marquee", "receive", "--port", "0", "--records", records],
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
            )
        line = self.process.stdout.readline()
        assert " is ready at " in line, log.read_text()
        self.url = line.split(" is ready at ")[1].split(",")[0]

    def post(self, headers, body):
        return requests.post(self.url, data=body, headers=headers, timeout=30)

    def status(self):
        return requests.get(self.url, timeout=30).json()

    def stop(self):
        self.process.terminate()
        return self.process.wait(30)


@pytest.fixture(scope="module")
def receiver(tmp_path_factory):
    """A receiver that the tests share; whatever they send, it has to stay up."""
    folder = tmp_path_factory.mktemp("receiver")
    receiver = Receiver(str(folder / "records"), folder / "log")
    yield receiver
    receiver.process.kill()
    receiver.process.wait()


def rows(folder):
    files = sorted(folder.rglob("*.parquet"))
    tables = [pq.ParquetFile(file).read() for file in files]
    return [row for table in tables for row in table.to_pylist(maps_as_pydicts="strict")]


def test_bad_events_are_refused_with_a_reason(receiver):
    before = receiver.status()["events_refused"]
    for headers, body, reason in BAD.values():
        response = receiver.post(headers, body)
        assert response.status_code == 400
        assert reason in response.json()["error"]
    assert receiver.status()["events_refused"] == before + len(BAD)
    assert "events refused so far" in receiver.log.read_text()
    assert "Traceback" not in receiver.log.read_text()


def test_large_events_are_refused_while_they_arrive(receiver):
    headers, _ = PAIR[0]
    sent = 0

    def endless():
        nonlocal sent
        for _ in range(1000):
            sent += 1_000_000
            yield bytes(1_000_000)

    try:
        response = requests.post(receiver.url, data=endless(), headers=headers, timeout=30)
        assert response.status_code == 413
        assert "more than 48 MB" in response.json()["error"]
    except requests.ConnectionError:
        pass  # it hung up before all was sent
    assert sent < 200_000_000
    assert receiver.status()["posters_waiting"] == 0


def test_a_client_that_leaves_early_is_no_fault_of_ours(receiver):
    before = receiver.status()["events_refused"]
    host, port = receiver.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nhalf")
    deadline = time.monotonic() + 10
    while receiver.status()["events_refused"] == before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert receiver.status()["events_refused"] == before + 1
    assert "Traceback" not in receiver.log.read_text()


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_other_methods_are_refused(receiver, method):
    assert requests.request(method, receiver.url, timeout=30).status_code == 405


def post_at_once(receiver, events):
    """Post as KServe's agents do, with five workers."""
    with ThreadPoolExecutor(5) as workers:
        return [answer.status_code for answer in workers.map(lambda e: receiver.post(*e), events)]


def test_what_was_joined_is_written_at_the_end(tmp_path):
    receiver = Receiver(str(tmp_path / "records"), tmp_path / "log")
    for sent in (
        structured(*answered(prediction("b"), event_id="2", when=NOW + timedelta(hours=1))),
        asked(instance(film_id="tt1"), event_id="1"),
        asked(instance(), event_id="2"),
        answered(prediction("a"), event_id="1"),
        asked(instance(), event_id="3"),
    ):
        assert receiver.post(*sent).status_code == 200
    assert receiver.post(*event(REQUEST, b"nonsense")).status_code == 400
    assert receiver.status() == {
        "records_written": 0,
        "records_dropped": 0,
        "spooled_bytes": 0,
        "events_refused": 1,
        "posters_waiting": 1,
        "requests_without_response": 0,
        "responses_without_request": 0,
    }
    names = [f"many-{number}" for number in range(20)]
    questions = [asked(instance(film_id=name), event_id=name) for name in names]
    answers = [answered(prediction(name), event_id=name) for name in names]
    assert post_at_once(receiver, [*answers[:10], *questions, *answers[10:]]) == [200] * 40
    assert receiver.status()["posters_waiting"] == 1
    assert receiver.stop() == 0
    found = rows(tmp_path / "records")
    told = [(row["prediction_id"], row["film_id"]) for row in found]
    assert told[:2] == [("b", None), ("a", "tt1")]
    assert sorted(told[2:]) == sorted((name, name) for name in names)
    assert found[0]["embedding"] == []
    assert found[0]["latency_ms"] == 3_600_000
    assert "1 requests without a response so far (the receiver ends)" in receiver.log.read_text()


def test_the_endpoints_own_answers_are_understood(server):
    question = json.dumps({"instances": [instance(year=1985, film_id="tt0088763")]}).encode()
    response = server.predict(question)
    joiner = Joiner()
    joiner.add(*read(*event(REQUEST, question)))
    (record,) = joiner.add(*read(*event(RESPONSE, response.content)))
    (predicted,) = response.json()["predictions"]
    assert record.film_id == "tt0088763"
    assert {"value": record.era, "source": record.era_source} == predicted.pop("era")
    assert {name: getattr(record, name) for name in predicted} == predicted


def test_a_port_that_is_taken(receiver, tmp_path):
    port = receiver.url.rpartition(":")[2]
    command = [sys.executable, "-m", "marquee", "receive", "--port", port]
    result = subprocess.run(
        [*command, "--records", tmp_path / "records"], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 5
    assert "cannot listen on 127.0.0.1" in result.stderr
    assert "Traceback" not in result.stderr
