"""`marquee predict`: the genres of posters on this machine."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from marquee.errors import DataError

_BATCH = 8


def predict(
    bundle: str = typer.Argument(..., metavar="BUNDLE", help="The model bundle's folder or URI."),
    paths: list[Path] = typer.Argument(..., metavar="PATH...", help="Image files or folders."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object a line."),
    require_signature: bool = typer.Option(
        False, "--require-signature", help="Refuse a bundle that nobody signed."
    ),
) -> None:
    """Predict the genres of posters."""
    from marquee import signing
    from marquee.bundle import load
    from marquee.engine import Engine

    opened = load(bundle)
    signing.check(opened, bundle, required=require_signature)
    show(predict_files(Engine(opened), files_of(paths)), as_json)


def files_of(paths: list[Path]) -> Iterator[Path]:
    """Give files, and all files below folders."""
    for path in paths:
        if path.is_dir():
            yield from sorted(file for file in path.rglob("*") if file.is_file())
        else:
            yield path


def predict_files(engine: Any, files: Iterator[Path]) -> Iterator[dict[str, Any]]:
    """Predict files, a few at a time, in their order.

    Args:
        engine: Runs the bundle.
        files: Image files.

    Yields:
        For each file an object with `file`, `probabilities`, `genres`, `unsure` and
        `model_version`, or with `file` and `error`.
    """
    batch: list[tuple[Path, Any]] = []
    for file in files:
        batch.append((file, _read(engine, file)))
        if len(batch) == _BATCH:
            yield from _answer(engine, batch)
            batch = []
    yield from _answer(engine, batch)


def _read(engine: Any, file: Path) -> Any:
    """Give the preprocessed poster, or the reason why there is none."""
    from marquee.errors import InvalidImage
    from marquee.images import preprocess

    try:
        return preprocess(file.read_bytes(), engine.bundle.info.preprocessing)
    except InvalidImage as error:
        return str(error)
    except OSError as error:
        return f"cannot read the file: {error.strerror}"


def _answer(engine: Any, batch: list[tuple[Path, Any]]) -> Iterator[dict[str, Any]]:
    import numpy as np

    images = [image for _, image in batch if not isinstance(image, str)]
    predictions = iter(engine.predict(np.stack(images)) if images else [])
    for file, image in batch:
        if isinstance(image, str):
            yield {"file": str(file), "error": image}
            continue
        prediction = next(predictions)
        yield {
            "file": str(file),
            "probabilities": prediction.probabilities,
            "genres": prediction.genres,
            "unsure": prediction.unsure,
            "model_version": engine.bundle.version,
        }


def show(answers: Iterator[dict[str, Any]], as_json: bool) -> None:
    """Show what is known of files: as a table, or as one JSON object a line.

    Args:
        answers: As `predict_files` gives them.
        as_json: Print lines.

    Raises:
        DataError: Not one file has a prediction.
    """
    succeeded = _print_lines(answers) if as_json else _print_table(answers)
    if not succeeded:
        raise DataError("not one file could be predicted", remedy="give JPEG, PNG or WebP files")


def _print_lines(answers: Iterator[dict[str, Any]]) -> int:
    succeeded = 0
    for answer in answers:
        typer.echo(json.dumps(answer))
        succeeded += "error" not in answer
    return succeeded


def _print_table(answers: Iterator[dict[str, Any]]) -> int:
    table = prediction_table()
    succeeded = 0
    try:
        for answer in answers:
            if "error" in answer:
                table.add_row(escape(answer["file"]), f"[red]{escape(answer['error'])}[/]", "")
                continue
            add_prediction(table, answer["file"], answer)
            succeeded += 1
    finally:
        if table.rows:  # also those before a failure
            Console().print(table)
    return succeeded


def prediction_table(*columns: str) -> Table:
    """Make the table that predictions are shown in.

    Args:
        columns: Further columns between the poster and its genres.
    """
    table = Table()
    for column in ("poster", *columns, "genres", ""):
        table.add_column(column)
    return table


def add_prediction(table: Table, *cells: Any) -> None:
    """Add a prediction to a table.

    Args:
        table: Made by `prediction_table`.
        cells: The leading cells, and last the answer with probabilities, genres and unsure.
    """
    *leading, answer = cells
    genres = ", ".join(f"{name} {answer['probabilities'][name]:.0%}" for name in answer["genres"])
    table.add_row(*map(escape, leading), genres, "unsure" if answer["unsure"] else "")
