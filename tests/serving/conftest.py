"""Servers for the tests of this folder."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bundles import tiny_bundle
from collector import Collector, collecting
from servers import Server, command, start_server

from marquee.bundle import Bundle


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that all tests share; whatever they send, it has to stay up."""
    folder = tmp_path_factory.mktemp("server")
    server = start_server(tiny_bundle(folder / "bundle"), folder / "log")
    yield server
    server.process.kill()
    server.process.wait()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts servers of this test's own: `start(bundle, *options)`."""
    servers: list[Server] = []

    def start(bundle: Bundle, *options: object) -> Server:
        servers.append(start_server(bundle, tmp_path / f"log{len(servers)}", *options))
        return servers[-1]

    yield start
    for server in servers:
        server.process.kill()
        server.process.wait()


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """Gets the traces of servers that are started from now on."""
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        yield collector


@pytest.fixture
def refused() -> Callable[..., tuple[int, str]]:
    """Runs `marquee serve` where it cannot start; gives the exit status and what it said."""

    def run(*arguments: object) -> tuple[int, str]:
        result = subprocess.run(
            command(*arguments), capture_output=True, text=True, timeout=60, check=False
        )
        return result.returncode, result.stderr

    return run
