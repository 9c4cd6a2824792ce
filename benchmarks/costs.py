"""Adds up what a run and a month cost, from what was measured here and prices of yours.

`python -m benchmarks.costs --node 0.10` prints the tables of docs/costs.md. Times are those of
RESULTS.md, on nodes of two CPUs; a price is for an hour of such a node, in any currency.
"""

import argparse
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.results import FILE

HOUR = 3600.0
MONTH = 730.0
"""Hours."""
NODE_CPUS = 2


@dataclass(frozen=True)
class Prices:
    """What one pays, and how one runs it."""

    node: float
    """An hour of a node with two CPUs and 8 GiB."""
    spot: float
    """The price of a spot node, as a share of `node`'s."""
    start: float
    """Seconds until a step works: a node, an image, KFP's driver. Not measured."""
    rollout: float
    """Hours that a rollout's step waits and watches."""
    runs: int
    """Training runs a month."""
    replicas: int
    """Servers that run all the time."""


@dataclass(frozen=True)
class Part:
    """A line of a bill."""

    what: str
    how: str
    """The sum, as a person would check it."""
    hours: float
    """Of a node."""
    price: float
    """An hour."""

    @property
    def cost(self) -> float:
        return self.hours * self.price


def measured(section: str, column: str, *row: str) -> float:
    """Read a figure of RESULTS.md.

    Args:
        section: A heading.
        column: The head of a column.
        row: The first cells of a row.

    Returns:
        The figure.

    Raises:
        LookupError: RESULTS.md has none there.
    """
    found = re.search(rf"^## {re.escape(section)}\n(.*?)(?=^## |\Z)", FILE.read_text(), re.S | re.M)
    lines = [_cells(line) for line in (found[1] if found else "").splitlines() if line[:1] == "|"]
    for cells in lines[2:]:
        if tuple(cell.strip("*") for cell in cells[: len(row)]) == row:
            return float(cells[lines[0].index(column)].replace(",", ""))
    raise LookupError(f"RESULTS.md has no {column} of {', '.join(row)} in {section}")


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip()[1:-1].split("|")]


def of_a_run(prices: Prices) -> list[Part]:
    """Give the steps of a training run over 45,000 posters with the custom CNN.

    Args:
        prices: What an hour costs.
    """
    from components.train.architectures.custom_cnn import ARCHITECTURE

    epochs = ARCHITECTURE.defaults.epochs
    epoch = measured("Scale of training", "s, 45,000", "train, one epoch")
    times = {
        "ingest": (1, measured("Scale", "s, 45,000", "ingest")),
        "validate": (1, measured("Scale", "s, 45,000", "validate")),
        "balance": (1, measured("Scale", "s, 45,000", "balance")),
        "train": (epochs, epoch),
        "evaluate": (1, measured("Scale of training", "s, 45,000", "evaluate")),
    }
    parts = []
    for step, (count, seconds) in times.items():
        how = f"{count} x {seconds:g} s" if count > 1 else f"{seconds:g} s"
        price = prices.node * (prices.spot if step == "train" else 1)
        hours = (prices.start + count * seconds) / HOUR
        parts.append(Part(step, f"{prices.start:g} s + {how}", hours, price))
    how = f"4 x {prices.start:g} s + {prices.rollout:g} h"
    hours = 4 * prices.start / HOUR + prices.rollout
    parts.append(Part("register, gate, rollout, notify", how, hours, prices.node))
    return parts


def of_a_month(prices: Prices) -> list[Part]:
    """Give what a month costs.

    Args:
        prices: What an hour costs, and how much runs.
    """
    run = of_a_run(prices)
    hours = sum(part.hours for part in run)
    report = measured("Drift: what it costs", "s", "100,000", "report")
    watch = 30 * (prices.start + report) / HOUR
    return [
        Part(
            "servers, all the time",
            f"{prices.replicas} x {MONTH:g} h x 1 CPU / {NODE_CPUS}",
            prices.replicas * MONTH / NODE_CPUS,
            prices.node,
        ),
        Part("exporter", f"{MONTH:g} h x 0.5 GiB / 8 GiB", MONTH * 0.5 / 8, prices.node),
        Part("monitoring, daily", f"30 x ({prices.start:g} s + {report:g} s)", watch, prices.node),
        Part(
            "training runs",
            f"{prices.runs} x {hours:.2f} h",
            prices.runs * hours,
            sum(part.cost for part in run) / hours,
        ),
    ]


def table(parts: Sequence[Part]) -> Iterator[str]:
    """Give the lines of a bill, its sum the last.

    Args:
        parts: What is on it.
    """
    yield "| what | node-hours | how | an hour | cost |"
    yield "|---|---|---|---|---|"
    for part in parts:
        cells = (part.what, f"{part.hours:.2f}", part.how, f"{part.price:.3f}", f"{part.cost:.3f}")
        yield f"| {' | '.join(cells)} |"
    hours, cost = sum(part.hours for part in parts), sum(part.cost for part in parts)
    yield f"| **sum** | {hours:.2f} | | | **{cost:.3f}** |"


def main() -> None:
    """Print the bills."""
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--node", type=float, default=0.10, help="an hour of 2 CPUs and 8 GiB")
    ask.add_argument("--spot", type=float, default=0.35, help="a spot node's share of that")
    ask.add_argument("--start", type=float, default=90.0, help="seconds until a step works")
    ask.add_argument("--rollout", type=float, default=1.0, help="hours of a rollout")
    ask.add_argument("--runs", type=int, default=4, help="training runs a month")
    ask.add_argument("--replicas", type=int, default=2, help="servers at least")
    prices = Prices(**vars(ask.parse_args()))
    print("\n".join(table(of_a_run(prices))), end="\n\n")
    print("\n".join(table(of_a_month(prices))))


if __name__ == "__main__":
    main()
