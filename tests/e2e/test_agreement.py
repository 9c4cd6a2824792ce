"""Evaluation, `marquee predict` and the server say the same of the same posters."""

import base64
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from onnxruntime.quantization import CalibrationDataReader, quantize_static

from components.evaluate.evaluate import predict_posters
from marquee.bundle import Bundle, load, seal
from marquee.catalog import Catalog
from marquee.engine import Engine
from marquee.images import preprocess

POSTERS = 21
BATCH = 8
"""What evaluation, the command and the server run at once."""


@pytest.fixture(scope="module")
def posters(drawn_catalog, tmp_path_factory):
    """Some posters as files, and the catalog's rows of them."""
    folder = tmp_path_factory.mktemp("posters")
    catalog = Catalog(drawn_catalog)
    frame = catalog.frame(["shard_offset", "size", "sha256"]).head(POSTERS)
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


class _Posters(CalibrationDataReader):
    def __init__(self, bundle: Bundle, folder: Path) -> None:
        files = sorted(folder.iterdir())
        images = [preprocess(file.read_bytes(), bundle.info.preprocessing) for file in files]
        self._inputs = iter([{"image": image[None]} for image in images])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._inputs, None)


@pytest.fixture(scope="module")
def reduced(drawn_bundles, posters, tmp_path_factory) -> str:
    """The custom CNN's bundle with an int8 variant as its default precision."""
    bundle = load(drawn_bundles["custom_cnn"])
    folder = tmp_path_factory.mktemp("reduced") / "bundle"
    shutil.copytree(bundle.folder, folder)
    quantize_static(
        str(folder / "model.onnx"),
        str(folder / "model.int8.onnx"),
        _Posters(bundle, posters[0]),
        op_types_to_quantize=["Conv", "Gemm", "MatMul"],
    )
    variants = {**bundle.info.variants, "int8": "model.int8.onnx"}
    seal(folder, dataclasses.replace(bundle.info, variants=variants, precision="int8"))
    return str(folder)


@pytest.mark.parametrize("name", ["custom_cnn", "vgg16"])
def test_all_three_agree_in_fp32(name, drawn_bundles, posters):
    folder, catalog, frame = posters
    bundle = drawn_bundles[name]
    evaluated = predict_posters(Engine(load(bundle)), catalog, frame)
    assert np.ptp(evaluated, axis=0).max() > 0.01
    assert np.abs(_by_command(bundle, folder) - evaluated).max() < 1e-5
    for batch in (1, 5):
        assert np.abs(_by_server(bundle, folder, batch) - evaluated).max() < 1e-5


def test_all_three_agree_in_reduced_precision(reduced, drawn_bundles, posters):
    folder, catalog, frame = posters
    engine = Engine(load(reduced))
    assert engine.precision == "int8"
    evaluated = predict_posters(engine, catalog, frame)
    full = predict_posters(Engine(load(drawn_bundles["custom_cnn"])), catalog, frame)
    assert np.abs(evaluated - full).max() > 1e-5
    assert np.abs(_by_command(reduced, folder) - evaluated).max() < 1e-5
    assert np.abs(_by_server(reduced, folder, BATCH) - evaluated).max() < 1e-5
    for batch in (1, 5):
        assert np.abs(_by_server(reduced, folder, batch) - evaluated).max() < 1e-2
