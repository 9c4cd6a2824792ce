"""The engine: the model's numbers, calibrated, decided, whatever the batch."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from bundles import reference, tiny_bundle
from helpers import noise_poster

from marquee.bundle import MODEL_FILE
from marquee.decision import Calibration, decide
from marquee.engine import OUTPUTS, RUNTIMES, Engine
from marquee.errors import DataError
from marquee.images import resize


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return tiny_bundle(tmp_path_factory.mktemp("engine") / "bundle", label_set="all18")


@pytest.fixture(scope="module")
def images(bundle):
    posters = [np.asarray(noise_poster(number)) for number in range(16)]
    return np.stack([resize(poster, bundle.info.preprocessing) for poster in posters])


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_outputs_are_the_models(runtime, tmp_path, images):
    bundle = tiny_bundle(tmp_path / "bundle", label_set="all18", engine=runtime)
    outputs = Engine(bundle).infer(images, OUTPUTS)
    expected = reference(bundle, images)
    for name in OUTPUTS:
        np.testing.assert_allclose(outputs[name], expected[name], atol=1e-5)


def test_the_maps_explain_the_logits(bundle, images):
    outputs = Engine(bundle).infer(images, OUTPUTS)
    rest = outputs["logits"] - outputs["maps"].sum(axis=(2, 3))
    np.testing.assert_allclose(rest, np.tile(rest[0], (len(images), 1)), atol=1e-5)


def test_a_prediction_follows_from_the_logits(bundle, images):
    info = bundle.info
    predictions = Engine(bundle).predict(images)
    scores = reference(bundle, images)["logits"] * info.calibration.scale + info.calibration.shift
    expected = 1 / (1 + np.exp(-scores))
    for prediction, row in zip(predictions, expected, strict=True):
        assert list(prediction.probabilities) == list(info.genres)
        np.testing.assert_allclose(list(prediction.probabilities.values()), row, atol=1e-5)
        chosen = {g for g, p, t in zip(info.genres, row, info.thresholds, strict=True) if p >= t}
        assert set(prediction.genres) == chosen or prediction.unsure
        ranks = [prediction.probabilities[genre] for genre in prediction.genres]
        assert ranks == sorted(ranks, reverse=True)
    assert len({tuple(prediction.genres) for prediction in predictions}) > 8


def test_nothing_over_its_threshold_gives_the_likeliest_genre(tmp_path, images):
    bundle = tiny_bundle(tmp_path / "bundle", thresholds=(1.0,) * 4)
    for prediction in Engine(bundle).predict(images):
        assert prediction.unsure
        likeliest = max(prediction.probabilities, key=prediction.probabilities.__getitem__)
        assert prediction.genres == [likeliest]


@pytest.mark.parametrize("size", [1, 3, 16])
@pytest.mark.parametrize("threads", [1, 2])
def test_neither_batch_size_nor_threads_change_the_answer(bundle, images, size, threads):
    engine = Engine(bundle, threads=threads)
    expected = Engine(bundle).probabilities(images)
    given = [
        engine.probabilities(images[start : start + size]) for start in range(0, len(images), size)
    ]
    np.testing.assert_allclose(np.concatenate(given), expected, atol=1e-5)


@pytest.fixture
def opened(monkeypatch):
    """How models were made ready to run while the test ran, on a machine of 3 CPUs."""
    ways = []
    real = RUNTIMES["openvino"]

    class Noted(real):
        def open(self, outputs, threads, **more):
            ways.append({"threads": threads} | more)
            return super().open(outputs, threads, **more)

    monkeypatch.setitem(RUNTIMES, "openvino", Noted)
    monkeypatch.setattr("marquee.engine.cpus", lambda: 3)
    return ways


@pytest.fixture
def slow(monkeypatch):
    """Whatever a model takes, it is slow."""
    monkeypatch.setattr("marquee.engine.QUICK_SECONDS", 0.0)


def test_a_quick_model_runs_on_one_thread(bundle, images, opened, monkeypatch):
    monkeypatch.setattr("marquee.engine.QUICK_SECONDS", 10.0)
    engine = Engine(bundle)
    assert (engine.is_quick, engine.lanes) == (True, 1)
    engine.predict(images)
    assert opened == [{"threads": 1}]


def test_a_slow_model_has_a_lane_on_each_cpu_and_all_of_them_for_a_lone_poster(
    bundle, images, opened, slow
):
    engine = Engine(bundle)
    assert (engine.is_quick, engine.lanes) == (False, 3)
    del opened[:]
    engine.predict(images[:1])
    assert opened == [{"threads": 3, "batch": 1}]
    engine.predict(images[:1], crowded=True)
    lane = {"threads": 1, "lanes": 3, "batch": 1}
    assert opened[1:] == [lane]
    engine.predict(images)
    assert opened[2:] == []


def test_on_one_cpu_a_slow_model_is_made_ready_once(bundle, images, opened, slow, monkeypatch):
    """Made ready amid requests, all would wait for it; and its weights would be there twice."""
    monkeypatch.setattr("marquee.engine.cpus", lambda: 1)
    engine = Engine(bundle)
    engine.predict(images[:1])
    del opened[:]
    engine.predict(images[:1], crowded=True)
    engine.predict(images)
    engine.infer(images[:1], engine.outputs)
    assert opened == []


def test_a_heavy_model_is_made_ready_once_for_all_cpus(bundle, images, opened, slow, monkeypatch):
    """Its weights are not to be there twice."""
    monkeypatch.setattr("marquee.engine.HEAVY_BYTES", 0)
    engine = Engine(bundle)
    assert (engine.is_quick, engine.lanes) == (False, 1)
    del opened[:]
    for count, crowded in ((1, False), (1, True), (len(images), False)):
        assert len(engine.predict(images[:count], crowded=crowded)) == count
    assert opened == [{"threads": 3, "batch": 1}]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_slow_models_answers_are_the_same_whichever_way_it_runs(runtime, tmp_path, images, slow):
    engine = Engine(tiny_bundle(tmp_path / "bundle", label_set="all18", engine=runtime))
    expected = reference(engine.bundle, images)
    for crowded in (False, True):
        ones = [engine.infer(images[n : n + 1], OUTPUTS, crowded=crowded) for n in range(16)]
        for name in OUTPUTS:
            found = np.concatenate([one[name] for one in ones])
            np.testing.assert_allclose(found, expected[name], atol=1e-5)
    together = engine.infer(images, OUTPUTS)
    for name in OUTPUTS:
        np.testing.assert_allclose(together[name], expected[name], atol=1e-5)


def test_an_engine_that_is_not_here_is_named(tmp_path):
    bundle = tiny_bundle(tmp_path / "bundle", engine="tensorrt")
    with pytest.raises(DataError, match="'tensorrt': this Marquee has openvino, onnxruntime"):
        Engine(bundle)


SIGNALLED_LATER = """
import gc, os, signal, sys
from pathlib import Path
import numpy as np
from marquee.engine import RUNTIMES

signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
pixels = np.zeros((1, 24, 16, 3), np.uint8)
runs = [RUNTIMES["openvino"](Path(sys.argv[1])).open(["logits"], 1) for _ in range(2)]
for run in runs:
    run(pixels)
run = None
while runs:
    runs.pop(0)
    gc.collect()
os.kill(os.getpid(), signal.SIGUSR1)
"""


def test_signals_can_be_handled_when_engines_have_gone(bundle):
    command = [sys.executable, "-c", SIGNALLED_LATER, bundle.model_file("fp32")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "handled\n"


QUIET = """
import sys
from pathlib import Path
import numpy as np
from marquee.engine import RUNTIMES

RUNTIMES["openvino"](Path(sys.argv[1])).open(["logits"], 1)(np.zeros((1, 24, 16, 3), np.uint8))
print([name for name in sys.modules if "telemetry" in name])
"""


def test_openvino_reports_to_nobody(bundle, tmp_path):
    command = [sys.executable, "-c", QUIET, bundle.model_file("fp32")]
    home = {**os.environ, "HOME": str(tmp_path)}
    found = subprocess.run(command, capture_output=True, text=True, check=True, env=home)
    assert found.stdout == "[]\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", RUNTIMES)
def test_the_file_is_read_once(name, tmp_path, images):
    bundle = tiny_bundle(tmp_path / "bundle", label_set="all18", engine=name)
    engine = Engine(bundle)
    bundle.model_file("fp32").unlink()
    assert engine.infer(images, OUTPUTS)["maps"].shape[0] == len(images)


@pytest.mark.parametrize("is_quick", [True, False])
@pytest.mark.parametrize("name", RUNTIMES)
def test_engines_may_be_used_from_several_threads(name, is_quick, tmp_path, images, monkeypatch):
    monkeypatch.setattr("marquee.engine.QUICK_SECONDS", 10.0 if is_quick else 0.0)
    engine = Engine(tiny_bundle(tmp_path / "bundle", label_set="all18", engine=name))

    def infer(n):
        return engine.infer(images[n % 16 :][:1], OUTPUTS, crowded=True)

    expected = [infer(n) for n in range(16)]
    with ThreadPoolExecutor(4) as threads:
        found = threads.map(infer, range(160))
        for n, outputs in enumerate(found):
            for output in OUTPUTS:
                np.testing.assert_array_equal(outputs[output], expected[n % 16][output])


def test_a_variant_is_run_by_its_precision(tmp_path, images):
    bundle = tiny_bundle(tmp_path / "bundle", variants={"fp32": MODEL_FILE, "int8": MODEL_FILE})
    assert Engine(bundle, precision="int8").precision == "int8"
    assert Engine(bundle).precision == "fp32"
    with pytest.raises(DataError, match="no precision 'bf16'"):
        Engine(bundle, precision="bf16")


DECISIONS = {
    "one": ([0.9, 0.1, 0.2], [True, False, False], False),
    "several": ([0.9, 0.6, 0.2], [True, True, False], False),
    "on the threshold": ([0.5, 0.1, 0.2], [True, False, False], False),
    "its own threshold": ([0.1, 0.1, 0.3], [False, False, True], False),
    "none": ([0.2, 0.4, 0.1], [False, True, False], True),
}


@pytest.mark.parametrize("name", DECISIONS)
def test_decisions(name):
    row, expected, unsure = DECISIONS[name]
    chosen, flags = decide(np.array([row]), (0.5, 0.5, 0.3))
    assert (chosen[0].tolist(), flags.tolist()) == (expected, [unsure])


def test_calibration_is_platts_and_does_not_overflow():
    calibration = Calibration(scale=(2.0, 1.0), shift=(0.5, 0.0))
    logits = np.array([[1.0, -1000.0], [-0.25, 1000.0]], np.float32)
    expected = [[1 / (1 + np.exp(-2.5)), 0.0], [0.5, 1.0]]
    np.testing.assert_allclose(calibration.probabilities(logits), expected, atol=1e-12)
