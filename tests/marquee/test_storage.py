"""One contract for files on a disk and objects in a bucket."""

import socket

import pytest

from marquee import storage
from marquee.errors import UsageError


@pytest.fixture(params=["disk", "bucket"])
def place(request, tmp_path):
    return request.getfixturevalue("bucket") + "/a" if request.param == "bucket" else str(tmp_path)


def test_what_is_written_is_read_whole_and_by_range(place):
    uri = storage.join(place, "deep/file.bin")
    assert not storage.exists(uri)
    storage.write_bytes(uri, b"0123456789")
    assert storage.read_bytes(uri) == b"0123456789"
    assert storage.read_bytes(uri, 2, 5) == b"234"
    with storage.open_binary(uri) as stream:
        stream.seek(7)
        assert stream.read() == b"789"
    assert storage.list_files(place) == ["deep/file.bin"]


def test_folders_are_those_right_below(place):
    for name in ("one/deep/file.bin", "two/file.bin", "file.bin"):
        storage.write_bytes(storage.join(place, name), b"0")
    assert storage.list_folders(place) == ["one", "two"]
    assert storage.list_folders(storage.join(place, "nothing")) == []


def test_ranges_are_read_from_more_files_than_stay_open(place):
    uris = [storage.join(place, f"{number}.bin") for number in range(storage._OPEN_FILES + 2)]
    for number, uri in enumerate(uris):
        storage.write_bytes(uri, b"%04d" % number)
    ranges = storage.Ranges()
    for _ in range(2):
        found = [ranges.read(uri, 1, 4) for uri in uris]
        assert found == [b"%03d" % number for number in range(len(uris))]
    assert ranges.read(uris[0], 2, 9) == b"00"
    with pytest.raises(FileNotFoundError):
        ranges.read(storage.join(place, "nothing"), 0, 1)


def test_a_missing_file_is_not_found(place):
    with pytest.raises(FileNotFoundError):
        storage.read_bytes(storage.join(place, "nothing"))


def test_a_document_is_not_replaced_behind_another_writers_back(place):
    uri = storage.join(place, "list.json")
    data, first = storage.read_versioned(uri)
    assert data is None
    storage.replace_versioned(uri, b"one", first)
    data, second = storage.read_versioned(uri)
    assert data == b"one"
    with pytest.raises(storage.Conflict):
        storage.replace_versioned(uri, b"late", first)
    storage.replace_versioned(uri, b"two", second)
    assert storage.read_bytes(uri) == b"two"


def test_a_folder_is_published_whole_and_stays(place):
    def publish(text):
        with storage.scratch_folder(place) as scratch:
            folder = scratch / "part"
            (folder / "sub").mkdir(parents=True)
            (folder / "sub" / "a.txt").write_text(text)
            storage.publish_folder(folder, storage.join(place, "parts/x"))

    publish("first")
    assert storage.read_text(storage.join(place, "parts/x/sub/a.txt")) == "first"
    assert storage.list_files(place) == ["parts/x/sub/a.txt"]


def test_a_published_folder_on_disk_is_immutable(tmp_path):
    for text in ("first", "second"):
        with storage.scratch_folder(str(tmp_path)) as scratch:
            (scratch / "part").mkdir()
            (scratch / "part" / "a.txt").write_text(text)
            storage.publish_folder(scratch / "part", str(tmp_path / "x"))
    assert (tmp_path / "x/a.txt").read_text() == "first"


def test_scratch_of_a_killed_process_is_removed(tmp_path):
    abandoned = tmp_path / f".partial-{socket.gethostname()}-999999999-abc"
    elsewhere = tmp_path / ".partial-another-host-999999999-abc"
    abandoned.mkdir()
    elsewhere.mkdir()
    with storage.scratch_folder(str(tmp_path)):
        assert not abandoned.exists()
        assert elsewhere.exists()


def test_the_file_that_proves_completeness_comes_last(bucket, tmp_path, monkeypatch):
    import gcsfs

    uploaded = []
    put = gcsfs.GCSFileSystem.put_file

    def put_two(self, local, remote, **options):
        if len(uploaded) == 2:
            raise ConnectionError("the pod is gone")
        uploaded.append(remote.rpartition("/")[2])
        return put(self, local, remote, **options)

    monkeypatch.setattr(gcsfs.GCSFileSystem, "put_file", put_two)
    folder = tmp_path / "bundle"
    folder.mkdir()
    for name in ("SHA256SUMS", "bundle.json", "model.onnx", "weights.safetensors"):
        (folder / name).write_text(name)
    with pytest.raises(ConnectionError):
        storage.publish_folder(folder, f"{bucket}/b", last="SHA256SUMS")
    assert uploaded == ["bundle.json", "model.onnx"]
    assert not storage.exists(f"{bucket}/b/SHA256SUMS")


def test_a_folder_is_replaced_whole(place):
    for text in ("first", "second"):
        with storage.scratch_folder(place) as scratch:
            (scratch / "x").mkdir()
            (scratch / "x" / f"{text}.txt").write_text(text)
            storage.replace_folder(scratch / "x", storage.join(place, "there"))
    assert storage.list_files(storage.join(place, "there")) == ["second.txt"]


def test_an_unknown_scheme_is_a_usage_error():
    with pytest.raises(UsageError, match="nowhere://x"):
        storage.read_bytes("nowhere://x")
