"""`marquee temporal`: how posters and genres changed from era to era."""

import typer

from marquee.cli.options import SET


def temporal(
    catalog: str = typer.Option(..., metavar="URI", help="The catalog's folder or URI."),
    out: str = typer.Option(..., metavar="OUT", help="Where temporal.html and temporal.json go."),
    bundle: str = typer.Option(
        "", metavar="BUNDLE", help="A model bundle: tell how well it does era by era."
    ),
    split: str = typer.Option(
        "", metavar="SPLIT", help="The split plan that the bundle was trained with."
    ),
    sample: int = typer.Option(
        1000, min=1, metavar="N", help="Look at the pixels of this many films an era, at most."
    ),
    seed: int = typer.Option(0, help="Chooses the sample."),
    as_json: bool = typer.Option(False, "--json", help="Print the report as one JSON object."),
    overrides: list[str] = SET,
) -> None:
    """Show how posters and genres changed by era, and how well models age."""
    from marquee import storage
    from marquee.settings import load, parse_overrides
    from monitoring.temporal.temporal import PAGE_FILE, Order
    from monitoring.temporal.temporal import temporal as analyse

    order = Order(
        catalog=catalog,
        out=out,
        bundle=bundle,
        split=split,
        sample=sample,
        seed=seed,
        licence=load(parse_overrides(overrides)).licence,
    )
    report = analyse(order)
    if as_json:
        typer.echo(report.to_json(), nl=False)
    else:
        typer.echo(report.sentence())
        typer.echo(storage.join(out, PAGE_FILE))
