"""A real server under load: what lasts, what is too much, and how it ends amid requests."""

import json
import signal
from urllib.parse import urlsplit

import pyarrow.parquet as pq
import pytest
from bundles import tiny_bundle
from helpers import encode, noise_poster

from benchmarks.bundles import make
from benchmarks.load import (
    BUSY,
    LOST,
    OK,
    Phase,
    capacity,
    drive,
    lasting_capacity,
    predict_request,
    statuses,
)
from benchmarks.running import marquee, running
from benchmarks.soak import overload, soak
from marquee.bundle import load
from serving.prediction_log import FILE_ROWS

pytestmark = pytest.mark.slow

REQUESTS = [predict_request(encode(noise_poster(number, 185, 278))) for number in range(16)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder for bundles of real size; what they say does not matter here."""
    return tmp_path_factory.mktemp("made")


@pytest.fixture(scope="module")
def bundle(made):
    return make("custom_cnn", made)


def failures(claims):
    return [claim for claim in claims if not claim.holds]


@pytest.mark.load
@pytest.mark.timeout(1200)
def test_five_minutes(bundle, tmp_path):
    command = marquee(str(bundle.folder), "--records", str(tmp_path / "records"))
    with running(command) as server:
        rate = 0.8 * lasting_capacity(server.port, REQUESTS)
        assert failures(soak(server, REQUESTS, rate, minutes=5)) == []


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("architecture", "share"),
    # Refusing thousands a second costs some of what a quick model labels (docs/serving.md).
    [("vgg16", 0.9), ("custom_cnn", 0.7)],
)
def test_an_overload(made, tmp_path, architecture, share):
    folder = made / architecture
    bundle = load(str(folder)) if folder.exists() else make(architecture, made)
    with running(marquee(str(bundle.folder), "--records", str(tmp_path / "records"))) as server:
        most = capacity(server.port, REQUESTS)
        assert failures(overload(server, REQUESTS, most, share)) == []


def port_of(server):
    return urlsplit(server.url).port


def ids_of(answers):
    """List the predictions that clients were told."""
    return [
        prediction["prediction_id"]
        for answer in answers
        if answer.status == OK
        for prediction in json.loads(answer.body)["predictions"]
    ]


def recorded(folder):
    """List the predictions on disk; every file has to be readable."""
    files = sorted(folder.rglob("*.parquet"))
    tables = [pq.ParquetFile(file).read(["prediction_id"]) for file in files]
    return [name for table in tables for name in table["prediction_id"].to_pylist()]


@pytest.mark.parametrize("share", [0.7, 2.0], ids=["some load", "too much load"])
def test_sigterm_under_load(start, bundle, tmp_path, share):
    server = start(bundle, "--records", tmp_path / "records")
    rate = share * capacity(port_of(server), REQUESTS, seconds=4)
    seen = drive(
        port_of(server), REQUESTS, Phase(rate, 6), keep=True, during=server.process.terminate
    )
    assert server.process.wait(timeout=30) == 0
    signal_sent = seen.answers[len(seen.answers) // 2].sent
    # Connections made just before it may not have been accepted: they go with the listener.
    before = statuses(answer for answer in seen.answers if answer.sent < signal_sent - 0.1)
    assert before.keys() <= {OK, BUSY}
    assert before[OK] > 0
    assert statuses(seen.due(signal_sent + 1))[LOST] > 0
    told = ids_of(seen.answers)
    names = recorded(tmp_path / "records")
    assert len(set(names)) == len(names)
    assert set(told) <= set(names)


def test_sigkill_under_load(start, tmp_path):
    server = start(tiny_bundle(tmp_path / "bundle"), "--records", tmp_path / "records")
    port, step, answers = port_of(server), Phase(200, 5), []
    while not recorded(tmp_path / "records"):  # a file is closed after a minute at the latest
        answers += drive(port, REQUESTS, step, keep=True).answers
    answers += drive(port, REQUESTS, step, keep=True, during=server.process.kill).answers
    assert server.process.wait(timeout=30) == -signal.SIGKILL
    names = recorded(tmp_path / "records")
    assert len(set(names)) == len(names)
    lost = set(ids_of(answers)) - set(names)
    assert 0 < len(lost) <= FILE_ROWS
