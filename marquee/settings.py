"""Settings: one `marquee.toml`, a dataclass a section, checked when constructed.

Later ones win: defaults, `marquee.toml`, environment (`MARQUEE_BALANCE__SEED=7`), command line
(`--set balance.seed=7`) or the pipeline's `overrides`. A run stores what came out.
"""

import dataclasses
import json
import os
import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self, get_origin

from marquee.eras import FIRST_YEAR, LAST_YEAR
from marquee.errors import UsageError

SETTINGS_FILE = "marquee.toml"
_ENVIRONMENT_PREFIX = "MARQUEE_"


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Refuse a value outside its range.

    Args:
        name: The setting's full name, such as `balance.train`.
        value: Its value.
        low: The smallest allowed value.
        high: The largest allowed value.

    Raises:
        UsageError: The value is outside.
    """
    if not low <= value <= high:
        raise UsageError(f"{name} is {value}", remedy=f"use a value from {low} to {high}")


def check_choice(name: str, value: str, choices: Collection[str]) -> None:
    """Refuse a value that is none of those there are.

    Args:
        name: The setting's full name, such as `train.loss`.
        value: Its value.
        choices: What it may be.

    Raises:
        UsageError: The value is none of them.
    """
    if value not in choices:
        raise UsageError(f"{name} is {value!r}", remedy=f"use {', '.join(choices)}")


@dataclass(frozen=True, kw_only=True)
class IngestSettings:
    """`[ingest]`: how posters enter the catalog."""

    part_rows: int = 500
    """Posters a part of the catalog; a part is what a kill can cost."""
    workers: int = 0
    """Processes that decode and measure; 0 takes one a core, 1 works in ingest's own process."""
    licence: str = "asserted by the user"
    """What rows of a folder are under that do not say it themselves."""

    def __post_init__(self) -> None:
        check_range("ingest.part_rows", self.part_rows, 1, 100_000)
        check_range("ingest.workers", self.workers, 0, 256)


@dataclass(frozen=True, kw_only=True)
class TmdbSettings:
    """`[tmdb]`: where TMDB is and how to treat it. The token is no setting: it is a secret."""

    base_url: str = "https://api.themoviedb.org/3"
    """The API, version included."""
    image_base_url: str = ""
    """The images, up to the size; empty asks `/configuration`."""
    poster_size: str = "w342"
    """A width that TMDB serves, such as w342, or `original`."""
    languages: str = "en,null"
    """Languages of posters, the best first; `null` is a poster without words."""
    from_year: int = 1874
    """The first release year."""
    to_year: int = 0
    """The last release year; 0 is the present one."""
    rate: float = 20.0
    """API calls a second; 0 sets no limit. Images are not counted."""
    concurrency: int = 16
    """API calls at a time, and posters at a time."""
    timeout: float = 10.0
    """Seconds that a host may stay silent before a call is tried again."""
    patience: float = 600.0
    """Seconds that a call is tried again before the run gives up."""
    slice_pages: int = 500
    """Pages of 20 films in a span of release dates that is ingested at a time."""
    retention_days: int = 180
    """Days after which content must be refreshed or removed; TMDB allows 180."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"w\d{2,4}|original", self.poster_size):
            raise UsageError(
                f"tmdb.poster_size is {self.poster_size!r}",
                remedy="use w92, w154, w185, w342, w500, w780 or original",
            )
        for name, value in (("base_url", self.base_url), ("image_base_url", self.image_base_url)):
            if value and not re.fullmatch(r"https?://[^\s/]+(/\S*)?", value):
                raise UsageError(
                    f"tmdb.{name} is {value!r}",
                    remedy="give a URL such as https://api.themoviedb.org/3 or "
                    "https://image.tmdb.org/t/p",
                )
        check_range("tmdb.from_year", self.from_year, FIRST_YEAR, LAST_YEAR)
        if self.to_year:
            check_range("tmdb.to_year", self.to_year, self.from_year, LAST_YEAR)
        check_range("tmdb.rate", self.rate, 0, 1000)
        check_range("tmdb.concurrency", self.concurrency, 1, 256)
        check_range("tmdb.timeout", self.timeout, 0.1, 600)
        check_range("tmdb.patience", self.patience, 0, 86_400)
        check_range("tmdb.slice_pages", self.slice_pages, 1, 500)
        check_range("tmdb.retention_days", self.retention_days, 1, 180)


@dataclass(frozen=True, kw_only=True)
class LicenceSettings:
    """`[licence]`: written agreements that allow what a source's terms forbid."""

    tmdb_agreement: str = ""
    """Names the written agreement with TMDB that allows training, such as a contract's number."""
    imdb_agreement: str = ""
    """The same for IMDb."""


