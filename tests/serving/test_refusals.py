"""Requests that cannot be answered: each gets a reason, and the server stays up."""

import base64
import json
import struct
import zlib

import pytest
import requests
from helpers import encode, noise_poster
from PIL import Image

GOOD = encode(noise_poster(1, 120, 180))


def b64(data):
    return base64.b64encode(data).decode()


def bomb(side=20_000):
    """A PNG of a kilobyte that says it has 400 million pixels."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + header
        + chunk(b"IDAT", zlib.compress(bytes(side)))
        + chunk(b"IEND", b"")
    )


def large():
    """A JPEG of nearly as many pixels as an image may have, and of few bytes."""
    return encode(Image.new("L", (7_000, 7_000)), quality=10)


IMAGES = {
    "corrupt jpeg": (GOOD[: len(GOOD) // 2], "damaged"),
    "html named jpg": (b"<!DOCTYPE html><html></html>", "an HTML page"),
    "gif": (encode(noise_poster(1), "GIF"), "a GIF image"),
    "empty": (b"", "an empty file"),
    "bomb": (bomb(), "too large"),
    "tracking pixel": (encode(noise_poster(1, 1, 1), "PNG"), "1 x 1 px"),
    "random bytes": (bytes(range(256)), "unknown data"),
}


def instance(**fields):
    return {"image": {"b64": b64(GOOD)}} | fields


def instances(*items):
    return json.dumps({"instances": list(items)})


V1 = {
    "invalid json": ('{"instances": [', "unexpected end of data"),
    "empty body": ("", "the body is no JSON"),
    "not utf-8": (b'{"instances": ["\xff"]}', "the body is no JSON"),
    "deep nesting": ("[" * 40_000, "the body is no JSON"),
    "a list": ("[1]", "no instances"),
    "a number": ("5", "no instances"),
    "null": ("null", "no instances"),
    "no instances": ("{}", "no instances"),
    "empty instances": (instances(), "no instances"),
    "instances is an object": ('{"instances": {}}', "instances"),
    "an instance is text": (instances(instance(), "poster.jpg"), "instance 1: it is no object"),
    "no image": (instances(instance(), {"year": 1999}), "instance 1: it has no image"),
    "image is text": (instances({"image": "abc"}), "instance 0: it has no image"),
    "b64 is a number": (instances({"image": {"b64": 5}}), "instance 0: it has no image"),
    "invalid base64": (instances({"image": {"b64": "a$c"}}), "instance 0: its image is not base64"),
    "base64 of non-ascii": (instances({"image": {"b64": "ü"}}), "instance 0: its image is not"),
    "year too early": (instances(instance(year=1492)), "instance 0: 1492 is no release year"),
    "year too late": (instances(instance(year=2101)), "2101 is no release year"),
    "year is text": (instances(instance(year="1999")), "'1999' is no release year"),
    "year is true": (instances(instance(year=True)), "True is no release year"),
    "year is a fraction": (instances(instance(year=1999.5)), "1999.5 is no release year"),
    "year is huge": (instances(instance(year=10**30)), "release year"),
    "unknown field": (
        instances(instance(), instance(yaer=1999)),
        "instance 1: unknown field 'yaer'",
    ),
    "too many genres": (instances(instance(genres=["Horror"] * 101)), "instance 0: genres is ["),
    "title is a list": (instances(instance(title=["Alien"])), "instance 0: title is ['Alien']"),
    "film_id is a number": (instances(instance(film_id=348)), "instance 0: film_id is 348"),
    "a long title": (instances(instance(title="x" * 301)), "title has 301 characters: use 300"),
    "a url": (
        instances({"image": {"url": "https://a.org/p.jpg"}}),
        "instance 0: this server fetch",
    ),
    "too many": (instances(*[instance()] * 65), "has 65 posters: send at most 64"),
    "millions of values": ('{"instances": [' + "{}," * 50_000 + "{}]}", "50,000 values"),
    "together too large": (instances(*[{"image": {"b64": b64(large())}}] * 5), "px in all"),
}


def tensor(**changes):
    return {"name": "image", "datatype": "BYTES", "shape": [2], "data": [b64(GOOD)] * 2} | changes


def inputs(*tensors, **changes):
    return json.dumps({"inputs": list(tensors)} | changes)


def years(*values, **changes):
    return {"name": "year", "datatype": "INT64", "shape": [len(values)], "data": values} | changes


V2 = {
    "invalid json": ('{"inputs": [', "Invalid JSON"),
    "empty body": ("", "Invalid JSON"),
    "not utf-8": (b'{"inputs": ["\xff"]}', "Invalid JSON"),
    "deep nesting": ("[" * 40_000, "Invalid JSON"),
    "a list": ("[1]", "malformed at the body"),
    "no inputs": ("{}", "malformed at inputs"),
    "empty inputs": (inputs(), "no input 'image'"),
    "inputs is text": ('{"inputs": "image"}', "malformed at inputs"),
    "an input is text": (inputs("image"), "malformed at inputs.0"),
    "no shape": ('{"inputs": [{"name": "image", "datatype": "BYTES"}]}', "inputs.0.shape"),
    "parameters are a list": (inputs(tensor(parameters=[])), "inputs.0.parameters"),
    "a shape of many": (inputs(tensor(shape=["x"] * 17)), "inputs.0.shape: List should"),
    "id is a number": (inputs(tensor(), id=5), "malformed at id"),
    "unknown input": (inputs(tensor(), tensor(name="poster")), "unknown input 'poster'"),
    "unknown output": (inputs(tensor(), outputs=[{"name": "maps"}]), "unknown output 'maps'"),
    "only years": (inputs(years(1999)), "no input 'image'"),
    "wrong datatype": (inputs(tensor(datatype="FP32")), "has datatype 'FP32': send BYTES"),
    "half precision": (inputs(tensor(datatype="FP16")), "FP16"),
    "wrong year datatype": (inputs(tensor(), years(1, 2, datatype="FP32")), "send INT64"),
    "shape mismatch": (inputs(tensor(shape=[3])), "has shape [3] and 2 elements"),
    "shape of rank 2": (inputs(tensor(shape=[2, 1])), "has shape [2, 1] and 2 elements"),
    "negative shape": (inputs(tensor(shape=[-1])), "has shape [-1]"),
    "no data": (inputs(tensor(shape=[0], data=[])), "has shape [0] and 0 elements"),
    "too few years": (inputs(tensor(), years(1999)), "2 images have 1 years"),
    "bad year": (inputs(tensor(), years(-1, 1492)), "instance 1: 1492 is no release year"),
    "year is text": (inputs(tensor(), years(-1, "1999")), "instance 1: '1999' is no release year"),
    "image is a number": (inputs(tensor(data=[b64(GOOD), 5])), "instance 1: its image is no text"),
    "invalid base64": (inputs(tensor(data=[b64(GOOD), "a$c"])), "instance 1: its image is not"),
    "too many": (inputs(tensor(shape=[65], data=[""] * 65)), "has 65 posters: send at most 64"),
    "far too many": (inputs(tensor(shape=[1001], data=[""] * 1001)), "inputs.0.data: List should"),
    "millions of values": (inputs(tensor(data=[""] * 50_001)), "50,000 values"),
    "too many inputs": (inputs(*[tensor()] * 17), "at inputs: List should have at most 16"),
    "too many outputs": (inputs(tensor(), outputs=[{"name": "a"}] * 17), "at outputs"),
}


def raw(size, data=b"", name="image", datatype="BYTES"):
    parameters = {"binary_data_size": size}
    document = {"name": name, "datatype": datatype, "shape": [1], "parameters": parameters}
    text = json.dumps({"inputs": [document]}).encode()
    return text + data, str(len(text))


V2_BINARY = {
    "header is text": (raw(0)[0], "many", "the JSON length is 'many'"),
    "header is negative": (raw(0)[0], "-5", "the JSON length is '-5'"),
    "header beyond the body": (raw(0)[0], "100000", "the JSON length is '100000'"),
    "header of thousands of digits": (raw(0)[0], "9" * 5_000, "the JSON length is '9999"),
    "header within the json": (raw(0)[0], "10", "Invalid JSON"),
    "size is text": (*raw("5", b"12345"), "binary_data_size '5'"),
    "size is negative": (*raw(-1), "binary_data_size -1"),
    "size beyond the body": (*raw(50, b"12345"), "binary_data_size 50, 5 bytes are left"),
    "bytes of no input": (*raw(0, b"12345"), "5 bytes after the JSON belong to no input"),
    "millions of elements": (*raw(4_000_000, bytes(4_000_000)), "more than 1,000 elements"),
    "millions of years": (
        *raw(8_000_000, bytes(8_000_000), "year", "INT64"),
        "more than 1,000 elements",
    ),
    "cut in a length": (*raw(3, b"123"), "cut off"),
    "cut in an element": (*raw(8, struct.pack("<I", 99) + b"1234"), "cut off"),
    "cut in a number": (*raw(5, b"12345", "year", "INT64"), "cut off"),
    "not raw bytes of a poster": (
        *raw(7, struct.pack("<I", 3) + b"abc"),
        "instance 0: not an image",
    ),
}


@pytest.fixture(autouse=True)
def _stays_up(server):
    yield
    assert server.predict(instances(instance())).status_code == 200
    assert "Traceback" not in server.log.read_text()


def _assert_refused(response, reason, status=400):
    assert response.status_code == status, response.text
    document = response.json()
    assert list(document) == ["error"]
    assert reason in document["error"]


@pytest.mark.parametrize("name", IMAGES)
def test_one_bad_image_refuses_the_request_and_is_named(server, name):
    image, reason = IMAGES[name]
    body = instances(instance(), {"image": {"b64": b64(image)}}, instance())
    response = server.predict(body)
    _assert_refused(response, reason)
    assert response.json()["error"].startswith("instance 1: ")
    response = server.infer(inputs(tensor(data=[b64(GOOD), b64(image)])))
    _assert_refused(response, reason)
    assert response.json()["error"].startswith("instance 1: ")


@pytest.mark.parametrize("name", V1)
def test_bad_v1_requests(server, name):
    body, reason = V1[name]
    _assert_refused(server.predict(body), reason)


@pytest.mark.parametrize("name", V2)
def test_bad_v2_requests(server, name):
    body, reason = V2[name]
    _assert_refused(server.infer(body), reason)


@pytest.mark.parametrize("name", V2_BINARY)
def test_bad_v2_requests_with_raw_bytes(server, name):
    body, length, reason = V2_BINARY[name]
    _assert_refused(server.infer(body, inference_header_content_length=length), reason)


OTHER = {
    "unknown model v1": "/v1/models/vgg:predict",
    "unknown model v2": "/v2/models/vgg/infer",
    "explain another model": "/v1/models/vgg:explain",
    "load": "/v2/repository/models/poster-genre/load",
    "unload": "/v2/repository/models/poster-genre/unload",
    "another version": "/v2/models/poster-genre/versions/1/infer",
    "metadata": "/v2/models/poster-genre",
    "nothing at all": "/predict",
}


@pytest.mark.parametrize("body", [instances(instance()), '{"inputs": NaN}', '"\\ud800"', ""])
@pytest.mark.parametrize("name", OTHER)
def test_what_the_server_does_not_do(server, name, body):
    path = OTHER[name]
    _assert_refused(server.post(path, body), f"nothing answers POST {path}: ", 404)


ABSENT = {
    "unknown model v1": ("/v1/models/vgg", "vgg does not exist"),
    "unknown model v2": ("/v2/models/vgg", "vgg does not exist"),
    "readiness of an unknown model": ("/v2/models/vgg/ready", "vgg does not exist"),
    "another version": ("/v2/models/poster-genre/versions/1", "or leave it out"),
    "readiness of another version": ("/v2/models/poster-genre/versions/1/ready", "leave it out"),
    "a version's beginning": ("/v2/models/poster-genre/versions/", "leave it out"),
    "nothing at all": ("/v3", "Not Found: see /openapi.json"),
    "a file of the page": ("/page/none", "no such file"),
}


@pytest.mark.parametrize("name", ABSENT)
def test_what_is_not_there(server, name):
    path, reason = ABSENT[name]
    _assert_refused(server.get(path), reason, 404)


def test_a_method_that_is_not_there(server):
    response = requests.delete(f"{server.url}/v2/models/poster-genre", timeout=30)
    _assert_refused(response, "Method Not Allowed", 405)


def test_the_version_that_is_served_may_be_named(server):
    path = "/v2/models/poster-genre"
    named = f"{path}/versions/{server.bundle.version}"
    assert server.get(named).json() == server.get(path).json()
    assert server.get(f"{named}/ready").json() == server.get(f"{path}/ready").json()
    assert server.post(f"{named}/infer", inputs(tensor())).status_code == 200


EVENT = {"ce-id": "1", "ce-source": "s", "ce-type": "t", "ce-specversion": "1.0"}
EVENTS = {
    "another specification": (
        instances(instance()),
        EVENT | {"ce-specversion": "9"},
        "Cloud Event",
    ),
    "empty": ("", EVENT, "the CloudEvent cannot be read"),
    "no JSON": ("poster", EVENT, "no instances"),
    "no instances": ("{}", EVENT, "no instances"),
    "structured and empty": ("", {"Content-Type": "application/cloudevents+json"}, "CloudEvent"),
    "millions of values": ("[" + "0," * 50_000 + "0]", EVENT, "50,000 values"),
}


@pytest.mark.parametrize("verb", ["predict", "explain"])
@pytest.mark.parametrize("name", EVENTS)
def test_broken_cloudevents(server, name, verb):
    body, headers, reason = EVENTS[name]
    _assert_refused(server.post(f"/v1/models/poster-genre:{verb}", body, **headers), reason)


@pytest.mark.parametrize("verb", ["predict", "explain"])
def test_cloudevents_are_answered_with_cloudevents(server, verb):
    path, secret = f"/v1/models/poster-genre:{verb}", "Bearer secret"
    body = instances(instance())
    for kind in ("application/json", "text/html", "application/json; charset=utf-8"):
        headers = {"Content-Type": kind, "Authorization": secret}
        response = server.post(path, body, **headers, **EVENT)
        assert response.headers["ce-type"] == "io.kserve.inference.response"
        assert len(response.json()["predictions"]) == 1
        assert secret not in response.headers.values(), "a request's headers are nobody else's"
    event = {"specversion": "1.0", "id": "1", "source": "s", "type": "t", "time": "2026-01-01"}
    structured = json.dumps(event | {"data": json.loads(body)})
    for kind in ("application/cloudevents+json", "Application/CloudEvents+JSON; charset=utf-8"):
        response = server.post(path, structured, **{"Content-Type": kind})
        assert len(response.json()["data"]["predictions"]) == 1


NO_EVENTS = {
    "a header is missing": {name: EVENT[name] for name in EVENT if name != "ce-id"},
    "a batch": {"Content-Type": "application/cloudevents-batch+json"},
}


@pytest.mark.parametrize("name", NO_EVENTS)
def test_what_is_no_cloudevent_is_a_plain_request(server, name):
    response = server.predict(instances(instance()), **NO_EVENTS[name])
    assert len(response.json()["predictions"]) == 1
    assert "ce-type" not in response.headers
