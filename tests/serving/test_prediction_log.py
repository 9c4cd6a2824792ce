"""The prediction log: files by rows and by time, and what happens when storage fails."""

import dataclasses
import errno
import fcntl
import hashlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import fsspec
import gcsfs
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from flaky import FlakyProxy
from fsspec.implementations.memory import MemoryFileSystem
from records import record, records

from marquee import storage
from serving import prediction_log
from serving.prediction_log import PredictionLog
from serving.spool import Spool


def ids(start, stop):
    return [str(number) for number in range(start, stop)]


def written(uri):
    """The prediction ids of each file, in the files' order."""
    uri = str(uri)
    files = [name for name in storage.list_files(uri) if name.endswith(".parquet")]
    contents = [storage.read_bytes(storage.join(uri, name)) for name in files]
    return [pq.read_table(pa.BufferReader(data))["prediction_id"].to_pylist() for data in contents]


def until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert condition()


def waiting(folder):
    """The files of a spool folder, whatever they are delivered to."""
    return list(folder.rglob("*.parquet"))


class Away:
    """Storage on this disk that can be away: a file stands where its folder should be."""

    def __init__(self, path):
        self.path = path
        self.uri = str(path / "records")
        self.path.write_text("")

    def come_back(self):
        self.path.unlink()


@pytest.fixture
def away(tmp_path):
    return Away(tmp_path / "storage")


@pytest.fixture
def open_log(tmp_path):
    """Opens logs that share a spool folder of this test's own."""

    def open_log(uri, **options):
        return PredictionLog(str(uri), spool_folder=tmp_path / "spool", **options)

    return open_log


def test_a_file_is_closed_when_it_is_full_and_the_rest_at_the_end(tmp_path):
    uri = tmp_path / "records"
    with PredictionLog(str(uri), rows=4) as log:
        log.put(records(10))
    assert written(uri) == [ids(0, 4), ids(4, 8), ids(8, 10)]
    (folder,) = {file.parent for file in uri.rglob("*.parquet")}
    assert folder == uri / "date=2026-01-02/hour=03"
    assert (log.written, log.dropped, log.spooled_bytes) == (10, 0, 0)


def test_a_file_is_closed_when_its_time_is_up(tmp_path):
    with PredictionLog(str(tmp_path), seconds=0.1) as log:
        log.put(records(2))
        until(lambda: written(tmp_path) == [["0", "1"]])


