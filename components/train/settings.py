"""`[train]`: how a network is trained. Each architecture has defaults of its own."""

import dataclasses
from dataclasses import dataclass
from typing import Self

from marquee.errors import UsageError
from marquee.settings import Settings, build, check_choice, check_range

PRECISIONS: tuple[str, ...] = ("auto", "fp32", "bf16", "fp16")
REDUCED_PRECISIONS: tuple[str, ...] = ("int8", "bf16")
LOSSES: tuple[str, ...] = ("cross_entropy", "asymmetric")
LAUNCHERS: tuple[str, ...] = ("auto", "torchrun", "trainjob")
DEFAULT_PRESET = "default"


@dataclass(frozen=True, kw_only=True)
class LaunchSettings:
    """What can be set in `[train]` of how trainings are started; the same for all architectures."""

    launcher: str = "auto"
    """`trainjob` creates a TrainJob of Kubeflow Trainer, `torchrun` trains on this machine; `auto`
    creates a TrainJob where a task of Kubeflow Pipelines says what its pods are to have."""
    start_minutes: float = 30.0
    """Minutes that a TrainJob's pods may take to start before it is given up; what a queue holds
    back does not count."""
    deadline_hours: float = 48.0
    """Hours after which Kubeflow Trainer ends a TrainJob."""
    features_gigabytes: int = 50
    """Size of the volume for each node's features, in GiB."""

    def __post_init__(self) -> None:
        check_choice("train.launcher", self.launcher, LAUNCHERS)
        check_range("train.start_minutes", self.start_minutes, 0.01, 10_000)
        check_range("train.deadline_hours", self.deadline_hours, 0.01, 10_000)
        check_range("train.features_gigabytes", self.features_gigabytes, 1, 65_536)

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Take them from `[train]`."""
        values = {name: value for name, value in settings.train.items() if name in _LAUNCH}
        launch: Self = build(cls, "train", values)
        return launch


_LAUNCH = {item.name for item in dataclasses.fields(LaunchSettings)}


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """What can be set of a training, in `[train]` or `[train.<architecture>]`."""

    preset: str = DEFAULT_PRESET
    """`study` builds and trains custom_cnn as the study did."""
    height: int
    """Input height in px; posters are 2:3."""
    width: int
    """Input width in px."""
    epochs: int
    """Passes over the training split at most; of a pretrained network, those of the head alone."""
    patience: int
    """Epochs without a better validation mAP after which training stops."""
    batch_size: int
    """Posters a step, of all processes together."""
    accumulate: int = 1
    """Parts in which a step's posters go through the network, where memory is short."""
    learning_rate: float
    """Peak of the schedule."""
    warm_up: float = 0.1
    """Share of all steps over which the learning rate rises (0..1)."""
    weight_decay: float
    """AdamW's."""
    clip: float = 1.0
    """Largest norm of a step's gradient."""
    dropout: float
    """Share of pooled features dropped in training (0..1)."""
    loss: str = "cross_entropy"
    """`cross_entropy`, or `asymmetric`: easy negatives count little."""
    gamma_positive: float = 0.0
    """How much less easy positives count under the asymmetric loss."""
    gamma_negative: float = 4.0
    """How much less easy negatives do."""
    asymmetric_clip: float = 0.05
    """Negatives below this probability do not count at all (0..1)."""
    label_smoothing: float = 0.0
    """Labels become s/2 and 1 - s/2."""
    mixup: float = 0.0
    """Blends posters in pairs by a share from Beta(mixup, mixup); 0 does not."""
    era_weight: float = 0.0
    """Lets the network predict the era too: how much that counts, its genres counting 1."""
    ema: float = 0.0
    """Decay a step of the weights' moving average that is kept; 0 keeps the weights themselves."""
    mirror: bool = False
    """Of cached features, take those of the mirrored poster half of the time."""
    crop: float = 0.0
    """The most that is trimmed of each side of a cached feature map in fine-tuning (0..1)."""
    positive_power: float = 1.0
    """Exponent of the split plan's weights of positive labels; 0 lets all count alike."""
    fine_tune_epochs: int = 0
    """Passes that train a pretrained network's last stages with the head; 0 leaves it frozen."""
    fine_tune_stages: int = 1
    """How many stages those are."""
    fine_tune_rate: float = 3e-4
    """Peak learning rate of these passes, for the head."""
    backbone_rate: float = 1.0
    """Share of the learning rate that all below the head is trained with (0..1)."""
    fine_tune_patience: int = 3
    """Epochs of these without a better validation mAP after which they stop."""
    folds: int = 0
    """Parts in which a head on frozen features is cross-validated too; 0 does without."""
    precision: str = "auto"
    """`auto` takes bf16 where the processor computes in it, else fp32."""
    precisions: str = "int8"
    """Reduced precisions that the bundle gets too, if they lose at most .005 macro mAP on the
    validation split: of int8 and bf16, joined by commas; empty for none."""
    default_precision: str = "fp32"
    """What the bundle is run in unless it is told otherwise, if it has it."""
    seed: int = 0
    """Makes a training repeatable."""
    workers: int = 1
    """Processes that decode posters beside each that trains; as many decode for validation."""
    processes: int = 1
    """Processes that train together on this machine, by torchrun."""
    checkpoint_minutes: float = 5.0
    """Minutes between checkpoints; there is one after each epoch too."""
    keep_checkpoints: int = 2
    """How many checkpoints are kept."""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("height", 16, 1024),
            ("width", 16, 1024),
            ("epochs", 1, 10_000),
            ("patience", 1, 10_000),
            ("batch_size", 2, 65_536),
            ("accumulate", 1, 1024),
            ("learning_rate", 1e-7, 10.0),
            ("warm_up", 0.0, 0.9),
            ("weight_decay", 0.0, 10.0),
            ("clip", 1e-3, 1e6),
            ("dropout", 0.0, 0.95),
            ("gamma_positive", 0.0, 10.0),
            ("gamma_negative", 0.0, 10.0),
            ("asymmetric_clip", 0.0, 0.5),
            ("label_smoothing", 0.0, 0.5),
            ("mixup", 0.0, 10.0),
            ("era_weight", 0.0, 100.0),
            ("ema", 0.0, 0.9999),
            ("crop", 0.0, 0.9),
            ("positive_power", 0.0, 4.0),
            ("fine_tune_epochs", 0, 10_000),
            ("fine_tune_stages", 1, 1000),
            ("fine_tune_rate", 1e-7, 10.0),
            ("backbone_rate", 0.0, 1.0),
            ("fine_tune_patience", 1, 10_000),
            ("folds", 0, 100),
            ("workers", 0, 64),
            ("processes", 1, 64),
            ("checkpoint_minutes", 0.0, 10_000.0),
            ("keep_checkpoints", 1, 1000),
        ):
            check_range(f"train.{name}", getattr(self, name), low, high)
        if self.folds in (1, 2):
            raise UsageError(
                f"train.folds is {self.folds}",
                remedy="use 3 or more: one tests, one chooses thresholds, the others train",
            )
        unknown = [name for name in self.wanted_precisions if name not in REDUCED_PRECISIONS]
        if unknown:
            raise UsageError(
                f"train.precisions names {unknown[0]!r}",
                remedy=f"use {', '.join(REDUCED_PRECISIONS)}, or leave it empty",
            )
        for name, choices in (
            ("precision", PRECISIONS),
            ("default_precision", ("fp32", *REDUCED_PRECISIONS)),
            ("loss", LOSSES),
        ):
            check_choice(f"train.{name}", getattr(self, name), choices)

    @property
    def wanted_precisions(self) -> list[str]:
        """The names in `precisions`."""
        return [name.strip() for name in self.precisions.split(",") if name.strip()]

    def fine_tuning(self) -> Self:
        """Give the settings of the phase that trains the last block too."""
        return dataclasses.replace(
            self,
            epochs=self.fine_tune_epochs,
            learning_rate=self.fine_tune_rate,
            patience=self.fine_tune_patience,
        )


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
    from components.train.architectures import NAMES, architecture

    common = {
        key: value
        for key, value in settings.train.items()
        if key not in _LAUNCH and not (isinstance(value, dict) and key in NAMES)
    }
    values = common | settings.train.get(name, {})
    defaults = architecture(name).settings(str(values.get("preset", DEFAULT_PRESET)))
    resolved: TrainSettings = build(defaults, f"train.{name}", values)
    return resolved
