"""Reads a Dockerfile, and builds and runs it without Docker, as far as Marquee's use of it goes.

The base image cannot be pulled, so this machine stands in for it: its /usr, read-only, and a copy
of the running Python in /usr/local, stripped as the official image is. Each stage is a folder; RUN
and the finished image run in it by chroot, in mount and process namespaces of their own, which
takes root.
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path


@dataclass(frozen=True)
class Instruction:
    """One instruction, its continued lines joined."""

    name: str
    value: str

    @property
    def is_exec_form(self) -> bool:
        """Whether it names a command's words, which no shell sees."""
        return self.value.startswith("[")

    @property
    def words(self) -> list[str]:
        """Its words; of the exec form, those of the list."""
        return json.loads(self.value) if self.is_exec_form else shlex.split(self.value)

    @property
    def pairs(self) -> dict[str, str]:
        """The variables that ENV sets, or the labels of LABEL."""
        return dict(word.split("=", 1) for word in self.words)


@dataclass
class Stage:
    """What one FROM begins."""

    base: str
    name: str
    instructions: list[Instruction] = field(default_factory=list)


def parse(text: str) -> list[Stage]:
    """Read the stages of a Dockerfile; what ARG says before the first is put where it is used."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    stages: list[Stage] = []
    defaults: dict[str, str] = {}
    for line in "\n".join(lines).replace("\\\n", "").splitlines():
        name, value = line.split(maxsplit=1)
        if name == "FROM":
            base, *alias = expand(value, defaults).split(" AS ")
            stages.append(Stage(base, alias[0] if alias else ""))
        elif stages:
            stages[-1].instructions.append(Instruction(name, value.strip()))
        else:
            assert name == "ARG"
            variable, _, default = value.partition("=")
            defaults[variable] = default
    return stages


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Put variables into a text; one that is not set is empty."""
    return re.sub(r"\$\{?(\w+)\}?", lambda found: variables.get(found[1], ""), text)


def chain(stages: Sequence[Stage], target: str) -> list[Stage]:
    """Give a stage and those that it stands on, the lowest first."""
    below = {stage.name: stage for stage in stages}
    found = [below[target]]
    while found[0].base in below:
        found.insert(0, below[found[0].base])
    return found


def copy_context(root: Path, target: Path) -> None:
    """Copy what `.dockerignore` lets through; it has to name what goes through (`*`, then `!x`)."""
    patterns = (root / ".dockerignore").read_text().splitlines()
    patterns = [line for line in patterns if line and not line.startswith("#")]
    assert patterns[0] == "*"
    ignored = [pattern for pattern in patterns[1:] if not pattern.startswith("!")]

    def leave_out(folder: str, names: list[str]) -> set[str]:
        paths = {name: str((Path(folder) / name).relative_to(root)) for name in names}
        return {name for name in names for line in ignored if _matches(paths[name], line)}

    for pattern in patterns:
        if pattern.startswith("!"):
            source = root / pattern[1:]
            copy = shutil.copy2 if source.is_file() else shutil.copytree
            options = {} if source.is_file() else {"ignore": leave_out}
            copy(source, target / pattern[1:], **options)


def _matches(path: str, pattern: str) -> bool:
    if pattern.startswith("**/"):
        return fnmatch(Path(path).name, pattern[3:])
    return fnmatch(path, pattern)


