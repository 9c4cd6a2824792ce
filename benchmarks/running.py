"""Servers that are measured: each a process of its own on loopback, watched from outside."""

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.memory import together
from marquee.processes import family, free_port

ROOT = Path(__file__).parents[1]
PREDICT = "/v1/models/poster-genre:predict"
_READY_SECONDS = 120
_STOP_SECONDS = 60
_PATIENT = {"OMP_WAIT_POLICY": "PASSIVE"}
"""PyTorch's threads spin while they wait for each other, and here they share cores with the client:
without this, the server that runs in PyTorch would look worse than it is."""
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Server:
    """A server and all processes below it."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def cpu_seconds(self) -> float:
        """Give the CPU time that its processes have used so far, ended ones included."""
        return sum(_cpu_seconds(pid) for pid in family(self.process.pid))

    def memory_mb(self) -> float:
        """Give the anonymous memory that its processes hold together."""
        return together(self.process.pid) / 1024

    def wait_until_ready(self) -> None:
        """Wait until it listens; that it answers is for its first requests to show.

        Raises:
            RuntimeError: It ended, or does not listen in time.
        """
        deadline = time.monotonic() + _READY_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.1)
        raise RuntimeError(f"the server did not start:\n{self.log.read_text()[-3000:]}")

    def freeze(self) -> None:
        """Halt its processes: some servers poll while they are idle, and slow others down."""
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let its processes go on."""
        self._send(signal.SIGCONT)

    def _send(self, number: signal.Signals) -> None:
        for pid in family(self.process.pid):
            _send(os.kill, pid, number)

    def stop(self) -> int:
        """Send SIGTERM, wait, and give the exit status; what outlives it is killed."""
        self.thaw()
        below = family(self.process.pid)[1:]
        self.process.terminate()
        try:
            return self.process.wait(_STOP_SECONDS)
        finally:
            # Whoever lost its parent is in no family any more, but in the group.
            _send(os.killpg, self.process.pid, signal.SIGKILL)
            for pid in below:
                _send(os.kill, pid, signal.SIGKILL)


def _send(
    way: Callable[[int, signal.Signals], None], receiver: int, number: signal.Signals
) -> None:
    with contextlib.suppress(ProcessLookupError):
        way(receiver, number)


def _cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return sum(map(int, fields[11:15])) / _TICKS


@contextmanager
def running(
    command: Sequence[str], environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Start a server, wait until it listens, and stop it in the end.

    Args:
        command: The command; `{port}` in it becomes a free port, which `$PORT` holds too.
        environment: Variables beside this process's.
    """
    _allow_connections()
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="server-") as folder:
        log = Path(folder) / "log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [word.replace("{port}", str(port)) for word in command],
                env={**os.environ, **_PATIENT, **(environment or {}), "PORT": str(port)},
                cwd=ROOT,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        server = Server(process, port, log)
        try:
            server.wait_until_ready()
            yield server
        finally:
            server.stop()


def _allow_connections() -> None:
    """Let this process and the servers below it have as many connections as the system allows."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def marquee(bundle: str, *options: str) -> list[str]:
    """Give the command of our own server."""
    return [sys.executable, "-m", "marquee", "serve", bundle, "--port", "{port}", *options]
