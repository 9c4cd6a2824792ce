"""The serving image: what its Dockerfile says, what it installs, and that it serves."""

import ast
import base64
import functools
import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from bundles import tiny_bundle
from dockerfile import Container, Image, Stage, build, copy_context, parse
from helpers import encode, noise_poster
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from typer.main import get_command

from marquee.cli import app

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "serving" / "Dockerfile").read_text()
FOREIGN = {"torch", "torchvision", "kfp", "evidently", "great-expectations", "scikit-learn"}
"""What other rooms need, and serving must not carry."""


def final(stages: list[Stage], name: str) -> list[str]:
    """The words of the last stage's instruction."""
    (instruction,) = [found for found in stages[-1].instructions if found.name == name]
    assert instruction.is_exec_form or name not in ("ENTRYPOINT", "CMD")
    return instruction.words


def runs(stages: list[Stage]) -> list[str]:
    return [
        command.strip()
        for stage in stages
        for instruction in stage.instructions
        if instruction.name == "RUN"
        for command in instruction.value.split("&&")
    ]


def the_base_is_pinned(stages):
    assert re.fullmatch(r"python:3\.11\.\d+-slim-[a-z]+", stages[0].base)


def all_stages_share_the_base(stages):
    names = [stage.name for stage in stages]
    assert all(stage.base in names for stage in stages[1:])
    assert stages[-1].base == names[0]


