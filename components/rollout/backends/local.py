"""A rollout on one machine: model servers behind the splitter, as processes that outlive us.

A deployment is a folder::

    world.json     what is to run, and on which ports
    state.json     the latest rollout
    request.json   what a person asked of it
    records/       the model servers' prediction records
    logs/

Which processes run is read from the machine, not from a file: whoever starts one may be killed
before it could write that down.
"""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests

from components.rollout.backends import Readiness, Request, asking
from components.rollout.evidence import Answers, Latencies, Side, Sighting, Traffic
from components.rollout.replay import Ask
from components.rollout.state import Model, State, World
from marquee import storage
from marquee.errors import DataError, InfrastructureError, UsageError
from marquee.processes import free_port
from marquee.records import REPLAY_CLIENT, RecordReader
from marquee.storage import Conflict

_WORLD, _STATE, _REQUEST = "world.json", "state.json", "request.json"
_MARQUEE = (sys.executable, "-m", "marquee")
_FOLDER_MARK, _SERVER_MARK = "MARQUEE_DEPLOYMENT", "MARQUEE_DEPLOYED"
"""In the environment of a deployment's processes: whose they are, and what each of them is."""
_SPLITTER = "splitter"
_PATIENCE_SECONDS = 10.0
_STARTS = 3
"""How often a leader starts a model server: one that keeps crashing is not started for ever."""
_END_SECONDS = 60.0
"""How long a server that is not needed any more may take to end."""
_RECORD_SECONDS = 5.0
"""How often the servers write records; a laptop's traffic is little."""
_RECORDS_BEHIND = 3 * _RECORD_SECONDS
"""Records of a stretch are read when the files that hold them are there."""
SAID = ("model_version", "client_id", "probabilities", "unsure")
"""The columns of prediction records that tell what a model said to whom."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The content of world.json: what runs on which port."""

    port: int
    """Of the splitter, which users talk to."""
    control: int
    """Of the splitter, which the rollout talks to."""
    stable: Model | None = None
    canary: Model | None = None
    percent: int = 0
    ports: dict[str, int] = field(default_factory=dict)
    """Of the model servers, by version."""

    def models(self) -> list[Model]:
        """Give what is served."""
        return [model for model in (self.stable, self.canary) if model]


