"""Fetches, checks, measures and stores posters, beside img2dataset on the same URLs.

Run `python -m benchmarks.poster_stage [--films 20000] [--concurrency 16]`. Our own server replays
posters that it drew before, 185 x 278 px, from a process of its own on the same machine.
img2dataset is installed into .tools/img2dataset; it runs with `resize_mode=no` and
`output_format=webdataset`. Also measured: how exactly the API stage keeps its rate, and that
memory does not grow with the films.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import date
from functools import partial
from pathlib import Path

from benchmarks.memory import Run, watch
from benchmarks.results import record
from components.ingest.concurrent import map_unordered
from components.ingest.ingest import ingest
from components.ingest.source import Item, Offer
from components.ingest.sources.tmdb.api import TOKEN, TmdbApi
from components.ingest.sources.tmdb.images import ImageHost
from components.ingest.sources.tmdb.slices import Slice, list_films, plan
from marquee.catalog import Catalog, Facts, Known
from marquee.settings import TmdbSettings

ROOT = Path(__file__).parents[1]
TOOL = ROOT / ".tools/img2dataset"
SIZE = "w185"
API_FILMS, API_RATE = 1_000, 40.0


class PosterStage:
    """Offers posters whose facts are known: what is left is the poster stage."""

    name = "poster-stage"

    def __init__(self, urls: list[str], concurrency: int) -> None:
        self._urls = urls
        self._settings = TmdbSettings(concurrency=concurrency)

    def total(self, known: Known) -> int | None:
        return len(self._urls)

    def items(self, known: Known) -> Iterator[Item]:
        return map_unordered(self._open, self._urls, self._settings.concurrency)

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[Callable[[str], Awaitable[Item]]]:
        async with ImageHost(self._settings) as images:

            async def offer(url: str) -> Item:
                name = Path(url).stem
                facts = Facts(
                    poster_id=name,
                    film_id=name,
                    title=name,
                    year=2000,
                    genres=("Drama",),
                    source="benchmark",
                    licence="CC0-1.0",
                )
                return Offer(facts=facts, row=None, read=partial(bytes, await images.fetch(url)))

            yield offer


@contextlib.contextmanager
def server(films: int, cache: Path, prepare: str = SIZE) -> Iterator[str]:
    """Start `marquee tmdb-server` with all posters drawn; give its root URL."""
    command = [sys.executable, "-m", "marquee", "tmdb-server", "--films", str(films), "--port", "0"]
    command += ["--cache", str(cache), *(["--prepare", prepare] if prepare else [])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        found = None
        while found is None:
            found = re.search(r"API +(http\S+)/3", process.stdout.readline())
        yield found[1]
    finally:
        process.terminate()
        process.wait()


def poster_urls(root: str) -> list[str]:
    """List the posters of all films."""
    settings = TmdbSettings(base_url=f"{root}/3", rate=0)
    api = TmdbApi(settings, "any")
    urls = []
    with ThreadPoolExecutor(8) as executor:
        for span in plan(api, Slice(date(1874, 1, 1), date(2026, 12, 31)), 500):
            paths = list_films(api, span, executor, lambda film: str(film["poster_path"]))
            urls += [f"{root}/t/p/{SIZE}{path}" for path in paths.values()]
    return urls


def ours(urls: Path, concurrency: int, out: Path) -> Run:
    """Run our poster stage in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.poster_stage", "--urls", str(urls)]
    return watch([*command, "--concurrency", str(concurrency), "--out", str(out)], cwd=ROOT)