def the_user_is_a_number_and_not_root(stages):
    (user,) = final(stages, "USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)


def no_shell_stands_before_the_server(stages):
    assert final(stages, "ENTRYPOINT") == ["marquee"]


def the_server_gets_the_signal_it_handles(stages):
    assert final(stages, "STOPSIGNAL") == ["SIGTERM"]


def the_command_is_one_of_ours(stages):
    name, *arguments = final(stages, "CMD")
    with get_command(app).commands[name].make_context(name, arguments) as context:
        assert context.params["host"] == "0.0.0.0"
        assert context.params["bundle"] == "/mnt/models"
        assert context.params["token_file"]


def nothing_is_installed_in_the_last_stage(stages):
    assert {found.name for found in stages[-1].instructions}.isdisjoint({"RUN", "ADD"})


def nothing_is_fetched_but_wheels(stages):
    assert not any(found.name == "ADD" for stage in stages for found in stage.instructions)
    assert not re.search(r"https?://|git\+|curl|wget|apt", "\n".join(runs(stages)))


def every_installation_is_constrained(stages):
    installs = [run for run in runs(stages) if "pip install" in run]
    assert installs
    assert all("-c constraints.txt" in run for run in installs)


CHECKS = {
    the_base_is_pinned: ("python:3.11.15-slim-trixie", "python:latest"),
    all_stages_share_the_base: ("FROM base\n", "FROM python:3.11.15-slim-trixie\n"),
    the_user_is_a_number_and_not_root: ("USER 10001:10001", "USER marquee"),
    no_shell_stands_before_the_server: ('ENTRYPOINT ["marquee"]', "ENTRYPOINT marquee"),
    the_server_gets_the_signal_it_handles: ("STOPSIGNAL SIGTERM", "STOPSIGNAL SIGUSR1"),
    the_command_is_one_of_ours: ('"--host", "0.0.0.0", ', ""),
    nothing_is_installed_in_the_last_stage: ("USER 10001:10001", "RUN true\nUSER 10001:10001"),
    nothing_is_fetched_but_wheels: ("COPY README.md", "ADD https://example.org/x"),
    every_installation_is_constrained: ("-c constraints.txt setuptools", "setuptools"),
}
"""Each with an edit of the Dockerfile that it must refuse."""


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_dockerfile(check):
    check(parse(DOCKERFILE))
    old, new = CHECKS[check]
    assert old in DOCKERFILE
    with pytest.raises(AssertionError):
        check(parse(DOCKERFILE.replace(old, new)))


def test_the_context_holds_what_is_copied_and_no_more(tmp_path):
    copy_context(ROOT, tmp_path)
    sources = [
        source
        for stage in parse(DOCKERFILE)
        for instruction in stage.instructions
        if instruction.name == "COPY" and not instruction.value.startswith("--from")
        for source in instruction.words[:-1]
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(sources)
    names = {path.name for path in tmp_path.rglob("*")}
    assert {"server.py", "index.html"} < names
    assert names.isdisjoint({"__pycache__", "Dockerfile", ".env"})


def listed() -> list[str]:
    """What the image installs: the project's requirements and the extra `serving`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project["dependencies"] + project["optional-dependencies"]["serving"]


@functools.cache
def closure() -> frozenset[str]:
    """The distributions that the list brings, by those installed here."""
    found: set[str] = set()
    waiting = [Requirement(line) for line in listed()]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        extras = requirement.extras or {""}
        if name in found and extras == {""}:
            continue
        found.add(name)
        for line in importlib.metadata.requires(name) or []:
            further = Requirement(line)
            if further.marker is None or any(
                further.marker.evaluate({"extra": extra}) for extra in extras
            ):
                waiting.append(further)
    return frozenset(found)


def test_the_list_brings_nothing_of_other_rooms():
    assert {"kserve", "onnxruntime", "openvino", "uvicorn", "uvloop"} < closure()
    assert closure().isdisjoint(FOREIGN)


@pytest.fixture(scope="module")
def loaded() -> dict[str, str]:
    """The modules that a process with the whole of serving loads, and their files."""
    modules = [f"serving.{path.stem}" for path in (ROOT / "serving").glob("[a-z]*.py")]
    code = f"import json, sys, {', '.join(modules)}\n"
    code += (
        "print(json.dumps({name: getattr(m, '__file__', '') for name, m in sys.modules.items()}))"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    return json.loads(result.stdout)


def test_serving_loads_nothing_of_other_rooms(loaded):
    modules = {"torch", "torchvision", "kfp", "evidently", "great_expectations", "sklearn"}
    modules |= {"kubernetes"}  # KServe's package would
    assert {"serving", "kserve", "uvicorn"} < loaded.keys()
    assert loaded.keys().isdisjoint(modules)


ON_REQUEST = {"model_registry"}
"""What the image lacks: without it, sigstore's signatures are not verified, which it says."""


def test_what_our_modules_import_is_listed(loaded):
    ours = [file for name, file in loaded.items() if name.startswith(("marquee.", "serving."))]
    assert len(ours) > 20
    imported = {
        name.partition(".")[0]
        for file in ours
        for node in ast.walk(ast.parse(Path(file).read_text()))
        for name in imports(node)
    }
    providers = importlib.metadata.packages_distributions()
    foreign = imported - sys.stdlib_module_names - {"marquee", "serving"} - ON_REQUEST
    unlisted = {
        name
        for name in foreign
        # Several distributions share a module such as `google`: one of them is enough.
        if closure().isdisjoint(map(canonicalize_name, providers.get(name, ["?"])))
    }
    assert unlisted == set()


def imports(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""]
    return []


# From here on: the image itself, built and run as far as that is possible without Docker.

needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("unshare"),
    reason="mounts file systems: needs root and util-linux",
)
MOUNT_POINTS = ("/tmp", "/var/cache/marquee", "/mnt/models", "/etc/marquee", "/records")


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """All that the image's list brings, as pip would download it."""
    folder = tmp_path_factory.mktemp("wheels")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary", ":all:"]
    command += ["--dest", str(folder), "-c", str(ROOT / "constraints.txt"), *listed(), "setuptools"]
    subprocess.run(command, check=True, timeout=500)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def image(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    folder = tmp_path_factory.mktemp("image")
    context = folder / "context"
    context.mkdir()
    copy_context(ROOT, context)
    yield build(DOCKERFILE, context, folder / "stages", wheels, MOUNT_POINTS)
    shutil.rmtree(folder)


def size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


@pytest.mark.slow
def test_the_wheels_fit(wheels):
    assert {path.suffix for path in wheels.iterdir()} == {".whl"}
    print(f"{size(wheels) / 1e6:.0f} MB of wheels")
    assert size(wheels) < 700e6


@pytest.mark.slow
@needs_root
def test_what_is_inside(image):
    (packages,) = (image.root / "opt/marquee/lib").glob("python3.11/site-packages")
    names = {path.name.partition("-")[0] for path in packages.glob("*.dist-info")}
    assert {canonicalize_name(name) for name in names} == closure() | {"marquee"}
    assert (packages / "serving/page/index.html").is_file()
    assert not (packages / "components").exists()
    print(f"{size(image.root / 'opt/marquee') / 1e6:.0f} MB installed")
    assert size(image.root / "opt/marquee") < 850e6


@pytest.mark.slow
@needs_root
def test_nothing_is_left_to_compile(image):
    folders = [image.root / "opt/marquee/lib", *(image.root / "usr/local/lib").glob("python3.11")]
    sources = [path for folder in folders for path in folder.rglob("*.py")]
    assert len(sources) > 5_000
    for source in sources:
        if (image.root / "usr/local/lib/python3.11/site-packages") in source.parents:
            continue
        (bytecode,) = source.parent.glob(f"__pycache__/{source.stem}.cpython-311.pyc")
        flags = bytecode.read_bytes()[4:8]
        assert int.from_bytes(flags, "little") == 0b01, f"{source} is checked when it is loaded"


@pytest.mark.slow
@needs_root
def test_the_base_image_has_the_system_libraries(image):
    # Of Debian's essential packages, and libstdc++ and zlib, which apt and Python need.
    there = r"linux-vdso|ld-linux-\S+|lib(c|m|dl|rt|pthread|gcc_s|stdc\+\+|z)\.so\.\d+"
    libraries = [path for path in (image.root / "opt/marquee").rglob("*.so*") if path.is_file()]
    result = subprocess.run(["ldd", *libraries], capture_output=True, text=True, check=False)
    needed = {
        line.split()[0].rpartition("/")[2]
        for line in result.stdout.splitlines()
        if line.startswith("\t") and str(image.root) not in line and "statically" not in line
    }
    assert "libstdc++.so.6" in needed
    assert [name for name in needed if not re.match(there, name)] == []


@pytest.fixture
def volumes(tmp_path: Path) -> dict[str, Path | None]:
    """What a pod mounts."""
    sealed = tiny_bundle(tmp_path / "sealed").folder
    # As KServe's storage initializer leaves it: downloaded, readable by all.
    downloaded = tmp_path / "downloaded"
    shutil.copytree(sealed, downloaded, copy_function=shutil.copyfile)
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "tokens").write_text("open-sesame\n")
    records = tmp_path / "records"
    records.mkdir()
    records.chmod(0o777)
    return {
        "/tmp": None,
        "/var/cache/marquee": None,
        "/mnt/models": downloaded,
        "/etc/marquee": secret,
        "/records": records,
    }


USERS = {
    "the image's": None,
    "that of KServe's OCI models": "1010:1010",
    "one that OpenShift chooses": "1000660000:0",
}


@pytest.fixture
def start(image: Image, volumes: dict[str, Path | None]) -> Iterator[Callable[..., Container]]:
    """Starts containers of this test's own: `start(command)`."""
    containers: list[Container] = []

    def start(command: list[str], of: Image = image, **options: object) -> Container:
        defaults = {"stdout": subprocess.PIPE, "text": True, "volumes": volumes}
        containers.append(of.start(command, **(defaults | options)))
        return containers[-1]

    yield start
    for container in containers:
        container.process.kill()
        container.process.wait()


@pytest.mark.slow
@needs_root
@pytest.mark.parametrize("user", USERS.values(), ids=USERS)
def test_it_serves_from_a_read_only_root_and_ends_on_sigterm(image, start, tmp_path, user):
    log = tmp_path / "log"
    with log.open("w") as stream:
        arguments = [*image.command, "--port", "0", "--records", "/records"]
        container = start(arguments, user=user, stderr=stream)
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


@pytest.mark.slow
@needs_root
def test_the_receiver_of_payload_logs_starts_and_ends(start):
    container = start(["receive", "--records", "/records", "--port", "0"])
    assert container.process.stdout.readline().startswith("the receiver is ready at ")
    container.signal(signal.SIGTERM)
    assert container.process.wait(timeout=30) == 0


@pytest.mark.slow
@needs_root
def test_nothing_but_the_volumes_can_be_written(image, start):
    shell = Image(image.root, image.env, image.user, entrypoint=["sh", "-c"])
    script = (
        "for f in / /opt/marquee /mnt/models $TMPDIR $MARQUEE_CACHE; do touch $f/x && echo $f; done"
    )
    container = start([script], of=shell)
    written, _ = container.process.communicate()
    assert written.split() == ["/tmp", "/var/cache/marquee"]


@pytest.mark.slow
@needs_root
def test_a_command_of_another_room_says_what_is_missing(start):
    container = start(["pipeline", "compile", "--out", "/tmp/x"], stderr=subprocess.PIPE)
    _, errors = container.process.communicate()
    assert container.process.returncode == 2
    assert "this installation lacks the package" in errors
