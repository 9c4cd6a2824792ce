"""Marquee's endpoint beside other model servers, on the same posters, model file and engine.

Run `python -m benchmarks.serving [--bundle BUNDLE]... [--rounds 5] [--seconds 10] [--side NAME]...`
after `make peers`; without `--bundle` it makes bundles from drawn posters. The client is wrk
(Debian: apt-get install wrk). All servers are up; they take turns, and only the one that is loaded
may run, for some poll thousands of times a second while idle: with one client for latency, with 16
for throughput, memory and CPU time. Each side's answers are compared with the engine's first. It
ends with status 1 if a claim does not hold.
"""

import argparse
import base64
import dataclasses
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from operator import truediv
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import requests

from benchmarks.bundles import bundles, in_precision
from benchmarks.load import predict_body
from benchmarks.posters import read_posters
from benchmarks.results import FILE, Claim, record, record_claims
from benchmarks.running import PREDICT, ROOT, Server, marquee, running
from marquee.bundle import Bundle
from marquee.engine import Engine
from marquee.images import preprocess
from marquee.processes import cpus

_POSTERS = 64
_CLIENTS = 16
_WARM_UP_SECONDS = 3
_PATIENCE_SECONDS = 60
_REST_SECONDS, _AT_REST = 0.5, 0.2
"""A server is at rest when it has used no more than this share of a CPU for so long."""
_TOLERANCE = 0.02
"""By how much a probability may differ: batches of another size round differently in int8."""
_FULL_PRECISION_TOLERANCE = 0.1
"""The same for a side that computes in fp32 what the others compute in int8."""
_EXPLAIN = "/v1/models/poster-genre:explain"
_OURS, _TORCH = "**marquee**", "kserve.Model + torch"
_ASKED = {"vgg16": (100.0, 0.9), "custom_cnn": (15.0, 0.75)}
"""The longest p99 in ms at one client, and the least share of the server's CPU for its own loop."""
_TIE = 0.03
_QUEUE_SECONDS = "3"
"""Peers refuse nobody; 16 posters of VGG16 in fp32 take a second."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """A server, and how it wants to be asked."""

    name: str
    module: str = ""
    """Below `benchmarks.peers`; none is our own server."""
    own_environment: bool = True
    """Whether it is installed below `.tools`, or else beside us."""
    path: str = "/predict"
    content_type: str = "application/json"
    body: Callable[[bytes], bytes]
    """Writes the request for a poster."""
    answer: Callable[[Any], dict[str, float]]
    """Reads the probabilities from the parsed answer."""

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return ROOT / ".tools" / self.module / "bin/python" if self._apart else Path(sys.executable)

    @property
    def _apart(self) -> bool:
        return bool(self.module) and self.own_environment

    def command(self, bundle: Bundle) -> list[str]:
        """Give the command that starts it."""
        if not self.module:
            return marquee(str(bundle.folder), "--queue-seconds", _QUEUE_SECONDS)
        return [str(self.python), "-m", f"benchmarks.peers.{self.module}"]


def _as_json(build: Callable[[str], Any]) -> Callable[[bytes], bytes]:
    return lambda poster: json.dumps(build(base64.b64encode(poster).decode())).encode()


def _v2(image: str) -> Any:
    return {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [image]}]}


SIDES = (
    Side(
        name=_OURS,
        path=PREDICT,
        body=predict_body,
        answer=lambda found: found["predictions"][0]["probabilities"],
    ),
    Side(
        name="kserve.Model",
        module="kserve_model",
        own_environment=False,
        path=PREDICT,
        body=predict_body,
        answer=lambda found: found["predictions"][0],
    ),
    Side(
        name="LitServe",
        module="litserve",
        body=_as_json(lambda image: {"image": {"b64": image}}),
        answer=lambda found: found,
    ),
    Side(
        name="BentoML",
        module="bentoml",
        body=_as_json(lambda image: {"posters": [image]}),
        answer=lambda found: found[0],
    ),
    Side(
        name="MLServer",
        module="mlserver",
        path="/v2/models/poster-genre/infer",
        body=_as_json(_v2),
        answer=lambda found: json.loads(found["outputs"][0]["data"][0]),
    ),
    Side(
        name="TorchServe",
        module="torchserve",
        path="/predictions/poster",
        content_type="image/jpeg",
        body=lambda poster: poster,
        answer=lambda found: found,
    ),
    Side(
        name=_TORCH,
        module="kserve_torch",
        own_environment=False,
        path=PREDICT,
        body=predict_body,
        answer=lambda found: found["predictions"][0],
    ),
)


@dataclass(frozen=True)
class Turn:
    """What wrk and we saw while a server was loaded."""

    rate: float
    """Posters a second."""
    p50_ms: float
    p99_ms: float
    cpu_seconds: float
    """The server's CPU time a poster."""
    memory_mb: float
    """The most anonymous memory of all its processes together."""


