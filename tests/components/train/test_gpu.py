"""Training on a GPU: half precision, NCCL, and resumed. `make test-gpu` runs these."""

import dataclasses
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import encode, noise_poster

from components.train.exchange import Exchange
from components.train.train import Order, train
from marquee.bundle import load
from marquee.engine import Engine
from marquee.images import preprocess
from marquee.settings import Settings

pytestmark = pytest.mark.gpu

SMALL = {"height": 48, "width": 32, "epochs": 3, "batch_size": 16, "workers": 1}


@pytest.fixture
def order(drawn_catalog, drawn_split, tmp_path):
    assert torch.cuda.is_available(), "make test-gpu needs a GPU"
    return Order(
        catalog_uri=drawn_catalog,
        split_uri=drawn_split,
        architecture="custom_cnn",
        weights="random",
        bundle_uri=str(tmp_path / "bundle"),
    )


def probabilities(order):
    """What the CPU's engine makes of a model that a GPU trained."""
    bundle = load(order.bundle_uri)
    poster = preprocess(encode(noise_poster(1)), bundle.info.preprocessing)
    return Engine(bundle).probabilities(np.stack([poster]))


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_what_a_gpu_trains_the_cpu_serves(precision, order):
    report = train(order, Settings(train={**SMALL, "precision": precision}))
    assert np.isfinite([row["loss"] for row in report.history]).all()
    assert np.isfinite(probabilities(order)).all()


def test_the_last_block_is_tuned_on_a_gpu(order):
    tuned = {**SMALL, "fine_tune_epochs": 2}
    report = train(dataclasses.replace(order, architecture="vgg16"), Settings(train=tuned))
    assert {row["phase"] for row in report.history} == {1, 2}


def test_one_process_trains_through_nccl(order, tmp_path):
    exchange = Exchange(str(tmp_path / "exchange"))
    exchange.begin(order, Settings(train=SMALL))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=1"]
    subprocess.run([*torchrun, "-m", "components.train.worker", exchange.uri], check=True)
    assert len(exchange.report().history) == 3
    assert np.isfinite(probabilities(order)).all()


def test_a_training_that_was_stopped_goes_on(order):
    settings = {**SMALL, "epochs": 40, "patience": 40, "checkpoint_minutes": 0}
    command = [sys.executable, "-m", "marquee", "train", order.catalog_uri, order.split_uri]
    command += ["--out", order.bundle_uri, "--weights", "random"]
    for name, value in settings.items():
        command += ["--set", f"train.{name}={value}"]
    process = subprocess.Popen(command)
    for _ in range(2400):
        if list(Path(order.checkpoints).glob("*/*.pt")):
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == 7
    resumed = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "going on in epoch" in resumed.stderr
    assert [row["epoch"] for row in load(order.bundle_uri).info.history] == list(range(1, 41))
