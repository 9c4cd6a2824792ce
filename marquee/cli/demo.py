"""`marquee demo`: the whole platform on one machine, on posters that Marquee draws."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from marquee.cli import demo_drift
from marquee.cli.predict import add_prediction, prediction_table
from marquee.cli.run import print_summary, run_pipeline
from marquee.errors import InfrastructureError, UsageError
from marquee.processes import free_port
from marquee.step import StepFailed

_MARK = ".marquee-demo"
_OVERRIDES: dict[str, Any] = {
    "tmdb.rate": 0,
    "tmdb.poster_size": "w185",
    # Small enough that 1,500 films make several slices, which the pipeline ingests side by side.
    "tmdb.slice_pages": 40,
    "licence.imdb_agreement": "none needed: the demo's titles are invented",
    "train.custom_cnn.height": 96,
    "train.custom_cnn.width": 64,
    "train.custom_cnn.epochs": 16,
    "train.custom_cnn.learning_rate": 3e-3,
    "train.custom_cnn.ema": 0.99,
    "train.vgg16.height": 48,
    "train.vgg16.width": 32,
    "train.vgg16.epochs": 5,
    "train.vgg16.fine_tune_epochs": 1,
}
_SHOWN = 8


def demo(
    out: Path = typer.Option(
        Path("runs/demo"), metavar="DIR", help="A folder of the demo's own; it is emptied first."
    ),
    films: int = typer.Option(1500, min=200, help="How many films to draw."),
) -> None:
    """Drawn posters through the whole pipeline to a served model, in under 3 minutes."""
    start = time.monotonic()
    console = Console()
    _empty(out)
    summary, _ = _train(out, films)
    print_summary(summary, out)
    console.print(
        "vgg16 has random weights and a tiny input here: it shows the plumbing only.",
        style="yellow",
    )
    with _server(out / "bundles/custom_cnn", out) as url:
        _show_predictions(url, films, console)
        console.print("\nUsers ask; half-way their posters change.", highlight=False)
        traffic = demo_drift.send(url, films + _SHOWN, out / "truth.csv")
    for half, place in demo_drift.report(traffic, out / "bundles/custom_cnn", out):
        console.print(f"  {half}: {place}", highlight=False, soft_wrap=True)
    console.print(f"\nDone in {time.monotonic() - start:.0f} s. Read next:", highlight=False)
    for page in sorted((out / "reports").glob("*.html")):
        console.print(f"  {page}", highlight=False, soft_wrap=True)
    console.print(
        f"Evidently's pages of both windows: marquee reports serve {out / 'drift'}",
        highlight=False,
        soft_wrap=True,
    )
    console.print(
        f"Serve it yourself: marquee serve {out / 'bundles/custom_cnn'}",
        highlight=False,
        soft_wrap=True,
    )


def _train(out: Path, films: int) -> tuple[dict[str, Any], StepFailed | None]:
    """Run the pipeline on a server of ours that speaks TMDB's API, with the client for TMDB."""
    from components.ingest.sources.tmdb.api import TOKEN
    from components.ingest.tmdb_server.server import TmdbServer

    # The steps' processes read it from here; the server takes any, and must not see a real one.
    os.environ[TOKEN] = "demo"
    # What it asks is on this machine, whatever proxy leads to the rest of the world.
    os.environ["NO_PROXY"] = ",".join(filter(None, [os.environ.get("NO_PROXY"), "127.0.0.1"]))
    with TmdbServer(films=films) as server:
        places = {"tmdb.base_url": server.base_url, "tmdb.image_base_url": server.image_base_url}
        return run_pipeline(
            out,
            source="tmdb",
            imdb=server.titles_url,
            architectures=["custom_cnn", "vgg16"],
            label_set="all18",
            weights="random",
            registry="",
            overrides=_OVERRIDES | places,
        )


def _empty(folder: Path) -> None:
    """Empty the demo's folder; refuse one that the demo did not make."""
    if folder.exists() and any(folder.iterdir()) and not (folder / _MARK).exists():
        raise UsageError(
            f"{folder} is not empty and not the demo's own", remedy="give --out another folder"
        )
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / _MARK).touch()


@contextlib.contextmanager
def _server(bundle: Path, out: Path) -> Iterator[str]:
    """Serve a bundle by `marquee serve`, as a person would, and stop it afterwards."""
    port = free_port()
    command = [sys.executable, "-m", "marquee", "serve", str(bundle), "--port", str(port)]
    command += ["--records", str(out / "records")]
    with (out / "serve.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_until_ready(url, process, out / "serve.log")
        yield url
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        if process.poll() is not None:
            break
        with (
            contextlib.suppress(urllib.error.URLError, ConnectionError),
            urllib.request.urlopen(f"{url}/v2/health/ready", timeout=5),
        ):
            return
        time.sleep(0.1)
    raise InfrastructureError("the model server did not start", remedy=f"see {log}")


def _show_predictions(url: str, first_film: int, console: Console) -> None:
    """Ask the server about films that no split has seen."""
    from components.ingest.drawing import draw_poster
    from components.ingest.drawn_films import drawn_film

    films = [drawn_film(number) for number in range(first_film, first_film + _SHOWN)]
    instances = [
        {"image": {"b64": b64encode(draw_poster(film)).decode()}, "year": film.year}
        for film in films
    ]
    request = urllib.request.Request(
        f"{url}/v1/models/poster-genre:predict",
        data=json.dumps({"instances": instances}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        predictions = json.load(response)["predictions"]
    table = prediction_table("year", "drawn as")
    table.title = f"POST {url}/v1/models/poster-genre:predict, on films it has never seen"
    for film, prediction in zip(films, predictions, strict=True):
        add_prediction(table, film.title, str(film.year), ", ".join(film.genres), prediction)
    console.print(table)
