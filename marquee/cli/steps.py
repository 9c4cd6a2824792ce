"""One command a pipeline step."""

from pathlib import Path
from typing import Any

import typer

from marquee.cli.options import (
    BASE_URL,
    CONCURRENCY,
    FROM,
    IMAGE_BASE_URL,
    IMDB,
    LICENCE,
    LIMIT,
    RATE,
    SET,
    TO,
    LabelSet,
    SourceKind,
    given,
)

_CATALOG = typer.Argument(..., metavar="CATALOG", help="The catalog's folder or URI.")
_SPLIT = typer.Argument(..., metavar="SPLIT", help="The split plan's folder or URI.")


def ingest(
    out: str = typer.Option(..., metavar="CATALOG", help="The catalog to write or resume."),
    source: SourceKind = typer.Option(SourceKind.FOLDER, help="Where posters come from."),
    path: str | None = typer.Option(
        None, metavar="DIR", help="The folder with posters.csv and images (source folder)."
    ),
    seed: int = typer.Option(0, help="Chooses the drawn films."),
    limit: int | None = LIMIT,
    licence: str | None = LICENCE,
    base_url: str | None = BASE_URL,
    image_base_url: str | None = IMAGE_BASE_URL,
    from_year: int | None = FROM,
    to_year: int | None = TO,
    rate: float | None = RATE,
    concurrency: int | None = CONCURRENCY,
    imdb: str | None = IMDB,
    overrides: list[str] = SET,
) -> None:
    """Bring posters into a catalog; the same command again resumes."""
    from components.ingest.ingest import ingest as bring
    from components.ingest.sources import make_source, plan
    from marquee.processes import stoppable
    from marquee.settings import load, parse_overrides

    options = given(
        "tmdb",
        base_url=base_url,
        image_base_url=image_base_url,
        from_year=from_year,
        to_year=to_year,
        rate=rate,
        concurrency=concurrency,
    ) | given("ingest", licence=licence)
    settings = load(parse_overrides(overrides) | options)
    posters: dict[str, Any] = {"path": path, "seed": seed, "limit": limit}
    with stoppable():
        sources = (
            make_source(source.value, span, settings=settings, **posters)
            for span in plan(source.value, settings.tmdb)
        )
        bring(
            sources,
            out,
            settings.ingest.part_rows,
            workers=settings.ingest.workers,
            imdb=imdb,
        )


def validate(
    catalog: str = _CATALOG,
    out: str | None = typer.Option(
        None, metavar="DIR", help="Write the verdict, its page, all failures and Data Docs here."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print the verdict as JSON."),
    overrides: list[str] = SET,
) -> None:
    """Judge whether a catalog can train a model (exit code 3 if not)."""
    from components.validate.page import validation_page
    from components.validate.validate import validate as judge
    from marquee import storage
    from marquee.settings import load, parse_overrides

    settings = load(parse_overrides(overrides))
    found = judge(catalog, settings)
    if out:
        found.write(out)
        page = validation_page(found, settings.validate)
        storage.write_text(storage.join(out, "verdict.html"), page)
    typer.echo(found.verdict.to_json() if as_json else found.verdict.sentence())
    found.verdict.raise_unless_passed()


def balance(
    catalog: str = _CATALOG,
    out: str = typer.Option(..., metavar="SPLIT", help="Where the split plan goes."),
    genres: LabelSet = typer.Option(LabelSet.ALL18, help="The label set to predict."),
    overrides: list[str] = SET,
) -> None:
    """Deal a catalog's films into training, validation and test."""
    from components.balance.balance import balance as deal
    from components.balance.page import balance_page
    from marquee import storage
    from marquee.settings import load, parse_overrides

    plan = deal(catalog, genres.value, load(parse_overrides(overrides)).balance)
    plan.write(out)
    storage.write_text(storage.join(out, "balance.html"), balance_page(plan))


def train(
    catalog: str = _CATALOG,
    split: str = _SPLIT,
    out: str = typer.Option(..., metavar="BUNDLE", help="Where the bundle goes."),
    arch: str = typer.Option("custom_cnn", help="The architecture; docs/training.md lists them."),
    weights: str = typer.Option(
        "torchvision",
        metavar="URI",
        help="ImageNet weights, unless it starts from scratch: torchvision (downloads), random, a "
        "file or a URI.",
    ),
    page: Path | None = typer.Option(None, metavar="FILE", help="Write the learning curves here."),
    overrides: list[str] = SET,
) -> None:
    """Train an architecture and seal a model bundle."""
    from components.train.launch import train as fit
    from components.train.order import Order
    from components.train.page import training_page
    from marquee import storage
    from marquee.settings import load, parse_overrides

    order = Order(
        catalog_uri=catalog, split_uri=split, architecture=arch, weights=weights, bundle_uri=out
    )
    report = fit(order, load(parse_overrides(overrides)))
    if page:
        storage.write_text(str(page), training_page(report))
    typer.echo(report.version)


def evaluate(
    bundle: str = typer.Argument(..., metavar="BUNDLE", help="The model bundle's folder or URI."),
    catalog: str = _CATALOG,
    split: str = _SPLIT,
    out: str = typer.Option(..., metavar="DIR", help="Where evaluation.json and .html go."),
) -> None:
    """Score a bundle on the test split, beside the trivial baselines."""
    from components.evaluate.evaluate import evaluate as judge
    from components.evaluate.page import evaluation_page
    from marquee import storage

    evaluation = judge(bundle, catalog, split)
    evaluation.write(storage.join(out, "evaluation.json"))
    storage.write_text(storage.join(out, "evaluation.html"), evaluation_page(evaluation))


def register(
    bundle: str = typer.Argument(..., metavar="BUNDLE", help="The model bundle's folder or URI."),
    evaluation: str = typer.Option(..., metavar="FILE", help="The bundle's evaluation.json."),
    registry: str = typer.Option(..., metavar="URI", help="The model registry."),
) -> None:
    """Keep a bundle and its test metrics in the registry, as a candidate."""
    from components.register.register import register as keep

    typer.echo(keep(bundle, evaluation, registry).version)