@dataclass(frozen=True, kw_only=True)
class ValidateSettings:
    """`[validate]`: the bounds of the data gate. Shares are 0..1."""

    min_posters: int = 50
    """Fewer posters than this are no training set. Critical."""
    max_quarantined_share: float = 0.1
    """Largest share of rows that may have been refused. Critical."""
    max_years_ahead: int = 5
    """Films further in the future than this many years are taken for typing errors. Critical."""
    max_unknown_year_share: float = 0.2
    """Largest share of posters without a release year."""
    min_era_posters: int = 200
    """An era with fewer posters is sparse."""
    max_age_days: int = 365
    """Facts that were retrieved longer ago are stale."""
    expiry_notice_days: int = 30
    """Rows whose terms end sooner are noted."""
    max_genres: int = 8
    """A poster with more genres than this was mislabelled."""
    max_mean_genres: float = 4.0
    """Largest label cardinality: genres a poster, on average."""
    min_genre_posters: int = 100
    """A genre with fewer posters is hard to learn and harder to test."""
    min_agreement: float = 0.5
    """Smallest Jaccard agreement of TMDB's and IMDb's labels on a genre."""
    min_slice: int = 30
    """Genres and sources with fewer posters to compare are not judged for agreement and bias."""
    min_side: int = 32
    """Posters whose shorter side has fewer pixels are unusable. Critical."""
    good_side: int = 200
    """Posters whose shorter side has fewer pixels have lost small type and faces."""
    max_low_resolution_share: float = 0.1
    """Largest share of posters below `good_side`."""
    min_aspect: float = 0.5
    """Narrowest usual poster, width / height."""
    max_aspect: float = 0.9
    """Widest usual poster, width / height."""
    max_odd_aspect_share: float = 0.02
    """Largest share of posters outside these two."""
    max_converted_share: float = 0.1
    """Largest share of posters that are stored in another pixel mode than RGB."""
    blank_contrast: float = 0.01
    """A poster whose luma varies less than this (standard deviation, 0..1) is blank."""
    max_blank_share: float = 0.02
    """Largest share of blank posters. Critical."""
    near_blank_contrast: float = 0.04
    """A poster whose luma varies less than this is nearly blank."""
    max_near_blank_share: float = 0.01
    """Largest share of nearly blank posters."""
    placeholder_films: int = 5
    """A picture that this many different films share is a placeholder."""
    max_placeholder_share: float = 0.02
    """Largest share of posters that may show one and the same placeholder. Critical."""
    max_duplicate_share: float = 0.0
    """Largest share of posters whose bytes another poster has too."""
    max_near_duplicate_share: float = 0.0
    """Largest share of posters that look like another film's (`balance.near_duplicate_bits`)."""
    max_source_bias: float = 0.2
    """Largest Cramér's V (0..1) between the source and a genre: how well one tells the other."""
    max_resolution_gap: float = 0.1
    """How far the median shorter side of a source may be from the catalog's, as a share of it."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            check_range(f"validate.{name}", value, *self._range(name))
        check_range("validate.min_aspect", self.min_aspect, 0, self.max_aspect)
        check_range("validate.blank_contrast", self.blank_contrast, 0, self.near_blank_contrast)

    @staticmethod
    def _range(name: str) -> tuple[float, float]:
        if name.endswith(("_share", "_bias", "_gap", "_contrast", "_agreement")):
            return 0, 1
        if name in ("max_genres", "max_mean_genres"):
            return 1, 19
        least = {"min_posters": 1, "min_side": 1, "placeholder_films": 2}
        return least.get(name, 0), 10**9


@dataclass(frozen=True, kw_only=True)
class BalanceSettings:
    """`[balance]`: how films are dealt into training, validation and test, and weighed."""

    SPLITS: ClassVar[tuple[str, ...]] = ("random", "temporal")
    STRATEGIES: ClassVar[tuple[str, ...]] = ("none", "class_weights", "sampler", "oversample")
    DISAGREEMENTS: ClassVar[tuple[str, ...]] = ("keep", "mask", "weigh")

    split: str = "random"
    """`random`, or `temporal`: the future tests what was learnt from the past."""
    temporal_year: int = 2005
    """Last release year of a temporal split's training and validation; later films test."""
    train: float = 0.70
    """Share of the films that train."""
    validation: float = 0.15
    """Share of the films that choose thresholds and stop training; the rest tests. In a temporal
    split, train and validation divide the early films in this proportion."""
    near_duplicate_bits: int = 4
    """Posters whose 64-bit perceptual hashes differ in this many bits or fewer stay together."""
    strategy: str = "class_weights"
    """What lifts rare genres in training: `none`, `class_weights` (in the loss), `sampler` (posters
    with rare genres are drawn more often) or `oversample` (they are repeated)."""
    oversample_cap: int = 4
    """How often `oversample` shows a poster in an epoch at most."""
    rare_below: int = 20
    """A genre with fewer training posters is reported as too rare to learn, and weighs no more
    than one with this many; 0 sets no bound."""
    subgenre_films: int = 100
    """A subgenre that fewer films of the catalog have is left out of the plan."""
    disagreement: str = "keep"
    """What to do in training with labels on which TMDB and IMDb disagree: `keep`, `mask` (they do
    not count) or `weigh` (they count `disagreement_weight`)."""
    disagreement_weight: float = 0.5
    """How much (0..1) a disputed label counts under `weigh`."""
    seed: int = 0
    """Chooses the deal."""

    def __post_init__(self) -> None:
        for name, choices in (
            ("split", self.SPLITS),
            ("strategy", self.STRATEGIES),
            ("disagreement", self.DISAGREEMENTS),
        ):
            if getattr(self, name) not in choices:
                raise UsageError(
                    f"balance.{name} is {getattr(self, name)!r}",
                    remedy=f"use one of: {', '.join(choices)}",
                )
        check_range("balance.temporal_year", self.temporal_year, FIRST_YEAR, LAST_YEAR)
        check_range("balance.train", self.train, 0.1, 0.9)
        check_range("balance.validation", self.validation, 0.05, 0.5)
        if self.train + self.validation > 0.95:
            raise UsageError(
                f"balance.train + balance.validation is {self.train + self.validation:.2f}",
                remedy="leave 0.05 or more for the test",
            )
        check_range("balance.near_duplicate_bits", self.near_duplicate_bits, 0, 16)
        check_range("balance.oversample_cap", self.oversample_cap, 1, 255)
        check_range("balance.rare_below", self.rare_below, 0, 1_000_000)
        check_range("balance.subgenre_films", self.subgenre_films, 1, 1_000_000)
        check_range("balance.disagreement_weight", self.disagreement_weight, 0, 1)


