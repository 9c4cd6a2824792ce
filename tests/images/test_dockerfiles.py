"""What the Dockerfiles say, rule by rule; each rule comes with an edit that it must refuse."""

import re
import subprocess
import tomllib
from dataclasses import dataclass
from functools import cached_property

import pytest
from dockerfile import Instruction, Stage, chain, copy_context, parse
from helpers import ROOT, require_tool
from our_images import IMAGES, closure
from typer.main import get_command

from marquee.cli import app

SCRIPT = (ROOT / "images/stage.sh").read_text()
LABELS = "title description version revision created source licenses"


@dataclass(frozen=True)
class Recipe:
    """An image's Dockerfile, and the script that its stages run."""

    name: str
    text: str
    script: str = SCRIPT

    @cached_property
    def stages(self) -> list[Stage]:
        """All stages of the file."""
        return parse(self.text)

    @cached_property
    def chain(self) -> list[Stage]:
        """The stages that become the image, the lowest first."""
        return chain(self.stages, self.name)

    def instructions(self, name: str) -> list[Instruction]:
        """Those of the image."""
        return [found for stage in self.chain for found in stage.instructions if found.name == name]

    def words(self, name: str) -> list[str]:
        """Those of the one instruction of the image."""
        (found,) = self.instructions(name)
        assert found.is_exec_form or name not in ("ENTRYPOINT", "CMD")
        return found.words

    @property
    def commands(self) -> str:
        """All that the build runs."""
        runs = [
            found.value
            for stage in self.stages
            for found in stage.instructions
            if found.name == "RUN"
        ]
        return "\n".join([*runs, self.script])

    def copied_from(self) -> list[list[Stage]]:
        """The stages that the image copies from, each with those that it stands on."""
        return [
            chain(self.stages, found.words[0].removeprefix("--from="))
            for found in self.instructions("COPY")
        ]


def the_base_is_pinned(recipe):
    assert re.fullmatch(r"python:3\.11\.\d+-slim-[a-z]+", recipe.stages[0].base)


def all_stages_share_the_base(recipe):
    names = [stage.name for stage in recipe.stages]
    assert all(stage.base in names for stage in recipe.stages[1:])
    assert recipe.chain[0] is recipe.stages[0]


