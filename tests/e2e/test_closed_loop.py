"""The loop closed: what genres look like changes, and in the end another model serves.

Drift is found, asks for training, the challenger beats the champion, and the canary is promoted.
"""

import json
import time
from pathlib import Path

import pytest
from command import marquee
from helpers import row, write_folder
from users import Users

from components.ingest.drawing import draw_poster
from components.ingest.drawn_films import drawn_film
from components.rollout.backends.local import LocalBackend
from marquee.client import Client
from marquee.registry import open_registry

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

WINDOW_SECONDS = 24
TRAINING = {
    "train.custom_cnn.height": 96,
    "train.custom_cnn.width": 64,
    "train.custom_cnn.epochs": 12,
    "train.custom_cnn.learning_rate": 3e-3,
    "train.custom_cnn.ema": 0.99,
}
ROLLOUT = {
    "rollout.steps": [25, 100],
    "rollout.step_seconds": 4,
    "rollout.interval_seconds": 1,
    "rollout.min_samples": 30,
    "rollout.max_hours": 0.1,
    "rollout.replay_passes": 1,
    # The new model is to say something else about the same posters.
    "rollout.agreement": 0.0,
    "rollout.probability_shift": 1.0,
    "rollout.unsure_shift": 1.0,
}
WATCH = {
    "monitor.window_hours": WINDOW_SECONDS / 3600,
    "monitor.settle_minutes": 0,
    "monitor.evidently": False,
    "drift.min_positives": 15,
    "retrain.approval": False,
}
SWAPPED = {"Comedy": "Horror", "Horror": "Comedy", "Action": "Romance", "Romance": "Action"}


def settings(values):
    return [
        word for name, value in values.items() for word in ("--set", f"{name}={json.dumps(value)}")
    ]


def genres_of(film, swap):
    return [SWAPPED.get(genre, genre) if swap else genre for genre in film.genres]


def folder_of_posters(folder: Path, first, count, swap):
    films = [drawn_film(number) for number in range(first, first + count)]
    rows = [
        row(
            film.film_id, film_id=film.film_id, title=film.title, year=film.year,
            genres="|".join(genres_of(film, swap)),
        )
        for film in films
    ]  # fmt: skip
    images = {f"{film.film_id}.jpg": draw_poster(film) for film in films}
    return write_folder(folder, rows, images)


def next_window():
    time.sleep(WINDOW_SECONDS - time.time() % WINDOW_SECONDS + 0.1)


class Place:
    """A served model, its registry, and users whose films have new genres."""

    def __init__(self, folder):
        self.folder = folder
        self.registry = open_registry(str(folder / "registry"))
        self.backend = LocalBackend(folder / "deployments/films")
        self.films = [
            film for film in map(drawn_film, range(5000, 5600)) if SWAPPED.keys() & set(film.genres)
        ]
        self.posters = [draw_poster(film) for film in self.films]
        (folder / "truth.csv").write_text(
            "film_id,genres\n"
            + "".join(f"{film.film_id},{'|'.join(genres_of(film, True))}\n" for film in self.films)
        )

    def ask(self):
        """Ask about all films within a window, and wait for its end."""
        next_window()
        client, facts = (
            Client(self.backend.url),
            [{"film_id": film.film_id, "year": film.year} for film in self.films],
        )
        versions = set()
        for start in range(0, len(self.films), 16):
            part = slice(start, start + 16)
            answers = client.ask(self.posters[part], facts=facts[part])
            versions |= {answer["model_version"] for answer in answers}
        time.sleep(6)  # the records are written
        next_window()
        return versions

    def monitor(self):
        training = {
            "source": "folder",
            "path": self.folder / "new",
            "label_set": "study4",
            "vgg16": "false",
            "rollout_to": "films",
            "overrides": json.dumps({n: str(v) for n, v in (TRAINING | ROLLOUT).items()}),
        }
        words = ["monitor", "--records", self.backend.records, "--registry", self.registry.uri]
        words += ["--genres", "study4", "--truth", self.folder / "truth.csv", "--retrain"]
        for name, value in training.items():
            words += ["--training", f"{name}={value}"]
        return marquee(*words, "--out", self.folder / "monitoring", *settings(WATCH))

    def last_report(self):
        reports = sorted((self.folder / "monitoring/drift").glob("*/drift.json"))
        documents = [json.loads(path.read_text()) for path in reports]
        return [item for item in documents if item["counted"]["labelled"]][-1]


def test_a_model_that_is_no_longer_right_is_replaced(tmp_path, monkeypatch):
    monkeypatch.setenv("MARQUEE_DEPLOYMENTS", str(tmp_path / "deployments"))
    folder_of_posters(tmp_path / "old", 0, 1200, swap=False)
    folder_of_posters(tmp_path / "new", 2000, 1200, swap=True)
    place = Place(tmp_path)
    try:
        marquee(
            *("run", "--source", "folder", "--path", tmp_path / "old", "--genres", "study4"),
            *("--arch", "custom_cnn", "--registry", place.registry.uri, "--rollout"),
            *("--name", "films", "--out", tmp_path / "first", *settings(TRAINING)),
        )
        champion = place.registry.champion("study4")
        assert place.ask() == {champion.version}

        with Users(place.backend.url, count=3, posters=place.posters) as users:
            place.monitor()
        assert users.statuses().keys() == {200}

        report = place.last_report()
        assert {c["what"] for c in report["causes"] if c["kind"] == "concept"} >= {
            "average precision"
        }
        listed = marquee("retrain", "list", tmp_path / "monitoring", "--json")
        (request,) = json.loads(listed)["requests"]
        assert request["status"] == "done", request
        assert "canary gate passed" in request["reason"]
        challenger = place.registry.champion("study4")
        assert challenger.version != champion.version
        assert challenger.run == request["run"]

        assert place.ask() == {challenger.version}
        place.monitor()
        after = place.last_report()
        assert after["version"] == challenger.version
        assert "concept" not in {cause["kind"] for cause in after["causes"]}
        assert after["scores"]["macro_map"] > report["scores"]["macro_map"] + 0.2
    finally:
        place.backend.stop()
