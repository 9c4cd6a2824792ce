"""`[train]`: how a network is trained. Each architecture has defaults of its own."""

from dataclasses import dataclass

from marquee.errors import UsageError
from marquee.settings import Settings, build, check_range

PRECISIONS: tuple[str, ...] = ("auto", "fp32", "bf16")


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """What can be set of a training, in `[train]` or `[train.<architecture>]`."""

    height: int
    """Input height in px; posters are 2:3."""
    width: int
    """Input width in px."""
    epochs: int
    """Passes over the training split at most."""
    patience: int
    """Epochs without a better validation mAP after which training stops."""
    batch_size: int
    """Posters a step."""
    learning_rate: float
    """Peak of the schedule."""
    weight_decay: float
    """AdamW's."""
    dropout: float
    """Share of pooled features dropped in training (0..1)."""
    label_smoothing: float = 0.0
    """Labels become s/2 and 1 - s/2."""
    ema: float = 0.0
    """Decay a step of the weights' moving average that is kept; 0 keeps the weights themselves."""
    precision: str = "auto"
    """`auto` takes bf16 where the processor computes in it, else fp32."""
    seed: int = 0
    """Makes a training repeatable."""
    workers: int = 1
    """Processes that decode posters beside the training."""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("height", 16, 1024),
            ("width", 16, 1024),
            ("epochs", 1, 10_000),
            ("patience", 1, 10_000),
            ("batch_size", 2, 65_536),
            ("learning_rate", 1e-7, 10.0),
            ("weight_decay", 0.0, 10.0),
            ("dropout", 0.0, 0.95),
            ("label_smoothing", 0.0, 0.5),
            ("ema", 0.0, 0.9999),
            ("workers", 0, 64),
        ):
            check_range(f"train.{name}", getattr(self, name), low, high)
        if self.precision not in PRECISIONS:
            raise UsageError(
                f"train.precision is {self.precision!r}", remedy=f"use {', '.join(PRECISIONS)}"
            )


DEFAULTS: dict[str, TrainSettings] = {
    "custom_cnn": TrainSettings(
        height=144,
        width=96,
        epochs=16,
        patience=8,
        batch_size=32,
        learning_rate=2e-3,
        weight_decay=5e-2,
        dropout=0.3,
        label_smoothing=0.04,
        ema=0.998,
    ),
    "vgg16": TrainSettings(
        height=240,
        width=160,
        epochs=60,
        patience=10,
        batch_size=64,
        learning_rate=1e-3,
        weight_decay=1e-2,
        dropout=0.5,
    ),
}
"""What each architecture was found to train best with."""


def resolve_settings(name: str, settings: Settings) -> TrainSettings:
    """Lay `[train]` and `[train.<name>]` over an architecture's defaults.

    Args:
        name: The architecture.
        settings: The settings of this process.

    Returns:
        What it is trained with.

    Raises:
        UsageError: The architecture or a name is unknown, or a value is out of range.
    """
    if name not in DEFAULTS:
        raise UsageError(
            f"unknown architecture {name!r}", remedy=f"use one of: {', '.join(DEFAULTS)}"
        )
    common = {
        key: value
        for key, value in settings.train.items()
        if not (isinstance(value, dict) and key in DEFAULTS)
    }
    own = settings.train.get(name, {})
    resolved: TrainSettings = build(DEFAULTS[name], f"train.{name}", common | own)
    return resolved