def the_user_is_a_number_and_not_root(recipe):
    (user,) = recipe.words("USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)


def no_shell_stands_before_the_command(recipe):
    assert recipe.words("ENTRYPOINT") == ["marquee"]


def the_signal_is_the_one_that_is_handled(recipe):
    assert recipe.words("STOPSIGNAL") == ["SIGTERM"]


def the_command_is_one_of_ours(recipe):
    name, *arguments = recipe.words("CMD")
    if name == "--help":
        assert not arguments
    else:
        get_command(app).commands[name].make_context(name, arguments)


def nothing_is_installed_in_the_image_itself(recipe):
    names = {found.name for stage in recipe.chain[1:] for found in stage.instructions}
    assert names.isdisjoint({"RUN", "ADD"})


def nothing_is_fetched_but_packages(recipe):
    assert not any(found.name == "ADD" for stage in recipe.stages for found in stage.instructions)
    assert not re.search(r"https?://|git\+|curl|wget|apt", recipe.commands)


def every_package_is_pinned(recipe):
    pins = recipe.script.index('PIP_CONSTRAINT="$PWD/constraints.txt"')
    assert pins < recipe.script.index("pip")
    installs = re.findall(r"pip .*install.*", recipe.commands.replace("uninstall", ""))
    assert len(installs) == 2
    assert all("--only-binary :all:" in line for line in installs)


def no_cache_of_pip_is_kept(recipe):
    assert "PIP_NO_CACHE_DIR=1" in recipe.script


def no_pip_is_left(recipe):
    assert "pip uninstall" in recipe.chain[0].instructions[0].value
    assert "venv --without-pip /opt/marquee" in recipe.script


def tools_of_the_build_stay_out(recipe):
    sources = [found.words[1:] for found in recipe.instructions("COPY")]
    assert sources == [["/opt/marquee", "/opt/marquee"], ["/project", "/opt/marquee"]]


def it_has_its_extra_and_no_other(recipe):
    for stages in recipe.copied_from():
        runs = [found.value for stage in stages for found in stage.instructions]
        extras = [run.split()[-1] for run in runs if "stage.sh dependencies" in run]
        assert extras == [recipe.name]


def it_has_its_code_and_no_other(recipe):
    project = recipe.copied_from()[1]
    copied = [found for found in project[-1].instructions if found.name == "COPY"]
    rooms = {found.words[0] for found in copied[1:]}
    assert rooms == IMAGES[recipe.name].rooms | {"marquee"}


def labels_say_what_it_is(recipe):
    (label,) = recipe.instructions("LABEL")
    assert label.pairs.keys() == {f"org.opencontainers.image.{name}" for name in LABELS.split()}
    of = {name.rpartition(".")[2]: value for name, value in label.pairs.items()}
    assert of["title"] == f"marquee-{recipe.name}"
    assert of["description"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert of["licenses"] == project["license"]
    given = {found.value for found in recipe.instructions("ARG")}
    for name in ("version", "revision", "created", "source"):
        assert of[name] == f"${name.upper()}"
        assert name.upper() in given


def labels_come_last(recipe):
    """They change with every commit, and what comes after them would be built anew."""
    names = [found.name for found in recipe.chain[-1].instructions]
    assert names[-5:] == ["ARG"] * 4 + ["LABEL"]


def it_keeps_its_software_list(recipe):
    assert "-o /project/sbom.cdx.json" in recipe.script


def environment(recipe):
    return {
        name: value for found in recipe.instructions("ENV") for name, value in found.pairs.items()
    }


def what_is_written_goes_where_it_may(recipe):
    env = environment(recipe)
    assert (env["HOME"], env["TMPDIR"]) == ("/tmp", "/tmp")
    assert env["MARQUEE_CACHE"] == "/var/cache/marquee"


def no_tool_calls_home(recipe):
    env = environment(recipe)
    assert env["DO_NOT_TRACK"] == "1"
    if "great-expectations" in closure(recipe.name):
        assert env["GX_ANALYTICS_ENABLED"] == "false"


RULES = {
    the_base_is_pinned: ("=python:3.11.15-slim-trixie", "=python:latest"),
    all_stages_share_the_base: ("FROM tools AS", "FROM python:3.11.15-slim-trixie AS"),
    the_user_is_a_number_and_not_root: ("USER 10001:10001", "USER marquee"),
    no_shell_stands_before_the_command: ('ENTRYPOINT ["marquee"]', "ENTRYPOINT marquee"),
    the_signal_is_the_one_that_is_handled: ("STOPSIGNAL SIGTERM", "STOPSIGNAL SIGUSR1"),
    the_command_is_one_of_ours: ('CMD ["', 'CMD ["--no-'),
    nothing_is_installed_in_the_image_itself: ("USER 10001:10001", "RUN true\nUSER 10001:10001"),
    nothing_is_fetched_but_packages: ("COPY README.md", "ADD https://example.org/x"),
    every_package_is_pinned: ("--only-binary :all:", ""),
    no_cache_of_pip_is_kept: ("PIP_NO_CACHE_DIR=1 ", ""),
    no_pip_is_left: ("venv --without-pip", "venv"),
    tools_of_the_build_stay_out: ("/project /opt/marquee", "/ /opt/marquee"),
    it_has_its_extra_and_no_other: ("stage.sh dependencies ", "stage.sh dependencies dev"),
    it_has_its_code_and_no_other: ("COPY marquee marquee", "COPY tests tests"),
    labels_say_what_it_is: ('version="$VERSION"', 'version="0.1.0"'),
    labels_come_last: ("ARG VERSION\n", "ARG VERSION\nENV A=b\n"),
    it_keeps_its_software_list: ("/project/sbom.cdx.json", "/tmp/sbom.cdx.json"),
    what_is_written_goes_where_it_may: ("TMPDIR=/tmp", "TMPDIR=/home"),
    no_tool_calls_home: ("DO_NOT_TRACK=1", "DO_NOT_TRACK=0"),
}
"""Each with an edit of the Dockerfile, or of the script, that it must refuse."""


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_dockerfile(image, rule):
    recipe = Recipe(image, IMAGES[image].text)
    rule(recipe)
    old, new = RULES[rule]
    assert old in recipe.text + recipe.script
    edited = Recipe(image, recipe.text.replace(old, new), recipe.script.replace(old, new))
    with pytest.raises((AssertionError, ValueError, KeyError)):
        rule(edited)


def command_of_serving(text):
    name, *arguments = Recipe("serving", text).words("CMD")
    return get_command(app).commands[name].make_context(name, arguments).params


def test_the_endpoint_is_reached_from_outside_with_a_token_only():
    text = IMAGES["serving"].text
    given = command_of_serving(text)
    assert (given["host"], given["bundle"]) == ("0.0.0.0", "/mnt/models")
    assert given["token_file"]
    assert command_of_serving(text.replace('"--host", "0.0.0.0", ', ""))["host"] != "0.0.0.0"


def test_what_the_dockerfiles_share_is_the_same():
    """A builder then has it once."""
    first, *others = (parse(image.text)[:2] for image in IMAGES.values())
    assert [stage.name for stage in first] == ["base", "tools"]
    assert all(stages == first for stages in others)


def test_the_context_holds_what_is_copied_and_no_more(tmp_path):
    copy_context(ROOT, tmp_path)
    sources = {
        source
        for image in IMAGES.values()
        for stage in parse(image.text)
        for instruction in stage.instructions
        if instruction.name == "COPY" and not instruction.value.startswith("--from")
        for source in instruction.words[:-1]
    }
    assert {path.name for path in tmp_path.iterdir()} == sources
    names = {path.name for path in tmp_path.rglob("*")}
    assert {"server.py", "index.html", "stage.sh"} < names
    assert names.isdisjoint({"__pycache__", "Dockerfile", "build.sh", ".env"})


def hadolint(text: str) -> subprocess.CompletedProcess[str]:
    tool = require_tool("hadolint", folder="hadolint")
    return subprocess.run([tool, "-"], input=text, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("path", sorted({image.dockerfile for image in IMAGES.values()}))
def test_hadolint_has_nothing_to_say(path):
    result = hadolint((ROOT / path).read_text())
    assert (result.returncode, result.stdout) == (0, "")


def test_hadolint_speaks_up():
    result = hadolint("FROM python:latest AS base\nRUN cd /tmp && pip install x\n")
    assert result.returncode == 1
    assert {"DL3007", "DL3013"} <= set(re.findall(r"DL\d+", result.stdout))