@dataclass(frozen=True, kw_only=True)
class GateSettings:
    """`[gate]`: what a challenger has to be beside the champion."""

    margin: float = 0.0
    """How much worse than the champion its macro mAP may be; 0 asks it to be better."""
    genre_drop: float = 0.1
    """By how much a genre's average precision may fall."""
    era_drop: float = 0.1
    """By how much the macro mAP of an era may fall."""
    min_posters: int = 30
    """A genre or era with fewer test posters is not judged."""
    calibration_loss: float = 0.02
    """By how much the calibration error may grow."""
    latency_ratio: float = 1.5
    """How many times the champion's time for a poster it may take."""
    latency_ms: float = 50.0
    """Times up to this are good whatever the champion's are."""

    def __post_init__(self) -> None:
        for name in ("margin", "genre_drop", "era_drop", "calibration_loss"):
            check_range(f"gate.{name}", getattr(self, name), 0, 1)
        check_range("gate.min_posters", self.min_posters, 10, 100_000)
        check_range("gate.latency_ratio", self.latency_ratio, 1, 1000)
        check_range("gate.latency_ms", self.latency_ms, 0, 60_000)


@dataclass(frozen=True, kw_only=True)
class DriftSettings:
    """`[drift]`: from which effect on something has drifted, and how sure one has to be."""

    false_alarm: float = 0.05
    """The share of findings that may be chance (Benjamini and Hochberg, over the whole report)."""
    min_samples: int = 50
    """A slice with fewer posters, on either side, is not judged."""
    min_positives: int = 30
    """So is a genre's average precision with fewer posters that have the genre."""
    probability: float = 0.05
    """How far a genre's distribution of probabilities may move (Wasserstein-1 distance)."""
    unsure: float = 0.1
    """By how much the share of unsure answers may change."""
    look: float = 0.2
    """How far what posters look like may move, in the reference's standard deviations."""
    told_apart: float = 0.6
    """How well a classifier may tell embeddings apart (area under its ROC curve; .5 is chance)."""
    without_year: float = 0.1
    """By how much the share of posters that come without a year may change."""
    era_mix: float = 0.1
    """The share of posters that may be of other eras than in the reference."""
    frequency: float = 0.2
    """By which part of what it was a genre's frequency may change."""
    precision: float = 0.05
    """By how much a genre's average precision may change, the prior held fixed."""
    steepness: float = 1.2
    """By which factor the slope of calibration may change, up or down."""

    def __post_init__(self) -> None:
        for name in (
            *("false_alarm", "probability", "unsure", "look", "without_year", "era_mix"),
            "precision",
        ):
            check_range(f"drift.{name}", getattr(self, name), 0.001, 1)
        check_range("drift.frequency", self.frequency, 0.01, 10)
        check_range("drift.told_apart", self.told_apart, 0.5, 1)
        check_range("drift.steepness", self.steepness, 1.01, 10)
        check_range("drift.min_samples", self.min_samples, 20, 1_000_000)
        check_range("drift.min_positives", self.min_positives, 10, 1_000_000)


