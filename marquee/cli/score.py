"""`marquee score`: the genres of a whole catalog."""

import dataclasses
import json

import typer

from marquee.cli.options import SET


def score(
    catalog: str = typer.Option(..., metavar="URI", help="The catalog's folder or URI."),
    bundle: str = typer.Option(..., metavar="BUNDLE", help="The model bundle's folder or URI."),
    out: str = typer.Option(
        ...,
        metavar="PARQUET",
        help="The file of labels to write or resume; {model} and {catalog} in it become their "
        "version and digest.",
    ),
    as_json: bool = typer.Option(False, "--json", help="Print the counts as one JSON object."),
    overrides: list[str] = SET,
) -> None:
    """Label every poster of a catalog; the same command again resumes."""
    from components.score.score import score as label
    from marquee.settings import load, parse_overrides

    report = label(catalog, bundle, out, load(parse_overrides(overrides)))
    typer.echo(json.dumps(dataclasses.asdict(report)) if as_json else report.labels)
