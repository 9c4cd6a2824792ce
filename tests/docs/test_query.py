"""The programs of docs/query.md, run as they stand against a server that wants a token."""

import json
import os
import re
import subprocess
import sys

import pytest
from bundles import tiny_bundle
from helpers import ROOT, encode, noise_poster, require_tool
from servers import start_server

PAGE = (ROOT / "docs/query.md").read_text()
TOKEN = "the-only-token"


def program(language):
    """Give the page's only program in a language."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("query")
    tokens = folder / "tokens"
    tokens.write_text(TOKEN)
    running = start_server(
        tiny_bundle(folder / "bundle"), folder / "log", "--host", "0.0.0.0", "--token-file", tokens
    )
    yield running
    running.stop()


@pytest.fixture
def run(server, tmp_path):
    """Run a program of the page in a folder with a poster."""
    (tmp_path / "poster.jpg").write_bytes(encode(noise_poster(1)))

    def run(language, token=TOKEN):
        commands = {
            "sh": ["sh", "-ec", program("sh")],
            "python": [sys.executable, "-c", program("python")],
            "js": ["node", "query.mjs"],
        }
        if language == "sh":
            require_tool("curl")
        if language == "js":
            require_tool("node", "nodejs")
            (tmp_path / "query.mjs").write_text(program("js"))
        url = f"http://127.0.0.1:{server.url.rpartition(':')[2]}"
        return subprocess.run(
            commands[language],
            cwd=tmp_path,
            env={**os.environ, "ENDPOINT": url, "TOKEN": token},
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


@pytest.mark.parametrize("language", ["sh", "python", "js"])
def test_it_prints_genres(run, server, language):
    done = run(language)
    assert done.returncode == 0, done.stderr
    if language == "sh":
        (prediction,) = json.loads(done.stdout)["predictions"]
        assert prediction["model_version"] == server.bundle.version
        assert prediction["era"] == {"value": "new_hollywood", "source": "given"}
    for genre in server.bundle.info.genres:
        assert genre in done.stdout


@pytest.mark.parametrize("language", ["sh", "python", "js"])
def test_a_wrong_token_is_told(run, language):
    done = run(language, token="another")
    assert done.returncode != 0
    assert "token" in done.stdout + done.stderr
