"""What the commands say, as a person sees it."""

import json
import shutil
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
        ("query",),
        ("score",),
        ("temporal",),
        ("tune",),
        ("tune", "run"),
        ("tune", "manifest"),
        ("tune", "trial"),
        ("catalog",),
        ("catalog", "info"),
        ("catalog", "purge"),
        ("pipeline", "compile"),
        ("pipeline", "upload"),
        ("pipeline", "submit"),
        ("pipeline", "schedule"),
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


@pytest.fixture(scope="module")
def tmdb_run(tmp_path_factory):
    """A run's catalog of own and TMDB's posters, with a registry beside it."""
    from components.ingest.ingest import ingest
    from components.ingest.sources.folder import FolderSource
    from marquee.licences import TMDB
    from marquee.registry import Stage
    from marquee.registry.files import FileRegistry

    run = tmp_path_factory.mktemp("run")
    terms = {"source": "tmdb", "licence": TMDB, "expires_at": "2931-01-01"}
    rows = [row("m0"), row("m1"), *(row(f"t{n}", tmdb_id=500 + n, **terms) for n in range(3))]
    images = {f"{cells['id']}.jpg": encode(noise_poster(n)) for n, cells in enumerate(rows)}
    ingest(FolderSource(str(write_folder(run / "in", rows, images))), str(run / "catalog"))
    version = tiny_bundle(run / "bundle", trained_on=["m0", "t1"]).version
    registry = FileRegistry(str(run / "registry"))
    registry.register(str(run / "bundle"), {"version": version, "metrics": {}})
    registry.move(version, Stage.CHAMPION, "the best")
    return run


def test_catalog_info_names_sources_terms_and_whom_to_credit(tmdb_run):
    sentence = "This product uses TMDB and the TMDB APIs but is not endorsed, certified, or"
    shown = marquee("catalog", "info", tmdb_run / "catalog").stdout
    for words in ("tmdb (3)", "TMDB API Terms of Use (3)", "from 2931-01-01", sentence):
        assert words in shown
    info = json.loads(marquee("catalog", "info", tmdb_run / "catalog", "--json").stdout)
    assert info["sources"] == {"tmdb": 3, "folder": 2}
    assert info["licences"] == {"TMDB API Terms of Use": 3, "asserted by the user": 2}
    assert (info["earliest_expiry"], info["expired"]) == ("2931-01-01T00:00:00+00:00", 0)
    assert [text.startswith(sentence) for text in info["attributions"]] == [True]


def test_catalog_info_of_an_emptied_catalog(tmp_path):
    folder = write_folder(tmp_path / "in", [row("a")], {"a.jpg": encode(noise_poster(1))})
    marquee("ingest", "--path", folder, "--out", tmp_path / "catalog")
    result = marquee("catalog", "purge", tmp_path / "catalog", "--source", "folder")
    assert result.returncode == 0
    assert "there is no registry beside the catalog" in result.stdout
    info = json.loads(marquee("catalog", "info", tmp_path / "catalog", "--json").stdout)
    assert (info["rows"], info["sources"], info["attributions"]) == (0, {}, [])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give --source NAME, or --film ID"),
        (("--source", "tmdb", "--expired"), "exactly one way"),
        (("--expired", "--registry", "nowhere"), "there is no registry at nowhere"),
    ],
    ids=["no choice", "two choices", "no registry"],
)
def test_a_purge_that_is_not_clear_is_refused(arguments, message, tmdb_run):
    result = marquee("catalog", "purge", tmdb_run / "catalog", *arguments)
    assert result.returncode == 2
    assert message in result.stderr


def test_a_purge_says_what_went_and_can_be_given_again(tmdb_run, tmp_path):
    run = shutil.copytree(tmdb_run, tmp_path / "run")
    command = ("catalog", "purge", run / "catalog")
    dry = json.loads(marquee(*command, "--source", "tmdb", "--dry-run", "--json").stdout)
    assert (dry["posters"], len(dry["models"]), dry["dry_run"]) == (3, 1, True)
    by_film = marquee(*command, "--film", "500", "--film", "no such film")
    assert by_film.returncode == 0
    assert "posters      1 (1 rows" in by_film.stdout
    assert "not found    film no such film" in by_film.stdout
    result = marquee(*command, "--source", "tmdb", "--bundles")
    assert result.returncode == 0
    for words in ("posters      2", "its bundle is deleted", "was the champion", "Out of reach"):
        assert words in result.stdout
    again = marquee(*command, "--source", "tmdb", "--bundles")
    assert again.returncode == 0
    assert "Nothing matched; the catalog's sources are: folder" in again.stdout
    assert json.loads(marquee("catalog", "info", run / "catalog", "--json").stdout)["rows"] == 2


def test_a_purge_that_cannot_prove_it_fails(tmdb_run, tmp_path):
    run = shutil.copytree(tmdb_run, tmp_path / "run")
    (run / "catalog/backup.tar").write_bytes(b"no tar at all")
    result = marquee("catalog", "purge", run / "catalog", "--source", "tmdb")
    assert result.returncode == 5
    assert "backup.tar: cannot be read" in result.stderr


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
