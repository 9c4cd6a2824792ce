"""`marquee run`: the whole training pipeline on this machine."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from marquee.cli.options import SET, LabelSet, SourceKind
from marquee.errors import UsageError

METRICS: dict[str, str] = {
    "test/macro_f1": "macro F1",
    "test/micro_f1": "micro F1",
    "test/macro_map": "macro mAP",
    "test/top1": "top-1",
    "test/per_label_accuracy": "per-label accuracy",
}


def run(
    source: SourceKind = typer.Option(SourceKind.FOLDER, help="Where posters come from."),
    path: str | None = typer.Option(
        None, metavar="DIR", help="The folder with posters.csv and images (source folder)."
    ),
    films: int = typer.Option(1500, min=1, help="How many films to draw (source drawn)."),
    arch: str = typer.Option("custom_cnn,vgg16", help="Architectures, joined by commas."),
    genres: LabelSet = typer.Option(LabelSet.ALL18, help="The label set to predict."),
    limit: int | None = typer.Option(None, min=1, help="Take a sample of this many posters."),
    weights: str = typer.Option(
        "torchvision",
        metavar="URI",
        help="VGG16's ImageNet weights: torchvision (downloads), random, a file or a URI.",
    ),
    registry: str | None = typer.Option(
        None, metavar="URI", help="The model registry; OUT/registry without it."
    ),
    out: str | None = typer.Option(
        None, metavar="OUT", help="Where everything goes; runs/<time> without it."
    ),
    overrides: list[str] = SET,
    as_json: bool = typer.Option(False, "--json", help="Print the summary as one JSON object."),
) -> None:
    """Train on someone's own posters: ingest, validate, balance, train, evaluate, register."""
    from marquee.settings import parse_overrides
    from marquee.storage import is_local

    if out and not is_local(out):
        raise UsageError(
            f"{out} is not on this machine",
            remedy="give --out a local folder; on Kubeflow, set the pipeline's run_uri",
        )
    folder = Path(out or f"runs/{datetime.now():%Y%m%d-%H%M%S}")
    summary = run_pipeline(
        folder,
        source=source.value,
        path=path or "",
        films=films,
        architectures=parse_architectures(arch),
        label_set=genres.value,
        limit=limit or 0,
        weights=weights,
        registry=registry or "",
        overrides=parse_overrides(overrides),
    )
    if as_json:
        typer.echo(json.dumps(summary))
        return
    print_summary(summary, folder)


def parse_architectures(text: str) -> list[str]:
    """Read names joined by commas.

    Raises:
        UsageError: One is unknown, or there is none.
    """
    from components.train.settings import DEFAULTS

    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown = [name for name in names if name not in DEFAULTS]
    if unknown or not names:
        raise UsageError(
            f"unknown architecture {unknown[0]!r}" if unknown else "no architecture is named",
            remedy=f"use {' or '.join(DEFAULTS)}, joined by commas",
        )
    return names


def run_pipeline(
    folder: Path,
    *,
    source: str,
    path: str,
    films: int,
    architectures: list[str],
    label_set: str,
    limit: int,
    weights: str,
    registry: str,
    overrides: dict[str, Any],
) -> dict[str, Any]:
    """Run the training pipeline on this machine and write its summary.

    Args:
        folder: Where everything goes.
        source: `folder` or `drawn`.
        path: The folder of posters (source folder).
        films: How many films to draw (source drawn).
        architectures: Which to train.
        label_set: What to predict.
        limit: At most this many posters; 0 takes all.
        weights: VGG16's weights.
        registry: The model registry; empty for one below `folder`.
        overrides: Settings by dotted name.

    Returns:
        The summary.

    Raises:
        MarqueeError: An input is wrong, or a step failed; it has the step's exit code.
    """
    from components.ingest.sources import make_source
    from components.train.settings import DEFAULTS, resolve_settings
    from marquee.run_layout import RunLayout
    from marquee.settings import load
    from marquee.storage import remove
    from pipelines.local import run_locally
    from pipelines.summary import write_summary
    from pipelines.training import training

    layout = RunLayout(str(folder.absolute()))
    # What can be seen to be wrong is said at once, not by a step minutes later.
    path = str(Path(path).absolute()) if path and "://" not in path else path
    make_source(source, path=path, films=films, limit=limit or None)
    weights = _check_weights(weights, architectures)
    posters = {"source": source, "path": path, "films": films, "limit": limit}
    settings = load(overrides)
    for name in architectures:
        resolve_settings(name, settings)
    # Whoever reads it must not find an earlier run's.
    remove(layout.summary)
    run_locally(
        training,
        {
            "run_uri": layout.uri,
            **posters,
            "label_set": label_set,
            **{name: name in architectures for name in DEFAULTS},
            "weights": weights,
            "registry_uri": registry,
            "overrides": overrides,
        },
        folder,
    )
    return write_summary(layout, architectures, registry or layout.registry)


def _check_weights(weights: str, architectures: list[str]) -> str:
    from marquee import storage

    if weights in ("torchvision", "random") or "vgg16" not in architectures:
        return weights
    if not storage.exists(weights):
        raise UsageError(
            f"there are no weights at {weights}",
            remedy="check --weights: torchvision, random, a file or a URI",
        )
    return str(storage.local_path(weights).absolute()) if storage.is_local(weights) else weights


def print_summary(summary: dict[str, Any], folder: Path) -> None:
    """Show the metrics beside the baselines, and where things lie."""
    console = Console()
    for name, entry in summary["architectures"].items():
        title = f"{name} on {entry['test_posters']:,} test posters ({entry['label_set']})"
        table = Table(title=title, title_justify="left")
        table.add_column("")
        for column in METRICS.values():
            table.add_column(column, justify="right")
        table.add_row(f"[bold]{name}[/]", *_cells(entry["metrics"], bold=True))
        for baseline, values in entry["baselines"].items():
            table.add_row(baseline.replace("_", " "), *_cells(values))
        console.print(table)
    console.print(f"summary  {folder / 'summary.json'}", highlight=False, soft_wrap=True)
    console.print(f"bundles  {folder / 'bundles'}", highlight=False, soft_wrap=True)
    console.print(f"reports  {folder / 'reports'}", highlight=False, soft_wrap=True)


def _cells(metrics: dict[str, float], bold: bool = False) -> list[str]:
    style = "[bold]{:.3f}[/]" if bold else "{:.3f}"
    return [style.format(metrics[name]) for name in METRICS]