@dataclass
class Image:
    """A stage as far as it is built: its root folder, and how it is run."""

    root: Path
    env: dict[str, str] = field(default_factory=dict)
    user: str = "0:0"
    workdir: str = "/"
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    arguments: dict[str, str] = field(default_factory=dict)
    """What ARG takes from the build."""
    labels: dict[str, str] = field(default_factory=dict)

    def start(
        self,
        command: Sequence[str],
        *,
        user: str | None = None,
        volumes: Mapping[str, Path | None] | None = None,
        read_only: bool = True,
        **options: object,
    ) -> "Container":
        """Start a process in the image, as its process 1.

        Args:
            command: The words after the entrypoint.
            user: Its user and group id; the image's without it.
            volumes: What is mounted where: a folder or file of this machine, or None for an empty
                folder in memory.
            read_only: Nothing can be written but the volumes.
            options: Of `subprocess.Popen`.
        """
        script = _script(self.root, volumes or {}, read_only)
        env = [f"{name}={value}" for name, value in self.env.items()]
        argv = [
            *("unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child"),
            *("sh", "-euc", script),
            *("chroot", f"--userspec={user or self.user}", "--groups=", str(self.root)),
            *("env", "-i", "-C", self.workdir, *env, *self.entrypoint, *command),
        ]
        return Container(subprocess.Popen(argv, **options))


@dataclass
class Container:
    """A process in an image."""

    process: subprocess.Popen[str]

    def signal(self, number: int) -> None:
        """Send a signal to process 1."""
        parent = self.process.pid
        child = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()[0]
        os.kill(int(child), number)

    def kill(self) -> None:
        """End it; its process 1 would outlive the one that started it, as it changed its user."""
        if self.process.poll() is None:
            self.signal(signal.SIGKILL)
        self.process.wait()


def _script(root: Path, volumes: Mapping[str, Path | None], read_only: bool) -> str:
    """The shell script that mounts what process 1 sees, then becomes it."""
    aside = root / "aside"
    lines = [
        f"mount --bind {root} {root}",
        f"mount --bind {root}/usr/local {aside}",
        f"mount -o bind,ro /usr {root}/usr",
        f"mount --bind {aside} {root}/usr/local",
        f"umount {aside}",
    ]
    if read_only:
        lines += [f"mount -o remount,bind,ro {root}{path}" for path in ("", "/usr/local")]
    lines += [f"mount --rbind /{name} {root}/{name}" for name in ("dev", "sys")]
    lines.append(f"mount -t proc proc {root}/proc")
    for target, source in volumes.items():
        what = "-t tmpfs -o mode=1777 tmpfs" if source is None else f"--bind {source}"
        lines.append(f"mount {what} {root}{target}")
    return "\n".join([*lines, 'exec "$0" "$@"'])


@dataclass
class Builder:
    """Builds Dockerfiles; like a builder with a cache, a stage that several have only once.

    Args:
        context: The folder that COPY reads.
        folder: Where the stages are kept.
        wheels: All that pip may install.
        arguments: What the build gives to ARG.
    """

    context: Path
    folder: Path
    wheels: Path
    arguments: Mapping[str, str]
    _built: dict[str, Image] = field(default_factory=dict)

    def build(self, text: str, target: str, mount_points: Sequence[str]) -> Image:
        """Build a stage of a Dockerfile, and what it needs.

        Args:
            text: The Dockerfile.
            target: The stage's name.
            mount_points: Paths in the image at which something will be mounted; a container
                runtime makes them.
        """
        image = self._stage({stage.name: stage for stage in parse(text)}, target)
        for path in mount_points:
            (image.root / path.lstrip("/")).mkdir(parents=True, exist_ok=True)
        return image

    def _stage(self, stages: Mapping[str, Stage], name: str) -> Image:
        stage = stages[name]
        below = self._stage(stages, stage.base) if stage.base in stages else None
        key = f"{below and below.root} {stage.instructions}"
        if key not in self._built:
            root = self.folder / f"{len(self._built)}-{name}"
            if below:
                # Linked, not copied: what a stage changes it writes anew.
                subprocess.run(["cp", "-al", below.root, root], check=True)
                image = replace(
                    below, root=root, env=dict(below.env), arguments={}, labels=dict(below.labels)
                )
            else:
                image = _stand_in(root)
            for instruction in stage.instructions:
                self._execute(instruction, image, stages)
            self._built[key] = image
        return self._built[key]

    def _execute(self, instruction: Instruction, image: Image, stages: Mapping[str, Stage]) -> None:
        match instruction.name:
            case "ARG":
                image.arguments[instruction.value] = self.arguments[instruction.value]
            case "ENV":
                image.env |= {
                    name: expand(value, image.env) for name, value in instruction.pairs.items()
                }
            case "LABEL":
                image.labels |= {
                    name: expand(value, image.arguments)
                    for name, value in instruction.pairs.items()
                }
            case "WORKDIR":
                image.workdir = instruction.value
                (image.root / instruction.value.lstrip("/")).mkdir(parents=True)
            case "COPY":
                words = instruction.words
                if words[0].startswith("--from="):
                    origin = self._stage(stages, words[0].removeprefix("--from=")).root
                    _copy(words[1:], image, origin, "-al")
                else:
                    _copy(words, image, self.context, "-a")
            case "RUN":
                _run(instruction.value, image, self.wheels)
            case "USER":
                image.user = instruction.value
            case "ENTRYPOINT":
                image.entrypoint = instruction.words
            case "CMD":
                image.command = instruction.words
            case "EXPOSE" | "STOPSIGNAL":
                pass
            case other:
                raise NotImplementedError(other)


