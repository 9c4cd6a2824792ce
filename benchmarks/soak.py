"""Marquee's endpoint under a load that lasts, and under one that is too much.

Run `make soak`, or `python -m benchmarks.soak [--bundle BUNDLE]... [--minutes 30]`; without
`--bundle` it makes bundles from drawn posters. The client (`benchmarks.load`) sends at a constant
rate from the same cores, and finds the server's capacity first. The server writes prediction
records. It ends with status 1 if a claim does not hold.
"""

import argparse
import math
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np

from benchmarks.bundles import bundles
from benchmarks.load import (
    BUSY,
    OK,
    Load,
    Phase,
    drive,
    lasting_capacity,
    predict_request,
    quantile,
    statuses,
)
from benchmarks.posters import read_posters
from benchmarks.results import FILE, Claim, record_claims
from benchmarks.running import Server, marquee, running

_POSTERS = 64
_SHARE, _CALM, _ENOUGH, _TOO_MUCH = 0.8, 0.5, 1.1, 3.0
"""Of capacity: soak; before and after overload; what shows capacity beside overload; overload."""
_CALM_SECONDS = 10.0
_TURNS, _TURN_SECONDS, _SETTLED_SECONDS = 4, 6.0, 1.0
"""Enough and too much come by turns: as this machine has them, a minute ago was another one."""
_MINUTE = 60.0
_WORK = 50_000
"""Numbers to add: half a millisecond's work, by which the machine's speed is told."""