class LocalBackend:
    """Model servers and a splitter on this machine.

    Args:
        folder: The deployment's.
        port: Of the splitter, when the deployment is new; 0 for any free one.
        program: What stands before `serve BUNDLE` to start a model server.
        splitter: Options of the splitter.
    """

    def __init__(
        self,
        folder: Path,
        port: int = 0,
        program: Sequence[str] = _MARQUEE,
        splitter: Sequence[str] = (),
    ) -> None:
        self._folder = folder.absolute()
        self._port = port
        self._program = program
        self._splitter = splitter
        self._reader = RecordReader(self.records)
        self._starts: Counter[str] = Counter()
        self._told_to_end: dict[int, float] = {}

    @property
    def url(self) -> str:
        """Where users send requests."""
        return f"http://127.0.0.1:{self._layout().port}"

    @property
    def records(self) -> str:
        """Where the models' prediction records are."""
        return self._place("records")

    def stable(self) -> Model | None:
        """Give the model that is served."""
        return self._layout().stable

    def snapshot(self) -> dict[str, Any]:
        """Give nothing: which bundle is stable is all there is to put back."""
        return {}

    def read(self) -> tuple[State | None, str]:
        """Give the latest rollout, and a token of this version."""
        data, token = storage.read_versioned(self._place(_STATE))
        return (State.from_json(data, self._place(_STATE)) if data else None), token

    def write(self, state: State, token: str) -> str:
        """Replace the state unless somebody else did so; give the new token."""
        data = state.to_json().encode()
        storage.replace_versioned(self._place(_STATE), data, token)
        return hashlib.sha256(data).hexdigest()

    def request(self) -> Request | None:
        """Give what a person asked for last."""
        place = self._place(_REQUEST)
        if not storage.exists(place):
            return None
        return Request(**json.loads(storage.read_text(place)))

    def post(self, request: Request) -> None:
        """Leave what a person asks for."""
        storage.write_text(self._place(_REQUEST), json.dumps(asdict(request)))

    def arrange(self, world: World, original: dict[str, Any], token: str) -> None:
        """Start what is to run, route the traffic, and stop what is not to run any more."""
        if self.read()[1] != token:
            raise Conflict("another process leads this rollout", remedy="see its status")
        layout = self._settle(world)
        if not layout.models():
            self.stop()
            return
        self._start_splitter(layout)
        for model in layout.models():
            self._start_server(model, layout.ports[model.version])
        if self._routes() == _routes(layout):
            # It was so at the last look already: nothing is on its way to the others any more.
            self._end_others(layout)
        else:
            self._route(layout)

    def rehearse(self, world: World, original: dict[str, Any]) -> None:
        """Do nothing: nobody here refuses a world."""

    def readiness(self, world: World) -> Readiness:
        """Tell whether the servers answer and the splitter routes to them."""
        layout = self._layout()
        if not layout.models():
            ending = any(self._running())
            return Readiness(ready=not ending, reason="what ran is ending" if ending else "")
        for model in layout.models():
            port = layout.ports[model.version]
            if not _is_ready(port):
                runs = bool(self._processes(_mark(model.version, port)))
                log = self._log(model.version)
                reason = "it is starting" if runs else f"it has ended: {_last_line(log)}"
                return Readiness(ready=False, reason=reason, hopeless=not runs)
        routed = self._routes() == _routes(layout)
        if not routed:
            return Readiness(ready=False, reason="traffic is not routed yet")
        ending = bool(self._others(layout))
        return Readiness(ready=not ending, reason="an old server is ending" if ending else "")

    def sighting(self, since: float, until: float) -> Sighting:
        """Give what the splitter counted, and what the records of a little earlier say."""
        layout = self._layout()
        seen = self._control("GET", f"/traffic?since={since}&until={until}")
        said = self._answers(layout, since - _RECORDS_BEHIND, until - _RECORDS_BEHIND)
        return Sighting(
            stable=Side(traffic=_traffic(seen["stable"]), answers=said["stable"]),
            canary=Side(traffic=_traffic(seen["canary"]), answers=said["canary"]),
        )

    def ask(self, canary: bool) -> Ask:
        """Give a way to ask one of the models itself."""
        layout = self._layout()
        model = layout.canary if canary else layout.stable
        if model is None:
            raise DataError("there is no such model", remedy="arrange it first")
        return asking(f"http://127.0.0.1:{layout.ports[model.version]}")

    def up(self, seconds: float = 60.0) -> None:
        """Start what ran before `stop`, or before this machine was started anew.

        Args:
            seconds: How long it may take.

        Raises:
            UsageError: Nothing was ever served here.
            InfrastructureError: It does not get ready.
        """
        deadline = time.monotonic() + seconds
        while True:
            state, token = self.read()
            if state is None or state.world.stable is None:
                raise UsageError("nothing was ever served here", remedy="roll a bundle out to it")
            self.arrange(state.world, {}, token)
            readiness = self.readiness(state.world)
            if readiness.ready:
                return
            if time.monotonic() > deadline:
                raise InfrastructureError(
                    f"it does not get ready: {readiness.reason}",
                    remedy=f"see {self._folder / 'logs'}",
                )
            time.sleep(0.2)

    def stop(self) -> None:
        """End all processes of the deployment; what it was stays written down."""
        for _, process in self._running():
            _send(process, signal.SIGTERM)

    def _place(self, name: str) -> str:
        return str(self._folder / name)

    def _log(self, name: str) -> Path:
        return self._folder / "logs" / f"{name[:12]}.log"

    def _layout(self) -> Layout:
        place = self._place(_WORLD)
        if not storage.exists(place):
            return Layout(port=0, control=0)
        document = json.loads(storage.read_text(place))
        models = {
            side: Model(**document[side]) if document[side] else None
            for side in ("stable", "canary")
        }
        return Layout(**document | models)

    def _settle(self, world: World) -> Layout:
        """Write down what is to run, with a port for each, before anything is started."""
        old = self._layout()
        models = [model for model in (world.stable, world.canary) if model]
        ports = {model.version: _port(old, model) for model in models}
        layout = Layout(
            port=old.port or self._port or free_port(),
            control=old.control or free_port(),
            stable=world.stable,
            canary=world.canary,
            percent=world.percent,
            ports=ports,
        )
        if layout != old:
            storage.write_text(self._place(_WORLD), json.dumps(asdict(layout), indent=2) + "\n")
        return layout

    def _start_splitter(self, layout: Layout) -> None:
        if self._processes(_SPLITTER):
            return
        command = [sys.executable, "-m", "components.rollout.splitter"]
        command += ["--port", str(layout.port), "--control", str(layout.control), *self._splitter]
        self._start(command, self._log(_SPLITTER), _SPLITTER)
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < deadline:
            try:
                self._routes()
            except InfrastructureError:
                time.sleep(0.05)
            else:
                return

    def _start_server(self, model: Model, port: int) -> None:
        mark = _mark(model.version, port)
        if self._processes(mark) or self._starts[mark] >= _STARTS:
            return
        self._starts[mark] += 1
        command = [*self._program, "serve", model.uri, "--port", str(port)]
        command += ["--records", self.records]
        command += ["--record-seconds", str(_RECORD_SECONDS)]
        command += ["--require-signature"] if model.signed else []
        self._start(command, self._log(model.version), mark)

    def _start(self, command: list[str], log: Path, mark: str) -> None:
        marks = {_FOLDER_MARK: str(self._folder), _SERVER_MARK: mark}
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as stream:
            subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,  # it outlives us, and our terminal
                env=os.environ | marks,
            )

    def _route(self, layout: Layout) -> None:
        """Send traffic to models that are ready; until all are, it goes where it went."""
        routes = _routes(layout)
        if routes and all(_is_ready(port) for port in layout.ports.values()):
            self._control("PUT", "/routes", routes)

    def _end_others(self, layout: Layout) -> None:
        """Tell the servers that are not needed any more to end; kill those that do not."""
        now = time.monotonic()
        for process in self._others(layout):
            begun = self._told_to_end.setdefault(process, now)
            _send(process, signal.SIGKILL if now - begun > _END_SECONDS else signal.SIGTERM)

    def _others(self, layout: Layout) -> list[int]:
        """Give the servers that are not needed any more; what is in flight they answer first."""
        wanted = {_SPLITTER, *(_mark(*item) for item in layout.ports.items())}
        return [process for mark, process in self._running() if mark not in wanted]

    def _running(self) -> Iterator[tuple[str, int]]:
        """Give the deployment's processes, each behind the mark of what it is."""
        mark = f"{_FOLDER_MARK}={self._folder}"
        for entry in Path("/proc").glob("[0-9]*/environ"):
            try:
                words = entry.read_bytes().decode(errors="replace").split("\0")
            except OSError:  # another user's, or gone by now
                continue
            if mark in words:
                name = next(word for word in words if word.startswith(f"{_SERVER_MARK}="))
                yield name.partition("=")[2], int(entry.parent.name)

    def _processes(self, mark: str) -> list[int]:
        return [process for found, process in self._running() if found == mark]

    def _routes(self) -> dict[str, Any] | None:
        routes: dict[str, Any] | None = self._control("GET", "/routes")
        return routes

    def _control(self, method: str, path: str, document: Any = None) -> Any:
        url = f"http://127.0.0.1:{self._layout().control}{path}"
        try:
            response = requests.request(method, url, json=document, timeout=_PATIENCE_SECONDS)
            response.raise_for_status()
        except requests.RequestException as error:
            raise InfrastructureError(
                f"the splitter does not answer ({error})", remedy=f"see {self._log('splitter')}"
            ) from error
        return response.json()

    def _answers(self, layout: Layout, since: float, until: float) -> dict[str, Answers]:
        first, end = (datetime.fromtimestamp(moment, UTC) for moment in (since, until))
        rows = self._reader.read(first, end, SAID).to_pylist()
        sides = (("stable", layout.stable), ("canary", layout.canary))
        return {side: said_by(model.version if model else "", rows) for side, model in sides}

    def wait(self, seconds: float) -> None:
        """Wait; no longer than until there is a new request."""
        before, deadline = self.request(), time.monotonic() + seconds
        while time.monotonic() < deadline and self.request() == before:
            time.sleep(min(0.2, max(0.0, deadline - time.monotonic())))


