"""What passes the gate before a body is read."""

import asyncio

import httpx
import pytest
from starlette.responses import PlainTextResponse

from serving.batching import Overloaded
from serving.bodies import Bodies
from serving.gate import Gate
from serving.refusals import json_response

PREDICT = "/v1/models/poster-genre:predict"


class Client:
    """Asks an application in this process."""

    def __init__(self, app):
        self.app = app
        self.transport = httpx.ASGITransport(app)

    def request(self, method, path, content=b""):
        async def ask():
            async with httpx.AsyncClient(transport=self.transport, base_url="http://a") as client:
                return await client.request(method, path, content=content)

        return asyncio.run(ask())

    def post(self, path, content):
        return self.request("POST", path, content)


def busy():
    raise Overloaded(7)


class Metrics:
    def __init__(self):
        self.seen = []

    def request(self, endpoint, outcome):
        self.seen.append((endpoint, outcome))


@pytest.fixture
def metrics():
    return Metrics()


@pytest.fixture
def make(metrics):
    def make(**changes):
        async def handle(headers, body):
            return json_response({"bytes": len(body)})

        parts = {
            "version": "a" * 64,
            "tokens": None,
            "bodies": Bodies(1000),
            "handlers": {PREDICT: handle},
            "check_load": lambda: None,
            "metrics": metrics,
            "tracing": None,
        }
        return Client(Gate(PlainTextResponse("the application"), **parts | changes))

    return make


def test_a_busy_server_says_when_to_come_again_before_it_reads(make, metrics):
    async def handle(headers, body):
        raise AssertionError("nobody is asked")

    response = make(check_load=busy, handlers={PREDICT: handle}).post(PREDICT, content=b"x")
    assert (response.status_code, response.headers["Retry-After"]) == (503, "7")
    assert metrics.seen == [("predict", "overloaded")]


def scope(method="POST", path=PREDICT, headers=()):
    return {"type": "http", "method": method, "path": path, "headers": list(headers)}


def test_what_would_wait_for_too_long_is_refused_at_once(make, metrics):
    response = make(check_load=busy).app.refusal_at_once(scope())
    assert (response.status_code, response.headers["Retry-After"]) == (503, "7")
    assert metrics.seen == [("predict", "overloaded")]


class Nobody:
    def allows(self, header):
        return False


@pytest.mark.parametrize(
    ("asked", "changes"),
    [
        (scope(), {"check_load": lambda: None}),
        (scope("GET", "/v2/health/ready"), {}),
        (scope("GET"), {}),
        (scope(path="/other"), {}),
        (scope(), {"tokens": Nobody()}),
        (scope(), {"tracing": object()}),
        (scope(headers=[(b"content-length", b"1001")]), {}),
    ],
    ids=["room", "health", "metadata", "no work", "no token", "traced", "too large"],
)
def test_all_else_is_looked_at(make, metrics, asked, changes):
    assert make(**{"check_load": busy} | changes).app.refusal_at_once(asked) is None
    assert metrics.seen == []


def test_only_work_waits_for_room(make):
    client = make(check_load=busy)
    assert client.request("GET", "/v2/health/ready").text == "the application"
    response = client.post("/other", content=b"x")
    assert (response.status_code, response.headers["connection"]) == (404, "close")


def test_what_is_not_post_is_the_applications(make, metrics):
    client = make()
    for method in ("GET", "PUT", "DELETE"):
        assert client.request(method, "/v2/models/poster-genre").text == "the application"
    assert metrics.seen == []


def test_a_body_reaches_its_handler(make, metrics):
    assert make().post(PREDICT, content=b"x" * 1000).json() == {"bytes": 1000}
    assert metrics.seen == [("predict", "ok")]


def test_too_much_is_refused_and_the_connection_closed(make, metrics):
    response = make().post(PREDICT, content=b"x" * 1001)
    assert (response.status_code, response.headers["Connection"]) == (413, "close")
    assert metrics.seen == [("predict", "refused")]
