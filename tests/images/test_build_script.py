"""`make images`: which builder it takes, what it asks of it, and what it says where there is none.

The builders here only note what they were asked; docs/images.md tells what a real one made of it.
"""

import json
import os
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from helpers import ROOT
from our_images import IMAGES, version

BUILDER = """#!/bin/sh
# Notes its words, one call a line.
for word in "$(basename "$0")" "$@"; do printf '%s\\t' "$word"; done >> "$NOTES"
echo >> "$NOTES"
case $1 in
version) exit "${BROKEN:-0}" ;;
from | create) echo container ;;
run) echo '{"bomFormat": "CycloneDX"}' ;;
cp) echo '{"bomFormat": "CycloneDX"}' > "$3" ;;
esac
"""
TOOLS = ("bash", "sh", "git", "sed", "dirname", "basename", "mkdir", "cat")
EPOCH = 1_700_000_000
CREATED = "2023-11-14T22:13:20Z"


class Checkout:
    """A copy of what the script reads, under git, with the builders that a test adds."""

    def __init__(self, folder: Path):
        self.folder, self.notes, self.bin = folder / "tree", folder / "notes", folder / "bin"
        (self.folder / "images").mkdir(parents=True)
        (self.folder / "marquee").mkdir()
        for name in ("images/build.sh", "marquee/__init__.py"):
            shutil.copy2(ROOT / name, self.folder / name)
        self.bin.mkdir()
        for tool in TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool))
        self.git("init", "--quiet")
        self.git("add", ".")
        self.git("commit", "--quiet", "-m", "x")
        self.revision = self.git("rev-parse", "HEAD").strip()

    def git(self, *words):
        identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
        env = os.environ | {"GIT_COMMITTER_DATE": f"{EPOCH} +0200"}
        command = ["git", *identity, *words]
        return subprocess.run(
            command, cwd=self.folder, env=env, check=True, capture_output=True, text=True
        ).stdout

    def add_builder(self, name):
        (self.bin / name).write_text(BUILDER)
        (self.bin / name).chmod(0o755)

    def run(self, *names, **variables):
        """Run the script; give how it ended, and what the builders were asked."""
        env = {"PATH": str(self.bin), "NOTES": str(self.notes)} | variables
        command = ["images/build.sh", *names]
        done = subprocess.run(
            command, cwd=self.folder, env=env, capture_output=True, text=True, check=False
        )
        notes = self.notes.read_text().splitlines() if self.notes.exists() else []
        return done, [line.rstrip("\t").split("\t") for line in notes]


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


def build_arguments(words):
    return dict(value.split("=", 1) for flag, value in pairwise(words) if flag == "--build-arg")


@pytest.mark.parametrize("builder", ["buildah", "docker", "podman"])
def test_every_image_is_built_from_its_dockerfile(checkout, builder):
    checkout.add_builder(builder)
    choice = {"IMAGE_TOOL": builder} if builder == "podman" else {}
    done, asked = checkout.run(*IMAGES, **choice)
    assert done.returncode == 0, done.stderr
    builds = [words for words in asked if words[1] == "build"]
    assert {words[0] for words in asked} == {builder}
    for (name, image), words in zip(IMAGES.items(), builds, strict=True):
        flags = dict(pairwise(words))
        assert (flags["--file"], flags["--target"]) == (image.dockerfile, name)
        assert flags["--tag"] == f"marquee-{name}:{version()}"
        assert build_arguments(words) == {
            "VERSION": version(),
            "REVISION": checkout.revision,
            "CREATED": CREATED,
            "SOURCE": "",
            "SOURCE_DATE_EPOCH": str(EPOCH),
        }
        assert ("--timestamp" in words) == (builder != "docker")
        sbom = json.loads((checkout.folder / f"dist/images/{name}.cdx.json").read_text())
        assert sbom["bomFormat"] == "CycloneDX"
    assert [words[1:] for words in asked].count(["rm", "container"]) == len(IMAGES)


def test_names_tag_and_base_can_be_chosen(checkout):
    checkout.add_builder("docker")
    variables = {"IMAGE_PREFIX": "example.org/films/marquee", "IMAGE_TAG": "1.2.3-rc1"}
    base = "mirror.example.org/python@sha256:0"
    _, asked = checkout.run("data", IMAGE_PYTHON=base, **variables)
    (words,) = (words for words in asked if words[1] == "build")
    assert words[words.index("--tag") + 1] == "example.org/films/marquee-data:1.2.3-rc1"
    assert build_arguments(words)["PYTHON"] == base


SOURCES = {
    "https": ("https://example.org/films/marquee", "https://example.org/films/marquee"),
    "with a password": ("https://me:secret@example.org/m.git", "https://example.org/m.git"),
    "a folder": ("/srv/git/marquee", ""),
}


@pytest.mark.parametrize(("remote", "label"), SOURCES.values(), ids=SOURCES)
def test_the_source_label_is_an_address_without_secrets(checkout, remote, label):
    checkout.add_builder("docker")
    checkout.git("remote", "add", "origin", remote)
    _, asked = checkout.run("data")
    (words,) = (words for words in asked if words[1] == "build")
    assert build_arguments(words)["SOURCE"] == label


def test_what_is_not_committed_shows_in_the_revision(checkout):
    checkout.add_builder("docker")
    with (checkout.folder / "marquee/__init__.py").open("a") as file:
        file.write("# changed\n")
    _, asked = checkout.run("data")
    (words,) = (words for words in asked if words[1] == "build")
    assert build_arguments(words)["REVISION"] == f"{checkout.revision}-dirty"


REFUSALS = {
    "no builder": ([], ["data"], {}, "install buildah"),
    "a Docker whose daemon is not there": (["docker"], ["data"], {"BROKEN": "1"}, "start Docker"),
    "a chosen builder that is not there": (
        ["docker"],
        ["data"],
        {"IMAGE_TOOL": "podman"},
        "unset IMAGE_TOOL",
    ),
    "an image that is not there": (
        ["docker"],
        ["data", "trainer"],
        {},
        "there is no image trainer",
    ),
}


@pytest.mark.parametrize(
    ("builders", "names", "variables", "said"), REFUSALS.values(), ids=REFUSALS
)
def test_it_says_what_to_do_and_builds_nothing(checkout, builders, names, variables, said):
    for builder in builders:
        checkout.add_builder(builder)
    done, asked = checkout.run(*names, **variables)
    assert done.returncode == 2
    assert said in done.stderr
    assert not any(words[1] == "build" for words in asked)


def test_a_failed_build_fails(checkout):
    checkout.add_builder("docker")
    script = BUILDER.replace("from |", "build) exit 7 ;;\nfrom |")
    (checkout.bin / "docker").write_text(script)
    done, _ = checkout.run("data", "serving")
    assert done.returncode == 7


def test_make_images_builds_them_all():
    # These tests may be make's own, which then says in which folder it is.
    command = ["make", "--no-print-directory", "--dry-run", "images"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    script, *names = done.stdout.split()
    assert (script, sorted(names)) == ("images/build.sh", sorted(IMAGES))