def said_by(version: str, rows: Sequence[Mapping[str, Any]]) -> Answers:
    """Count what a version said to users: of each request, one poster.

    The posters of a request have one time, go to one model, and may all be of one kind.

    Args:
        version: The model's version.
        rows: Prediction records, `time` and the columns `SAID` of them.
    """
    mine = {
        row["time"]: row
        for row in rows
        if row["model_version"] == version and row["client_id"] != REPLAY_CLIENT
    }.values()
    unsure = sum(row["unsure"] for row in mine)
    return Answers.of([dict(row["probabilities"]) for row in mine], unsure)


def _routes(layout: Layout) -> dict[str, Any] | None:
    """Give what the splitter should be told; nothing if there is nothing to route to."""
    if layout.stable is None:
        return None
    canary = f"http://127.0.0.1:{layout.ports[layout.canary.version]}" if layout.canary else ""
    return {
        "stable": f"http://127.0.0.1:{layout.ports[layout.stable.version]}",
        "canary": canary,
        "percent": layout.percent,
    }


def _traffic(entries: Sequence[tuple[bool, float]]) -> Traffic:
    good = [milliseconds for failed, milliseconds in entries if not failed]
    return Traffic(
        requests=len(entries), errors=len(entries) - len(good), latencies=Latencies.of(good)
    )


def _mark(version: str, port: int) -> str:
    """Tell a server from others of the same version, such as one that is ending."""
    return f"{version}:{port}"


def _port(layout: Layout, model: Model) -> int:
    return layout.ports.get(model.version) or free_port()


def _is_ready(port: int) -> bool:
    try:
        url = f"http://127.0.0.1:{port}/v2/health/ready"
        return requests.get(url, timeout=_PATIENCE_SECONDS).status_code == 200
    except requests.RequestException:
        return False


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return lines[-1] if lines else "it left no log"


def _send(process: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, number)
