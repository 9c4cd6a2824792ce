"""Files on a laptop and objects in a bucket, behind one handful of functions.

Every location is a URI string: a local path, `file://`, `gs://` or `s3://`. Other schemes of fsspec
work as far as their package is installed, but without the guard against concurrent writers.
A published document is either wholly there or not at all: local files are written beside their
place and renamed; a bucket's objects appear when their upload is complete. Documents with several
writers are replaced only if nobody else replaced them since they were read.
"""

import fcntl
import hashlib
import io
import os
import random
import shutil
import socket
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import fsspec

from marquee.errors import InfrastructureError, UsageError
from marquee.processes import is_running

_SCRATCH = ".partial-"
_UPDATES = 20
_OPEN_FILES = 64
_KEY = Path("/etc/marquee-storage/key.json")
"""Where a pod has a Google service account's key, if the secret `marquee-storage` holds one."""
VOLUME = "/mnt/marquee"
"""Where a pod has the volume that is used where there is no object storage, if there is one."""
_GCS, _S3 = "gs://", "s3://"
_REFUSED_BY_S3 = ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey")
"""It was replaced, is being replaced, or was removed."""


class Conflict(InfrastructureError):
    """Somebody else replaced the document since it was read."""


def is_local(uri: str) -> bool:
    """Tell whether a URI names a place on this machine's disk."""
    return "://" not in uri or uri.startswith("file://")


def local_path(uri: str) -> Path:
    """Turn a local URI into a path.

    Args:
        uri: A path or a `file://` URI.

    Returns:
        The path, with `~` expanded.

    Raises:
        UsageError: The URI is not local.
    """
    if not is_local(uri):
        raise UsageError(f"{uri} is not on this machine", remedy="give a local path")
    return Path(uri.removeprefix("file://")).expanduser()


def absolute(uri: str) -> str:
    """Name a local path in a way that holds in other processes as well; other URIs stay.

    Args:
        uri: A path, a URI, or nothing.
    """
    return str(local_path(uri).absolute()) if uri and is_local(uri) else uri


def join(uri: str, *parts: str) -> str:
    """Append path segments to a URI."""
    return "/".join([uri.rstrip("/"), *parts])


def _filesystem(uri: str) -> tuple[Any, str]:
    if uri.startswith(_GCS):
        _use_key()
    if os.environ.get("STORAGE_EMULATOR_HOST"):
        # Against an emulator gcsfs asks for the bucket's storage layout until it times out,
        # 30-100 s a call, unless this is off.
        os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    # They would go on answering from a listing of before, whatever others have written since.
    options = {"use_listings_cache": False} if uri.startswith((_GCS, _S3)) else {}
    try:
        return fsspec.core.url_to_fs(str(local_path(uri)) if is_local(uri) else uri, **options)
    except (ImportError, ValueError) as error:
        raise UsageError(
            f"cannot use storage {uri!r}: {error}", remedy="use a local path, gs:// or s3://"
        ) from error


def _use_key() -> None:
    """Open Google's storage by the pod's key; without one, by workload identity."""
    if _KEY.exists():
        os.environ.setdefault("GOOGLE_APPLICATION_CREDENTIALS", str(_KEY))


def filesystem(uri: str) -> Any:
    """Give the fsspec file system of a URI, for libraries that read files themselves."""
    return _filesystem(uri)[0]


def exists(uri: str) -> bool:
    """Tell whether a file or folder is there."""
    filesystem, path = _filesystem(uri)
    return bool(filesystem.exists(path))


def read_bytes(uri: str, start: int | None = None, end: int | None = None) -> bytes:
    """Read a file, or the bytes `start` (included) to `end` (excluded) of it.

    Raises:
        FileNotFoundError: There is no such file.
    """
    if is_local(uri):
        # What fsspec does, in a third of its time.
        with local_path(uri).open("rb") as stream:
            stream.seek(start or 0)
            return stream.read(-1 if end is None else end - stream.tell())
    if start is not None and start == end:
        return b""  # HTTP has no such range, and S3 would send everything
    filesystem, path = _filesystem(uri)
    return bytes(filesystem.cat_file(path, start=start, end=end))


class Ranges:
    """Reads parts of files that never change, such as shards; keeps the latest of them open.

    To open a file takes longer than to read a poster from it.
    """

    def __init__(self) -> None:
        self._opened = lru_cache(_OPEN_FILES)(_open_unbuffered)

    def read(self, uri: str, start: int, end: int) -> bytes:
        """Read the bytes `start` (included) to `end` (excluded) of a file.

        Raises:
            FileNotFoundError: There is no such file.
        """
        if not is_local(uri):
            return read_bytes(uri, start, end)
        # Held by name: another thread may drop it from the cache. Forked processes share the file,
        # but no position in it.
        file = self._opened(uri)
        return os.pread(file.fileno(), end - start, start)


def _open_unbuffered(uri: str) -> io.FileIO:
    return local_path(uri).open("rb", buffering=0)


