"""A drift report as a page that is read in a minute, and as a message for a chat."""

from collections.abc import Iterator

from marquee.profile import PREDICTED
from marquee.report import Banner, Block, Heatmap, Lines, Links, Table, Tiles, ToDo, render
from monitoring.findings import Finding, State
from monitoring.report import DriftReport
from monitoring.words import NEXT, describe

_STRONG = 0.2
"""A move of a mean probability from which on a cell has its full colour."""
_STATES = {
    State.DRIFT: "drift",
    State.STABLE: "",
    State.UNCLEAR: "unclear",
    State.INSUFFICIENT: "too few",
}


def drift_page(report: DriftReport) -> str:
    """Render a report.

    Args:
        report: What was found.

    Returns:
        HTML that stands alone.
    """
    verdict = report.verdict
    blocks: list[Block] = [Banner(outcome=verdict.outcome.value, sentence=report.sentence())]
    todo = ToDo.of(verdict)
    if todo.checks:
        blocks.append(todo)
    blocks += [_tiles(report), *_causes(report), _heatmap(report), *_trend(report)]
    blocks += [*_examples(report), _everything(report), _links()]
    return render("Drift", f"{report.version[:12]} · {report.window}", blocks)


def chat_message(report: DriftReport) -> str:
    """Write a report as Markdown for a chat.

    Args:
        report: What was found.
    """
    lines = [
        f"**{report.sentence()}**",
        f"{report.counted.records:,} predictions of {report.version[:12]}, {report.window}",
        *(
            f"- {describe(cause)}, since {report.since(cause):%Y-%m-%d}: {NEXT[cause.kind]}"
            for cause in report.causes
        ),
    ]
    return "\n".join(lines) + "\n"


def _tiles(report: DriftReport) -> Tiles:
    counted = report.counted
    judged = sum(finding.state is not State.INSUFFICIENT for finding in report.findings)
    return Tiles(
        tiles=[
            ("predictions", f"{counted.records:,}", f"{counted.others:,} more of other models"),
            (
                "with known genres",
                f"{counted.labelled:,}",
                "they tell whether it is right"
                if counted.labelled
                else "give --truth to learn more",
            ),
            (
                "slices that drift",
                f"{report.drift_share:.1%}",
                f"of {judged:,} judged",
            ),
            (
                "left out",
                f"{counted.duplicates:,}",
                f"delivered twice; {counted.failed:,} without an answer",
            ),
        ]
    )


def _causes(report: DriftReport) -> Iterator[Block]:
    if not report.causes:
        return
    yield Table(
        title="What changed, and how sure that is",
        columns=("what", "where", "before", "now", "moved by", "95 % interval", "chance", "since"),
        rows=[
            (
                finding.what,
                finding.where or "everywhere",
                finding.before,
                finding.after,
                f"{finding.effect:+.3f} {finding.unit}".strip(),
                f"{finding.low:+.3f} to {finding.high:+.3f}",
                _chance(finding.p_adjusted),
                f"{report.since(cause):%Y-%m-%d %H:%M}",
            )
            for cause in report.causes
            for finding in sorted(cause.findings, key=lambda finding: -abs(finding.effect))
        ],
        note="Chance: how often as much would be found if nothing had moved, corrected for how "
        "much was looked at.",
    )


def _chance(p: float) -> str:
    return "below .0001" if p < 1e-4 else f"{p:.4f}"


def _heatmap(report: DriftReport) -> Heatmap:
    """Show how far the mean probability of each genre moved in each era."""
    cells = {
        (f.genre, f.era): f
        for f in report.findings
        if f.what == "probability" and not f.era.startswith(PREDICTED)
    }
    eras = list(dict.fromkeys(era for _, era in cells))
    rows = list(report.genres)
    found = [[cells[genre, era] for era in eras] for genre in rows]
    return Heatmap(
        title="Where probabilities moved",
        rows=rows,
        columns=[era.replace("_", " ") or "all" for era in eras],
        values=[[f.after - f.before for f in line] for line in found],
        totals=[1.0] * len(rows),
        shades=[[_shade(f) for f in line] for line in found],
        note="The mean probability now less that of the reference. Coloured: drift that chance "
        "does not explain; n/a: no posters.",
    )


def _shade(finding: Finding) -> float:
    if finding.state is not State.DRIFT:
        return 0.0
    return min(1.0, 0.25 + abs(finding.effect) / _STRONG)


def _trend(report: DriftReport) -> Iterator[Block]:
    if not report.past:
        return
    shares = [*(past.drift_share for past in report.past), report.drift_share]
    yield Lines(
        title="The last windows",
        x_label="windows, this one last",
        y_label="% of the slices drift",
        x=list(range(1 - len(shares), 1)),
        series={"% of the slices drift": [100 * share for share in shares]},
    )


def _examples(report: DriftReport) -> Iterator[Block]:
    if report.examples:
        yield Table(
            title="Such posters",
            columns=("slice", "prediction", "film", "probability"),
            rows=[
                (item.what, item.prediction_id, item.film_id or "", item.probability)
                for item in report.examples
            ],
        )


def _everything(report: DriftReport) -> Table:
    whole = [f for f in report.findings if not f.era or f.drifts]
    short = sum(f.state is State.INSUFFICIENT for f in report.findings)
    return Table(
        title="Everything that was looked at",
        columns=("kind", "what", "where", "before", "now", "moved by", "from which on", "state"),
        rows=[
            (
                f.kind,
                f.what,
                f.where,
                f.before,
                f.after,
                f"{f.effect:+.3f}" if f.state is not State.INSUFFICIENT else "",
                f"{f.threshold:g} {f.unit}".strip(),
                f"follows from {f.explained_by}" if f.explained_by else _STATES[f.state],
            )
            for f in whole
        ],
        note=f"In all eras, and in single ones where something drifts. {short:,} slices have too "
        "few posters to be judged (drift.json lists all).",
    )


def _links() -> Links:
    return Links(
        title="Read on",
        links=[
            ("evidently.html", "evidently.html", "Evidently's page: distributions, and its tests"),
            ("drift.json", "drift.json", "every slice, for machines"),
            ("profile.json", "profile.json", "the counts that all of this is made from"),
        ],
    )
