"""`marquee query`: what a running endpoint says of posters on this machine."""

import base64
import os
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from marquee.cli.predict import files_of, show
from marquee.errors import UsageError

_BATCH = 8
"""Posters a request; to be explained, each takes a request of its own."""
_BATCH_BYTES = 8 * 10**6
"""A request has no more than this, unless a single poster has."""
_LAYER = ".heat.png"


def query(
    url: str = typer.Argument(..., metavar="URL", help="The server's address."),
    posters: list[Path] = typer.Argument(..., metavar="POSTER...", help="Image files or folders."),
    token_file: Path | None = typer.Option(
        None, metavar="FILE", help="A file with the access token; of several, the first."
    ),
    host_header: str = typer.Option(
        "", metavar="HOST", help="The model's host, where an ingress is asked by another address."
    ),
    patience: float = typer.Option(
        60.0, min=0, metavar="SECONDS", help="How long to go on asking a server that is busy."
    ),
    explain: bool = typer.Option(
        False, "--explain", help="Write heat layers, and list similar films."
    ),
    genres: str = typer.Option(
        "",
        metavar="GENRES",
        help="What to explain, joined by commas; the chosen genres without it.",
    ),
    out: Path | None = typer.Option(
        None, metavar="DIR", help="Where heat layers go; beside the posters without it."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object a line."),
) -> None:
    """Ask a running endpoint for the genres of posters."""
    from marquee.client import Client, first_token

    if (genres or out) and not explain:
        raise UsageError("--genres and --out are for explanations", remedy="add --explain")
    token = first_token(token_file) if token_file else ""
    client = Client(url, token=token, host=host_header, patience=patience)
    files = [file for file in files_of(posters) if not file.name.endswith(_LAYER)]
    wanted = [genre.strip() for genre in genres.split(",") if genre.strip()]
    if not explain:
        show(_answers(_batches(files, _BATCH), client.ask), as_json)
        return
    answers = _answers(_batches(files, 1), partial(client.ask, explain=True, genres=wanted))
    explained: list[dict[str, Any]] = []
    show(_noted(map(_Layers(files, out).write, answers), explained), as_json)
    if not as_json:
        _show_explanations(explained)


def _answers(
    batches: Iterator[list[tuple[Path, bytes | str]]],
    ask: Callable[[list[bytes]], list[dict[str, Any]]],
) -> Iterator[dict[str, Any]]:
    """Ask about files; give an answer or an error for each."""
    for batch in batches:
        found = iter(ask([data for _, data in batch if isinstance(data, bytes)]))
        for file, data in batch:
            answer = next(found) if isinstance(data, bytes) else {"error": data}
            yield {"file": str(file), **answer}


def _batches(files: list[Path], most: int) -> Iterator[list[tuple[Path, bytes | str]]]:
    """Read files, in batches of a bounded size."""
    batch: list[tuple[Path, bytes | str]] = []
    size = 0
    for file in files:
        data = _read(file)
        if len(batch) == most or (batch and size + len(data) > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append((file, data))
        size += len(data)
    if batch:
        yield batch


def _read(file: Path) -> bytes | str:
    """Give a file's bytes, or the reason why there are none."""
    try:
        return file.read_bytes()
    except OSError as error:
        return f"cannot read the file: {error.strerror}"


class _Layers:
    """Writes the heat layers of posters: transparent pictures to lay over them.

    Args:
        files: The posters.
        out: Where the layers go, in folders like those of the posters; beside these without it.
    """

    def __init__(self, files: list[Path], out: Path | None) -> None:
        self._out = out
        self._base = os.path.commonpath([file.resolve().parent for file in files] or [Path()])

    def write(self, answer: dict[str, Any]) -> dict[str, Any]:
        """Write what an answer has; give it with the files' names in place of the pictures."""
        layers = [self._write(answer["file"], item) for item in answer.get("explanations", ())]
        return {**answer, "explanations": layers} if layers else answer

    def _write(self, file: str, explanation: dict[str, Any]) -> dict[str, Any]:
        poster = Path(file)
        folder = poster.parent
        if self._out:
            folder = self._out / poster.resolve().parent.relative_to(self._base)
            folder.mkdir(parents=True, exist_ok=True)
        genre = re.sub(r"[^a-z0-9]+", "-", explanation["genre"].lower())
        layer = folder / f"{poster.name}.{genre}{_LAYER}"
        layer.write_bytes(base64.b64decode(explanation["overlay_png_b64"]))
        return {
            "genre": explanation["genre"],
            "grid": explanation["grid"],
            "layer": str(layer),
        }


def _noted(
    answers: Iterator[dict[str, Any]], explained: list[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Pass answers on, and keep those that explain something."""
    for answer in answers:
        if answer.get("explanations") or answer.get("similar"):
            explained.append(answer)
        yield answer


def _show_explanations(explained: list[dict[str, Any]]) -> None:
    console = Console()
    table = Table(title="similar posters of the training", title_justify="left")
    for column in ("poster", "film", "year", "genres", "similarity", "licence"):
        table.add_column(column)
    for answer in explained:
        for layer in answer.get("explanations", ()):
            console.print(
                f"heat layer  {layer['layer']}", markup=False, highlight=False, soft_wrap=True
            )
        for film in answer.get("similar", ()):
            year = str(film.get("year") or "")
            cells = (
                answer["file"],
                film["title"] or film["poster_id"],
                year,
                ", ".join(film["genres"]),
                f"{film['score']:.2f}",
            )
            table.add_row(*map(escape, cells), escape(film.get("licence") or ""))
    if table.rows:
        console.print(table)
