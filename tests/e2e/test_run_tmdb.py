"""`marquee run --source tmdb`: slices side by side, one merge, and the gates on licences."""

import json
import subprocess
import sys

import pytest

from components.ingest.tmdb_server.server import TmdbServer
from marquee import licences
from marquee.catalog import Catalog

FILMS = 120


@pytest.fixture(scope="module")
def server():
    with TmdbServer(films=FILMS) as running:
        yield running


def marquee(server, *arguments, **environment):
    command = [sys.executable, "-m", "marquee", *map(str, arguments), "--base-url", server.base_url]
    command += ["--set", "tmdb.rate=0", "--set", "tmdb.poster_size=w92"]
    path = {"PATH": "/usr/bin:/bin", "TMDB_READ_ACCESS_TOKEN": "any"}
    return subprocess.run(command, capture_output=True, text=True, env=path | environment)


@pytest.fixture(scope="module")
def run(server, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "out"
    tiny = {"height": 48, "width": 32, "epochs": 2, "workers": 0}
    options = [f"train.custom_cnn.{name}={value}" for name, value in tiny.items()]
    options += ["tmdb.slice_pages=2", "licence.imdb_agreement=invented titles"]
    result = marquee(
        server,
        *("run", "--source", "tmdb", "--imdb", server.titles_url, "--arch", "custom_cnn"),
        *("--out", out, "--weights", "random"),
        *(word for option in options for word in ("--set", option)),
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return out, result


def test_the_slices_become_one_catalog(run, server, tmp_path):
    out, _ = run
    slices = sorted((out / "ingest/slices").glob("*.json"))
    assert len(slices) >= 3
    assert Catalog(str(out / "catalog")).manifest.rows == FILMS
    alone = marquee(
        server,
        *("ingest", "--source", "tmdb", "--imdb", server.titles_url, "--out", tmp_path / "c"),
    )
    assert alone.returncode == 0, alone.stderr
    digests = [Catalog(str(path)).manifest.digest for path in (out / "catalog", tmp_path / "c")]
    assert digests[0] == digests[1]


def test_the_labels_are_compared_for_people_and_machines(run):
    out, result = run
    assert "agreement between the label sources" in result.stdout
    assert "TMDB" in result.stdout and "IMDb" in result.stdout
    found = json.loads((out / "ingest/agreement.json").read_text())
    assert {(pair["first"], pair["second"]) for pair in found["pairs"]} == {("tmdb", "imdb")}
    (summed,) = json.loads((out / "summary.json").read_text())["agreement"]
    assert summed["sources"] == ["tmdb", "imdb"] and 0.5 < summed["macro_jaccard"] < 1
    assert "Information courtesy of IMDb" in (out / "reports/agreement.html").read_text()


def test_joined_labels_need_an_agreement(server, tmp_path):
    catalog = tmp_path / "catalog"
    marquee(server, "ingest", "--source", "tmdb", "--imdb", server.titles_url, "--out", catalog)
    command = [sys.executable, "-m", "marquee", "validate", str(catalog)]
    refused = subprocess.run(command, capture_output=True, text=True)
    assert refused.returncode == 3
    assert "non-commercial" in refused.stderr
    command += ["--set", "licence.imdb_agreement=contract 7"]
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert licences.IMDB in str(Catalog(str(catalog)).frame(["label_licences"]).iloc[0].to_dict())


def test_a_missing_token_is_said_at_once(server, tmp_path):
    result = marquee(
        server, *("run", "--source", "tmdb", "--out", tmp_path / "out"), TMDB_READ_ACCESS_TOKEN=""
    )
    assert result.returncode == 2
    assert "there is no token for TMDB" in result.stderr
    assert "marquee tmdb-server" in result.stderr
