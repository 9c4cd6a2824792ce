"""Reads a Dockerfile, and builds and runs it without Docker, as far as Marquee's use of it goes.

The base image cannot be pulled, so this machine stands in for it: its /usr, read-only, and a copy
of the running Python in /usr/local, stripped as the official image is. Each stage is a folder; RUN
and the finished image run in it by chroot, in mount and process namespaces of their own, which
takes root.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
        """The variables that ENV sets."""
        return dict(word.split("=", 1) for word in self.words)


@dataclass
class Stage:
    """What one FROM begins."""

    base: str
    name: str
    instructions: list[Instruction] = field(default_factory=list)


def parse(text: str) -> list[Stage]:
    """Read the stages of a Dockerfile."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    stages: list[Stage] = []
    for line in "\n".join(lines).replace("\\\n", "").splitlines():
        name, value = line.split(maxsplit=1)
        if name == "FROM":
            base, *alias = value.split(" AS ")
            stages.append(Stage(base, alias[0] if alias else "final"))
        else:
            stages[-1].instructions.append(Instruction(name, value.strip()))
    return stages


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


def build(
    text: str, context: Path, folder: Path, wheels: Path, mount_points: Sequence[str]
) -> Image:
    """Build a Dockerfile.

    Args:
        text: The Dockerfile.
        context: The folder that COPY reads.
        folder: Where the stages are kept.
        wheels: All that pip may install.
        mount_points: Paths in the finished image at which something will be mounted; a container
            runtime makes them.

    Returns:
        The last stage.
    """
    images: dict[str, Image] = {}
    for stage in parse(text):
        root = folder / stage.name
        if stage.base in images:
            base = images[stage.base]
            subprocess.run(["cp", "-a", base.root, root], check=True)
            images[stage.name] = Image(root, dict(base.env), workdir=base.workdir)
        else:
            images[stage.name] = _stand_in(root)
        for instruction in stage.instructions:
            _execute(instruction, images[stage.name], images, context, wheels)
    image = images["final"]
    for path in mount_points:
        (image.root / path.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
        (image.root / path.lstrip("/")).mkdir(exist_ok=True)
    return image


def _execute(
    instruction: Instruction, image: Image, images: Mapping[str, Image], context: Path, wheels: Path
) -> None:
    match instruction.name:
        case "ENV":
            image.env |= {
                name: value.replace("$PATH", image.env["PATH"])
                for name, value in instruction.pairs.items()
            }
        case "WORKDIR":
            image.workdir = instruction.value
            (image.root / instruction.value.lstrip("/")).mkdir(parents=True)
        case "COPY":
            _copy(instruction.words, image, images, context)
        case "RUN":
            _run(instruction.value, image, wheels)
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


def _copy(words: Sequence[str], image: Image, images: Mapping[str, Image], context: Path) -> None:
    """COPY: of a folder, what is in it; each source's stage is the context without --from."""
    origin = context
    if words[0].startswith("--from="):
        origin, words = images[words[0].removeprefix("--from=")].root, words[1:]
    target = image.root / Path(image.workdir, words[-1]).relative_to("/")
    for word in words[:-1]:
        source = str(origin / word.lstrip("/"))
        if Path(source).is_dir():
            target.mkdir(parents=True, exist_ok=True)
            source += "/."
        subprocess.run(["cp", "-a", "--no-preserve=ownership", source, target], check=True)


def _run(command: str, image: Image, wheels: Path) -> None:
    pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/mnt", "PIP_CONFIG_FILE": os.devnull}
    shell = Image(image.root, image.env | pip, workdir=image.workdir, entrypoint=["/bin/sh", "-c"])
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
    for name in ("aside", "dev", "etc", "mnt", "proc", "run", "sys", "tmp", "usr/local/lib", "var"):
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
