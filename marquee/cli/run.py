"""`marquee run`: the whole training pipeline on this machine."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from marquee.cli.options import (
    BASE_URL,
    FROM,
    IMAGE_BASE_URL,
    IMDB,
    LICENCE,
    LIMIT,
    SET,
    TO,
    LabelSet,
    SourceKind,
    given,
)
from marquee.errors import UsageError
from marquee.step import JUDGES, StepFailed

METRICS: dict[str, str] = {
    "test/macro_f1": "macro F1",
    "test/micro_f1": "micro F1",
    "test/macro_map": "macro mAP",
    "test/top1": "top-1",
    "test/per_label_accuracy": "per-label accuracy",
}


_HERE = {"rollout.backend": "local"}


def run(
    source: SourceKind = typer.Option(SourceKind.FOLDER, help="Where posters come from."),
    path: str | None = typer.Option(
        None, metavar="DIR", help="The folder with posters.csv and images (source folder)."
    ),
    arch: str = typer.Option("custom_cnn,vgg16", help="Architectures, joined by commas."),
    genres: LabelSet = typer.Option(LabelSet.ALL18, help="The label set to predict."),
    limit: int | None = LIMIT,
    licence: str | None = LICENCE,
    base_url: str | None = BASE_URL,
    image_base_url: str | None = IMAGE_BASE_URL,
    from_year: int | None = FROM,
    to_year: int | None = TO,
    imdb: str | None = IMDB,
    weights: str = typer.Option(
        "torchvision",
        metavar="URI",
        help="VGG16's ImageNet weights: torchvision (downloads), random, a file or a URI.",
    ),
    registry: str | None = typer.Option(
        None, metavar="URI", help="The model registry; OUT/registry without it."
    ),
    rollout: bool = typer.Option(
        False, "--rollout", help="Roll the best model out, once it has beaten the champion."
    ),
    name: str = typer.Option(
        "poster-genre", metavar="NAME", help="What --rollout rolls out to, on this machine."
    ),
    out: str | None = typer.Option(
        None, metavar="OUT", help="Where everything goes; runs/<time> without it."
    ),
    overrides: list[str] = SET,
    as_json: bool = typer.Option(False, "--json", help="Print the summary as one JSON object."),
) -> None:
    """Train on someone's own posters: from ingesting them to a registered, judged model."""
    from marquee.settings import parse_overrides
    from marquee.storage import is_local

    if out and not is_local(out):
        raise UsageError(
            f"{out} is not on this machine",
            remedy="give --out a local folder; on Kubeflow, set the pipeline's run_uri",
        )
    folder = Path(out or f"runs/{datetime.now():%Y%m%d-%H%M%S}")
    options = given(
        "tmdb",
        base_url=base_url,
        image_base_url=image_base_url,
        from_year=from_year,
        to_year=to_year,
    ) | given("ingest", licence=licence)
    summary, failure = run_pipeline(
        folder,
        source=source.value,
        path=path or "",
        limit=limit or 0,
        imdb=imdb or "",
        architectures=parse_architectures(arch),
        label_set=genres.value,
        weights=weights,
        registry=registry or "",
        rollout_to=name if rollout else "",
        overrides=parse_overrides(overrides) | options,
    )
    if as_json:
        typer.echo(json.dumps(summary))
    else:
        print_summary(summary, folder)
    if failure:
        raise failure


def parse_architectures(text: str) -> list[str]:
    """Read names joined by commas.

    Raises:
        UsageError: One is unknown, or there is none.
    """
    from pipelines.training import ARCHITECTURES

    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown = [name for name in names if name not in ARCHITECTURES]
    if unknown or not names:
        raise UsageError(
            f"unknown architecture {unknown[0]!r}" if unknown else "no architecture is named",
            remedy=f"use {' or '.join(ARCHITECTURES)}, joined by commas",
        )
    return names


