"""A real server in a process of its own, on a free port of the loopback interface."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from bundles import tiny_bundle

from marquee.bundle import Bundle


def _command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "marquee", "serve", *map(str, arguments)]


@dataclass
class Server:
    process: subprocess.Popen[str]
    url: str
    bundle: Bundle
    log: Path

    def get(self, path: str) -> requests.Response:
        return requests.get(self.url + path, timeout=30)

    def post(self, path: str, data: bytes | str, **headers: str) -> requests.Response:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return requests.post(self.url + path, data=data, headers=names, timeout=60)

    def predict(self, body: bytes | str, **headers: str) -> requests.Response:
        return self.post("/v1/models/poster-genre:predict", body, **headers)

    def infer(self, body: bytes | str, **headers: str) -> requests.Response:
        return self.post("/v2/models/poster-genre/infer", body, **headers)

    def stop(self) -> int:
        """Send SIGTERM and give the exit status."""
        self.process.terminate()
        return self.process.wait(timeout=30)


def _start(bundle: Bundle, log: Path, *options: object) -> Server:
    with log.open("w") as stream:
        process = subprocess.Popen(
            _command(bundle.folder, "--port", 0, *options),
            stdout=subprocess.PIPE,
            stderr=stream,
            text=True,
        )
    line = process.stdout.readline()
    if " is ready at " not in line:
        process.kill()
        raise RuntimeError(f"the server did not start: {line}{log.read_text()}")
    return Server(process, line.split(" is ready at ")[1].split()[0], bundle, log)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that all tests share; whatever they send, it has to stay up."""
    folder = tmp_path_factory.mktemp("server")
    server = _start(tiny_bundle(folder / "bundle"), folder / "log")
    yield server
    server.process.kill()
    server.process.wait()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts servers of this test's own: `start(bundle, *options)`."""
    servers: list[Server] = []

    def start(bundle: Bundle, *options: object) -> Server:
        servers.append(_start(bundle, tmp_path / f"log{len(servers)}", *options))
        return servers[-1]

    yield start
    for server in servers:
        server.process.kill()
        server.process.wait()


@pytest.fixture
def refused() -> Callable[..., tuple[int, str]]:
    """Runs `marquee serve` where it cannot start; gives the exit status and what it said."""

    def run(*arguments: object) -> tuple[int, str]:
        result = subprocess.run(
            _command(*arguments), capture_output=True, text=True, timeout=60, check=False
        )
        return result.returncode, result.stderr

    return run
