"""Charts as blocks of a page: what they show, and where their points lie.

A chart is a dataclass that says what it shows, and a method `place` that turns it into coordinates;
`charts.html` draws those as SVG. The first series is quiet, the background against which the
others (blue, red, amber) stand out; they differ in lightness and form too, not only in hue.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

WIDTH = 900
"""Width of a chart's box; about a pixel a unit where a page is as wide as it gets."""

_LABELS = 128
"""Width of the column of row names."""


@dataclass(frozen=True, kw_only=True)
class StackedBars:
    """Counts over whole numbers, such as years, stacked by series."""

    title: str
    x_label: str
    x: Sequence[int]
    series: dict[str, Sequence[float]]
    """The first series lies at the bottom."""
    mark: float | None = None
    """An x value to draw a line at, such as 2005.5."""
    mark_label: str = ""
    note: str = ""
    kind: str = "stacked"

    def place(self) -> dict[str, Any]:
        """Place the bars.

        Returns:
            For the template: height of the box, bars by series, ticks of both axes, the mark.
        """
        left, right, top, bottom = 44, WIDTH - 8, 26, 226
        first, last = min(self.x), max(self.x)
        slot = (right - left) / (last - first + 1)
        width = min(slot - 1 if slot > 4 else slot * 0.85, 48.0)
        y_ticks = ticks(0.0, max(sum(column) for column in zip(*self.series.values(), strict=True)))

        def across(x: float) -> float:
            return left + (x - first + 0.5) * slot

        def height(value: float) -> float:
            return (bottom - top) * value / y_ticks[-1]

        floor = [float(bottom)] * len(self.x)
        bars: dict[str, list[tuple[float, ...]]] = {}
        for name, values in self.series.items():
            bars[name] = []
            for n, (x, value) in enumerate(zip(self.x, values, strict=True)):
                floor[n] -= height(value)
                if value:
                    box = (across(x) - width / 2, floor[n], width, height(value))
                    bars[name].append((*(round(number, 2) for number in box), x, value))
        x_ticks = [tick for tick in ticks(first, last, most=8) if first <= tick <= last]
        return {
            "height": bottom + 40,
            "floor": bottom,
            "top": top,
            "bars": bars,
            "y_ticks": [(round(bottom - height(tick), 1), f"{tick:,g}") for tick in y_ticks],
            "x_ticks": [
                (round(across(tick), 1), f"{tick:g}") for tick in x_ticks if tick.is_integer()
            ],
            "mark": None if self.mark is None else round(across(self.mark), 1),
        }


@dataclass(frozen=True, kw_only=True)
class Dumbbell:
    """Two values or more a row on one scale, joined by a line: what changed, and how much.

    The first value is an open dot, the others are filled.
    """

    title: str
    rows: Sequence[str]
    points: dict[str, Sequence[float | None]]
    """Series to one value a row; None draws no dot."""
    percent: bool = True
    note: str = ""
    kind: str = "dumbbell"

    def place(self) -> dict[str, Any]:
        """Place the dots.

        Returns:
            For the template: height of the box, rows with their dots and words, ticks.
        """
        left, right, top, pitch = _LABELS + 14, WIDTH - 118, 8, 22
        values = [value for series in self.points.values() for value in series if value is not None]
        x_ticks = ticks(min([0.0, *values]), max([0.0, *values]))

        def across(value: float) -> float:
            share = (value - x_ticks[0]) / (x_ticks[-1] - x_ticks[0])
            return round(left + (right - left) * share, 1)

        rows = []
        for n, name in enumerate(self.rows):
            found = [series[n] for series in self.points.values()]
            known = [value for value in found if value is not None]
            rows.append(
                {
                    "name": name,
                    "y": top + pitch * n + pitch / 2,
                    "dots": [None if value is None else across(value) for value in found],
                    "texts": [self._text(value) for value in found],
                    "span": (across(min(known)), across(max(known))) if known else None,
                    "change": " → ".join(map(self._text, (known[0], known[-1]))) if known else "",
                }
            )
        bottom = top + pitch * len(self.rows)
        return {
            "height": bottom + 24,
            "top": top,
            "bottom": bottom,
            "left": left,
            "rows": rows,
            "x_ticks": [(across(tick), self._text(tick)) for tick in x_ticks],
        }

    def _text(self, value: float | None) -> str:
        return "" if value is None else number_text(value, self.percent)


@dataclass(frozen=True, kw_only=True)
class Bars:
    """Horizontal bars on one scale, a panel beside the other: small multiples."""

    title: str
    rows: Sequence[str]
    panels: dict[str, Sequence[float | None]]
    """Panel to one value a row; None draws no bar."""
    captions: Sequence[str] = ()
    """A line below each panel's name."""
    strong: str = ""
    """The panel to stress; without it none is."""
    reference: Sequence[float] = ()
    """One value a row that every panel marks by a tick, to compare the bars with."""
    reference_name: str = ""
    percent: bool = True
    note: str = ""
    kind: str = "bars"

    def place(self) -> dict[str, Any]:
        """Place the bars.

        Returns:
            For the template: height of the box, row names, panels with their bars and ticks.
        """
        top, pitch, gap, text = 48 if self.captions else 30, 20, 16, 44
        width = (WIDTH - _LABELS - gap * len(self.panels)) / len(self.panels)
        values = [value for panel in self.panels.values() for value in panel if value is not None]
        scale = (width - text) / (max([*values, *self.reference], default=0) or 1.0)
        lines = [top + pitch * n for n in range(len(self.rows))]
        marks: Sequence[float | None] = self.reference or [None] * len(lines)
        panels = []
        for n, (name, panel) in enumerate(self.panels.items()):
            left = _LABELS + gap + n * (width + gap)
            bars = [
                None
                if value is None
                else {
                    "y": y,
                    "width": round(scale * value, 1),
                    # Words stand clear of the tick, too.
                    "text_x": round(left + scale * max(value, mark or 0.0) + 6, 1),
                    "text": number_text(value, self.percent),
                }
                for y, value, mark in zip(lines, panel, marks, strict=True)
            ]
            panels.append(
                {
                    "name": name,
                    "caption": self.captions[n] if self.captions else "",
                    "left": round(left, 1),
                    "strong": name == self.strong,
                    "bars": bars,
                    "marks": [
                        (y, round(left + scale * mark, 1))
                        for y, mark in zip(lines, marks, strict=True)
                        if mark is not None
                    ],
                }
            )
        return {
            "height": top + pitch * len(self.rows) + 4,
            "top": top,
            "rows": list(zip(lines, self.rows, strict=True)),
            "panels": panels,
        }


def number_text(value: float, percent: bool) -> str:
    """Write a number as short as it can be read.

    Args:
        value: The number.
        percent: Whether it is a share to be written in per cent.
    """
    if percent:
        return f"{value:.0%}" if abs(value) >= 0.0995 or value == 0 else f"{value:.1%}"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.2g}"


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Give round numbers, 1, 2 or 5 times a power of ten apart, that enclose a range.

    Args:
        low: Its lower end.
        high: Its upper end.
        most: Steps that the range may span, 2 or more.
    """
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span))
    step = next(
        size * power for size in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0) if span / (size * power) <= most
    )
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(step * n, 12) for n in range(first, max(last, first + 1) + 1)]
