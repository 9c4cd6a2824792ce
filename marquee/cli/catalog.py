"""`marquee catalog`: look into a catalog."""

import dataclasses
import json

import typer

app = typer.Typer(no_args_is_help=True, help="Look into a catalog of posters.")

_CATALOG = typer.Argument(..., metavar="CATALOG", help="The catalog's folder or URI.")


@app.command()
def info(
    catalog: str = _CATALOG,
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Show how many posters a catalog holds, and its digest."""
    from marquee.catalog import Catalog

    manifest = dataclasses.asdict(Catalog(catalog).manifest)
    if as_json:
        typer.echo(json.dumps({**manifest, "parts": len(manifest["parts"])}))
        return
    typer.echo(f"posters      {manifest['rows']:,}")
    typer.echo(f"quarantined  {manifest['quarantined']:,}")
    typer.echo(f"parts        {len(manifest['parts']):,}")
    typer.echo(f"digest       {manifest['digest']}")


@app.command()
def digest(catalog: str = _CATALOG) -> None:
    """Print the digest of a catalog's content."""
    from marquee.catalog import Catalog

    typer.echo(Catalog(catalog).manifest.digest)
