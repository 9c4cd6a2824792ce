"""`marquee preflight`: does a cluster have what Marquee needs."""

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from marquee.errors import InfrastructureError
from marquee.verdict import Check, Severity, Verdict

_WORDS = {Severity.CRITICAL: "MISSING", Severity.WARNING: "warning", Severity.INFO: "note"}
_COLOURS = {"ok": "green", "MISSING": "bold red", "warning": "yellow", "note": "dim"}


def preflight(
    namespace: str = typer.Option(
        "", "--namespace", "-n", help="Where Marquee is; that of this pod or context without it."
    ),
    name: str = typer.Option("poster-genre", help="The InferenceService."),
    run_uris: list[str] = typer.Option(
        [], "--run-uri", metavar="URI", help="Where runs are to write: it is tried from here."
    ),
    accounts: list[str] = typer.Option(
        [],
        "--service-account",
        metavar="NAME",
        help="Whom pipelines' steps run as; those that the chart bound without it.",
    ),
    as_json: bool = typer.Option(False, "--json", help="Print the verdict as one JSON object."),
) -> None:
    """Check a cluster: what is missing for Marquee, and how to mend it."""
    from marquee.kubernetes import default_namespace
    from pipelines.preflight.context import Question
    from pipelines.preflight.preflight import preflight as look

    verdict = look(
        Question(
            namespace=namespace or default_namespace(),
            service=name,
            run_uris=run_uris,
            accounts=accounts,
        )
    )
    if as_json:
        typer.echo(verdict.to_json(), nl=False)
    else:
        _show(verdict)
    missing = verdict.broken(Severity.CRITICAL)
    if missing:
        raise InfrastructureError(
            f"{len(missing)} of {len(verdict.checks)} checks find something missing: "
            + ", ".join(check.name for check in missing),
            remedy="do what is said above, and run it again; docs/preflight.md has all checks",
        )


def _show(verdict: Verdict) -> None:
    console = Console(highlight=False, soft_wrap=True)
    if console.is_terminal:
        console.print(_table(verdict))
    else:
        for check in verdict.checks:
            typer.echo(_line(check))


def _word(check: Check) -> str:
    return "ok" if check.holds else _WORDS[check.severity]


def _line(check: Check) -> str:
    """Give a check as a line of a pod's log."""
    said = f"{_word(check):8}{check.name}: {check.measured}"
    if check.holds:
        return said
    blame = check.blame_text(5)
    return f"{said} (asked: {check.bound}{f'; see {blame}' if blame else ''}) -> {check.remedy}"


def _table(verdict: Verdict) -> Table:
    # Folded, or the ends of URIs were lost.
    columns = [Column(name, overflow="fold") for name in ("", "check", "found", "asked")]
    table = Table(*columns, title=verdict.subject, title_justify="left")
    for check in verdict.checks:
        word = _word(check)
        found = escape(check.measured)
        if check.blame:
            found += f" ({escape(check.blame_text(5))})"
        if check.remedy:
            found += f"\n[bold]try:[/] {escape(check.remedy)}"
        style = _COLOURS[word]
        table.add_row(f"[{style}]{word}[/]", escape(check.name), found, escape(check.bound))
    return table
