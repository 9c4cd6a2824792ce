"""The prediction log: files by rows and by time, and what happens when storage fails."""

import logging
import threading
import time
from datetime import UTC, datetime

import pyarrow.parquet as pq
import pytest

from marquee.records import PredictionRecord
from serving import prediction_log
from serving.prediction_log import PredictionLog


def record(number):
    return PredictionRecord(
        prediction_id=str(number),
        time=datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
        model_version="v",
        film_id=None,
        client_id=None,
        probabilities={"Comedy": 0.5},
        genres=["Comedy"],
        unsure=False,
        era="unknown",
        era_source="none",
        width=100,
        height=150,
        brightness=0.5,
        contrast=0.5,
        saturation=0.5,
        hue=0.5,
        embedding=[0.0] * 64,
        latency_ms=1.0,
        outcome="ok",
    )


def records(count):
    return [record(number) for number in range(count)]


def written(folder):
    """The prediction ids of each file, in the files' order."""
    files = sorted(folder.rglob("*.parquet"))
    return [pq.ParquetFile(file).read()["prediction_id"].to_pylist() for file in files]


def until(condition):
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert condition()


def test_a_file_is_closed_when_it_is_full_and_the_rest_at_the_end(tmp_path):
    with PredictionLog(str(tmp_path), rows=4) as log:
        log.put(records(10))
    ids = [str(number) for number in range(10)]
    assert written(tmp_path) == [ids[:4], ids[4:8], ids[8:]]
    (folder,) = {file.parent for file in tmp_path.rglob("*.parquet")}
    assert folder == tmp_path / "date=2026-01-02/hour=03"
    assert log.dropped == 0


def test_a_file_is_closed_when_its_time_is_up(tmp_path):
    with PredictionLog(str(tmp_path), seconds=0.1) as log:
        log.put(records(2))
        until(lambda: written(tmp_path) == [["0", "1"]])


def test_without_predictions_there_are_no_files(tmp_path):
    with PredictionLog(str(tmp_path)):
        pass
    assert list(tmp_path.iterdir()) == []


def test_two_logs_of_a_machine_do_not_overwrite_each_other(tmp_path):
    for _ in range(2):
        with PredictionLog(str(tmp_path)) as log:
            log.put(records(1))
    assert written(tmp_path) == [["0"], ["0"]]


@pytest.fixture
def stuck(monkeypatch):
    """Storage that hangs until the event is set."""
    go_on = threading.Event()
    write = prediction_log.write_records

    def wait(*arguments):
        go_on.wait(30)
        return write(*arguments)

    monkeypatch.setattr(prediction_log, "write_records", wait)
    yield go_on
    go_on.set()


def test_slow_storage_costs_records_but_never_waits(stuck, tmp_path, caplog):
    log = PredictionLog(str(tmp_path), rows=1, capacity=5)
    log.put(records(1))
    until(lambda: log._queue.empty())  # the writer holds it
    began = time.monotonic()
    log.put(records(8))
    assert time.monotonic() - began < 1
    assert log.dropped == 3
    stuck.set()
    log.close()
    assert len(written(tmp_path)) == 6
    warnings = [entry.message for entry in caplog.records if entry.levelno == logging.WARNING]
    assert warnings == [
        "1 predictions not recorded so far (the queue is full)",
        "3 predictions were not recorded in all",
    ]


def test_closing_gives_up_on_storage_that_hangs(stuck, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(prediction_log, "_CLOSE_SECONDS", 0.1)
    log = PredictionLog(str(tmp_path), rows=1)
    log.put(records(3))
    began = time.monotonic()
    log.close()
    assert time.monotonic() - began < 5
    assert "storage hangs" in caplog.text
    stuck.set()
    until(lambda: len(written(tmp_path)) == 3)


def test_failing_storage_costs_its_file_and_no_more(tmp_path, monkeypatch, caplog):
    write = prediction_log.write_records
    failures = iter([True, False])

    def fail_once(*arguments):
        if next(failures):
            raise OSError("the bucket is away")
        return write(*arguments)

    monkeypatch.setattr(prediction_log, "write_records", fail_once)
    with PredictionLog(str(tmp_path), rows=2) as log:
        log.put(records(4))
    assert written(tmp_path) == [["2", "3"]]
    assert log.dropped == 2
    assert "OSError: the bucket is away" in caplog.text