def test_without_predictions_there_are_no_files(tmp_path, open_log):
    with open_log(tmp_path / "records"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_two_logs_of_a_machine_do_not_overwrite_each_other(tmp_path):
    for _ in range(2):
        with PredictionLog(str(tmp_path)) as log:
            log.put(records(1))
    assert written(tmp_path) == [["0"], ["0"]]


def test_text_that_utf8_cannot_hold_costs_no_file(tmp_path):
    odd = dataclasses.replace(record(0), film_id="\ud800", client_id="a\udfffb")
    with PredictionLog(str(tmp_path)) as log:
        log.put([odd, record(1)])
    assert written(tmp_path) == [["0", "1"]]


def test_a_record_that_fits_no_file_costs_its_file_and_no_more(tmp_path, caplog):
    with PredictionLog(str(tmp_path), rows=2) as log:
        log.put([record(0), dataclasses.replace(record(1), width="wide"), *records(2, 2)])
    assert written(tmp_path) == [["2", "3"]]
    assert (log.written, log.dropped) == (2, 2)
    assert "ArrowInvalid" in caplog.text or "ArrowTypeError" in caplog.text


def test_what_storage_did_not_take_is_delivered_in_order_when_it_is_back(away, open_log, caplog):
    caplog.set_level(logging.INFO)
    with open_log(away.uri, rows=2) as log:
        log.put(records(6))
        until(lambda: "storage is away" in caplog.text)
        assert log.spooled_bytes > 3 * 1000
        assert log.written == log.dropped == 0
        away.come_back()
        until(lambda: log.written == 6)
    assert written(away.uri) == [ids(0, 2), ids(2, 4), ids(4, 6)]
    assert log.spooled_bytes == 0
    times = [file.stat().st_mtime_ns for file in sorted(away.path.rglob("*.parquet"))]
    assert times == sorted(times)
    messages = [entry.message for entry in caplog.records]
    assert len([message for message in messages if "NotADirectoryError" in message]) == 1
    assert messages[-1].startswith("storage is back")


def test_closing_while_storage_is_away_leaves_the_records_to_the_next_start(
    away, open_log, tmp_path, caplog
):
    with open_log(away.uri, rows=2) as log:
        log.put(records(5))
    assert (log.written, log.dropped) == (0, 0)
    assert "the next start with the same records URI delivers them" in caplog.text
    away.come_back()
    with open_log(away.uri) as log:
        until(lambda: log.written == 5)
    assert written(away.uri) == [ids(0, 2), ids(2, 4), ids(4, 5)]
    assert waiting(tmp_path / "spool") == []


def test_a_relative_folder_is_the_same_wherever_the_server_starts(
    away, open_log, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with open_log("storage/records") as log:
        log.put(records(1))
    away.come_back()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with open_log("storage/records") as log:
        log.put(records(1, 7))
    assert written(tmp_path / "elsewhere/storage/records") == [["7"]]
    with open_log(f"{away.uri}/"):
        pass
    assert written(away.uri) == [["0"]]


def test_logs_with_other_destinations_leave_each_others_files_alone(away, open_log, tmp_path):
    with open_log(away.uri) as log:
        log.put(records(1))
    away.come_back()
    with open_log(tmp_path / "other") as log:
        log.put(records(1, 7))
    assert written(tmp_path / "other") == [["7"]]
    assert len(waiting(tmp_path / "spool")) == 1


def test_a_full_spool_drops_the_oldest_and_counts_them(away, open_log, tmp_path, caplog):
    with open_log(away.uri) as log:
        log.put(records(1))
    (file,) = waiting(tmp_path / "spool")
    file.unlink()
    with open_log(away.uri, rows=1, spool_limit=int(3.5 * log.spooled_bytes)) as log:
        log.put(records(10))
        until(lambda: log.dropped == 6)
    assert "not recorded so far (the spool is full)" in caplog.text
    away.come_back()
    with open_log(away.uri) as log:
        pass
    # The limit is kept before a file is added.
    assert written(away.uri) == [[name] for name in ids(6, 10)]


def torn(data):
    return data[: len(data) // 2]


@pytest.mark.parametrize("damage", [torn, lambda data: b"", lambda data: data[:-1] + b"\0"])
def test_a_damaged_file_is_never_delivered_and_holds_nothing_up(
    away, open_log, tmp_path, caplog, damage
):
    with open_log(away.uri, rows=1) as log:
        log.put(records(2))
    first, _ = sorted(waiting(tmp_path / "spool"))
    first.write_bytes(damage(first.read_bytes()))
    away.come_back()
    with open_log(away.uri) as log:
        pass
    assert written(away.uri) == [["1"]]
    assert log.written == 1
    assert "is damaged and cannot be delivered" in caplog.text
    assert waiting(tmp_path / "spool") == []


def test_half_written_files_of_killed_processes_are_swept(tmp_path):
    folder = tmp_path / "date=2026-01-02/hour=03"
    folder.mkdir(parents=True)
    old, new = folder / ".pod-000001.parquet.abc", folder / ".pod-000002.parquet.def"
    for file in (old, new):
        file.write_bytes(b"PAR1")
    os.utime(old, (time.time() - 120,) * 2)
    spool = Spool(tmp_path, limit=0)
    assert (old.exists(), new.exists()) == (False, True)
    assert spool.files() == []
    assert spool.trim() == 0
    assert new.exists()


def test_only_one_process_delivers(tmp_path):
    with Spool(tmp_path, 0).claim(wait=False) as first, Spool(tmp_path, 0).claim(False) as second:
        assert (first, second) == (True, False)
    with Spool(tmp_path, 0).claim(wait=False) as third:
        assert third


def test_a_disk_without_locks_holds_nothing_up(tmp_path, open_log, monkeypatch):
    def refuse(*arguments):
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with open_log(tmp_path / "records") as log:
        log.put(records(1))
    assert log.written == 1


def test_without_a_disk_to_wait_on_records_go_straight_to_storage(tmp_path, caplog):
    (tmp_path / "spool").write_text("no folder")
    with PredictionLog(str(tmp_path / "records"), 2, spool_folder=tmp_path / "spool") as log:
        log.put(records(4))
    assert written(tmp_path / "records") == [ids(0, 2), ids(2, 4)]
    assert (log.written, log.dropped) == (4, 0)
    assert "nothing can wait in" in caplog.text


def test_without_a_disk_or_storage_records_are_dropped_and_counted(away, tmp_path, caplog):
    (tmp_path / "spool").write_text("no folder")
    with PredictionLog(away.uri, 2, spool_folder=tmp_path / "spool") as log:
        log.put(records(4))
    assert (log.written, log.dropped) == (0, 4)
    assert "4 predictions were not recorded in all" in caplog.text


def test_records_that_come_after_the_end_are_counted(tmp_path):
    log = PredictionLog(str(tmp_path))
    log.close()
    log.put(records(3))
    log.close()
    assert log.dropped == 3


class GatedFileSystem(MemoryFileSystem):
    """Storage that hangs until its gate opens."""

    protocol = "gated"
    store = {}  # noqa: RUF012 - shared by all, as in the class it derives from
    pseudo_dirs = [""]  # noqa: RUF012
    gate = threading.Event()

    def pipe_file(self, path, value, **options):
        self.gate.wait(60)
        return super().pipe_file(path, value, **options)


@pytest.fixture
def gated():
    fsspec.register_implementation("gated", GatedFileSystem, clobber=True)
    GatedFileSystem.gate.clear()
    GatedFileSystem.store.clear()
    yield "gated://bucket/records"
    GatedFileSystem.gate.set()


def test_storage_that_hangs_costs_nothing_and_stops_nobody(gated, open_log):
    log = open_log(gated, rows=5, capacity=20)
    for start in range(0, 200, 10):
        began = time.monotonic()
        log.put(records(10, start))
        assert time.monotonic() - began < 1
        until(lambda: log._queue.empty())
    assert log.dropped == 0
    GatedFileSystem.gate.set()
    log.close()
    assert [name for names in written(gated) for name in names] == ids(0, 200)


def test_closing_gives_up_on_storage_that_hangs(gated, open_log, monkeypatch, caplog, tmp_path):
    monkeypatch.setattr(prediction_log, "_CLOSE_SECONDS", 1)
    log = open_log(gated, rows=1)
    log.put(records(3))
    began = time.monotonic()
    log.close()
    assert time.monotonic() - began < 5
    assert "wait in" in caplog.text
    assert log.dropped == 0
    assert len(waiting(tmp_path / "spool")) == 3
    # It hangs no more: what went on hanging and the next start may both deliver, once.
    GatedFileSystem.gate.set()
    open_log(gated).close()
    assert written(gated) == [["0"], ["1"], ["2"]]


def test_a_full_queue_costs_records_but_never_waits(tmp_path, open_log, caplog):
    log = open_log(tmp_path / "records", capacity=5)
    log._closing.set()
    log._collector.join()  # as slow as it can be
    began = time.monotonic()
    log.put(records(8))
    assert time.monotonic() - began < 1
    assert log.dropped == 3
    assert "3 predictions not recorded so far (the queue is full)" not in caplog.text
    assert "1 predictions not recorded so far (the queue is full)" in caplog.text
    log.close()
    assert log.dropped == 8


WRITER = """
import sys
from pathlib import Path
from records import records
from serving.prediction_log import PredictionLog
uri, spool, start, count = sys.argv[1:]
log = PredictionLog(uri, rows=5, spool_folder=Path(spool))
log.put(records(int(count), int(start)))
print("put", flush=True)
sys.stdin.read()
log.close()
"""


@pytest.fixture
def write_elsewhere(tmp_path):
    """Starts processes that write records into the shared spool until their input ends."""
    processes = []

    def start(uri, start, count):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, uri, tmp_path / "spool", str(start), str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()


def test_a_killed_process_loses_at_most_the_unflushed_tail(
    away, write_elsewhere, open_log, tmp_path
):
    process = write_elsewhere(away.uri, 0, 23)
    process.stdout.readline()
    until(lambda: len(waiting(tmp_path / "spool")) == 4)
    process.send_signal(signal.SIGKILL)
    process.wait()
    away.come_back()
    with open_log(away.uri) as log:
        until(lambda: log.written == 20)
    assert written(away.uri) == [ids(0, 5), ids(5, 10), ids(10, 15), ids(15, 20)]


@pytest.mark.slow
def test_processes_that_share_a_spool_deliver_each_record_once(away, write_elsewhere, open_log):
    processes = [write_elsewhere(away.uri, start, 50) for start in (0, 1000, 2000)]
    for process in processes:
        process.stdout.readline()
    with open_log(away.uri, rows=5) as log:
        log.put(records(50, 3000))
        away.come_back()
        for process in processes:
            process.stdin.close()
        assert [process.wait(30) for process in processes] == [0, 0, 0]
    found = sorted(int(name) for names in written(away.uri) for name in names)
    assert found == [start + number for start in (0, 1000, 2000, 3000) for number in range(50)]


def test_delivering_twice_changes_nothing(away, open_log, tmp_path):
    with open_log(away.uri) as log:
        log.put(records(3))
    (file,) = waiting(tmp_path / "spool")
    data = file.read_bytes()
    away.come_back()
    for _ in range(2):  # killed after the upload, before the file was removed
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        open_log(away.uri).close()
    assert written(away.uri) == [ids(0, 3)]


@pytest.mark.parametrize("kind", ["bucket", "s3_bucket"])
def test_a_bucket(kind, request):
    bucket = request.getfixturevalue(kind)
    with PredictionLog(f"{bucket}/records", rows=4) as log:
        log.put(records(10))
    assert written(f"{bucket}/records") == [ids(0, 4), ids(4, 8), ids(8, 10)]


@pytest.mark.parametrize("kind", ["flaky_bucket", "flaky_s3_bucket"])
def test_a_bucket_on_a_bad_day(kind, request):
    bucket = request.getfixturevalue(kind)
    with PredictionLog(f"{bucket}/records", rows=1) as log:
        log.put(records(12))
        until(lambda: log.written == 12)
    assert written(f"{bucket}/records") == [[name] for name in ids(0, 12)]


class Outage(FlakyProxy):
    """Before a bucket: answers nothing but 503 until it is over."""

    is_over = False

    async def _pass(self, request):
        self._calls = 0 if self.is_over else -1  # every call, or none
        return await super()._pass(request)


def test_a_buckets_outage(gcs, bucket, open_log, monkeypatch, caplog):
    monkeypatch.setattr(prediction_log, "_UPLOAD_SECONDS", 0.5)
    with Outage(gcs.url) as proxy:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
        gcsfs.GCSFileSystem.clear_instance_cache()
        with open_log(f"{bucket}/records", rows=2) as log:
            log.put(records(4))
            until(lambda: "storage is away" in caplog.text)
            assert log.spooled_bytes
            proxy.is_over = True
            until(lambda: log.written == 4)
        assert written(f"{bucket}/records") == [ids(0, 2), ids(2, 4)]


def test_a_bucket_that_never_answers(bucket, open_log, monkeypatch, caplog):
    monkeypatch.setattr(prediction_log, "_UPLOAD_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{silent.getsockname()[1]}")
        gcsfs.GCSFileSystem.clear_instance_cache()
        with open_log(f"{bucket}/records") as log:
            log.put(records(1))
            log._closing.set()
            until(lambda: "storage is away (FSTimeoutError" in caplog.text)
        assert log.spooled_bytes
    gcsfs.GCSFileSystem.clear_instance_cache()


def test_the_spool_lies_in_the_cache(away, tmp_path, monkeypatch):
    monkeypatch.setenv("MARQUEE_CACHE", str(tmp_path / "cache"))
    with PredictionLog(away.uri) as log:
        log.put(records(1))
    (file,) = waiting(tmp_path / "cache/spool")
    digest = hashlib.sha256(away.uri.encode()).hexdigest()[:16]
    assert file.is_relative_to(tmp_path / "cache/spool" / digest / "date=2026-01-02/hour=03")
