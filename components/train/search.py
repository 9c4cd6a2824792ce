"""The search space: which settings of an architecture are tuned, and within which bounds.

Optuna on one machine and Katib on a cluster both search what is defined here.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from components.train.settings import TrainSettings, resolve_settings
from marquee.errors import UsageError
from marquee.settings import Settings, build

Value = float | int | str | bool

RANDOM_TRIALS = 8
"""Trials that look around before the sampler draws conclusions."""
UNPRUNED = 5
"""Trials that have to end before others are held against their median."""

_BUDGET = (
    *("preset", "epochs", "fine_tune_epochs", "folds", "workers", "processes"),
    *("checkpoint_minutes", "keep_checkpoints", "precisions", "default_precision"),
)
"""What trials have to have in common, or what is decided after training."""


def first_pruned(epochs: int) -> int:
    """Give the epoch before which no trial is held against others: a fifth of all epochs."""
    return max(1, epochs // 5)


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """What a setting is searched in: `low` to `high`, or `choices`.

    Raises:
        UsageError: There is neither or both, or the bounds are no range.
    """

    name: str
    """The setting, as in `[train.<architecture>]`."""
    low: float = math.nan
    """The smallest value."""
    high: float = math.nan
    """The largest."""
    log: bool = False
    """Equal factors are equally likely, not equal distances; for fractions only."""
    choices: tuple[Value, ...] = ()
    """The values, of which none is between others."""

    def __post_init__(self) -> None:
        ends = (self.low, self.high)
        given = [end for end in ends if not math.isnan(end)]
        if len(given) != (0 if self.choices else 2):
            raise self._wrong("needs either low and high or choices")
        if self.choices and len(set(self.choices)) < 2:
            raise self._wrong(f"has the choices {list(self.choices)}: two or more are needed")
        if given and self.low >= self.high:
            raise self._wrong(f"has low {self.low:g}, which is not below high {self.high:g}")
        if self.log and not (given and self.low > 0 and not self.whole):
            raise self._wrong("has log, which is for fractions above 0")
        if given and self.whole and any(end % 1 for end in ends):
            raise self._wrong(f"goes from {self.low:g} to {self.high:g}, not from a whole number")

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are meant."""
        return _KINDS.get(self.name) is int

    @property
    def extremes(self) -> tuple[Value, ...]:
        """Values that are valid only if all are."""
        return self.choices or tuple(int(x) if self.whole else x for x in (self.low, self.high))

    def holds(self, value: Value) -> bool:
        """Tell whether a value is in it."""
        if self.choices:
            return value in self.choices
        return not isinstance(value, str) and self.low <= value <= self.high

    def __str__(self) -> str:
        if self.choices:
            return ", ".join(map(str, self.choices))
        return f"{self.low:g} to {self.high:g}{', log' if self.log else ''}"

    def _wrong(self, what: str) -> UsageError:
        return UsageError(
            f"the search space of {self.name} {what}",
            remedy="write {low = 0.1, high = 0.9}, with log = true if it spans several powers of "
            "ten, or {choices = [...]}",
        )


_KINDS = {item.name: item.type for item in dataclasses.fields(TrainSettings)}


def _real(name: str, low: float, high: float, log: bool = False) -> Parameter:
    return Parameter(name=name, low=low, high=high, log=log)


_HEAD = (
    _real("learning_rate", 2e-4, 5e-3, log=True),
    _real("weight_decay", 1e-3, 1.0, log=True),
    _real("dropout", 0.3, 0.9),
    Parameter(name="ema", choices=(0.0, 0.98, 0.995, 0.998)),
    _real("positive_power", 0.0, 1.0),
    _real("label_smoothing", 0.0, 0.1),
    Parameter(name="batch_size", choices=(32, 64, 128, 256)),
)
"""How a head learns on frozen features."""