@dataclass
class Contender:
    """A side whose server runs."""

    side: Side
    server: Server
    requests: Path
    """A folder of request bodies."""

    def check(self, poster: bytes, wanted: dict[str, float]) -> None:
        """Ask for one poster until the server is up; compare the answer.

        Raises:
            RuntimeError: It gives no answer, or another one than the engine.
        """
        url = f"http://127.0.0.1:{self.server.port}{self.side.path}"
        headers = {"Content-Type": self.side.content_type}
        deadline = time.monotonic() + _PATIENCE_SECONDS
        response = None
        while time.monotonic() < deadline and (response is None or response.status_code != 200):
            try:
                response = requests.post(url, self.side.body(poster), headers=headers, timeout=60)
            except requests.ConnectionError:
                time.sleep(0.5)
        if response is None or response.status_code != 200:
            said = response.text if response is not None else "nothing"
            log = self.server.log.read_text()[-3000:]
            raise RuntimeError(f"{self.side.name} answers {said}\n{log}")
        found = self.side.answer(response.json())
        if found.keys() != wanted.keys():
            raise RuntimeError(f"{self.side.name} answers other genres: {sorted(found)}")
        off = max(abs(found[genre] - wanted[genre]) for genre in wanted)
        if off > (_FULL_PRECISION_TOLERANCE if self.side.name == _TORCH else _TOLERANCE):
            raise RuntimeError(f"{self.side.name} is {off:.3f} off the engine's probabilities")

    def turn(self, clients: int, seconds: float) -> Turn:
        """Load the server, and freeze it until its next turn.

        Raises:
            RuntimeError: A request failed.
        """
        self.server.thaw()
        try:
            return self._load(clients, seconds)
        finally:
            self.server.freeze()

    def _load(self, clients: int, seconds: float) -> Turn:
        command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds:g}s", "--timeout", "60s"]
        command += ["-s", str(ROOT / "benchmarks/posters.lua")]
        command += [f"http://127.0.0.1:{self.server.port}{self.side.path}", "--"]
        command += [str(self.requests), str(_POSTERS), self.side.content_type]
        before, memory = self.server.cpu_seconds(), 0.0
        client = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        while client.poll() is None:
            memory = max(memory, self.server.memory_mb())
            time.sleep(0.2)
        cpu = self.server.cpu_seconds() - before
        self._finish()
        assert client.stdout
        seen = json.loads(client.stdout.read().splitlines()[-1])
        if seen["errors"] or not seen["answers"]:
            raise RuntimeError(f"{self.side.name} under load of {clients} clients: {seen}")
        return Turn(
            rate=seen["answers"] / seen["seconds"],
            p50_ms=seen["p50_ms"],
            p99_ms=seen["p99_ms"],
            cpu_seconds=cpu / seen["answers"],
            memory_mb=memory,
        )

    def _finish(self) -> None:
        """Wait until the server has done what wrk left behind: it would slow the next side down.

        Raises:
            RuntimeError: It never comes to rest.
        """
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < deadline:
            before = self.server.cpu_seconds()
            time.sleep(_REST_SECONDS)
            if self.server.cpu_seconds() - before <= _AT_REST * _REST_SECONDS:
                return
        raise RuntimeError(f"{self.side.name} is still busy {_PATIENCE_SECONDS} s after its load")


