"""Connections that do not become requests."""

import asyncio
import contextlib
import socket
import time
from functools import partial

import pytest
import uvicorn
from starlette.responses import PlainTextResponse

from serving.http_protocol import BoundedHttpProtocol, _TogetherTransport
from serving.refusals import json_response

HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n"


class Hurried(BoundedHttpProtocol):
    seconds = 0.3


@contextlib.asynccontextmanager
async def running(text, protocol):
    """Run a server that answers with a text."""
    config = uvicorn.Config(
        PlainTextResponse(text), port=0, http=protocol, log_config=None, lifespan="off"
    )
    server = uvicorn.Server(config)
    config.load()
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield server
    finally:
        server.should_exit = True
        await serving


async def never_reading(address):
    """Connect as a client that has next to no room for answers."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 10_000)
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, address)
    return client


async def talk(*parts, pause=0.0, protocol=Hurried):
    """Send parts to a server of its own; give what comes back until it hangs up."""
    async with running("hello", protocol) as server:
        port = server.servers[0].sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(ConnectionError):
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(pause)
        answer = b""
        with contextlib.suppress(ConnectionError):
            answer = await asyncio.wait_for(reader.read(-1), 10)
        writer.close()
    return answer


ENDED = {
    "nothing is sent": ([], 0.0),
    "half of the headers": ([HEAD], 0.0),
    "headers that trickle": ([HEAD, *[b"a: b\r\n"] * 20], 0.05),
    "headers without end": ([HEAD, *[b"a: " + b"b" * 10_000 + b"\r\n"] * 100], 0.0),
    "nothing but empty lines": ([b"\r\n"] * 20, 0.05),
}


@pytest.mark.parametrize("name", ENDED)
def test_they_are_ended(name):
    parts, pause = ENDED[name]
    assert asyncio.run(talk(*parts, pause=pause)) == b""


ANSWERED = {
    "at once": [HEAD + b"Connection: close\r\n\r\n"],
    "in parts": [HEAD, b"Connection: close\r\n", b"\r\n"],
    "large headers": [HEAD + b"a: " + b"b" * 30_000 + b"\r\nConnection: close\r\n\r\n"],
    "after another": [HEAD + b"\r\n", HEAD + b"Connection: close\r\n\r\n"],
}


@pytest.mark.parametrize("name", ANSWERED)
def test_others_are_answered(name):
    answer = asyncio.run(talk(*ANSWERED[name], pause=0.02))
    assert answer.count(b"200 OK") == (2 if name == "after another" else 1)


def busy(scope):
    if scope["path"] != "/busy":
        return None
    return json_response({"error": "busy"}, 503, {"Retry-After": "2"})


BUSY = b"POST /busy HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n"
LAST = HEAD + b"Connection: close\r\n\r\n"
REFUSED = {
    "its body comes with it": [BUSY + b"\r\nsome body", LAST],
    "its body comes later": [BUSY + b"\r\n", b"some", b" body" + LAST],
    "it comes with another": [HEAD + b"\r\n" + BUSY + b"\r\nsome body", LAST],
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_at_once_leaves_the_connection_to_others(name):
    parts = REFUSED[name]
    protocol = partial(Hurried, refuse=busy)
    answer = asyncio.run(talk(*parts, pause=0.02, protocol=protocol))
    refusal = answer.index(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert b"\r\nretry-after: 2\r\n" in answer[refusal:]
    assert b'\r\n\r\n{"error":"busy"}HTTP/1.1 200 OK\r\n' in answer[refusal:]
    assert answer.endswith(b"hello")
    assert answer.count(b"200 OK") == b"".join(parts).count(HEAD)


def test_a_thousand_in_one_go_are_all_answered():
    protocol = partial(Hurried, refuse=busy)
    answer = asyncio.run(
        talk(HEAD + b"\r\n" + (BUSY + b"\r\nsome body") * 1000 + LAST, protocol=protocol)
    )
    assert answer.count(b"HTTP/1.1 ") == 1002
    assert answer.endswith(b"hello")


@pytest.mark.parametrize("header", [b"Connection: close", b"Expect: 100-continue"])
def test_who_hangs_up_or_asks_first_is_left_to_the_application(header):
    request = BUSY + header + b"\r\n\r\nsome body"
    rest = [] if header.endswith(b"close") else [LAST]
    answer = asyncio.run(talk(request, *rest, pause=0.02, protocol=partial(Hurried, refuse=busy)))
    assert b" 503 " not in answer
    assert answer.count(b"200 OK") == 1 + len(rest)


class Written:
    def __init__(self):
        self.seen = []
        self.closed = False

    def is_closing(self):
        return self.closed

    def write(self, data):
        assert not self.closed
        self.seen.append(data)

    def close(self):
        self.closed = True


@pytest.mark.parametrize("closes", [True, False])
def test_what_is_written_in_one_go_is_sent_in_one_piece(closes):
    async def write():
        written = Written()
        transport = _TogetherTransport(written, asyncio.get_running_loop())
        transport.write(b"head ")
        transport.write(b"body")
        if closes:
            transport.close()
        await asyncio.sleep(0)
        if not closes:
            transport.write(b"more")
        await asyncio.sleep(0)
        return written.seen

    assert asyncio.run(write()) == [b"head body", *([] if closes else [b"more"])]


TRAILERS = b"".join(b"t%d: x\r\n" % number for number in range(20))
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n"
UNFINISHED = {
    "a body that stops": [BUSY + b"\r\n", b"s"],
    "a body that trickles": [BUSY + b"\r\n", *[b"s"] * 8],
    "an empty line after an answer": [HEAD + b"\r\n", b"\r\n"],
    "trailers without end": [CHUNKED + b"\r\n0\r\n", *[TRAILERS] * 20],
}


@pytest.mark.parametrize("name", UNFINISHED)
def test_what_comes_after_an_answer_takes_no_longer_than_headers(name):
    protocol = partial(Hurried, refuse=busy)
    start = time.monotonic()
    asyncio.run(talk(*UNFINISHED[name], pause=0.1, protocol=protocol))
    assert time.monotonic() - start < 4  # uvicorn's own timer ends idle connections after 5 s


def test_trailers_are_not_kept():
    kept = []

    class Watched(Hurried):
        def on_message_complete(self):
            kept.append(len(self.headers))
            super().on_message_complete()

    request = CHUNKED + b"Connection: close\r\n\r\n0\r\n" + TRAILERS + b"\r\n"
    asyncio.run(talk(request, protocol=Watched))
    assert kept == [3]


def test_a_large_body_and_the_next_head_may_come_together():
    large = HEAD.replace(b"GET", b"POST") + b"Content-Length: 100000\r\n\r\n"
    parts = [large[:-2], large[-2:] + b"b" * 100_000 + LAST[:10], LAST[10:]]
    answer = asyncio.run(talk(*parts, pause=0.05))
    assert answer.count(b"200 OK") == 2


def test_whoever_leaves_an_answer_unread_loses_the_connection():
    """It would stay in memory, and delay the server's end."""

    async def leave_unread():
        async with running("hello" * 1_000_000, Hurried) as server:
            client = await never_reading(server.servers[0].sockets[0].getsockname())
            await asyncio.get_running_loop().sock_sendall(client, HEAD + b"\r\n")
            while not server.server_state.connections:
                await asyncio.sleep(0.01)
            start = time.monotonic()
            while server.server_state.connections and time.monotonic() < start + 10:
                await asyncio.sleep(0.01)
            seconds = time.monotonic() - start
            client.close()
        return seconds

    assert asyncio.run(leave_unread()) < 5


def test_whoever_reads_no_answers_gets_no_more():
    refused = 0

    def refuse(scope):
        nonlocal refused
        refused += 1
        return json_response({"error": "busy" * 1000}, 503)

    async def flood():
        protocol = partial(BoundedHttpProtocol, refuse=refuse)
        async with running("hello" * 1000, protocol) as server:
            listener = server.servers[0].sockets[0]
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 10_000)
            client = await never_reading(listener.getsockname())
            request = BUSY.replace(b"9", b"0") + b"\r\n"
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(
                    asyncio.get_running_loop().sock_sendall(client, request * 100_000), 3
                )
            client.close()

    asyncio.run(flood())
    assert 10 < refused < 10_000
