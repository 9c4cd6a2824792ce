"""The images themselves, built and run as far as that is possible without Docker.

That of training is left out for its size; `test_contents.py` tells what it holds.
"""

import base64
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import requests
from bundles import tiny_bundle
from dockerfile import Builder, Container, Image, copy_context
from helpers import ROOT, encode, noise_poster
from kfp_server import running_kfp
from kfp_step import ARTIFACTS, kfp_step, output_of
from our_images import IMAGES, closure, version
from packaging.utils import canonicalize_name

from benchmarks.simulated_drift import GENRES, World
from images.requirements import requirements
from marquee.processes import free_port

needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("unshare"),
    reason="mounts file systems: needs root and util-linux",
)
pytestmark = [pytest.mark.slow, needs_root]

BUILT = tuple(name for name in IMAGES if name != "train")
TOOLS = ("cyclonedx-bom", "setuptools")
STORAGE = "/mnt/marquee"
"""Where a pod may have a volume for what it keeps."""
MOUNT_POINTS = (
    *("/tmp", "/var/cache/marquee", "/mnt/models", "/etc/marquee", "/records"),
    *(STORAGE, ARTIFACTS),
)
WHEELS = {"serving": 350e6, "data": 350e6, "monitoring": 400e6}
"""What each may take at most to fetch, in bytes."""
SIZES = {"serving": 950e6, "data": 900e6, "monitoring": 1250e6}
"""What each may take at most once it is installed, in bytes."""
ARGUMENTS = {
    "VERSION": version(),
    "REVISION": "0" * 40,
    "CREATED": "2026-01-02T03:04:05Z",
    "SOURCE": "https://example.org/marquee",
    "SOURCE_DATE_EPOCH": "1767323045",
}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """All that the images' lists bring, as pip would download it."""
    folder = tmp_path_factory.mktemp("wheels")
    listed = {line for name in BUILT for line in requirements(name)}
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-build-isolation"]
    command += ["--only-binary", ":all:", "--no-binary", "kfp-server-api"]
    command += ["--dest", str(folder), "-c", str(ROOT / "constraints.txt"), *listed, *TOOLS]
    subprocess.run(command, check=True, timeout=500)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def build(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Image]]:
    """Builds an image, once: `build(name)`."""
    folder = tmp_path_factory.mktemp("images")
    # In memory, 3 GB: to delete 300,000 files took a disk three minutes.
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6g", "tmpfs", folder], check=True)
    try:
        context = folder / "context"
        context.mkdir()
        copy_context(ROOT, context)
        builder = Builder(context, folder, wheels, ARGUMENTS)
        yield lambda name: builder.build(IMAGES[name].text, name, MOUNT_POINTS)
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.fixture(params=BUILT)
def any_image(build, request) -> Image:
    return build(request.param)


@pytest.fixture
def name(request, any_image) -> str:
    return any_image.labels["org.opencontainers.image.title"].removeprefix("marquee-")


def size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


def test_the_wheels_fit(wheels):
    sources = [path.name for path in wheels.iterdir() if path.suffix != ".whl"]
    assert [name.partition("-")[0] for name in sources] == ["kfp_server_api"]
    for name, limit in WHEELS.items():
        packages = closure(name)
        own = [w for w in wheels.iterdir() if canonicalize_name(w.name.split("-")[0]) in packages]
        taken = sum(wheel.stat().st_size for wheel in own)
        print(f"{name}: {taken / 1e6:.0f} MB of wheels")
        assert taken < limit


def packages_of(image: Image) -> Path:
    (packages,) = (image.root / "opt/marquee/lib").glob("python3.11/site-packages")
    return packages


def test_what_is_inside(any_image, name):
    packages = packages_of(any_image)
    names = {path.name.partition("-")[0] for path in packages.glob("*.dist-info")}
    assert {canonicalize_name(found) for found in names} == closure(name) | {"marquee"}
    rooms = {"marquee", "components", "pipelines", "serving", "monitoring"}
    held = {room for room in rooms if (packages / room).exists()}
    assert held == IMAGES[name].rooms | {"marquee"}
    assert (packages / "serving/page/index.html").is_file() == (name == "serving")
    print(f"{name}: {size(any_image.root / 'opt/marquee') / 1e6:.0f} MB installed")
    assert size(any_image.root / "opt/marquee") < SIZES[name]