def loop_cpu(bundle: Bundle, copies: int, seconds: float) -> float:
    """Give the CPU seconds a poster of decoding and inference alone, at the cheapest batch.

    Args:
        bundle: What runs.
        copies: How many loops run at a time: enough for all CPUs to be busy, as under the server.
        seconds: How long each batch is tried.
    """
    found = []
    for batch in (1, 8):
        command = [sys.executable, "-m", "benchmarks.loop", str(bundle.folder)]
        command += ["--batch", str(batch), "--seconds", str(seconds)]
        loops = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) for _ in range(copies)]
        said = [json.loads(loop.communicate()[0])["cpu_seconds"] for loop in loops]
        found.append(sum(said) / copies)
    return min(found)


@dataclass(frozen=True)
class Comparison:
    """Turns of all sides, and of the engine's own loop."""

    alone: dict[str, list[Turn]]
    """With one client."""
    crowd: dict[str, list[Turn]]
    """With 16."""
    loop: list[float]
    """CPU seconds a poster."""
    explain: list[Turn]
    """Of our server, with one client that wants the most probable genre explained."""

    def middle(self, what: str) -> dict[str, float]:
        """Give each side's median; of latencies that at one client, of all else that at 16."""
        return {name: median(_values(turns, what)) for name, turns in self._turns(what).items()}

    def _turns(self, what: str) -> dict[str, list[Turn]]:
        return self.alone if what.endswith("_ms") else self.crowd

    def beside(self, what: str, other: str) -> dict[str, float]:
        """Give each side's median ratio to another's turn of the same round."""
        turns = self._turns(what)
        return {
            name: median(map(truediv, _values(turns[name], what), _values(turns[other], what)))
            for name in turns
        }

    def beside_peers(self, what: str) -> dict[str, float]:
        """Give each side's median ratio to the peer with the best median; NaN if there is none."""
        if not self.peers:
            return dict.fromkeys(self.crowd, np.nan)
        best = max if what == "rate" else min
        return self.beside(what, best(self.peers, key=self.middle(what).__getitem__))

    @property
    def loop_share(self) -> dict[str, float]:
        """Give the own loop's CPU time as a share of each side's, median over the rounds."""
        return {
            name: median(map(truediv, self.loop, _values(turns, "cpu_seconds")))
            for name, turns in self.crowd.items()
        }

    @property
    def explaining(self) -> float:
        """How many times as long explaining takes as predicting."""
        return median(turn.p50_ms for turn in self.explain) / self.middle("p50_ms")[_OURS]

    @property
    def peers(self) -> list[str]:
        """Those that serve the same model file."""
        return [name for name in self.crowd if name not in (_OURS, _TORCH)]


def _values(turns: Sequence[Turn], what: str) -> list[float]:
    return [getattr(turn, what) for turn in turns]


