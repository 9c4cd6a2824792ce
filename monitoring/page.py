"""A drift report as a page that is read in a minute, and as a message for a chat."""

from collections.abc import Iterator

from marquee.profile import PREDICTED
from marquee.report import Banner, Block, Heatmap, Lines, Links, Table, Tiles, ToDo, render
from monitoring.findings import Finding, State
from monitoring.performance import means
from monitoring.report import DriftReport
from monitoring.words import describe

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
    blocks += [_tiles(report), *_causes(report), _heatmap(report), *_right(report)]
    blocks += [*_trend(report), *_examples(report), *_answered(report)]
    blocks += [_everything(report), _links()]
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
            f"- {describe(cause)}, since {report.since(cause):%Y-%m-%d}: {report.next(cause.kind)}"
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
                finding.moved,
                finding.interval,
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
        texts=[[_moved(f) for f in line] for line in found],
        note="The mean probability now less that of the reference. Coloured: drift that chance "
        f"does not explain. Empty: fewer than {report.settings.min_samples} posters on a side.",
    )


def _moved(finding: Finding) -> str:
    if finding.state is State.INSUFFICIENT:
        return ""
    return f"{finding.after - finding.before:+.2f}".replace("-0.00", "0").replace("+0.00", "0")


def _shade(finding: Finding) -> float:
    if finding.state is not State.DRIFT:
        return 0.0
    return min(1.0, 0.25 + abs(finding.effect) / _STRONG)


def _right(report: DriftReport) -> Iterator[Block]:
    """Show how right the model is, now and in the last windows."""
    if not report.performance:
        return
    drifting = {f.genre: f for f in report.findings if f.what == "average precision"}
    yield Table(
        title="How right it is",
        columns=(
            *("genre", "posters", "that have it", "average precision", "as in the reference"),
            *("F1", "calibration error"),
        ),
        rows=[
            (
                score.genre,
                score.posters,
                score.positives,
                score.average_precision,
                _beside(drifting.get(score.genre)),
                score.f1,
                score.calibration_error,
            )
            for score in report.performance
        ],
        bars=(3, 5),
        note="Average precision grows with the share of posters that have a genre; beside the "
        "reference it is told for the same share. Genres that fewer posters have are left out.",
    )
    scores = [past.scores for past in report.past if past.scores] + [means(report.performance)]
    if len(scores) > 1:
        yield Lines(
            title="How right it was",
            x_label="windows, this one last",
            y_label="mean over genres",
            x=list(range(1 - len(scores), 1)),
            series={
                label: [score[name] for score in scores]
                for name, label in (
                    ("macro_map", "average precision"),
                    ("macro_f1", "F1"),
                    ("calibration_error", "calibration error"),
                )
            },
        )


def _beside(finding: Finding | None) -> str:
    if finding is None or finding.state is State.INSUFFICIENT:
        return ""
    return f"{finding.before:.2f} to {finding.after:.2f}"


def _answered(report: DriftReport) -> Iterator[Block]:
    """Show which models answered, if there was another one or somebody knows their roles."""
    roles = report.counted.roles
    if len(roles) > 1 or any(role for _, role, _ in roles):
        yield Table(
            title="Who answered",
            columns=("model", "role", "predictions"),
            rows=[(version[:12], role, count) for version, role, count in roles],
            strong=[n for n, (version, _, _) in enumerate(roles) if version == report.version],
            note="The role is that of the time, by the registry's history. A rollout's replays are "
            f"not among them: {report.counted.replayed:,}.",
        )


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
                f.moved,
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