def test_its_software_list_says_what_is_inside(any_image, name):
    listed = json.loads((any_image.root / "opt/marquee/sbom.cdx.json").read_text())
    assert (listed["bomFormat"], listed["specVersion"]) == ("CycloneDX", "1.6")
    assert listed["metadata"]["timestamp"] == "2026-01-02T03:04:05+00:00"
    ours = listed["metadata"]["component"]
    assert (ours["name"], ours["version"]) == ("marquee", version())
    components = {canonicalize_name(part["name"]): part for part in listed["components"]}
    assert components.keys() == closure(name)
    for part in components.values():
        assert part["purl"].startswith("pkg:pypi/")
        assert part["version"]


def test_labels_are_filled(any_image, name):
    prefix = "org.opencontainers.image."
    labels = {key.removeprefix(prefix): value for key, value in any_image.labels.items()}
    assert labels.pop("description")
    given = {key.lower(): value for key, value in ARGUMENTS.items() if key != "SOURCE_DATE_EPOCH"}
    assert labels == given | {"title": f"marquee-{name}", "licenses": "Apache-2.0"}


def test_no_tool_of_the_build_is_left(any_image):
    sites = any_image.root.glob("*/**/site-packages")
    found = {path.name.partition("-")[0] for site in sites for path in site.glob("*.dist-info")}
    assert found.isdisjoint({"pip", "wheel", "cyclonedx_bom"})
    for path in ("opt/tools", "src", "project"):
        assert not (any_image.root / path).exists()
    assert not list((any_image.root / "usr/local/bin").glob("pip*"))


def test_nothing_is_left_to_compile(any_image):
    folders = [any_image.root / path for path in ("opt/marquee/lib", "usr/local/lib/python3.11")]
    sources = [path for folder in folders for path in folder.rglob("*.py")]
    assert len(sources) > 5_000
    for source in sources:
        (bytecode,) = source.parent.glob(f"__pycache__/{source.stem}.cpython-311.pyc")
        flags = bytecode.read_bytes()[4:8]
        assert int.from_bytes(flags, "little") == 0b01, f"{source} is checked when it is loaded"


def test_the_base_image_has_the_system_libraries(any_image):
    # Of Debian's essential packages, and libstdc++ and zlib, which apt and Python need.
    there = r"linux-vdso|ld-linux-\S+|lib(c|m|dl|rt|pthread|gcc_s|stdc\+\+|z)\.so\.\d+"
    libraries = [path for path in (any_image.root / "opt/marquee").rglob("*.so*") if path.is_file()]
    result = subprocess.run(["ldd", *libraries], capture_output=True, text=True, check=False)
    needed = {
        line.split()[0].rpartition("/")[2]
        for line in result.stdout.splitlines()
        if line.startswith("\t") and "statically" not in line
    }
    # A wheel's own libraries find each other when the first of them is loaded.
    needed -= {library.name for library in libraries}
    assert "libstdc++.so.6" in needed
    assert [library for library in needed if not re.match(there, library)] == []


@pytest.fixture
def volumes(tmp_path: Path) -> dict[str, Path | None]:
    """What pods mount."""
    sealed = tiny_bundle(tmp_path / "sealed").folder
    # As KServe's storage initializer leaves it: downloaded, readable by all.
    downloaded = tmp_path / "downloaded"
    shutil.copytree(sealed, downloaded, copy_function=shutil.copyfile)
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "tokens").write_text("open-sesame\n")
    writable = {}
    for path in ("/records", STORAGE, ARTIFACTS):
        writable[path] = tmp_path / path[1:].replace("/", "-")
        writable[path].mkdir()
        writable[path].chmod(0o777)
    return {
        "/tmp": None,
        "/var/cache/marquee": None,
        "/mnt/models": downloaded,
        "/etc/marquee": secret,
        **writable,
    }


USERS = {
    "the image's": None,
    "that of KServe's OCI models": "1010:1010",
    "one that OpenShift chooses": "1000660000:0",
}


