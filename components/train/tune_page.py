"""A search for better settings as a page for people."""

import itertools

import numpy as np

from components.train.findings import Chance, Findings, Tried
from marquee.report import Banner, Block, Cell, Lines, Table, Tiles, render

_SHOWN = 30


def tune_page(found: Findings) -> str:
    """Render what a search found.

    Args:
        found: The findings.

    Returns:
        HTML that stands alone.
    """
    blocks: tuple[Block, ...] = (
        Banner(outcome="note", sentence=found.sentence()),
        _tiles(found),
        _settings(found),
        _progress(found),
        *_chance(found.chance),
        *_seeds(found),
        _trials(found),
    )
    return render("Tuning", f"{found.architecture}; by the validation mAP", blocks)


def _tiles(found: Findings) -> Tiles:
    given_up = sum(trial.state == "pruned" for trial in found.tried)
    tiles = [
        ("best trial", f"{found.best.score:.4f}", f"trial {found.best.number + 1}"),
        ("trials", str(len(found.tried)), f"{given_up} given up early"),
        ("as good as the best", str(sum(found.alike.values())), "trials, or nobody can tell"),
    ]
    if found.chance:
        present = found.measured[0].score
        tiles.insert(1, ("present settings", f"{present:.4f}", "trial 1"))
        fair = f"{found.chance.fair_gain:+.4f}"
        tiles.insert(2, ("gain, judged fairly", fair, f"{found.chance.gain:+.4f} as chosen"))
    return Tiles(tiles=tiles)


def _settings(found: Findings) -> Table:
    return Table(
        title="The best settings",
        columns=("setting", "best trial", "present", "searched"),
        rows=[
            (item.name, _text(found.best.values[item.name]), _text(found.present[item.name]),
             str(item))
            for item in found.parameters
        ],
        note="best.toml holds them for marquee.toml.",
    )  # fmt: skip


def _progress(found: Findings) -> Lines:
    complete = [trial for trial in found.tried if trial.state == "complete"]
    scores = [trial.score for trial in complete]
    return Lines(
        title="Trials",
        x_label="trial",
        y_label="macro mAP",
        x=[trial.number + 1 for trial in complete],
        series={
            "validation macro mAP": scores,
            "best so far": list(itertools.accumulate(scores, max)),
        },
        mark=found.best.number + 1,
        note="Trials that were given up are left out.",
    )


def _chance(chance: Chance | None) -> tuple[Table, ...]:
    if chance is None:
        return ()
    return (
        Table(
            title="How much of it is chance",
            columns=("gain over the present settings", "macro mAP", "95% from", "to"),
            rows=[
                ("of the best trial, as it was chosen", _signed(chance.gain),
                 *map(_signed, chance.interval)),
                ("on films that had no say in the choice", _signed(chance.fair_gain),
                 *map(_signed, chance.fair_interval)),
            ],
            note="The best of many trials is among the luckiest: the first row is too good. In the "
            "second, 1,000 times over, the trial that is best on films drawn with replacement is "
            "scored on those that were not drawn, a good third of them; its interval is wider for "
            "that. What the test split would say is not known: it stays out of tuning.",
        ),
    )  # fmt: skip


def _seeds(found: Findings) -> tuple[Table, ...]:
    if not found.again:
        return ()
    rows: list[tuple[Cell, ...]] = []
    for number, scores in found.again.items():
        name = "the present settings" if number == 0 else f"the best trial ({number + 1})"
        spread = float(np.std(scores, ddof=1)) if len(scores) > 1 else None
        rows.append((name, len(scores), float(np.mean(scores)), spread, min(scores), max(scores)))
    return (
        Table(
            title="Trained again with other seeds",
            columns=("settings", "seeds", "mean", "sd", "lowest", "highest"),
            rows=rows,
            note="Nobody chose these seeds by their result, so the means can be compared; the "
            "posters that validate are those that chose the settings all the same.",
        ),
    )


def _trials(found: Findings) -> Table:
    ranked = sorted(found.tried, key=lambda t: (t.state != "complete", -np.nan_to_num(t.score)))
    names = [item.name for item in found.parameters]
    rows: list[tuple[Cell, ...]] = [
        (
            trial.number + 1,
            trial.score,
            _standing(found, trial),
            trial.epochs,
            *(_text(trial.values.get(name, "")) for name in names),
        )
        for trial in ranked[:_SHOWN]
    ]
    return Table(
        title="All trials" if len(ranked) <= _SHOWN else f"The best {_SHOWN} trials",
        columns=("trial", "macro mAP", "", "epochs", *names),
        rows=rows,
        note="alike: it may be as good as the best one, as far as these films tell. Trials that "
        "were given up show the highest that they came to.",
    )


def _standing(found: Findings, trial: Tried) -> str:
    if trial.state != "complete":
        return "given up" if trial.state == "pruned" else trial.state
    if trial.number == found.best.number:
        return "best"
    return "alike" if found.alike[trial.number] else "worse"


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _signed(value: float) -> str:
    return f"{value:+.4f}"
