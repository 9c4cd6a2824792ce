"""`marquee drift`: what was predicted lately, held against what the model was made on."""

import enum
from datetime import UTC, datetime, timedelta

import typer

from marquee.cli.options import SET
from marquee.errors import UsageError

_SETTLED = timedelta(minutes=5)
"""Records are delivered a minute after they were made, or later if storage was away."""


class FailOn(enum.StrEnum):
    """What ends the command with an exit code of its own."""

    NOTHING = "nothing"
    DRIFT = "drift"


def drift(
    records: str = typer.Option(..., metavar="URI", help="The prediction records' folder or URI."),
    bundle: str = typer.Option(..., metavar="BUNDLE", help="The model bundle's folder or URI."),
    out: str = typer.Option(
        ..., metavar="OUT", help="The folder of all reports; each window has its own in it."
    ),
    since: str = typer.Option(
        "", "--from", metavar="T", help="The first moment (ISO 8601, UTC); a day before --to."
    ),
    until: str = typer.Option(
        "", "--to", metavar="T", help="The moment after the last one; five minutes ago."
    ),
    truth: str = typer.Option(
        "", metavar="CSV", help="Films' genres: the columns film_id and genres (joined by |)."
    ),
    registry: str = typer.Option(
        "", metavar="URI", help="The model registry: it tells canary from stable model."
    ),
    evidently: bool = typer.Option(True, help="Make Evidently's page as well."),
    as_json: bool = typer.Option(False, "--json", help="Print the report as one JSON object."),
    fail_on: FailOn = typer.Option(
        FailOn.NOTHING, help="Exit with 4 if something drifts, with 8 if nobody can tell."
    ),
    overrides: list[str] = SET,
) -> None:
    """Tell what has drifted, where, and how sure that is."""
    from marquee.settings import load, parse_overrides
    from monitoring.archive import folder_of
    from monitoring.collect import Window
    from monitoring.drift import PAGE_FILE, Order
    from monitoring.drift import drift as report_on

    end = _moment("--to", until) if until else _now()
    begin = _moment("--from", since) if since else end - timedelta(days=1)
    order = Order(
        records=records,
        bundle=bundle,
        out=out,
        window=Window(since=begin, until=end),
        truth=truth,
        registry=registry,
        evidently=evidently,
        settings=load(parse_overrides(overrides)).drift,
    )
    report = report_on(order)
    if as_json:
        typer.echo(report.to_json(), nl=False)
    else:
        typer.echo(report.sentence())
        typer.echo(f"{folder_of(out, order.window)}/{PAGE_FILE}")
    if fail_on is FailOn.DRIFT:
        report.verdict.raise_unless_passed()


def _now() -> datetime:
    return (datetime.now(UTC) - _SETTLED).replace(second=0, microsecond=0)


def _moment(option: str, text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"{option} is {text!r}", remedy="give a time such as 2026-11-30 or 2026-11-30T12:00"
        ) from None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