def read_text(uri: str) -> str:
    """Read a UTF-8 file."""
    return read_bytes(uri).decode("utf-8")


@contextmanager
def open_binary(uri: str) -> Iterator[Any]:
    """Open a file for reading with random access."""
    filesystem, path = _filesystem(uri)
    with filesystem.open(path, "rb") as stream:
        yield stream


def list_files(uri: str) -> list[str]:
    """List all files below a folder, as paths relative to it, sorted."""
    filesystem, path = _filesystem(uri)
    base = path.rstrip("/") + "/"
    return sorted(found.removeprefix(base) for found in filesystem.find(path))


def list_folders(uri: str) -> list[str]:
    """List the folders right below a folder; none if it is not there.

    Returns:
        Their names.
    """
    filesystem, path = _filesystem(uri)
    try:
        found = filesystem.ls(path, detail=True, refresh=True)
    except FileNotFoundError:
        return []
    names = (item["name"].rstrip("/") for item in found if item["type"] == "directory")
    return sorted(name.rpartition("/")[2] for name in names)


def write_bytes(uri: str, data: bytes, timeout: float | None = None) -> None:
    """Write a file atomically, replacing what was there.

    Args:
        uri: The file.
        data: Its content.
        timeout: Seconds after which an upload fails; without it, one that is never answered may
            hang forever (gcsfs). A disk's writes cannot be given up.

    Raises:
        TimeoutError: The upload took too long.
    """
    if not is_local(uri):
        filesystem, path = _filesystem(uri)
        limit = {"timeout": timeout} if filesystem.async_impl else {}
        filesystem.pipe_file(path, data, **limit)
        return
    target = local_path(uri)
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, partial = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        Path(partial).chmod(0o644)
        Path(partial).replace(target)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def write_text(uri: str, text: str) -> None:
    """Write a UTF-8 file atomically, replacing what was there."""
    write_bytes(uri, text.encode("utf-8"))


def remove(uri: str) -> None:
    """Remove a file or a folder; nothing happens if there is none."""
    filesystem, path = _filesystem(uri)
    if filesystem.exists(path):
        filesystem.rm(path, recursive=True)


def publish_folder(folder: Path, uri: str, last: str = "") -> None:
    """Move a finished local folder to where readers find it.

    On a disk the folder appears whole, by a rename. In a bucket its objects appear one by one, so
    a reader must learn of the folder only afterwards, through a document that names it. A folder
    that is already there stays as it is: what is published is immutable.

    Args:
        folder: The finished folder; it is gone afterwards.
        uri: Its place.
        last: The file to upload last: where it is, the folder is complete.
    """
    if is_local(uri):
        target = local_path(uri)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.rename(target)
        except OSError:
            if not target.exists():
                raise
            shutil.rmtree(folder)
        return
    filesystem, path = _filesystem(uri)
    files = [item for item in folder.rglob("*") if item.is_file()]
    for file in sorted(files, key=lambda file: (file.name == last, file)):
        filesystem.put_file(str(file), f"{path}/{file.relative_to(folder).as_posix()}")
    shutil.rmtree(folder)


def replace_folder(folder: Path, uri: str, last: str = "") -> None:
    """Move a finished local folder to a place, and drop what was there.

    Args:
        folder: The finished folder; it is gone afterwards.
        uri: Its place.
        last: The file to upload last: where it is, the folder is complete.
    """
    if is_local(uri) and local_path(uri).exists():
        # Beside the new one, which lies in a scratch folder: both go in one rename each.
        local_path(uri).rename(folder.with_name(f"{folder.name}.old"))
    remove(uri)
    publish_folder(folder, uri, last)


@contextmanager
def scratch_folder(near: str) -> Iterator[Path]:
    """Give a temporary folder on this machine, on the same disk as `near` if that is local.

    What killed processes of this machine left there is removed.
    """
    parent = None
    if is_local(near):
        parent = local_path(near)
        parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(parent)
    with tempfile.TemporaryDirectory(
        prefix=f"{_SCRATCH}{socket.gethostname()}-{os.getpid()}-",
        dir=parent,
        ignore_cleanup_errors=True,
    ) as folder:
        yield Path(folder)


def _remove_abandoned(parent: Path) -> None:
    ours = f"{_SCRATCH}{socket.gethostname()}-"
    for folder in parent.glob(f"{ours}*"):
        process = folder.name.removeprefix(ours).partition("-")[0]
        if process.isdigit() and not is_running(int(process)):
            shutil.rmtree(folder, ignore_errors=True)


def read_versioned(uri: str) -> tuple[bytes | None, str]:
    """Read a document together with a token that names this version of it.

    Args:
        uri: The document.

    Returns:
        Its bytes (None if it is not there yet) and the token for `replace_versioned`.
    """
    if uri.startswith(_GCS):
        return _read_from_gcs(uri)
    if uri.startswith(_S3):
        return _read_from_s3(uri)
    if not exists(uri):
        return None, ""
    data = read_bytes(uri)
    return data, hashlib.sha256(data).hexdigest()


