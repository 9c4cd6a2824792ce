"""Evaluation, `marquee predict` and the server say the same of the same posters."""

import base64
import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from components.evaluate.evaluate import predict_posters
from marquee.bundle import load
from marquee.catalog import Catalog
from marquee.engine import Engine

POSTERS = 21


@pytest.fixture(scope="module")
def posters(drawn_catalog, tmp_path_factory):
    """Some posters as files, and the catalog's rows of them."""
    folder = tmp_path_factory.mktemp("posters")
    catalog = Catalog(drawn_catalog)
    frame = catalog.frame(["shard_offset", "size"]).head(POSTERS)
    for poster_id, data in catalog.stream_images(frame):
        (folder / f"{poster_id}.jpg").write_bytes(data)
    return folder, catalog, frame


def _by_command(bundle: str, folder: Path) -> np.ndarray:
    command = [sys.executable, "-m", "marquee", "predict", bundle, str(folder), "--json"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    answers = [json.loads(line) for line in output.splitlines()]
    assert [Path(answer["file"]).name for answer in answers] == sorted(
        path.name for path in folder.iterdir()
    )
    return np.array([list(answer["probabilities"].values()) for answer in answers])


def _by_server(bundle: str, folder: Path, batch: int) -> np.ndarray:
    command = [sys.executable, "-m", "marquee", "serve", bundle, "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        url = next(word for word in line.split() if word.startswith("http"))
        files = [path.read_bytes() for path in sorted(folder.iterdir())]
        rows = []
        for start in range(0, len(files), batch):
            chunk = files[start : start + batch]
            body = {"instances": [{"image": {"b64": base64.b64encode(x).decode()}} for x in chunk]}
            request = urllib.request.Request(
                f"{url}/v1/models/poster-genre:predict", json.dumps(body).encode()
            )
            with urllib.request.urlopen(request, timeout=60) as response:
                predictions = json.load(response)["predictions"]
            rows += [list(entry["probabilities"].values()) for entry in predictions]
        return np.array(rows)
    finally:
        os.kill(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


@pytest.mark.parametrize("name", ["custom_cnn", "vgg16"])
def test_all_three_agree(name, drawn_bundles, posters):
    folder, catalog, frame = posters
    bundle = drawn_bundles[name]
    evaluated = predict_posters(Engine(load(bundle)), catalog, frame)
    assert np.ptp(evaluated, axis=0).max() > 0.01
    assert np.abs(_by_command(bundle, folder) - evaluated).max() < 1e-5
    for batch in (1, 5):
        assert np.abs(_by_server(bundle, folder, batch) - evaluated).max() < 1e-5
