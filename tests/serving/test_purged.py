"""Posters that were purged while a server runs."""

import threading
import time

import pytest

from marquee.errors import DataError
from marquee.registry.files import FileRegistry
from serving import purged
from serving.purged import PurgeMarks


def fail(registry):
    raise RuntimeError("a storage client's own error")


def file_with(folder, text):
    (file,) = (path for path in folder.rglob("*") if path.is_file() and text in path.read_bytes())
    return file


def test_they_are_read_anew_every_minute(tmp_path, caplog, monkeypatch):
    now = 0.0
    registry = FileRegistry(str(tmp_path))
    registry.add_tombstones(["tt1"])
    marks = PurgeMarks(str(tmp_path), lambda: now)
    assert marks() == {"tt1"}
    registry.add_tombstones(["tt2"])
    now = 59.0
    assert marks() == {"tt1"}
    now = 61.0
    assert marks() == {"tt1", "tt2"}

    file = file_with(tmp_path, b"tt2")
    whole = file.read_bytes()
    file.write_bytes(b"{")
    now = 122.0
    assert marks() == {"tt1", "tt2"}
    assert "the purged posters stay as they were" in caplog.text
    monkeypatch.setattr(FileRegistry, "tombstones", fail)
    now = 183.0
    assert marks() == {"tt1", "tt2"}
    monkeypatch.undo()
    file.write_bytes(whole.replace(b"tt2", b"tt3"))
    now = 244.0
    assert marks() == {"tt1", "tt3"}


def test_nobody_waits_while_they_are_read(tmp_path, monkeypatch):
    now, began, may_end = 0.0, threading.Event(), threading.Event()
    marks = PurgeMarks(str(tmp_path), lambda: now)

    def hang(registry):
        began.set()
        may_end.wait(10)
        return frozenset(["tt1"])

    monkeypatch.setattr(FileRegistry, "tombstones", hang)
    now = 61.0
    reader = threading.Thread(target=marks)
    reader.start()
    assert began.wait(10)
    now = 122.0
    assert marks() == frozenset()
    may_end.set()
    reader.join()
    assert marks() == {"tt1"}


def test_who_reads_them_does_not_wait_for_long(tmp_path, monkeypatch):
    now, may_end = 0.0, threading.Event()
    marks = PurgeMarks(str(tmp_path), lambda: now)
    monkeypatch.setattr(purged, "_PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(FileRegistry, "tombstones", lambda _: may_end.wait(10) and {"tt1"})
    now = 61.0
    assert marks() == frozenset()
    may_end.set()
    for _ in range(100):
        if marks() == {"tt1"}:
            return
        time.sleep(0.05)
    pytest.fail("they were never read")


def test_no_registry_no_marks(tmp_path):
    assert PurgeMarks(None)() == frozenset()
    registry = FileRegistry(str(tmp_path))
    registry.add_tombstones(["tt1"])
    file_with(tmp_path, b"tt1").write_bytes(b"{")
    with pytest.raises(DataError):
        PurgeMarks(str(tmp_path))