def img2dataset(urls: Path, concurrency: int, out: Path) -> Run:
    """Run img2dataset on the same URLs."""
    tool = TOOL / "bin/img2dataset"
    if not tool.exists():
        subprocess.run([sys.executable, "-m", "venv", str(TOOL)], check=True)
        subprocess.run([TOOL / "bin/pip", "install", "-q", "img2dataset"], check=True)
    command = [str(tool), f"--url_list={urls}", f"--output_folder={out}"]
    command += ["--resize_mode=no", "--output_format=webdataset", "--processes_count=1"]
    command += [f"--thread_count={concurrency}", "--number_sample_per_shard=1000"]
    environment = os.environ | {"NO_ALBUMENTATIONS_UPDATE": "1"}
    seen = watch(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stored = sum(json.loads(file.read_text())["successes"] for file in out.glob("*_stats.json"))
    assert stored == len(urls.read_text().splitlines()), f"img2dataset stored {stored} only"
    return seen


def api_rate(root: str) -> float:
    """Ask for films' details at a set rate; give the calls a second."""
    settings = TmdbSettings(base_url=f"{root}/3", rate=API_RATE)
    api = TmdbApi(settings, "any")
    ids = [
        int(film["id"]) for film in api.discover(date(1874, 1, 1), date(2026, 12, 31), 1)["results"]
    ]
    asked = [ids[number % len(ids)] for number in range(API_FILMS)]
    start = time.monotonic()
    with ThreadPoolExecutor(settings.concurrency) as executor:
        list(executor.map(api.movie, asked))
    return (API_FILMS - 1) / (time.monotonic() - start)


def stage(urls: Path, concurrency: int, out: str) -> None:
    """Do what `ours` measures."""
    names = urls.read_text().splitlines()
    report = ingest(PosterStage(names, concurrency), out, workers=0)
    assert report.added == len(names), f"{report.added} of {len(names)} were stored"
    print(f"{len(Catalog(out))} posters", file=sys.stderr)


def compare(films: int, concurrency: int, cache: Path, scratch: Path) -> None:
    """Measure, and record the figures."""
    os.environ[TOKEN] = "any"
    with server(films, cache) as root:
        urls = poster_urls(root)
        all_urls, few_urls = scratch / "all.txt", scratch / "few.txt"
        all_urls.write_text("\n".join(urls))
        few_urls.write_text("\n".join(urls[:1000]))
        few = ours(few_urls, concurrency, scratch / "few")
        runs = []
        for turn in range(2):
            theirs = img2dataset(all_urls, concurrency, scratch / f"theirs{turn}")
            mine = ours(all_urls, concurrency, scratch / f"ours{turn}")
            runs.append((theirs, mine))
        rate = api_rate(root)
    rows: list[list[str | float]] = []
    for theirs, mine in runs:
        for name, run in (("img2dataset", theirs), ("**marquee**", mine)):
            rows.append([name, f"{films:,}", *_figures(run, films), theirs.seconds / run.seconds])
    rows.append(["marquee", "1,000", *_figures(few, 1000), "n/a"])
    record(
        "Poster stage",
        f"python -m benchmarks.poster_stage --films {films} --concurrency {concurrency}",
        ["", "posters", "seconds", "posters/s", "peak memory, MB", "speed / img2dataset"],
        rows,
        f"Whole commands, start included, in turn, {concurrency} connections; the server runs on "
        "the same cores. Marquee also hashes and measures each poster. Memory is that of all "
        f"processes of a command together. The API stage, set to {API_RATE:g} calls/s, made "
        f"{rate:.2f}.",
    )


def _figures(run: Run, films: int) -> list[str | float]:
    return [f"{run.seconds:.1f}", f"{films / run.seconds:.0f}", f"{run.peak_mb:.0f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--films", type=int, default=20_000)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--cache", type=Path, help="keep drawn posters here for another time")
    parser.add_argument("--urls", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.urls:
        stage(arguments.urls, arguments.concurrency, arguments.out)
        return
    scratch = Path(tempfile.mkdtemp(prefix="poster-stage-"))
    try:
        cache = arguments.cache or scratch / "posters"
        cache.mkdir(parents=True, exist_ok=True)
        compare(arguments.films, arguments.concurrency, cache, scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