@pytest.fixture
def start(volumes: dict[str, Path | None]) -> Iterator[Callable[..., Container]]:
    """Starts containers of this test's own: `start(image, command)`."""
    containers: list[Container] = []

    def start(image: Image, command: list[str], **options: object) -> Container:
        defaults = {"stdout": subprocess.PIPE, "text": True, "volumes": volumes}
        containers.append(image.start(command, **(defaults | options)))
        return containers[-1]

    yield start
    for container in containers:
        container.kill()


def test_nothing_but_the_volumes_can_be_written(any_image, start):
    shell = Image(any_image.root, any_image.env, any_image.user, entrypoint=["sh", "-c"])
    script = (
        "for f in / /opt/marquee /mnt/models $TMPDIR $MARQUEE_CACHE; do touch $f/x && echo $f; done"
    )
    written, _ = start(shell, [script]).process.communicate()
    assert written.split() == ["/tmp", "/var/cache/marquee"]


def test_where_nothing_is_mounted_the_cache_can_be_written_all_the_same(any_image, start):
    """Steps of Kubeflow have a root that can be written unless somebody forbids it."""
    shell = Image(any_image.root, any_image.env, "1000660000:0", entrypoint=["sh", "-c"])
    script = 'touch "$MARQUEE_CACHE/x" && rm "$MARQUEE_CACHE/x" && echo written'
    container = start(shell, [script], volumes={}, read_only=False)
    assert container.process.communicate()[0] == "written\n"


ELSEWHERE = {
    "data": ["serve", "/mnt/models"],
    "monitoring": ["serve", "/mnt/models"],
    "serving": ["pipeline", "compile", "--out", "/tmp/x"],
}


def test_a_command_of_another_image_says_what_is_missing(any_image, name, start):
    container = start(any_image, ELSEWHERE[name], stderr=subprocess.PIPE)
    _, errors = container.process.communicate()
    assert container.process.returncode == 2
    assert "this installation lacks the package" in errors


# From here on, what each image is for.


@pytest.mark.parametrize("user", USERS.values(), ids=USERS)
def test_it_serves_from_a_read_only_root_and_ends_on_sigterm(build, start, tmp_path, user):
    image = build("serving")
    log = tmp_path / "log"
    with log.open("w") as stream:
        arguments = [*image.command, "--port", "0", "--records", "/records"]
        container = start(image, arguments, user=user, stderr=stream)
    line = container.process.stdout.readline()
    assert " is ready at " in line, log.read_text()
    port = re.search(r"is ready at http://0\.0\.0\.0:(\d+)", line)[1]
    url = f"http://127.0.0.1:{port}"

    assert requests.get(f"{url}/v2/health/live", timeout=30).json() == {"live": True}
    assert requests.get(f"{url}/v2/health/ready", timeout=30).json() == {"ready": True}
    page = requests.get(url, headers={"Accept": "text/html"}, timeout=30)
    assert page.headers["Content-Type"].startswith("text/html")
    poster = base64.b64encode(encode(noise_poster(1, 120, 180))).decode()
    request = json.dumps({"instances": [{"image": {"b64": poster}}]})
    predict = functools.partial(
        requests.post, f"{url}/v1/models/poster-genre:predict", data=request, timeout=30
    )
    assert predict().status_code == 401
    answer = predict(headers={"Authorization": "Bearer open-sesame"})
    assert answer.json()["predictions"][0]["genres"]

    container.signal(signal.SIGTERM)
    assert container.process.wait(timeout=30) == 0
    assert len(list((tmp_path / "records").rglob("*.parquet"))) == 1
    assert not re.search(r"Traceback|Read-only|Permission denied|not writable", log.read_text())


def test_the_receiver_of_payload_logs_starts_and_ends(build, start):
    container = start(build("serving"), ["receive", "--records", "/records", "--port", "0"])
    assert container.process.stdout.readline().startswith("the receiver is ready at ")
    container.signal(signal.SIGTERM)
    assert container.process.wait(timeout=30) == 0


@pytest.fixture
def run_step(build, start, volumes, tmp_path) -> Callable[..., object]:
    """Runs a step as Kubeflow does, as a user that nobody knows; gives its output parameter."""

    def run_step(package: str, task: str, **inputs: object) -> object:
        step = kfp_step(package, task)
        image = build(step.image)
        tmp = tmp_path / f"tmp-{task}"
        tmp.mkdir()
        tmp.chmod(0o777)
        container = start(
            Image(image.root, image.env),
            step.words(**inputs),
            user=USERS["one that OpenShift chooses"],
            volumes=volumes | {"/tmp": tmp},
            stderr=subprocess.STDOUT,
        )
        log, _ = container.process.communicate()
        assert container.process.returncode == 0, log
        assert not re.search(r"Traceback|Read-only|Permission denied|\bpip\b", log)
        return output_of(tmp)

    return run_step


