"""A real server in a process of its own, on a free port of the loopback interface."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import requests

from marquee.bundle import Bundle


def command(*arguments: object) -> list[str]:
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


def start_server(bundle: Bundle, log: Path, *options: object) -> Server:
    with log.open("w") as stream:
        process = subprocess.Popen(
            command(bundle.folder, "--port", 0, *options),
            stdout=subprocess.PIPE,
            stderr=stream,
            text=True,
        )
    line = process.stdout.readline()
    if " is ready at " not in line:
        process.kill()
        raise RuntimeError(f"the server did not start: {line}{log.read_text()}")
    return Server(process, line.split(" is ready at ")[1].split()[0], bundle, log)
