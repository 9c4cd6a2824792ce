"""`marquee catalog`: look into a catalog, and purge posters from it."""

import dataclasses
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from marquee.purge import MarkedModel, PurgeReport
    from marquee.registry import ModelRegistry

app = typer.Typer(
    no_args_is_help=True, help="Look into a catalog of posters; purge posters from it."
)

_CATALOG = typer.Argument(..., metavar="CATALOG", help="The catalog's folder or URI.")


@app.command()
def info(
    catalog: str = _CATALOG,
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Show how many posters a catalog holds, from where, under which terms, and its digest."""
    from marquee.catalog import Catalog

    opened = Catalog(catalog)
    manifest = dataclasses.asdict(opened.manifest)
    provenance = _provenance(opened)
    if as_json:
        typer.echo(json.dumps({**manifest, "parts": len(manifest["parts"]), **provenance}))
        return
    typer.echo(f"posters      {manifest['rows']:,}")
    typer.echo(f"quarantined  {manifest['quarantined']:,}")
    typer.echo(f"parts        {len(manifest['parts']):,}")
    typer.echo(f"digest       {manifest['digest']}")
    typer.echo(f"sources      {_counts(provenance['sources'])}")
    typer.echo(f"licences     {_counts(provenance['licences'])}")
    if provenance["earliest_expiry"]:
        expired = f"; {provenance['expired']:,} have expired" if provenance["expired"] else ""
        typer.echo(f"expiry       from {provenance['earliest_expiry']} on{expired}")
    for sentence in provenance["attributions"]:
        typer.echo(f"\n{sentence}")


def _provenance(catalog: Any) -> dict[str, Any]:
    """Say where a catalog's posters and labels come from, and what they are under."""
    from marquee import licences

    frame = catalog.frame(["source", *licences.COLUMNS])
    ends = frame["expires_at"].dropna()
    joined = [text for texts in frame["label_licences"] for text in (texts or {}).values()]
    terms = Counter([*frame["licence"].fillna("unknown"), *joined])
    return {
        "sources": {name: int(n) for name, n in frame["source"].value_counts().items()},
        "licences": dict(terms.most_common()),
        "earliest_expiry": ends.min().isoformat(timespec="seconds") if len(ends) else None,
        "expired": int(licences.expired(frame).sum()),
        "attributions": licences.attributions(frame),
    }


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} ({count:,})" for name, count in counts.items()) or "none"


@app.command()
def purge(
    catalog: str = _CATALOG,
    source: str = typer.Option(
        "", metavar="NAME", help="All posters of this source, such as tmdb."
    ),
    film: list[str] = typer.Option(
        [], metavar="ID", help="The posters of this film (its film, TMDB or IMDb id); repeatable."
    ),
    expired: bool = typer.Option(False, "--expired", help="All posters whose terms are over."),
    registry: str | None = typer.Option(
        None,
        metavar="URI",
        help="The registry whose models are marked; `registry` beside the catalog without it.",
    ),
    bundles: bool = typer.Option(
        False, "--bundles", help="Delete the registered bundles of the marked models whole."
    ),
    dry_run: bool = typer.Option(False, "--dry-run", help="Only say what would go."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Remove posters with their bytes and what was derived from them, and prove it.

    Rows, images, lines of quarantine and cached features go; models that were trained on them are
    marked in the registry, and the posters' ids become tombstones there. Then everything below the
    catalog is read again (exit code 5 if something is left). The same command again does no harm.
    """
    from marquee.purge import Choice
    from marquee.purge import purge as remove

    choice = Choice(source=source, films=tuple(dict.fromkeys(film)), expired=expired)
    models = _registry(catalog, registry)
    report = remove(catalog, choice, models, bundles=bundles, dry_run=dry_run)
    if as_json:
        where = models.uri if models else None
        typer.echo(json.dumps({**dataclasses.asdict(report), "registry": where}))
        return
    for line in _purge_lines(report, models):
        typer.echo(line)


def _registry(catalog: str, uri: str | None) -> "ModelRegistry | None":
    """Open the registry that is named, or the one that a run leaves beside its catalog."""
    from marquee import storage
    from marquee.errors import UsageError
    from marquee.registry import is_kubeflow, open_registry
    from marquee.registry.files import REGISTRY_FILE
    from marquee.run_layout import RunLayout

    place = uri or RunLayout(catalog.rstrip("/").rpartition("/")[0] or ".").registry
    if is_kubeflow(place) or storage.exists(storage.join(place, REGISTRY_FILE)):
        return open_registry(place)
    if uri:
        raise UsageError(f"there is no registry at {uri}", remedy="check --registry")
    return None


def _purge_lines(report: "PurgeReport", registry: "ModelRegistry | None") -> list[str]:
    """Say what a purge did, for people."""
    models = report.models
    lines = [
        f"purge of {report.choice} from {report.catalog}"
        + (": nothing is changed, this would go" if report.dry_run else ""),
        f"posters      {report.posters:,} ({report.rows:,} rows, {report.bytes:,} bytes)",
        f"quarantine   {report.refusals:,} lines",
    ]
    if not report.dry_run:
        lines += [
            f"parts        {report.parts:,} rewritten or removed, {report.leftovers:,} leftovers",
            f"caches       {report.features:,} features on this machine",
            f"tombstones   {report.tombstones:,} new",
        ]
    where = f"{len(models):,} trained on them, in {registry.uri}" if registry else _NO_REGISTRY
    lines.append(f"models       {where}")
    for model in models:
        lines += _model_lines(model)
    lines += [f"not found    film {name}" for name in report.not_found]
    if report.joined:
        lines.append(
            f"NOTE         {report.joined:,} posters of other sources stay, with labels that were "
            "joined from there; to be rid of them, purge these posters and ingest them again"
        )
    if report.files_read:
        lines += [
            f"proof        {report.files_read:,} files read again, {report.images_hashed:,} "
            "images hashed: nothing of it is left",
            _OUT_OF_REACH,
        ]
    elif not (report.posters or report.rows or report.refusals):
        lines.append(f"Nothing matched; the catalog's sources are: {', '.join(report.sources)}")
    return lines


def _model_lines(model: "MarkedModel") -> list[str]:
    name = model.version[:12]
    fate = ": its bundle is deleted" if model.deleted else ""
    lines = [
        f"             {name} {model.architecture}, {model.stage}, {model.posters:,} posters{fate}"
    ]
    if model.deleted and model.stage == "champion":
        lines.append(
            f"WARNING      {name} was the champion of {model.label_set}: there is none now, and "
            "what serves it needs another one"
        )
    return lines


_NO_REGISTRY = (
    "none was looked for: there is no registry beside the catalog; name one with --registry"
)
_OUT_OF_REACH = (
    "Out of reach: bundles outside the registry (such as in run folders), caches of other machines,"
    "\ncopies made elsewhere and a bucket's own backups. See docs/licences.md."
)


@app.command()
def digest(catalog: str = _CATALOG) -> None:
    """Print the digest of a catalog's content."""
    from marquee.catalog import Catalog

    typer.echo(Catalog(catalog).manifest.digest)