class Watch:
    """Notes a server's memory and the machine's speed every second, as a context manager."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._seen: list[tuple[float, float, float]] = []
        """Seconds since the watch began, MB, and CPU seconds that the same work took."""

    def __enter__(self) -> Self:
        self._start = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(1.0):
            moment = time.monotonic() - self._start
            self._seen.append((moment, self._server.memory_mb(), _same_work()))

    def memory_mb(self) -> list[float]:
        """Give the median anonymous memory of each whole minute, in MB."""
        return self._minutes(1)

    def speeds(self) -> list[float]:
        """Give how quick the machine was in each whole minute; its quickest one is 1."""
        took = self._minutes(2)
        return [min(took) / seconds for seconds in took]

    def _minutes(self, column: int) -> list[float]:
        whole = int(self._seen[-1][0] // _MINUTE)
        return [
            statistics.median(row[column] for row in self._seen if row[0] // _MINUTE == minute)
            for minute in range(whole)
        ]


def _same_work() -> float:
    """Give the CPU seconds that a fixed piece of work takes just now."""
    start = time.thread_time()
    sum(range(_WORK))
    return time.thread_time() - start


def soak(server: Server, requests: Sequence[bytes], rate: float, minutes: int) -> list[Claim]:
    """Load a server for some minutes.

    Memory is flat if no minute's median is more than 5 % above that of the second minute. The p99
    is steady if that of the second half of all requests after the first minute is at most 1.25
    times that of the first half.

    Args:
        server: The server.
        requests: Whole HTTP requests.
        rate: Requests a second.
        minutes: How long; three or more.
    """
    with Watch(server) as watch:
        load = drive(server.port, requests, Phase(rate, (minutes + 0.1) * _MINUTE))
    counts = statuses(load.answers)
    held = watch.memory_mb()[1:]
    growth = max(held) / held[0] - 1
    settled = load.due(_MINUTE)
    half = len(settled) // 2
    p99 = [quantile(part, 0.99) for part in (settled[:half], settled[half:])]
    return [
        Claim(
            "answers by status",
            f"{counts}{_when(load, watch.speeds())}",
            "all 200",
            counts.keys() == {OK},
        ),
        Claim(
            "memory, median of a minute, MB",
            f"{held[0]:.0f} in the second, at most {max(held):.0f} later ({growth:+.1%})",
            "at most +5%",
            growth <= 0.05,
        ),
        Claim(
            "p99, ms",
            f"{p99[0]:.0f} in the first half, {p99[1]:.0f} in the second",
            "at most 1.25 times",
            p99[1] <= 1.25 * p99[0],
        ),
    ]


def _when(load: Load, speeds: Sequence[float]) -> str:
    """Tell in which minutes answers were not 200, and how quick the machine was in each."""
    wrong = sorted({int(answer.due // _MINUTE) for answer in load.answers if answer.status != OK})
    told = [f"{n + 1} (speed {speeds[n]:.2f})" for n in wrong if n < len(speeds)]
    slowest = f"; the machine's slowest minute had {min(speeds):.2f} of its speed"
    return (f", in minutes {', '.join(told)}" if told else "") + slowest


def overload(
    server: Server, requests: Sequence[bytes], most: float, share: float = 0.9
) -> list[Claim]:
    """Load a server with three times its capacity, between two calm stretches.

    Capacity is what it labels of a little more than that, in turns with the overload. It has
    recovered at the moment from which on, for a second, all is answered, and half of it within 1.5
    times the time that it took before.

    Args:
        server: The server.
        requests: Whole HTTP requests.
        most: About the server's capacity in requests a second.
        share: How much of its capacity has to be labelled amid the crowd.
    """
    calm = Phase(_CALM * most, _CALM_SECONDS)
    turns = [Phase(rate * most, _TURN_SECONDS) for rate in (_ENOUGH, _TOO_MUCH)] * _TURNS
    load = drive(server.port, requests, calm, *turns, calm, keep=True)
    start, end = _CALM_SECONDS, _CALM_SECONDS + len(turns) * _TURN_SECONDS
    enough = [start + 2 * turn * _TURN_SECONDS for turn in range(_TURNS)]
    too_much = [moment + _TURN_SECONDS for moment in enough]
    can, goodput = _settled_goodput(load, enough), _settled_goodput(load, too_much)
    during = [answer for moment in too_much for answer in load.due(moment, moment + _TURN_SECONDS)]
    counts = statuses(during)
    refused = [answer for answer in during if answer.status == BUSY]
    told = sum(b"retry-after:" in answer.head.lower() for answer in refused)
    # From when it was sent: this client shares the cores, and falls behind.
    times = [answer.response_time * 1000 for answer in refused] or [math.nan]
    p99, slowest = np.quantile(times, (0.99, 1))
    recovered = recovery(load, end, 1.5 * quantile(load.due(0, start), 0.5))
    return [
        Claim(
            f"goodput at {_TOO_MUCH:g} times capacity, posters/s",
            f"{goodput:.1f}, {goodput / can:.2f} of the {can:.1f} at {_ENOUGH:g} times",
            f"at least {share:g}",
            goodput >= share * can,
        ),
        Claim("answers by status", str(counts), "200 and 503", counts.keys() == {OK, BUSY}),
        Claim("503s with Retry-After", f"{told} of {len(refused)}", "all", told == len(refused)),
        Claim(
            "503s answered after, ms",
            f"p99 {p99:.0f}, slowest {slowest:.0f}",
            "p99 within 50",
            p99 <= 50,
        ),
        Claim("recovered after, s", f"{recovered:.2f}", "within 2", recovered <= 2),
    ]


def _settled_goodput(load: Load, turns: Sequence[float]) -> float:
    """Give the mean goodput of turns, each from when what the last one left has been answered."""
    return statistics.mean(
        load.goodput(start + _SETTLED_SECONDS, start + _TURN_SECONDS) for start in turns
    )


def recovery(load: Load, end: float, normal_ms: float) -> float:
    """Give the seconds from `end` until a server was itself again.

    Args:
        load: All requests, some seconds of them due after `end`.
        end: When the overload ended.
        normal_ms: Within which half of a second's requests have to be answered.

    Returns:
        The seconds; infinity if it never was.
    """
    step, last = 0.05, load.answers[-1].due - 1.0
    moment = end
    while moment <= last:
        answers = load.due(moment, moment + 1.0)
        if statuses(answers).keys() == {OK} and quantile(answers, 0.5) <= normal_ms:
            return moment - end
        moment += step
    return float("inf")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", action="append", default=[], dest="bundles")
    parser.add_argument("--minutes", type=int, default=30)
    parser.add_argument("--results", type=Path, default=FILE, help="where figures are written to")
    arguments = parser.parse_args()
    posters, kind = read_posters(_POSTERS)
    requests = [predict_request(poster) for poster in posters]
    holds = True
    with tempfile.TemporaryDirectory(prefix="soak-") as scratch:
        for bundle in bundles(arguments.bundles, Path(scratch)):
            records = str(Path(scratch) / "records")
            with running(marquee(str(bundle.folder), "--records", records)) as server:
                most = lasting_capacity(server.port, requests)
                claims = soak(server, requests, _SHARE * most, arguments.minutes)
                claims += overload(server, requests, most)
            info = bundle.info
            holds &= record_claims(
                f"Soak and overload: {info.architecture}, {info.precision}",
                f"python -m benchmarks.soak --bundle BUNDLE --minutes {arguments.minutes}",
                claims,
                f"{kind} posters at a constant rate from the same cores, records written; "
                f"capacity {most:.1f} posters/s by the same client, the lowest of three "
                f"searches. {arguments.minutes} minutes at "
                f"{_SHARE:g} of it, then {_TURNS} times {_TURN_SECONDS:g} s at {_ENOUGH:g} and at "
                f"{_TOO_MUCH:g} times, between calm stretches at {_CALM:g}. The p99 is that of "
                "all requests after the first minute, halved.",
                arguments.results,
            )
    raise SystemExit(not holds)


if __name__ == "__main__":
    main()