def test_kubeflow_runs_the_steps_of_data(run_step, volumes):
    run_step = functools.partial(run_step, "marquee-training")
    run = {"run_uri": f"{STORAGE}/run"}
    posters = {"source": "drawn", "path": "", "films": 120, "limit": 0}
    spans = run_step("plan-ingest", **run, **posters, from_year=0, to_year=0, overrides={})
    span = run_step("ingest", **run, **posters, span=spans[0], spans=spans, overrides={})
    digest = run_step("merge", **run, spans=[span], imdb="")
    assert run_step("validate", **run, catalog_digest=digest, overrides={}) == "passed"
    dealt = run_step("balance", **run, catalog_digest=digest, label_set="all18", overrides={})
    assert re.fullmatch("[0-9a-f]{64}", dealt)
    assert (volumes[STORAGE] / "run/balance/split.parquet").is_file()
    report = volumes[ARTIFACTS] / "bucket/balance/report"
    assert report.read_text().startswith("<!doctype html>")
    assert run_step("skip-vgg16") == ""


DAY = timedelta(days=1)


@pytest.fixture
def predicted(volumes) -> dict[str, str]:
    """Yesterday's predictions, and the bundle that made them."""
    storage = volumes[STORAGE]
    profile = World().draw(5000, np.random.default_rng(1)).profile().to_document()
    bundle = tiny_bundle(
        storage / "bundle", genres=GENRES, label_set="all18", reference_profile=profile
    )
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    drawn = World().draw(300, np.random.default_rng(2))
    drawn.write(str(storage / "records"), bundle.version, today - DAY, today)
    (storage / "truth.csv").write_text(drawn.truth())
    return {
        "records_uri": f"{STORAGE}/records",
        "bundle_uri": f"{STORAGE}/bundle",
        "truth": f"{STORAGE}/truth.csv",
    }


def wait_for(url: str, container: Container) -> str:
    for _ in range(600):
        assert container.process.poll() is None
        try:
            answer = requests.get(url, timeout=10)
            answer.raise_for_status()
        except requests.ConnectionError:
            time.sleep(0.1)
        else:
            return answer.text
    raise TimeoutError(url)


def test_kubeflow_runs_the_steps_of_monitoring_and_people_see_what_they_found(
    build, run_step, start, predicted
):
    run_step = functools.partial(run_step, "marquee-monitoring", run_uri=f"{STORAGE}/watch")
    given = {"registry_uri": "", "label_set": "all18", "overrides": {}}
    settings = {"monitor.settle_minutes": "0"}
    sentence = run_step("monitor", **predicted, **(given | {"overrides": settings}))
    assert "300" in sentence
    asked = run_step("retrain", registry_uri="", training={}, overrides={})
    assert "no" in asked

    ports = {command: str(free_port()) for command in ("export", "serve")}
    shown = {
        command: start(
            build("monitoring"), ["reports", command, f"{STORAGE}/watch", "--port", port]
        )
        for command, port in ports.items()
    }
    metrics = wait_for(f"http://127.0.0.1:{ports['export']}/metrics", shown["export"])
    assert "marquee_drift" in metrics
    page = wait_for(f"http://127.0.0.1:{ports['serve']}", shown["serve"])
    assert "evidently" in page.lower()


def test_it_compiles_and_uploads_pipelines(build, start):
    image = build("monitoring")
    with running_kfp() as kfp:
        env = image.env | {"MARQUEE_KFP_ENDPOINT": kfp.url}
        uploader = Image(image.root, env, image.user, entrypoint=image.entrypoint)
        container = start(
            uploader, ["pipeline", "upload"], user=USERS["one that OpenShift chooses"]
        )
        said, _ = container.process.communicate()
        assert container.process.returncode == 0
        assert [line.split()[0] for line in said.splitlines()] == kfp.named("pipelines")
        assert all(line.endswith(" uploaded") for line in said.splitlines())
