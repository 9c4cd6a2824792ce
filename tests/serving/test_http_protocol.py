"""Connections that do not become requests."""

import asyncio
import contextlib

import pytest
import uvicorn
from starlette.responses import PlainTextResponse

from serving.http_protocol import BoundedHttpProtocol

HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n"


class Hurried(BoundedHttpProtocol):
    seconds = 0.3


async def talk(*parts, pause=0.0):
    """Send parts to a server of its own; give what comes back until it hangs up."""
    config = uvicorn.Config(
        PlainTextResponse("hello"), port=0, http=Hurried, log_config=None, lifespan="off"
    )
    server = uvicorn.Server(config)
    config.load()
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
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
    server.should_exit = True
    await serving
    return answer


ENDED = {
    "nothing is sent": ([], 0.0),
    "half of the headers": ([HEAD], 0.0),
    "headers that trickle": ([HEAD, *[b"a: b\r\n"] * 20], 0.05),
    "headers without end": ([HEAD, *[b"a: " + b"b" * 10_000 + b"\r\n"] * 100], 0.0),
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