def replace_versioned(uri: str, data: bytes, token: str) -> None:
    """Replace a document unless somebody else did so since it was read.

    Args:
        uri: The document.
        data: Its new bytes.
        token: What `read_versioned` gave with the bytes that `data` was made from.

    Raises:
        Conflict: The document changed meanwhile: read it again, and merge.
    """
    if uri.startswith((_GCS, _S3)):
        replaced = _replace_in_gcs if uri.startswith(_GCS) else _replace_in_s3
        # A write that is done but whose answer was lost is tried again by the client, and refused.
        if not replaced(uri, data, token) and read_versioned(uri)[0] != data:
            raise _conflict(uri)
    elif is_local(uri):
        with _lock(local_path(uri)):
            if read_versioned(uri)[1] != token:
                raise _conflict(uri)
            write_bytes(uri, data)
    else:
        write_bytes(uri, data)


def update(uri: str, change: Callable[[bytes | None], bytes]) -> None:
    """Change a document that others may change at the same time; no change is lost.

    Args:
        uri: The document.
        change: Gives the new bytes for the present ones (None if it is not there yet). It is
            called again if somebody else was faster, which it may itself notice by a `Conflict`.

    Raises:
        Conflict: Others kept being faster.
    """
    for attempt in range(_UPDATES):
        data, token = read_versioned(uri)
        try:
            new = change(data)
            if new == (data or b""):
                return
            replace_versioned(uri, new, token)
        except Conflict:
            # A bucket takes about one new version of an object a second.
            time.sleep(random.uniform(0, min(4.0, 0.01 * 2**attempt)))
            continue
        return
    raise Conflict(f"{uri} has too many writers", remedy="run them in turn")


def is_guarded(uri: str) -> bool:
    """Try whether a place keeps two writers from overwriting each other.

    Some storage that speaks S3 takes the conditions of a write, and overwrites all the same.

    Args:
        uri: A folder; a small file is written below it, and removed.

    Raises:
        Conflict: It refuses a write that nobody was faster than.
    """
    probe = join(uri, f".guard-{uuid.uuid4().hex}")
    _, none = read_versioned(probe)
    try:
        replace_versioned(probe, b"first", none)
        _, token = read_versioned(probe)
        replace_versioned(probe, b"second", token)
        return _refuses(probe, b"late", token) and _refuses(probe, b"late to create", none)
    finally:
        remove(probe)


def _refuses(uri: str, data: bytes, token: str) -> bool:
    try:
        replace_versioned(uri, data, token)
    except Conflict:
        return True
    return False


def _conflict(uri: str) -> Conflict:
    return Conflict(f"{uri} was replaced by another writer", remedy="run the command again")


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with (path.parent / f".{path.name}.lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _in_bucket(uri: str) -> tuple[str, str]:
    """Split a URI into the bucket and the object's name."""
    bucket, _, name = uri.partition("://")[2].partition("/")
    return bucket, name


def _gcs_blob(uri: str) -> Any:
    bucket, name = _in_bucket(uri)
    return _gcs_client(os.environ.get("STORAGE_EMULATOR_HOST", "")).bucket(bucket).blob(name)


@cache
def _gcs_client(emulator: str) -> Any:
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    if emulator:
        return storage.Client(project="emulator", credentials=AnonymousCredentials())
    _use_key()
    return storage.Client()


def _read_from_gcs(uri: str) -> tuple[bytes | None, str]:
    from google.api_core.exceptions import NotFound

    blob = _gcs_blob(uri)
    try:
        data = bytes(blob.download_as_bytes())
    except NotFound:
        return None, "0"
    return data, str(blob.generation)


def _replace_in_gcs(uri: str, data: bytes, token: str) -> bool:
    from google.api_core.exceptions import PreconditionFailed

    try:
        _gcs_blob(uri).upload_from_string(data, if_generation_match=int(token))
    except PreconditionFailed:
        return False
    return True


@cache
def _s3_client() -> Any:
    # What s3fs stands on: s3fs itself does not say which version of an object it has read.
    from botocore.session import get_session

    return get_session().create_client("s3")


def _call_s3(operation: str, uri: str, **arguments: Any) -> Any:
    bucket, name = _in_bucket(uri)
    return getattr(_s3_client(), operation)(Bucket=bucket, Key=name, **arguments)


def _read_from_s3(uri: str) -> tuple[bytes | None, str]:
    from botocore.exceptions import ClientError

    try:
        answer = _call_s3("get_object", uri)
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchKey":
            raise
        return None, ""
    return bytes(answer["Body"].read()), str(answer["ETag"])


def _replace_in_s3(uri: str, data: bytes, token: str) -> bool:
    from botocore.exceptions import ClientError

    condition = {"IfMatch": token} if token else {"IfNoneMatch": "*"}
    try:
        _call_s3("put_object", uri, Body=data, **condition)
    except ClientError as error:
        if error.response["Error"]["Code"] not in _REFUSED_BY_S3:
            raise
        return False
    return True
