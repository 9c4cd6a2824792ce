"""An open-loop client: it sends requests at a constant rate, whatever becomes of them.

Run `python -m benchmarks.load URL [--rate 20] [--seconds 10] [--posters 64]`, or without `--rate`
to find the server's capacity. Latency counts from the moment at which a request was due, so a
server that stalls is charged for all that should have been sent meanwhile. A request takes a
connection that is idle, or opens one; it never waits for another's answer, as long as fewer than
`CONNECTIONS` are under way.
"""

import argparse
import asyncio
import base64
import gc
import json
import math
import re
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

import numpy as np
import uvloop

from benchmarks.posters import read_posters
from benchmarks.running import PREDICT

CONNECTIONS = 4096
"""Many more than a server admits at a time: what waits for a connection here overloads nobody."""
OK, BUSY, LOST = 200, 503, 0
"""Statuses: `LOST` is a connection that was refused or ended without an answer."""

_IDLE_SECONDS = 2.0
"""Servers close connections that idle for longer, perhaps just as a request is sent on one."""
_PATIENCE_SECONDS = 60.0
"""A server that is silent for longer after the last request is broken."""
STEP_SECONDS = 8.0
_CLOSE_ENOUGH = 1.03
"""Ratio of a rate that is too high to one that is not, at which the search for capacity ends."""
_SEARCHES = 3
"""How often capacity is searched where it has to last."""
_NAP_SECONDS = 0.001
"""Sleep no shorter: uvloop counts in ms, and would be busy waiting."""
_SLACK_MS = 100.0

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a request."""

    due: float
    """When it was due: seconds since the load began."""
    sent: float
    """When it was sent, if this client was behind or no connection was free."""
    latency: float
    """Seconds from when it was due to the last byte of the answer."""
    status: int
    head: bytes = b""
    """The answer's headers and ..."""
    body: bytes = b""
    """... body, of loads that keep them."""

    @property
    def response_time(self) -> float:
        """Seconds from when it was sent to the last byte of the answer."""
        return self.due + self.latency - self.sent


@dataclass(frozen=True)
class Phase:
    """A stretch of constant rate."""

    rate: float
    """Requests a second."""
    seconds: float


@dataclass(frozen=True)
class Load:
    """What became of all requests of a load, in the order in which they were due."""

    answers: list[Answer]
    cpu_seconds: float
    """CPU time of this client."""

    def due(self, start: float, end: float = math.inf) -> list[Answer]:
        """Give the answers to what was due from `start` on and before `end`, in seconds."""
        return [answer for answer in self.answers if start <= answer.due < end]

    def goodput(self, start: float, end: float) -> float:
        """Give the posters a second that were labelled from `start` to `end`, in seconds."""
        done = (answer.due + answer.latency for answer in self.answers if answer.status == OK)
        return sum(start <= moment < end for moment in done) / (end - start)


def statuses(answers: Iterable[Answer]) -> dict[int, int]:
    """Count answers by status."""
    return dict(sorted(Counter(answer.status for answer in answers).items()))


def quantile(answers: Sequence[Answer], share: float) -> float:
    """Give a quantile of the answers' latencies in ms; NaN if there are none."""
    if not answers:
        return math.nan
    return float(np.quantile([answer.latency for answer in answers], share)) * 1000


def predict_request(poster: bytes, host: str = "127.0.0.1") -> bytes:
    """Write a v1 request for one poster, headers and all."""
    body = predict_body(poster)
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def predict_body(poster: bytes) -> bytes:
    """Write the body of a v1 request for one poster."""
    image = {"b64": base64.b64encode(poster).decode()}
    return json.dumps({"instances": [{"image": image}]}).encode()


def drive(
    port: int,
    requests: Sequence[bytes],
    *phases: Phase,
    keep: bool = False,
    during: Callable[[], None] | None = None,
) -> Load:
    """Load a server of this machine, and wait for all answers.

    Args:
        port: Where it listens on loopback.
        requests: Whole HTTP requests; they are sent in turn.
        phases: How many to send, one phase after the other.
        keep: Keep the answers' headers and bodies.
        during: Called before the second half of the requests.

    Raises:
        TimeoutError: Answers are missing a minute after the last request.
    """
    due: list[float] = []
    start = 0.0
    for phase in phases:
        due += [start + n / phase.rate for n in range(math.ceil(phase.rate * phase.seconds))]
        start += phase.seconds
    before = time.process_time()
    gc.disable()  # it would look through all answers so far, again and again
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            answers = runner.run(_Client(port, keep).run(requests, due, during))
    finally:
        gc.enable()
    answers.sort(key=lambda answer: answer.due)
    return Load(answers, time.process_time() - before)


def capacity(
    port: int, requests: Sequence[bytes], start: float = 4.0, seconds: float = STEP_SECONDS
) -> float:
    """Find the highest rate that a server keeps up with, to within 3 %.

    Args:
        port: Where it listens on loopback.
        requests: Whole HTTP requests.
        start: The first rate to try, in requests a second.
        seconds: How long each rate is tried.

    Returns:
        Requests a second.
    """
    low, high, rate = 0.0, math.inf, start
    while low == 0 or high / low > _CLOSE_ENOUGH:
        if keeps_up(drive(port, requests, Phase(rate, seconds)).answers):
            low = rate
        else:
            high = rate
        rate = rate / 2 if low == 0 else rate * 2 if high == math.inf else math.sqrt(low * high)
    return low


