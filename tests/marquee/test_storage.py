"""One contract for files on a disk and objects in a bucket."""

import os
import socket

import fsspec
import pytest
from aiohttp import web
from flaky import FlakyProxy

from marquee import storage
from marquee.errors import InfrastructureError, UsageError, explain


@pytest.fixture(params=["disk", "bucket", "s3_bucket"])
def place(request, tmp_path):
    if request.param == "disk":
        return str(tmp_path)
    return request.getfixturevalue(request.param) + "/a"


def test_what_is_written_is_read_whole_and_by_range(place):
    uri = storage.join(place, "deep/file.bin")
    assert not storage.exists(uri)
    storage.write_bytes(uri, b"0123456789")
    assert storage.read_bytes(uri) == b"0123456789"
    assert storage.read_bytes(uri, 2, 5) == b"234"
    assert storage.read_bytes(uri, 4, 4) == b""
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


def test_a_document_that_was_removed_is_not_replaced(place):
    uri = storage.join(place, "list.json")
    storage.replace_versioned(uri, b"one", storage.read_versioned(uri)[1])
    _, token = storage.read_versioned(uri)
    storage.remove(uri)
    with pytest.raises(storage.Conflict, match="replaced by another writer"):
        storage.replace_versioned(uri, b"two", token)
    assert not storage.exists(uri)


def test_an_update_begins_again_on_top_of_another_writers(place):
    uri, seen = storage.join(place, "list.json"), []

    def append(data):
        seen.append(data)
        if len(seen) == 1:
            storage.update(uri, lambda _: b"theirs")
        return (data or b"") + b"+ours"

    storage.update(uri, append)
    assert (seen, storage.read_bytes(uri)) == ([None, b"theirs"], b"theirs+ours")


class LostAnswers(FlakyProxy):
    """Before a bucket: the first write is done, and answered 503."""

    async def _pass(self, request):
        answer = await super()._pass(request)
        if request.method in ("POST", "PUT") and not self.refused:
            self.refused += 1
            return web.Response(status=503, text="try again")
        return answer


@pytest.mark.parametrize("kind", ["bucket", "s3_bucket"])
def test_a_write_whose_answer_was_lost_is_no_conflict(kind, request, monkeypatch):
    uri = request.getfixturevalue(kind) + "/list.json"
    variable = "STORAGE_EMULATOR_HOST" if kind == "bucket" else "AWS_ENDPOINT_URL"
    with LostAnswers(os.environ[variable]) as proxy:
        monkeypatch.setenv(variable, proxy.url)
        storage._s3_client.cache_clear()
        storage.replace_versioned(uri, b"one", storage.read_versioned(uri)[1])
        assert proxy.refused
        assert storage.read_versioned(uri)[0] == b"one"


class Careless(FlakyProxy):
    """Before a bucket: knows nothing of a condition of writes."""

    def __init__(self, upstream, condition):
        super().__init__(upstream)
        self._condition = condition

    async def _pass(self, request):
        self._calls = 0
        kept = {k: v for k, v in request.headers.items() if k != self._condition}
        return await super()._pass(request.clone(headers=kept))


@pytest.mark.parametrize("condition", ["If-Match", "If-None-Match"])
def test_storage_that_overwrites_is_found_out(condition, s3_bucket, monkeypatch):
    assert storage.is_guarded(s3_bucket)
    with Careless(os.environ["AWS_ENDPOINT_URL"], condition) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        storage._s3_client.cache_clear()
        assert not storage.is_guarded(s3_bucket)
    assert storage.list_files(s3_bucket) == []


class Refusing(FlakyProxy):
    """Before a bucket: says of each write that another was faster."""

    async def _pass(self, request):
        self._calls = 0
        if request.method == "PUT":
            code = "<Error><Code>PreconditionFailed</Code></Error>"
            return web.Response(status=412, text=code, content_type="application/xml")
        return await super()._pass(request)


def test_storage_that_refuses_every_write_guards_nothing(s3_bucket, monkeypatch):
    with Refusing(os.environ["AWS_ENDPOINT_URL"]) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        storage._s3_client.cache_clear()
        with pytest.raises(storage.Conflict):
            storage.is_guarded(s3_bucket)


def test_other_places_are_guarded(place):
    assert storage.is_guarded(place)


@pytest.mark.parametrize("kind", ["bucket", "s3_bucket"])
def test_what_others_write_is_seen(kind, request):
    place = request.getfixturevalue(kind)
    assert storage.list_files(place) == []
    for number in (1, 2):
        uri = f"{place}/x/{number}"
        # By another client than the one that lists, as another process would.
        storage.replace_versioned(uri, b"new", storage.read_versioned(uri)[1])
        assert storage.exists(uri)
        assert storage.list_files(place) == ["x/1", "x/2"][:number]


@pytest.mark.parametrize(
    ("environment", "uri", "said"),
    [
        ({}, "s3://no-such-bucket/a", "bucket does not exist"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "s3://b/a", "127.0.0.1:9"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "s3://b/a", "credentials"),
    ],
    ids=["no bucket", "no server", "no credentials"],
)
@pytest.mark.parametrize("write", [storage.write_bytes, storage.replace_versioned])
def test_what_s3_refuses_is_explained(environment, uri, said, write, s3_bucket, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    storage._s3_client.cache_clear()
    with pytest.raises(Exception) as refused:
        write(uri, b"x", *([""] if write is storage.replace_versioned else []))
    error = explain(refused.value)
    assert isinstance(error, InfrastructureError)
    assert said in error.message
    assert "AWS_ENDPOINT_URL" in error.remedy


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


@pytest.mark.parametrize("kind", ["bucket", "s3_bucket"])
def test_the_file_that_proves_completeness_comes_last(kind, request, tmp_path, monkeypatch):
    bucket = request.getfixturevalue(kind)
    uploaded = []
    clients = fsspec.get_filesystem_class(bucket.partition(":")[0])
    put = clients.put_file

    def put_two(self, local, remote, **options):
        if len(uploaded) == 2:
            raise ConnectionError("the pod is gone")
        uploaded.append(remote.rpartition("/")[2])
        return put(self, local, remote, **options)

    monkeypatch.setattr(clients, "put_file", put_two)
    clients.clear_instance_cache()
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


@pytest.mark.parametrize(
    ("key", "given", "used"),
    [(False, None, None), (True, None, "key"), (True, "/mine.json", "/mine.json")],
)
def test_a_pods_key_opens_googles_storage_unless_another_is_given(
    key, given, used, tmp_path, monkeypatch
):
    """A variable that names no file would shut workload identity out."""
    variable = "GOOGLE_APPLICATION_CREDENTIALS"
    file = tmp_path / "key.json"
    if key:
        file.write_text("{}")
    monkeypatch.setattr(storage, "_KEY", file)
    monkeypatch.setenv(variable, given or "")
    if given is None:
        monkeypatch.delenv(variable)
    storage._use_key()
    assert os.environ.get(variable) == (str(file) if used == "key" else used)