def compare(
    bundle: Bundle, sides: Sequence[Side], posters: Sequence[bytes], rounds: int, seconds: float
) -> Comparison:
    """Let all sides serve a bundle, and load them in turn."""
    size = bundle.info.preprocessing
    engine = Engine(bundle)
    said = [engine.predict(preprocess(file, size)[np.newaxis])[0] for file in posters]
    loops = cpus() if engine.is_quick else 1  # a slow model's takes all CPUs
    found = Comparison({}, {}, [], [])
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="serving-")))
        contenders, explainer = [], None
        for side in sides:
            command = side.command(bundle)
            server = stack.enter_context(running(command, {"BUNDLE": str(bundle.folder)}))
            bodies = _write(scratch / (side.module or "marquee"), map(side.body, posters))
            contender = Contender(side, server, bodies)
            contender.check(posters[0], said[0].probabilities)
            contender.turn(_CLIENTS, _WARM_UP_SECONDS)
            contenders.append(contender)
            if side.name == _OURS:
                asked = map(_explain_body, posters, (prediction.genres[0] for prediction in said))
                explaining = dataclasses.replace(side, path=_EXPLAIN)
                explainer = Contender(explaining, server, _write(scratch / "explain", asked))
        for number in range(rounds):
            # Another one begins each time: nobody shall always come after the own loop.
            first = number % len(contenders)
            order = contenders[first:] + contenders[:first]
            # What is compared comes close together: the machine is not as quick every minute.
            for clients, turns in ((1, found.alone), (_CLIENTS, found.crowd)):
                for contender in order:
                    turn = contender.turn(clients, seconds)
                    turns.setdefault(contender.side.name, []).append(turn)
                    print(contender.side.name, clients, turn, flush=True)
            if explainer:
                found.explain.append(explainer.turn(1, seconds))
            found.loop.append(loop_cpu(bundle, loops, seconds / 2))
    return found


def _write(folder: Path, bodies: Iterable[bytes]) -> Path:
    folder.mkdir()
    for number, body in enumerate(bodies):
        (folder / str(number)).write_bytes(body)
    return folder


def _explain_body(poster: bytes, genre: str) -> bytes:
    document = json.loads(predict_body(poster))
    document["instances"][0]["genres"] = [genre]
    return json.dumps(document).encode()


def table(found: Comparison) -> list[list[str | float]]:
    """Give a row a side: medians over the turns, and ratios to the best peer's."""
    rate, memory, cpu = map(found.middle, ("rate", "memory_mb", "cpu_seconds"))
    p50, p99 = map(found.middle, ("p50_ms", "p99_ms"))
    ratios = [found.beside_peers(what) for what in ("rate", "p50_ms", "memory_mb")]
    share, torch = found.loop_share, found.beside("rate", _TORCH) if _TORCH in rate else {}
    return [
        [
            name,
            f"{rate[name]:.1f}",
            f"{p50[name]:.1f}",
            f"{p99[name]:.1f}",
            f"{memory[name]:.0f}",
            f"{cpu[name] * 1000:.1f}",
            *(f"{ratio[name]:.2f}" for ratio in ratios),
            f"{torch.get(name, np.nan):.2f}",
            f"{share[name]:.0%}",
        ]
        for name in rate
    ]


def claims(found: Comparison, architecture: str, as_shipped: bool) -> list[Claim]:
    """Tell whether our server is what it has to be, beside the sides that were there.

    Args:
        found: With our server among the sides.
        architecture: The bundle's.
        as_shipped: Whether it is in its default precision.
    """
    longest, least_share = _ASKED.get(architecture, _ASKED["vgg16"])
    p99 = found.middle("p99_ms")[_OURS]
    wanted = [
        _at_least("own loop's share of the server's CPU", found.loop_share[_OURS], least_share),
        _at_most("explaining / predicting", found.explaining, 3.0),
    ]
    if found.peers:
        ratios = (found.beside_peers(what)[_OURS] for what in ("rate", "p50_ms", "memory_mb"))
        rate_ratio, p50_ratio, memory_ratio = ratios
        wanted += [
            _at_least("posters/s / best peer's (a tie counts)", rate_ratio, 1 - _TIE),
            _at_most("p50 / best peer's (a tie counts)", p50_ratio, 1 + _TIE),
            _at_most("memory / lightest peer's", memory_ratio, 1.2),
        ]
    if as_shipped:
        wanted.append(_at_most("p99 at one client, ms", p99, longest))
        if _TORCH in found.crowd:
            ratio = found.beside("rate", _TORCH)[_OURS]
            wanted.append(_at_least("posters/s / torch's", ratio, 4.0))
    return wanted