def lasting_capacity(port: int, requests: Sequence[bytes]) -> float:
    """Find the rate that a server keeps up with in each of several searches.

    A shared machine is quicker in some minutes than in others: what it reached in one of them is
    no measure of what it does for half an hour.

    Args:
        port: Where it listens on loopback.
        requests: Whole HTTP requests.

    Returns:
        Requests a second.
    """
    found = [capacity(port, requests)]
    while len(found) < _SEARCHES:
        found.append(capacity(port, requests, start=min(found)))
    return min(found)


def keeps_up(answers: Sequence[Answer]) -> bool:
    """Tell whether all was answered, and answers did not take longer and longer.

    Above capacity a queue grows: at 1.05 times, by 50 ms each second.
    """
    if statuses(answers).keys() != {OK}:
        return False
    quarter = max(1, len(answers) // 4)
    first, last = quantile(answers[:quarter], 0.5), quantile(answers[-quarter:], 0.5)
    return last <= 2 * first + _SLACK_MS


class _Client:
    def __init__(self, port: int, keep: bool) -> None:
        self._port = port
        self._keep = keep
        self._idle: list[_Connection] = []
        self._open = 0
        self._waiting: deque[tuple[bytes, float]] = deque()
        self._answers: list[Answer] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(
        self, requests: Sequence[bytes], due: Sequence[float], during: Callable[[], None] | None
    ) -> list[Answer]:
        """Send requests when they are due, in seconds from now."""
        self._loop = asyncio.get_running_loop()
        self._start = time.perf_counter()
        for number, moment in enumerate(due):
            while (wait := moment - self.now()) > 0:
                await asyncio.sleep(max(wait, _NAP_SECONDS))
            if during and number == len(due) // 2:
                during()
            self._send(requests[number % len(requests)], moment)
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while len(self._answers) < len(due):
                await asyncio.sleep(0.01)
        for connection in self._idle:
            connection.close()
        return self._answers

    def _send(self, request: bytes, due: float) -> None:
        while self._idle:
            connection = self._idle.pop()
            if self.now() - connection.idle_since < _IDLE_SECONDS:
                connection.send(request, due)
                return
            connection.close()
        if self._open < CONNECTIONS:
            self._open += 1
            task = self._loop.create_task(self._connect(request, due))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            self._waiting.append((request, due))

    async def _connect(self, request: bytes, due: float) -> None:
        try:
            _, connection = await self._loop.create_connection(
                lambda: _Connection(self), "127.0.0.1", self._port
            )
        except OSError:
            self.answered(due, self.now(), LOST)
            self._free_place()
        else:
            connection.send(request, due)

    def now(self) -> float:
        """Give the seconds since the load began."""
        return time.perf_counter() - self._start

    def answered(
        self, due: float, sent: float, status: int, head: bytes = b"", body: bytes = b""
    ) -> None:
        """Note an answer."""
        kept = (head, body) if self._keep else ()
        self._answers.append(Answer(due, sent, self.now() - due, status, *kept))

    def free(self, connection: "_Connection") -> None:
        """Take a connection back that has got its answer."""
        if self._waiting:
            connection.send(*self._waiting.popleft())
        else:
            connection.idle_since = self.now()
            self._idle.append(connection)

    def closed(self, connection: "_Connection") -> None:
        """Forget a connection."""
        if connection in self._idle:
            self._idle.remove(connection)
        self._free_place()

    def _free_place(self) -> None:
        self._open -= 1
        if self._waiting:
            self._send(*self._waiting.popleft())


class _Connection(asyncio.Protocol):
    """One connection: at most one request is under way on it."""

    def __init__(self, client: _Client) -> None:
        self._client = client
        self._due: float | None = None
        self._received = bytearray()
        self._end: int | None = None
        self.idle_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def send(self, request: bytes, due: float) -> None:
        self._due, self._sent = due, self._client.now()
        self._transport.write(request)

    def close(self) -> None:
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._end is None:
            self._body = self._received.find(b"\r\n\r\n") + 4
            if self._body < 4:
                return
            found = _LENGTH.search(self._received, 0, self._body)
            if found is None:
                raise ValueError(f"no Content-Length in {bytes(self._received[: self._body])!r}")
            self._end = self._body + int(found[1])
        if len(self._received) >= self._end and self._due is not None:
            head, body = bytes(self._received[: self._body]), bytes(self._received[self._body :])
            due, self._due, self._end = self._due, None, None
            self._received.clear()
            self._client.answered(due, self._sent, int(head[9:12]), head, body)
            if b"connection: close" in head.lower():
                self.close()
            else:
                self._client.free(self)

    def connection_lost(self, error: Exception | None) -> None:
        if self._due is not None:
            self._client.answered(self._due, self._sent, LOST)
        self._client.closed(self)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--rate", type=float, help="requests a second; finds capacity without it")
    parser.add_argument("--seconds", type=float, default=STEP_SECONDS)
    parser.add_argument("--posters", type=int, default=64)
    arguments = parser.parse_args()
    port = urlsplit(arguments.url).port
    requests = [predict_request(poster) for poster in read_posters(arguments.posters)[0]]
    if arguments.rate is None:
        print(f"capacity: {capacity(port, requests):.1f} posters/s")
        return
    load = drive(port, requests, Phase(arguments.rate, arguments.seconds))
    for status, count in statuses(load.answers).items():
        answers = [answer for answer in load.answers if answer.status == status]
        told = " ".join(f"p{q * 100:g} {quantile(answers, q):.1f} ms" for q in (0.5, 0.99, 1.0))
        print(f"{status}: {count:,} answers, {told}")
    print(
        f"goodput {load.goodput(0, arguments.seconds):.1f} posters/s; "
        f"this client took {load.cpu_seconds / len(load.answers) * 1000:.2f} CPU ms a request"
    )


if __name__ == "__main__":
    main()
