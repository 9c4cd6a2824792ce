"""A bad day at TMDB: faults of every kind, a minute of refusals, and our process killed thrice."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time

import pytest

from components.ingest.tmdb_server.server import TmdbServer
from marquee import storage
from marquee.catalog import Catalog

FILMS = 600
KILLS = 3


def command(server, out):
    return [
        *(sys.executable, "-m", "marquee", "ingest", "--source", "tmdb", "--out", str(out)),
        *("--base-url", server.base_url, "--image-base-url", server.image_base_url, "--rate", "0"),
        *("--set", "tmdb.poster_size=w92", "--set", "tmdb.timeout=1"),
        *("--set", "ingest.part_rows=25", "--set", "tmdb.slice_pages=10"),
    ]


def stored(out):
    """The posters that the catalog holds."""
    if not storage.exists(str(out / "catalog.json")):
        return set()
    return set(Catalog(str(out)).frame([])["poster_id"])


def posters_fetched(lines):
    paths = [json.loads(line)["path"] for line in lines]
    return {f"tmdb-{found[1]}" for path in paths if (found := re.match(r"/t/p/w92/(\d+)", path))}


@pytest.mark.slow
def test_a_bad_day_ends_in_the_same_catalog(tmp_path, monkeypatch):
    monkeypatch.setenv("TMDB_READ_ACCESS_TOKEN", "any")
    posters = tmp_path / "posters"
    with TmdbServer(films=FILMS, cache=posters) as calm:
        subprocess.run(command(calm, tmp_path / "calm"), check=True, capture_output=True)
    log, out = tmp_path / "server.log", tmp_path / "out"
    faults = {"5xx": 0.05, "timeout": 0.02, "truncate": 0.01}
    chance = random.Random(20261122)
    at_kill = []
    with TmdbServer(
        films=FILMS, cache=posters, log=log, faults=faults, throttle_seconds=60
    ) as server:
        for _ in range(KILLS):
            process = subprocess.Popen(command(server, out), env=os.environ)
            aim = server.requests["image"] + chance.randrange(40, 160)
            while server.requests["image"] < aim and process.poll() is None:
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
            at_kill.append((len(log.read_text().splitlines()), stored(out)))
        subprocess.run(command(server, out), check=True)
        counts = server.requests
    assert all(counts[kind] for kind in ("5xx", "timeout", "truncate", "throttle"))
    assert Catalog(str(out)).manifest.digest == Catalog(str(tmp_path / "calm")).manifest.digest
    assert Catalog(str(out)).manifest.rows == FILMS
    lines = log.read_text().splitlines()
    assert at_kill[-1][1], "the kills came before anything was stored"
    for line, kept in at_kill:
        assert not posters_fetched(lines[line:]) & kept
