"""A training as a page for people: its learning curves and what it was made with."""

import dataclasses

from components.train.train import TrainReport
from marquee.report import Banner, Lines, Table, render


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
    blocks = (
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
        Table(
            title="Settings",
            columns=("setting", "value"),
            rows=[(name, str(value)) for name, value in settings.items()],
        ),
    )
    return render("Training", f"{report.architecture}; bundle {report.version[:12]}", blocks)
