"""What is told of a catalog's eras, in words and for machines."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from monitoring.temporal.aging import Aging
from monitoring.temporal.bundle import BundleTest
from monitoring.temporal.look import EraLook
from monitoring.temporal.trends import Hue, Interval, Trend, strongest
from monitoring.temporal.words import listed, looks_words

SCHEMA_VERSION = 1

_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class Period:
    """Films of an era or a decade. What is None has too few films."""

    name: str
    """An era, or the first year of a decade."""
    films: int
    attributes: Mapping[str, Interval | None]
    """Mean brightness, contrast, saturation and warmth."""
    hue: Hue | None
    genres: Mapping[str, Interval | None]
    """The share of the films that have each genre."""
    figures: Mapping[str, Interval | None]
    """Means of what was measured on the sample's pixels; see `look`."""


@dataclass(frozen=True, kw_only=True)
class TemporalReport:
    """How posters and genres changed."""

    catalog: str
    digest: str
    films: int
    sampled: int
    """Films whose pixels were looked at."""
    first_year: int
    last_year: int
    left_out: Mapping[str, int]
    eras: tuple[Period, ...]
    decades: tuple[Period, ...]
    looks: Mapping[str, EraLook | None]
    """Era to its pictures."""
    trends: tuple[Trend, ...]
    """Of what was measured on posters."""
    genre_trends: tuple[Trend, ...]
    obstacle: str
    """Why nothing was trained; empty if it was."""
    aging: Aging | None
    """None if that was not allowed, or there are too few films."""
    bundle: BundleTest | None
    """None if no bundle was given."""
    attributions: tuple[str, ...]
    seed: int

    def sentence(self) -> str:
        """Say in a few sentences what changed most."""
        looks = [looks_words(trend) for trend in strongest(self.trends)[:_NAMED]]
        said = [
            f"Posters grew {listed(looks)}." if looks else "Posters show no clear trend.",
            self._mix(),
            self._age(),
        ]
        return " ".join(filter(None, said))

    def _mix(self) -> str:
        clear = strongest(self.genre_trends)
        ways = {"rises": "became more frequent", "falls": "became rarer"}
        named = {
            words: [trend.name for trend in clear if trend.direction == way][:_NAMED]
            for way, words in ways.items()
        }
        parts = [f"{listed(names)} {words}" for words, names in named.items() if names]
        return (
            f"{'; '.join(parts)}." if parts else "No genre clearly became more frequent or rarer."
        )

    def _age(self) -> str:
        """Tell whether old heads are clearly worse than those that have seen an era."""
        old = self.aging.old if self.aging else None
        if old is None or old[2] >= 0:
            return ""
        return (
            "Heads that stopped learning an era or more before rank posters worse than those that "
            f"have seen their era: ROC area {old[0]:+.3f}."
        )

    def to_json(self) -> str:
        """Write the report for machines; mean posters are on the page only."""
        looks = {
            era: seen
            and {
                "films": seen.films,
                "palette": [{"colour": name, "share": part} for name, part in seen.palette],
                "light": seen.light.tolist(),
                "edges": seen.edges.tolist(),
            }
            for era, seen in self.looks.items()
        }
        parts = {name: value for name, value in vars(self).items() if name != "looks"}
        plain = {name: _plain(value) for name, value in parts.items()}
        document = {
            "schema_version": SCHEMA_VERSION,
            "sentence": self.sentence(),
            **plain,
            "looks": _plain(looks),
        }
        return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _plain(value: Any) -> Any:
    """Turn values into JSON's; what is no number is null, as JSON knows no NaN."""
    if hasattr(value, "__dataclass_fields__"):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
