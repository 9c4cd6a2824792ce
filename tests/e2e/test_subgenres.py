"""Subgenres from a person's folder to an answer: the labels of the plan, and no others."""

import base64
import json
import subprocess
import sys

import pytest
import requests
from helpers import row, write_folder

from components.ingest.drawing import draw_poster
from components.ingest.drawn_films import drawn_film
from marquee.bundle import load
from marquee.split import SplitPlan

pytestmark = pytest.mark.slow
TINY = (
    "train.custom_cnn.height=48",
    "train.custom_cnn.width=32",
    "train.epochs=1",
    "train.workers=0",
    "validate.min_posters=20",
    "balance.subgenre_films=8",
)


def marquee(*arguments):
    command = [sys.executable, "-m", "marquee", *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run on 160 drawn films, of which every second has the keyword `zombie`."""
    folder = tmp_path_factory.mktemp("subgenres")
    films = [drawn_film(number) for number in range(160)]
    rows = [
        row(
            film.film_id,
            year=film.year,
            genres="|".join(film.genres),
            keywords="zombie" if number % 2 == 0 else "",
        )
        for number, film in enumerate(films)
    ]
    images = {f"{film.film_id}.jpg": draw_poster(film) for film in films}
    posters = write_folder(folder / "posters", rows, images)
    overrides = [word for setting in TINY for word in ("--set", setting)]
    marquee(
        *("run", "--path", posters, "--genres", "subgenres", "--arch", "custom_cnn"),
        *("--out", folder / "out", *overrides),
    )
    return folder / "out", posters / "images" / f"{films[0].film_id}.jpg"


def test_everything_after_the_plan_has_its_labels(finished):
    out, _ = finished
    labels = SplitPlan.read(str(out / "balance")).genres
    assert "Zombie" in labels
    assert 3 <= len(labels) < 20
    info = load(str(out / "bundles/custom_cnn")).info
    assert (info.label_set, info.genres) == ("subgenres", labels)
    evaluation = json.loads((out / "evaluate/custom_cnn/evaluation.json").read_text())
    assert tuple(evaluation["genres"]) == labels
    assert 0 <= evaluation["metrics"]["test/ap/Zombie"] <= 1
    (entry,) = json.loads((out / "summary.json").read_text())["architectures"].values()
    assert entry["label_set"] == "subgenres"
    assert "Subgenres left out" in (out / "reports/balance.html").read_text()


def test_a_prediction_has_the_labels_of_the_bundle(finished):
    out, poster = finished
    (answer,) = marquee("predict", out / "bundles/custom_cnn", poster, "--json").splitlines()
    answer = json.loads(answer)
    assert tuple(answer["probabilities"]) == load(str(out / "bundles/custom_cnn")).info.genres
    assert answer["genres"]
    assert set(answer["genres"]) <= set(answer["probabilities"])


def test_the_server_answers_with_the_labels_of_the_bundle(finished):
    out, poster = finished
    bundle = out / "bundles/custom_cnn"
    command = [sys.executable, "-m", "marquee", "serve", bundle, "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        url = process.stdout.readline().split(" is ready at ")[1].split()[0]
        image = {"b64": base64.b64encode(poster.read_bytes()).decode()}
        answer = requests.post(
            f"{url}/v1/models/poster-genre:predict",
            json={"instances": [{"image": image}]},
            timeout=60,
        )
        v2 = requests.post(
            f"{url}/v2/models/poster-genre/infer",
            json={
                "inputs": [
                    {"name": "image", "datatype": "BYTES", "shape": [1], "data": [image["b64"]]}
                ]
            },
            timeout=60,
        )
    finally:
        process.terminate()
        process.wait(timeout=30)
    labels = load(str(bundle)).info.genres
    assert tuple(answer.json()["predictions"][0]["probabilities"]) == labels
    probabilities = v2.json()["outputs"][0]
    assert probabilities["shape"] == [1, len(labels)]
    assert tuple(probabilities["parameters"]["genres"].split(",")) == labels