SPACES: Mapping[str, tuple[Parameter, ...]] = {
    "custom_cnn": (
        _real("learning_rate", 3e-4, 1e-2, log=True),
        _real("weight_decay", 5e-3, 0.5, log=True),
        _real("dropout", 0.0, 0.6),
        Parameter(name="ema", choices=(0.0, 0.99, 0.998, 0.9995)),
        _real("label_smoothing", 0.0, 0.15),
        _real("mixup", 0.0, 0.4),
        _real("positive_power", 0.0, 1.0),
        Parameter(name="batch_size", choices=(16, 32, 64)),
    ),
    # Its head hardly minds (docs/tries.md): what fine-tuning does has to be in it too.
    "vgg16": (
        *_HEAD,
        _real("fine_tune_rate", 3e-5, 1e-3, log=True),
        _real("backbone_rate", 0.05, 1.0, log=True),
        _real("crop", 0.0, 0.5),
    ),
    "efficientnet_b0": _HEAD,
    "convnext_tiny": _HEAD,
}
"""Of each architecture; `[tune.<architecture>]` of the settings stands for its own."""


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """What is tuned of an architecture, and the settings that it starts from."""

    architecture: str
    parameters: tuple[Parameter, ...]
    settings: Settings
    """Those that are not tuned, and where the search begins."""

    @classmethod
    def of(cls, architecture: str, settings: Settings) -> Self:
        """Take an architecture's search space.

        Args:
            architecture: Its name.
            settings: The settings of this process.

        Raises:
            UsageError: A name is no setting or may not be tuned, a value within the bounds is no
                valid setting, or the present value is outside of them.
        """
        defaults = resolve_settings(architecture, settings)
        parameters = _given(architecture, settings) or SPACES[architecture]
        space = cls(architecture=architecture, parameters=parameters, settings=settings)
        for parameter in parameters:
            _check_name(parameter.name)
            for value in parameter.extremes:
                resolve_settings(architecture, space.apply({parameter.name: value}))
            present = getattr(defaults, parameter.name)
            if not parameter.holds(present):
                raise UsageError(
                    f"the search space of {parameter.name} ({parameter}) leaves out what is set "
                    f"now: {present}",
                    remedy="widen it: the present settings are the first trial, which others have "
                    "to beat",
                )
        return space

    @property
    def present(self) -> dict[str, Value]:
        """The values that are set now."""
        defaults = resolve_settings(self.architecture, self.settings)
        return {item.name: getattr(defaults, item.name) for item in self.parameters}

    def apply(self, values: Mapping[str, Value]) -> Settings:
        """Give the settings with some values in place of the present ones."""
        own = dict(self.settings.train.get(self.architecture, {})) | dict(values)
        train = {**self.settings.train, self.architecture: own}
        return dataclasses.replace(self.settings, train=train)


def _given(architecture: str, settings: Settings) -> tuple[Parameter, ...]:
    """Read `[tune.<architecture>]`."""
    unknown = [name for name in settings.tune if name not in SPACES]
    if unknown:
        raise UsageError(f"unknown section [tune.{unknown[0]}]", remedy=f"use: {', '.join(SPACES)}")
    found = settings.tune.get(architecture, {})
    parameters = []
    for name, values in found.items():
        if not isinstance(values, dict):
            raise UsageError(
                f"tune.{architecture}.{name} is {values!r}",
                remedy="write {low = 0.1, high = 0.9} or {choices = [...]}",
            )
        section = {**values, "name": name}
        if isinstance(section.get("choices"), list):
            section["choices"] = tuple(section["choices"])
        parameters.append(build(Parameter, f"tune.{architecture}.{name}", section))
    return tuple(parameters)


def _check_name(name: str) -> None:
    if name not in _KINDS:
        raise UsageError(
            f"there is no setting train.{name} to tune", remedy=f"use: {', '.join(_KINDS)}"
        )
    if name == "seed":
        raise UsageError(
            "the seed is no setting to tune: the best of several is the luckiest",
            remedy="leave it out; --seeds tells how much luck there is",
        )
    if name in _BUDGET:
        raise UsageError(
            f"train.{name} is not tuned: all trials have it in common, or it acts after training",
            remedy="set it for all of them, in [train] or by --set",
        )
