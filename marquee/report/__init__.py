"""HTML pages for people: one template, everything inside one small file.

The Kubeflow UI shows a page in a sandboxed frame without a network, so a page carries its style,
draws its charts as SVG, and needs no script.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import jinja2

from marquee.report.charts import Bars, Dumbbell, StackedBars, ticks
from marquee.report.checks import Checks, ToDo
from marquee.report.multiples import Card, Cards, Curves, Intervals, Panel
from marquee.report.pictures import Band, Bands, Gallery
from marquee.verdict import Verdict

__all__ = [
    "Band",
    "Bands",
    "Banner",
    "Bars",
    "Block",
    "Card",
    "Cards",
    "Cell",
    "Checks",
    "Curves",
    "Dumbbell",
    "Gallery",
    "Grades",
    "Heatmap",
    "Intervals",
    "Lines",
    "Links",
    "Panel",
    "StackedBars",
    "Table",
    "Tiles",
    "ToDo",
    "render",
    "render_verdict",
]

Cell = str | float | int | None


@dataclass(frozen=True, kw_only=True)
class Banner:
    """What matters most, in a sentence."""

    outcome: str
    """`passed`, `failed`, `inconclusive`, or `note` for a page that judges nothing."""
    sentence: str
    kind: str = "banner"


@dataclass(frozen=True, kw_only=True)
class Tiles:
    """A few key figures: label, value, and what to compare it with."""

    tiles: Sequence[tuple[str, str, str]]
    kind: str = "tiles"


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of text and numbers; numbers are aligned and shown to three decimals."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    bars: Sequence[int] = ()
    """Columns whose numbers (0..1) are also drawn as bars."""
    strong: Sequence[int] = ()
    """Rows to stress."""
    kind: str = "table"


@dataclass(frozen=True, kw_only=True)
class Heatmap:
    """A matrix, coloured by the share of its row."""

    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: Sequence[Sequence[float]]
    totals: Sequence[float]
    """What each row's values are shares of."""
    shades: Sequence[Sequence[float]] = ()
    """How strongly to colour each cell (0..1), where not by its share of the row."""
    percent: bool = False
    """Write values as whole per cents, and nothing where they come to none."""
    texts: Sequence[Sequence[str]] = ()
    """What to write in each cell, where not its value."""
    note: str = ""
    kind: str = "heatmap"


@dataclass(frozen=True, kw_only=True)
class Grades:
    """A matrix of grades from 0 to 1, coloured so that low ones stand out."""

    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: Sequence[Sequence[float | None]]
    missing: str = ""
    """What stands in a cell without a grade."""
    note: str = ""
    kind: str = "grades"


@dataclass(frozen=True, kw_only=True)
class Lines:
    """One line or more over the same x axis of whole numbers, such as epochs."""

    title: str
    x_label: str
    y_label: str
    x: Sequence[float]
    series: dict[str, Sequence[float]]
    mark: float | None = None
    """An x value to point at."""
    note: str = ""
    kind: str = "lines"


@dataclass(frozen=True, kw_only=True)
class Links:
    """Files beside the page: name, relative place, and what is there."""

    title: str
    links: Sequence[tuple[str, str, str]]
    note: str = ""
    kind: str = "links"


Chart = Lines | StackedBars | Dumbbell | Bars | Intervals | Curves | Bands
Block = Banner | Tiles | Table | Heatmap | Grades | Chart | Cards | Gallery | Checks | ToDo | Links


def render(title: str, subtitle: str, blocks: Sequence[Block], footer: Sequence[str] = ()) -> str:
    """Render a page.

    Args:
        title: The headline.
        subtitle: What the page is about, such as a version.
        blocks: The content from top to bottom.
        footer: Lines at the foot, such as the attributions that a source asks for.

    Returns:
        HTML that stands alone.
    """
    page: str = _template().render(
        title=title, subtitle=subtitle, blocks=blocks, footer=footer, plot=plot
    )
    return page


def render_verdict(verdict: Verdict, pictures: Sequence[Block] = ()) -> str:
    """Render a gate's verdict.

    Args:
        verdict: What the gate said.
        pictures: What to show besides the checks.

    Returns:
        HTML that stands alone.
    """
    blocks: list[Block] = [Banner(outcome=verdict.outcome.value, sentence=verdict.sentence())]
    todo = ToDo.of(verdict)
    if todo.checks:
        blocks.append(todo)
    blocks += [*pictures, Checks(title="Checks", groups={"": verdict.checks})]
    return render(f"{verdict.gate.capitalize()} gate", verdict.subject, blocks)


def plot(lines: Lines) -> dict[str, object]:
    """Place a line chart's points in a box of 640 x 220.

    Args:
        lines: The chart.

    Returns:
        For the template: polylines by name, y ticks, x ticks and the mark, in box coordinates.
    """
    values = [value for series in lines.series.values() for value in series]
    y_ticks = ticks(min(values), max(values))
    low, high = min(*values, y_ticks[0]), max(*values, y_ticks[-1])
    first, last = min(lines.x), max(lines.x)

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - first) / (last - first) if last > first else 0.5
        return round(52 + 576 * across, 1), round(190 - 176 * (y - low) / (high - low), 1)

    x_ticks = [tick for tick in ticks(first, last) if first <= tick <= last and tick.is_integer()]
    return {
        "lines": {
            name: [place(x, y) for x, y in zip(lines.x, series, strict=True)]
            for name, series in lines.series.items()
        },
        "y_ticks": [(place(first, tick)[1], f"{tick:g}") for tick in y_ticks],
        "x_ticks": [(place(tick, low)[0], f"{tick:g}") for tick in x_ticks],
        "mark": None if lines.mark is None else place(lines.mark, low)[0],
    }


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = _number
    return environment.get_template("page.html")


def _number(value: Cell) -> str:
    if value is None or value != value:
        return "n/a"
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else value