@dataclass(frozen=True, kw_only=True)
class MonitorSettings:
    """`[monitor]`: which windows a schedule reports on."""

    window_hours: float = 24.0
    """Length of a window; windows begin at multiples of it, days at midnight (UTC)."""
    settle_minutes: float = 10.0
    """Minutes after its end at which a window is due: records take one to be written."""
    backfill: int = 7
    """Past windows that are reported on if nobody did, or if records came since."""
    truth_windows: int = 60
    """Past windows that are reported on again when truth came since."""
    evidently: bool = True
    """Whether Evidently's pages are made as well."""

    def __post_init__(self) -> None:
        check_range("monitor.window_hours", self.window_hours, 0.001, 24 * 366)
        check_range("monitor.settle_minutes", self.settle_minutes, 0, 60 * 24 * 7)
        check_range("monitor.backfill", self.backfill, 1, 1000)
        check_range("monitor.truth_windows", self.truth_windows, 1, 1000)


@dataclass(frozen=True, kw_only=True)
class RetrainSettings:
    """`[retrain]`: how often drift may lead to training."""

    approval: bool = True
    """Whether a person has to approve each training."""
    cooldown_days: float = 7.0
    """Days after a training before there may be another one."""
    budget: int = 2
    """Trainings a calendar month."""

    def __post_init__(self) -> None:
        check_range("retrain.cooldown_days", self.cooldown_days, 0, 365)
        check_range("retrain.budget", self.budget, 1, 100)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All sections of `marquee.toml`."""

    ingest: IngestSettings = field(default_factory=IngestSettings)
    tmdb: TmdbSettings = field(default_factory=TmdbSettings)
    licence: LicenceSettings = field(default_factory=LicenceSettings)
    validate: ValidateSettings = field(default_factory=ValidateSettings)
    balance: BalanceSettings = field(default_factory=BalanceSettings)
    gate: GateSettings = field(default_factory=GateSettings)
    drift: DriftSettings = field(default_factory=DriftSettings)
    monitor: MonitorSettings = field(default_factory=MonitorSettings)
    retrain: RetrainSettings = field(default_factory=RetrainSettings)
    train: dict[str, Any] = field(default_factory=dict)
    """`[train]` for every architecture and `[train.<architecture>]` for one; each architecture has
    defaults of its own, and the train step checks these against them."""
    tune: dict[str, Any] = field(default_factory=dict)
    """`[tune.<architecture>]`: the search space of its settings, in place of the one it has; tuning
    checks it."""
    rollout: dict[str, Any] = field(default_factory=dict)
    """`[rollout]`: the policy, and where; the rollout step checks them."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` gave.

        Raises:
            UsageError: A name is unknown, or a value is out of range.
        """
        return cls(**{name: _section(name, value) for name, value in values.items()})

    def to_dict(self) -> dict[str, Any]:
        """Give the settings as plain values."""
        return dataclasses.asdict(self)


def load(overrides: Mapping[str, Any] | None = None, file: str | None = None) -> Settings:
    """Resolve the settings of this process.

    Args:
        overrides: Dotted names to values, such as `{"balance.seed": 7}`; they win over all else.
        file: The TOML file; without it, `marquee.toml` in this folder if there is one.

    Returns:
        The checked settings.

    Raises:
        UsageError: A file is missing or damaged, a name is unknown, or a value is out of range.
    """
    values = _read_file(file)
    _merge(values, _from_environment(os.environ))
    typed = {name: _typed(value) for name, value in (overrides or {}).items()}
    _merge(values, typed)
    return Settings.from_dict(values)


def parse_overrides(pairs: list[str]) -> dict[str, Any]:
    """Read `section.name=value` words of a command line.

    Args:
        pairs: The words.

    Returns:
        Dotted names to values; a value is JSON where it parses as such, and text otherwise.

    Raises:
        UsageError: A word has no `=` or no dot.
    """
    result = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or "." not in name:
            raise UsageError(f"cannot read the setting {pair!r}", remedy="write section.name=value")
        result[name] = _parse_value(value)
    return result


def _typed(value: Any) -> Any:
    """Read text as the value it names: a form in the Kubeflow UI may hand over "20"."""
    return _parse_value(value) if isinstance(value, str) else value


def _parse_value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _read_file(file: str | None) -> dict[str, Any]:
    path = Path(file or SETTINGS_FILE)
    if not path.is_file():
        if file:
            raise UsageError(f"there is no settings file {file}", remedy="check --settings")
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}", remedy="mend the line") from None


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """Take `MARQUEE_SECTION__NAME`; other variables of ours have no double underscore."""
    return {
        name.removeprefix(_ENVIRONMENT_PREFIX).lower().replace("__", "."): _parse_value(value)
        for name, value in environment.items()
        if name.startswith(_ENVIRONMENT_PREFIX) and "__" in name
    }


def _merge(values: dict[str, Any], overrides: Mapping[str, Any]) -> None:
    for name, value in overrides.items():
        *sections, last = name.split(".")
        node = values
        for section in sections:
            node = node.setdefault(section, {})
            if not isinstance(node, dict):
                raise UsageError(f"{section!r} in {name} is no section", remedy="check the name")
        node[last] = value


def _section(name: str, values: Any) -> Any:
    sections = {item.name: item for item in dataclasses.fields(Settings)}
    if name not in sections:
        raise UsageError(f"unknown section [{name}]", remedy=f"use one of: {', '.join(sections)}")
    if not isinstance(values, dict):
        raise UsageError(f"{name} is {values!r}", remedy=f"write [{name}] and its names below")
    kind = sections[name].type
    return build(kind, name, values) if dataclasses.is_dataclass(kind) else values


def build(section: Any, name: str, values: Mapping[str, Any]) -> Any:
    """Construct a section's dataclass from plain values.

    Args:
        section: The dataclass, or an instance whose values are the defaults.
        name: The section's name, for messages.
        values: Names to values.

    Returns:
        An instance.

    Raises:
        UsageError: A name is unknown, or a value has the wrong type or is out of range.
    """
    types = {item.name: item.type for item in dataclasses.fields(section)}
    values = {key: _as_meant(value, types.get(key)) for key, value in values.items()}
    for key, value in values.items():
        if key not in types:
            raise UsageError(f"unknown setting {name}.{key}", remedy=f"use: {', '.join(types)}")
        if not _fits(value, types[key]):
            raise UsageError(f"{name}.{key} is {value!r}", remedy=f"give a {_name(types[key])}")
    if isinstance(section, type):
        return section(**values)
    return dataclasses.replace(section, **values)


def _as_meant(value: Any, expected: Any) -> Any:
    """Turn 7.0 into 7 where an int is meant, and 7 into "7" where a text is.

    KFP hands whole numbers in dicts over as floats, and a contract may have a number for a name.
    """
    if expected is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if expected is str and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return value


def _fits(value: Any, expected: Any) -> bool:
    if expected is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if expected is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, get_origin(expected) or expected)


def _name(expected: Any) -> str:
    return getattr(expected, "__name__", str(expected))
