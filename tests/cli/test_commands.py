"""What the commands say, as a person sees it."""

import json
import subprocess
import sys

import pytest
from bundles import tiny_bundle
from helpers import encode, noise_poster, row, write_folder
from PIL import Image


def marquee(*arguments, cwd=None):
    command = [sys.executable, "-m", "marquee", *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=cwd)
    assert "Traceback" not in result.stdout + result.stderr
    return result


@pytest.mark.parametrize(
    "command",
    [
        (),
        ("run",),
        ("demo",),
        ("ingest",),
        ("validate",),
        ("balance",),
        ("train",),
        ("evaluate",),
        ("register",),
        ("predict",),
        ("serve",),
        ("catalog",),
        ("catalog", "info"),
        ("pipeline", "compile"),
    ],
    ids=" ".join,
)
def test_help_names_what_a_command_does(command):
    result = marquee(*command, "--help")
    assert result.returncode == 0
    assert "Usage: marquee" in result.stdout


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from typer.testing import CliRunner; from marquee.cli import app;"
        "assert CliRunner().invoke(app, ['run', '--help']).exit_code == 0;"
        "print([m for m in ('torch', 'kfp', 'kserve', 'pandas', 'numpy') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    tiny_bundle(folder)
    return folder


def test_predict_goes_on_after_files_that_are_no_posters(bundle, tmp_path):
    folder = tmp_path / "posters"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(encode(noise_poster(1)))
    (folder / "b.jpg").write_bytes(b"<html>not found</html>")
    (folder / "c.gif").write_bytes(encode(noise_poster(2), "GIF"))
    (folder / "d.png").write_bytes(encode(Image.new("1", (20_000, 20_000)), "PNG"))
    (folder / "e.webp").write_bytes(encode(noise_poster(3), "WEBP"))
    (folder / "f.jpg").write_bytes(b"")
    result = marquee("predict", bundle, folder, tmp_path / "nowhere.jpg", "--json")
    assert result.returncode == 0
    answers = {
        answer["file"].rpartition("/")[2]: answer
        for answer in map(json.loads, result.stdout.splitlines())
    }
    assert set(answers["a.jpg"]) == {"file", "probabilities", "genres", "unsure", "model_version"}
    assert answers["e.webp"]["genres"]
    errors = {name: answer["error"] for name, answer in answers.items() if "error" in answer}
    assert set(errors) == {"b.jpg", "c.gif", "d.png", "f.jpg", "nowhere.jpg"}
    assert "HTML page" in errors["b.jpg"]
    assert "GIF image" in errors["c.gif"]
    assert "too large" in errors["d.png"]
    assert "empty file" in errors["f.jpg"]


def test_predict_shows_a_table(bundle, tmp_path):
    (tmp_path / "a.jpg").write_bytes(encode(noise_poster(1)))
    result = marquee("predict", bundle, tmp_path / "a.jpg")
    assert result.returncode == 0
    assert "%" in result.stdout


def test_names_with_brackets_are_shown_as_they_are(bundle, tmp_path):
    folder = tmp_path / "[bold]"
    folder.mkdir()
    (folder / "a[red].jpg").write_bytes(encode(noise_poster(1)))
    (folder / "[").mkdir()
    (folder / "[" / "x].jpg").write_bytes(b"")
    result = marquee("predict", bundle, "a[red].jpg", "[/x].jpg", cwd=folder)
    assert result.returncode == 0
    assert "a[red].jpg" in result.stdout
    assert "[/x].jpg" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (("ingest", "--path", "{folder}", "--out", "{file}/catalog"), 5, "NotADirectoryError"),
        (("run", "--path", "{folder}", "--out", "gs://bucket/run"), 2, "not on this machine"),
        (("train", "{folder}", "{folder}", "--out", "b", "--arch", "alexnet"), 2, "alexnet"),
    ],
    ids=["out below a file", "out in a bucket", "unknown architecture"],
)
def test_the_world_is_not_to_blame_on_a_stack_trace(arguments, exit_code, message, tmp_path):
    folder = write_folder(tmp_path / "in", [row("a")], {"a.jpg": encode(noise_poster(1))})
    (tmp_path / "file").write_text("")
    places = {"folder": folder, "file": tmp_path / "file"}
    result = marquee(*(word.format(**places) for word in arguments))
    assert result.returncode == exit_code, result.stderr
    assert message in result.stderr


def test_predict_without_one_poster_is_an_error(bundle, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"")
    result = marquee("predict", bundle, tmp_path)
    assert result.returncode == 2
    assert "not one file" in result.stderr


def test_a_folder_that_is_no_bundle(tmp_path):
    result = marquee("predict", tmp_path, tmp_path)
    assert result.returncode == 2
    assert "no model bundle" in result.stderr


def test_catalog_info_and_digest(tmp_path):
    images = {"a.jpg": encode(noise_poster(1))}
    folder = write_folder(tmp_path / "in", [row("a"), row("b")], images)
    result = marquee("ingest", "--path", folder, "--out", tmp_path / "catalog")
    assert result.returncode == 0
    assert "row 3 (b): there is no image for the id 'b'" in result.stderr
    info = json.loads(marquee("catalog", "info", tmp_path / "catalog", "--json").stdout)
    assert (info["rows"], info["parts"], info["quarantined"]) == (1, 1, 1)
    digest = marquee("catalog", "digest", tmp_path / "catalog").stdout
    assert digest == info["digest"] + "\n"


def test_an_empty_folder(tmp_path):
    result = marquee("ingest", "--path", tmp_path, "--out", tmp_path / "catalog")
    assert result.returncode == 2
    assert "has no posters.csv" in result.stderr
    assert "id, title, year, genres" in result.stderr


def test_nothing_usable_exits_with_the_data_gates_code(tmp_path):
    folder = write_folder(tmp_path / "in", [row("a")], {"a.jpg": b""})
    result = marquee("ingest", "--path", folder, "--out", tmp_path / "catalog")
    assert result.returncode == 3


def test_the_demo_never_empties_a_folder_that_is_not_its_own(tmp_path):
    (tmp_path / "thesis.txt").write_text("ten years of work")
    result = marquee("demo", "--out", tmp_path)
    assert result.returncode == 2
    assert (tmp_path / "thesis.txt").exists()
