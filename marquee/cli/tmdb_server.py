"""`marquee tmdb-server`: drawn films behind TMDB's API."""

import shlex
from pathlib import Path

import typer

from marquee.errors import UsageError


def tmdb_server(
    films: int = typer.Option(1500, min=1, max=1_000_000, help="How many films to serve."),
    host: str = typer.Option("127.0.0.1", help="The address to listen on; 0.0.0.0 for all."),
    port: int = typer.Option(8081, min=0, max=65535, help="The port; 0 for any free one."),
    token: str | None = typer.Option(
        None, metavar="TOKEN", help="The only token to accept; any token without it."
    ),
    rate_limit: int | None = typer.Option(
        None, min=1, metavar="N", help="Answer 429 beyond N API calls a second."
    ),
    faults: str | None = typer.Option(
        None,
        metavar="SHARES",
        help="What to do to which share of the requests: 5xx=.05,timeout=.02,truncate=.01,type=.01",
    ),
    fault_rate: float | None = typer.Option(
        None, metavar="SHARE", help="The same share of requests for all faults together."
    ),
    throttle_seconds: float = typer.Option(
        0.0, min=0, metavar="S", help="Answer 429 to everything for S seconds, from request 200 on."
    ),
    log: Path | None = typer.Option(
        None, metavar="FILE", help="Append a line of JSON for each request."
    ),
    cache: Path | None = typer.Option(
        None, metavar="DIR", help="Keep drawn posters here; a temporary folder without it."
    ),
    prepare: str | None = typer.Option(
        None, metavar="SIZE", help="Draw all posters of a size first, such as w342."
    ),
) -> None:
    """Serve drawn films over TMDB's API: the real client, without a key or a network."""
    from components.ingest.tmdb_server.options import Options
    from components.ingest.tmdb_server.server import run

    options = Options(
        films=films,
        host=host,
        port=port,
        token=token,
        rate_limit=rate_limit,
        faults=_shares(faults, fault_rate),
        throttle_seconds=throttle_seconds,
        log=log,
        cache=cache,
        prepare=prepare,
    )
    run(options, lambda root: typer.echo(_welcome(films, token or "any", root)))


def _shares(faults: str | None, fault_rate: float | None) -> dict[str, float]:
    from components.ingest.tmdb_server.faults import parse_shares, spread

    if faults is not None and fault_rate is not None:
        raise UsageError(
            "--faults and --fault-rate exclude each other",
            remedy="give shares for each kind, or one share for all",
        )
    return parse_shares(faults) if faults is not None else spread(fault_rate or 0.0)


def _welcome(films: int, token: str, root: str) -> str:
    command = (
        f"TMDB_READ_ACCESS_TOKEN={shlex.quote(token)} marquee ingest --source tmdb"
        f" --base-url {root}/3 --image-base-url {root}/t/p --out CATALOG"
    )
    return (
        f"ready: {films:,} drawn films\n"
        f"  API     {root}/3\n"
        f"  images  {root}/t/p\n"
        f"  IMDb    {root}/title.basics.tsv.gz\n"
        f"  ingest  {command}"
    )