def run_pipeline(
    folder: Path,
    *,
    source: str,
    path: str = "",
    limit: int = 0,
    imdb: str = "",
    architectures: list[str],
    label_set: str,
    weights: str,
    registry: str,
    rollout_to: str = "",
    overrides: dict[str, Any],
) -> tuple[dict[str, Any], StepFailed | None]:
    """Run the training pipeline on this machine and write its summary.

    Args:
        folder: Where everything goes.
        source: `folder`, `drawn` or `tmdb`.
        path: The folder of posters (source folder).
        limit: At most this many posters; 0 takes all of a folder, and draws 1500.
        imdb: IMDb's `title.basics.tsv.gz`, if labels are to be compared with it.
        architectures: Which to train.
        label_set: What to predict.
        weights: VGG16's weights.
        registry: The model registry; empty for one below `folder`.
        rollout_to: The deployment that the best model is rolled out to; empty for none.
        overrides: Settings by dotted name.

    Returns:
        The summary, and what the champion gate or the rollout ended with if it did not pass: the
        run's models are there all the same.

    Raises:
        MarqueeError: An input is wrong, or a step failed; it has the step's exit code.
    """
    from components.ingest.sources import make_source
    from components.rollout.policy import RolloutSettings
    from components.train.settings import resolve_settings
    from marquee.run_layout import RunLayout
    from marquee.settings import build, load
    from marquee.storage import absolute, remove
    from pipelines.local import run_locally
    from pipelines.summary import write_summary
    from pipelines.training import ARCHITECTURES, training

    layout = RunLayout(str(folder.absolute()))
    # What can be seen to be wrong is said at once, not by a step minutes later.
    path, imdb = absolute(path), absolute(imdb)
    settings = load(overrides)
    make_source(source, settings=settings, path=path, limit=limit or None)
    weights = _check_weights(weights, architectures)
    for name in architectures:
        resolve_settings(name, settings)
    if rollout_to:
        build(RolloutSettings, "rollout", settings.rollout)
    # Whoever reads it must not find an earlier run's.
    remove(layout.summary)
    arguments = {
        "run_uri": layout.uri,
        "source": source,
        "path": path,
        "limit": limit,
        "imdb": imdb,
        "label_set": label_set,
        **{name: name in architectures for name in ARCHITECTURES},
        "weights": weights,
        "registry_uri": absolute(registry),
        "rollout_to": rollout_to,
        "overrides": _HERE | overrides,
    }
    failure = None
    try:
        run_locally(training, arguments, folder)
    except StepFailed as error:
        if error.step not in JUDGES:
            raise
        failure = error
    return write_summary(layout, architectures, registry or layout.registry), failure


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
    """Show how the labels agree, the metrics beside the baselines, and where things lie."""
    console = Console()
    _print_agreement(folder, console)
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
    for verdict in summary["verdicts"]:
        console.print(verdict["sentence"], highlight=False)
    console.print(f"summary  {folder / 'summary.json'}", highlight=False, soft_wrap=True)
    console.print(f"bundles  {folder / 'bundles'}", highlight=False, soft_wrap=True)
    console.print(f"reports  {folder / 'reports'}", highlight=False, soft_wrap=True)


def _print_agreement(folder: Path, console: Console) -> None:
    from components.ingest.agreement_page import agreement_table
    from marquee.agreement import LabelAgreement
    from marquee.run_layout import RunLayout

    place = Path(RunLayout(str(folder)).agreement)
    agreement = LabelAgreement.from_json(place.read_text(encoding="utf-8"), str(place))
    columns, rows = agreement_table(agreement)
    if not rows:
        return
    table = Table(title="agreement between the label sources", title_justify="left")
    for column in columns:
        table.add_column(column, justify="left" if column == columns[0] else "right")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _cells(metrics: dict[str, float], bold: bool = False) -> list[str]:
    style = "[bold]{:.3f}[/]" if bold else "{:.3f}"
    return [style.format(metrics[name]) for name in METRICS]