def _copy(words: Sequence[str], image: Image, origin: Path, how: str) -> None:
    """COPY: of a folder, what is in it."""
    target = image.root / Path(image.workdir, words[-1]).relative_to("/")
    for word in words[:-1]:
        source = str(origin / word.lstrip("/"))
        if Path(source).is_dir():
            target.mkdir(parents=True, exist_ok=True)
            source += "/."
        copy = ["cp", how, "--no-preserve=ownership", "--remove-destination"]
        subprocess.run([*copy, source, target], check=True)


def _run(command: str, image: Image, wheels: Path) -> None:
    pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/mnt", "PIP_CONFIG_FILE": os.devnull}
    env = image.env | image.arguments | pip
    shell = Image(image.root, env, workdir=image.workdir, entrypoint=["/bin/sh", "-c"])
    container = shell.start(
        [command],
        volumes={"/mnt": wheels},
        read_only=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    output, _ = container.process.communicate()
    if container.process.returncode:
        raise RuntimeError(f"RUN {command}\n{output}")


def _stand_in(root: Path) -> Image:
    """Make what stands in for `python:3.11-slim`: no bytecode, no tests, pip in /usr/local."""
    for name in (
        "aside",
        "dev",
        "etc",
        "mnt",
        "proc",
        "run",
        "sys",
        "tmp",
        "usr/local/lib",
        "var/cache",
    ):
        (root / name).mkdir(parents=True)
    for name in ("bin", "lib", "lib64", "sbin"):
        (root / name).symlink_to(f"usr/{name}")
    for name in ("passwd", "group", "hosts", "nsswitch.conf", "ld.so.conf", "ld.so.conf.d"):
        subprocess.run(["cp", "-a", f"/etc/{name}", root / "etc"], check=True)
    _copy_python(root / "usr/local")
    image = Image(root, {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin", "LANG": "C.UTF-8"})
    _run("ldconfig && python -m ensurepip && rm -rf /usr/local/lib/*/__pycache__", image, root)
    return image


def _copy_python(prefix: Path) -> None:
    library = Path(os.__file__).parent
    unwanted = shutil.ignore_patterns("__pycache__", "site-packages", "test", "tests", "idle_test")
    shutil.copytree(library, prefix / "lib" / library.name, symlinks=True, ignore=unwanted)
    if sysconfig.get_config_var("Py_ENABLE_SHARED"):
        folder = Path(sysconfig.get_config_var("LIBDIR"))
        shutil.copy2(folder / sysconfig.get_config_var("INSTSONAME"), prefix / "lib")
    (prefix / "bin").mkdir()
    shutil.copy2(Path(sys._base_executable).resolve(), prefix / "bin" / library.name)
    for name in ("python", "python3"):
        (prefix / "bin" / name).symlink_to(library.name)
    (prefix / "bin" / "pip").write_text('#!/bin/sh\nexec python -m pip "$@"\n')
    (prefix / "bin" / "pip").chmod(0o755)
