"""The open-loop client, against a small real server."""

import asyncio
import math
import threading
from contextlib import contextmanager

import pytest

from benchmarks.load import BUSY, LOST, OK, Answer, Load, Phase, drive, keeps_up, statuses
from benchmarks.soak import recovery

REQUEST = b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nfour"


@contextmanager
def server(behave):
    """Serve on loopback; `behave(number)` gives the answer to a request, or None to hang up."""
    ready = threading.Event()
    seen = []

    async def serve():
        async def talk(reader, writer):
            while await reader.read(len(REQUEST)):
                seen.append(None)
                answer = await behave(len(seen) - 1)
                if answer is None:
                    break
                writer.write(answer)
            writer.close()

        listener = await asyncio.start_server(talk, "127.0.0.1", 0)
        serve.port = listener.sockets[0].getsockname()[1]
        serve.loop, serve.end = asyncio.get_running_loop(), asyncio.Event()
        ready.set()
        await serve.end.wait()
        listener.close()

    thread = threading.Thread(target=asyncio.run, args=[serve()])
    thread.start()
    ready.wait()
    yield serve.port
    serve.loop.call_soon_threadsafe(serve.end.set)
    thread.join()


def answer(status, body=b"{}", headers=b""):
    head = b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n%s\r\n" % (status, len(body), headers)
    return head + body


def test_every_request_is_sent_and_counted_by_status():
    async def behave(number):
        return answer(503, headers=b"Retry-After: 1\r\n") if number % 3 == 0 else answer(200)

    with server(behave) as port:
        load = drive(port, [REQUEST], Phase(100, 0.3), Phase(50, 0.2), keep=True)
    assert statuses(load.answers) == {OK: 26, BUSY: 14}
    assert [answer.due for answer in load.answers[:3]] == [0, 0.01, 0.02]
    assert [answer.due for answer in load.answers[-2:]] == [0.3 + 8 / 50, 0.3 + 9 / 50]
    assert all((b"Retry-After" in item.head) == (item.status == BUSY) for item in load.answers)
    assert {item.body for item in load.answers} == {b"{}"}


def test_an_answer_in_pieces_is_read_to_its_end():
    async def behave(number):
        return answer(200, b"x" * 2**20)

    with server(behave) as port:
        load = drive(port, [REQUEST], Phase(20, 0.2), keep=True)
    assert [len(item.body) for item in load.answers] == [2**20] * 4


def test_a_stall_is_charged_to_all_that_was_due_meanwhile():
    stalled = asyncio.Event()

    async def behave(number):
        if number == 0:
            await asyncio.sleep(0.5)
            stalled.set()
        await stalled.wait()
        return answer(200)

    with server(behave) as port:
        load = drive(port, [REQUEST], Phase(100, 0.4))
    assert statuses(load.answers) == {OK: 40}
    assert all(item.due + item.latency >= 0.5 for item in load.answers)


def test_connections_that_end_without_an_answer_are_lost():
    async def behave(number):
        return None if number % 2 else answer(200, headers=b"Connection: close\r\n")

    with server(behave) as port:
        load = drive(port, [REQUEST], Phase(100, 0.2))
    assert statuses(load.answers) == {LOST: 10, OK: 10}


def test_nobody_listens():
    with server(lambda number: None) as port:
        pass
    assert statuses(drive(port, [REQUEST], Phase(100, 0.1)).answers) == {LOST: 10}


def test_what_waits_for_a_connection_is_lost_with_the_server(monkeypatch):
    monkeypatch.setattr("benchmarks.load.CONNECTIONS", 2)
    with server(lambda number: asyncio.sleep(60)) as port:
        pass
    assert statuses(drive(port, [REQUEST], Phase(1000, 0.1)).answers) == {LOST: 100}


def answers(*pieces):
    """Give a hundred answers a second: of each piece its seconds, latency and status."""
    found = []
    for seconds, latency, status in pieces:
        for _ in range(round(seconds * 100)):
            moment = len(found) / 100
            found.append(Answer(moment, moment, latency, status))
    return found


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        pytest.param(answers((8, 0.1, OK)), True, id="steady"),
        pytest.param(answers((6, 0.1, OK), (2, 0.25, OK)), True, id="a little slower"),
        pytest.param(answers((6, 0.1, OK), (2, 0.35, OK)), False, id="a queue that grows"),
        pytest.param(answers((7.9, 0.1, OK), (0.1, 0.01, BUSY)), False, id="refused"),
        pytest.param(answers((7.9, 0.1, OK), (0.1, 0.01, LOST)), False, id="lost"),
    ],
)
def test_keeping_up(found, wanted):
    assert keeps_up(found) is wanted


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        pytest.param(answers((15, 0.1, OK)), 0, id="at once"),
        pytest.param(answers((10, 0.1, OK), (1, 0.01, BUSY), (4, 0.1, OK)), 1, id="refusals end"),
        pytest.param(answers((10, 0.1, OK), (1, 0.5, OK), (4, 0.1, OK)), 0.5, id="half was quick"),
        pytest.param(answers((10, 0.1, OK), (5, 0.5, OK)), math.inf, id="slow for ever"),
        pytest.param(answers((10.5, 0.1, OK), (0.1, 0.1, LOST), (4, 0.1, OK)), 0.6, id="one lapse"),
    ],
)
def test_recovery(found, wanted):
    assert recovery(Load(found, 0.0), 10, 150) == pytest.approx(wanted, abs=0.06)


def test_goodput_counts_what_was_done_in_the_time():
    load = Load(answers((1, 0.5, OK), (1, 0.0, BUSY)), 0.0)
    assert load.goodput(0.5, 1.5) == pytest.approx(100, abs=1)
    assert load.goodput(0, 0.5) == 0
