"""A training as a page for people: its learning curves and what it was made with."""

import dataclasses

import numpy as np

from components.train.order import TrainReport
from marquee.report import Banner, Block, Lines, Table, render


def training_page(report: TrainReport) -> str:
    """Render a training.

    Args:
        report: What the training gave.

    Returns:
        HTML that stands alone.
    """
    epochs = report.history
    best = int(max(epochs, key=lambda epoch: epoch["validation_macro_map"])["epoch"])
    x = [epoch["epoch"] for epoch in epochs]
    settings = dataclasses.asdict(report.settings)
    blocks: tuple[Block, ...] = (
        Banner(
            outcome="note",
            sentence=f"Validation macro mAP was highest after epoch {best} of {len(epochs)}: "
            f"{epochs[best - 1]['validation_macro_map']:.3f}. Those weights are in the bundle.",
        ),
        Lines(
            title="Validation macro mAP",
            x_label="epoch",
            y_label="macro mAP",
            x=x,
            series={"validation macro mAP": [epoch["validation_macro_map"] for epoch in epochs]},
            mark=best,
        ),
        Lines(
            title="Training loss",
            x_label="epoch",
            y_label="loss",
            x=x,
            series={"training loss": [epoch["loss"] for epoch in epochs]},
            mark=best,
        ),
        *_folds(report),
        Table(
            title="Settings",
            columns=("setting", "value"),
            rows=[(name, str(value)) for name, value in settings.items()],
        ),
    )
    return render("Training", f"{report.architecture}; bundle {report.version[:12]}", blocks)


def _folds(report: TrainReport) -> tuple[Table, ...]:
    if not report.cross_validation:
        return ()
    folds = report.cross_validation
    count = len(next(iter(folds.values())))
    return (
        Table(
            title="Cross-validation",
            note="The head on frozen features, trained anew for each fold; no poster of the test "
            "split is in it. Mean and standard deviation tell how much of a figure is luck.",
            columns=("metric", "mean", "sd", *(f"fold {number + 1}" for number in range(count))),
            rows=[
                (name, float(np.mean(values)), float(np.std(values, ddof=1)), *values)
                for name, values in folds.items()
            ],
        ),
    )
