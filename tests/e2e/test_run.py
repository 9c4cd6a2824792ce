"""`marquee run` end to end: KFP's local runner on the real pipeline object."""

import csv
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from helpers import encode, noise_poster, row, write_folder

from marquee.bundle import load
from marquee.registry import Stage
from marquee.registry.files import FileRegistry

TINY = {
    "train.custom_cnn.height": 48,
    "train.custom_cnn.width": 32,
    "train.vgg16.height": 32,
    "train.vgg16.width": 32,
    "train.epochs": 2,
    "train.vgg16.fine_tune_epochs": 1,
    "train.workers": 0,
    "validate.min_posters": 20,
}


def marquee(*arguments: object, check: bool = False) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "marquee", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=check)


def settings(values: dict[str, object]) -> Iterable[str]:
    for name, value in values.items():
        yield from ("--set", f"{name}={value}")


def drawn_folder(folder: Path, films: int) -> Path:
    """A person's folder of posters, drawn ones in it."""
    from components.ingest.drawing import draw_poster
    from components.ingest.drawn_films import drawn_film

    drawn = [drawn_film(number) for number in range(films)]
    rows = [
        row(film.film_id, title=film.title, year=film.year, genres="|".join(film.genres))
        for film in drawn
    ]
    return write_folder(folder, rows, {f"{film.film_id}.jpg": draw_poster(film) for film in drawn})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    posters = drawn_folder(folder / "posters", 120)
    with (posters / "posters.csv").open("a") as stream:
        csv.writer(stream).writerow(["missing", "No image", 1999, "Comedy"])
    result = marquee(
        "run",
        *("--source", "folder", "--path", posters, "--genres", "study4", "--weights", "random"),
        *("--out", folder / "out", *settings(TINY)),
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return folder / "out", result


def test_the_summary_has_stable_names(finished):
    out, _ = finished
    summary = json.loads((out / "summary.json").read_text())
    assert set(summary["architectures"]) == {"custom_cnn", "vgg16"}
    assert (summary["posters"], summary["quarantined"]) == (120, 1)
    info = marquee("catalog", "info", out / "catalog", "--json", check=True)
    assert json.loads(info.stdout)["digest"] == summary["catalog_digest"]
    for entry in summary["architectures"].values():
        for metrics in (entry["metrics"], *entry["baselines"].values()):
            assert {
                "test/macro_map",
                "test/macro_f1",
                "test/micro_f1",
                "test/top1",
                "test/per_label_accuracy",
                "test/ap/Comedy",
            } <= set(metrics)


def test_it_leaves_bundles_reports_and_a_registry(finished):
    out, _ = finished
    versions = {load(str(out / "bundles" / name)).version for name in ("custom_cnn", "vgg16")}
    registered = FileRegistry(str(out / "registry")).versions()
    assert {entry.version for entry in registered} == versions
    assert {entry.stage for entry in registered} == {Stage.CANDIDATE}
    pages = {page.stem for page in (out / "reports").glob("*.html")}
    assert pages == {
        "agreement",
        "validate",
        "balance",
        *(f"{step}-{name}" for step in ("train", "evaluate") for name in ("custom_cnn", "vgg16")),
        "gate",
    }


def test_the_kubeflow_ui_gets_its_artifacts(finished):
    out, _ = finished
    (output,) = out.glob("kfp/*/evaluate-vgg16/executor_output.json")
    artifacts = json.loads(output.read_text())["artifacts"]
    assert set(artifacts) == {"metrics", "confusion", "report"}
    metrics = artifacts["metrics"]["artifacts"][0]["metadata"]
    assert 0 <= metrics["test/macro_f1"] <= 1
    matrix = artifacts["confusion"]["artifacts"][0]["metadata"]["confusionMatrix"]
    assert matrix["annotationSpecs"][0]["displayName"] == "Comedy"


def test_the_metrics_are_shown_beside_the_baselines(finished):
    _, result = finished
    for words in ("macro F1", "predict all", "predict none", "custom_cnn", "vgg16"):
        assert words in result.stdout
    assert "train: epoch 2" in result.stderr
    assert "Traceback" not in result.stdout + result.stderr


def test_another_run_on_other_posters_is_refused(finished, tmp_path):
    out, _ = finished
    result = marquee("run", "--source", "drawn", "--limit", "30", "--out", out)
    assert result.returncode == 2
    assert "holds a run on other posters" in result.stderr


def test_sigterm_ends_the_step_too_and_the_run_resumes(tmp_path):
    folder = drawn_folder(tmp_path / "in", 300)
    out = tmp_path / "out"
    command = ["run", "--path", folder, "--arch", "custom_cnn", "--genres", "study4", "--out", out]
    # What was ingested is all that matters here: the gate after it ends the run.
    command += settings({"ingest.part_rows": 5, "validate.min_posters": 1000})
    process = subprocess.Popen([sys.executable, "-m", "marquee", *map(str, command)])
    while not (out / "catalog/catalog.json").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 7
    # The step keeps what it has, and ends.
    time.sleep(2)
    rows = json.loads((out / "catalog/catalog.json").read_text())["rows"]
    assert rows < 300
    time.sleep(1)
    assert json.loads((out / "catalog/catalog.json").read_text())["rows"] == rows
    assert marquee(*command).returncode == 3
    assert json.loads((out / "catalog/catalog.json").read_text())["rows"] == 300


def test_a_failed_gate_ends_the_run_with_its_exit_code(tmp_path):
    images = {f"p{number}.jpg": encode(noise_poster(number)) for number in range(30)}
    rows = [row(f"p{number}") for number in range(30)]
    folder = write_folder(tmp_path / "in", rows, images)
    result = marquee(
        *("run", "--path", folder, "--arch", "custom_cnn", "--out", tmp_path / "out"),
        *settings({"validate.min_posters": 1000}),
    )
    assert result.returncode == 3
    assert "number of posters: 30 (asked: at least 1,000)" in " ".join(result.stderr.split())
    assert "Traceback" not in result.stdout + result.stderr
    assert (tmp_path / "out/reports/validate.html").exists()
    assert not (tmp_path / "out/bundles").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--source", "folder"), "needs a folder"),
        (("--path", "/nowhere"), "no folder /nowhere"),
        (("--source", "drawn", "--arch", "alexnet"), "alexnet"),
        (("--source", "drawn", "--weights", "/nowhere"), "no weights at /nowhere"),
        (("--source", "drawn", "--set", "balance.sed=1"), "balance.sed"),
        (("--source", "drawn", "--set", "train.epoch=1"), "train.custom_cnn.epoch"),
        (("--source", "drawn", "--set", "train.vgg16.epochs=0"), "train.epochs is 0"),
        (("--source", "drawn", "--set", "nonsense"), "nonsense"),
    ],
    ids=["no path", "path", "arch", "weights", "setting", "train setting", "range", "no setting"],
)
def test_wrong_usage_is_said_at_once(arguments, message, tmp_path):
    result = marquee("run", *arguments, "--out", tmp_path / "out")
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out/catalog").exists()