def _at_least(what: str, value: float, limit: float) -> Claim:
    return Claim(what, f"{value:.2f}", f"at least {limit:g}", value >= limit)


def _at_most(what: str, value: float, limit: float) -> Claim:
    return Claim(what, f"{value:.2f}", f"at most {limit:g}", value <= limit)


_COLUMNS = (
    "",
    "posters/s, 16 clients",
    "p50 ms, 1 client",
    "p99 ms, 1 client",
    "memory, MB",
    "CPU ms a poster",
    "posters/s / best peer's",
    "p50 / best peer's",
    "memory / lightest peer's",
    "posters/s / torch's",
    "own loop's share of CPU",
)


def installed(names: Sequence[str]) -> list[Side]:
    """Give the sides asked for, or all; say which are not installed.

    Raises:
        SystemExit: wrk is missing, or no side is left.
    """
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is missing: install it (on Debian: apt-get install wrk)")
    found = []
    for side in SIDES:
        if names and (side.module or "marquee") not in names:
            continue
        if side.python.exists():
            found.append(side)
        else:
            print(f"{side.name} is left out: run `make peers`", file=sys.stderr)
    if not found:
        known = ", ".join(side.module or "marquee" for side in SIDES)
        raise SystemExit(f"no side is left of {', '.join(names)}: name some of {known}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", action="append", default=[], dest="bundles")
    parser.add_argument("--side", action="append", default=[], dest="sides")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each turn")
    parser.add_argument("--precision", action="append", default=[], dest="precisions")
    parser.add_argument("--results", type=Path, default=FILE, help="where figures are written to")
    arguments = parser.parse_args()
    sides = installed(arguments.sides)
    posters, kind = read_posters(_POSTERS)
    holds = True
    with tempfile.TemporaryDirectory(prefix="bundles-") as scratch:
        for bundle in bundles(arguments.bundles, Path(scratch)):
            shipped = bundle.info.precision
            for precision in arguments.precisions or bundle.info.variants:
                served = in_precision(bundle, precision, Path(scratch))
                found = compare(served, sides, posters, arguments.rounds, arguments.seconds)
                as_shipped = ", as shipped" if precision == shipped else ""
                title = f"Serving: {bundle.info.architecture}, {precision}{as_shipped}"
                command = (
                    "python -m benchmarks.serving --bundle BUNDLE "
                    f"--rounds {arguments.rounds} --seconds {arguments.seconds:g}"
                )
                note = _note(bundle, kind, arguments.rounds, found)
                record(title, command, _COLUMNS, table(found), note, arguments.results)
                if _OURS in found.crowd:
                    asked = claims(found, bundle.info.architecture, precision == shipped)
                    title += ": what is asked"
                    holds &= record_claims(title, command, asked, file=arguments.results)
    raise SystemExit(not holds)


def _note(bundle: Bundle, kind: str, rounds: int, found: Comparison) -> str:
    size = bundle.info.preprocessing
    explain = ""
    if found.explain:
        slow = median(turn.p50_ms for turn in found.explain)
        explain = (
            f" Explaining the most probable genre, predicting included: p50 {slow:.1f} ms at one "
            f"client, {found.explaining:.2f} times predicting."
        )
    return (
        f"{_POSTERS} {kind} posters, stretched to {size.height}x{size.width}; wrk on the same "
        f"cores, the other servers frozen; medians of {rounds} interleaved turns, a ratio's being "
        "that of turns of the same round. All sides but torch run the same model file by our "
        "engine, on as many threads, and decode with marquee.images; torch runs the weights in "
        "fp32. Memory (anonymous, what processes share counted once) and CPU time are those of all "
        "processes of a side, at 16 clients. "
        "The own loop decodes and infers without a server, on all CPUs, at the cheaper of batches "
        "of 1 and 8: "
        f"{median(found.loop) * 1000:.1f} CPU ms a poster.{explain}"
    )


if __name__ == "__main__":
    main()
