"""What a run costs: the page has the script's sums, and they are of what was measured."""

import re
import subprocess
import sys

import pytest
from helpers import ROOT

from benchmarks import costs
from benchmarks.costs import Prices, measured, of_a_month, of_a_run, table

PRICES = Prices(node=0.1, spot=0.35, start=90.0, rollout=1.0, runs=4, replicas=2)


def test_the_page_has_the_scripts_tables():
    """Write them anew with `python -m benchmarks.costs`."""
    page = (ROOT / "docs/costs.md").read_text()
    command = re.search(r"python -m (benchmarks\.costs [^#]*)#", page)[1].split()
    done = subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, cwd=ROOT, check=True
    )
    for bill in done.stdout.strip().split("\n\n"):
        assert bill in page


@pytest.mark.parametrize("bill", [of_a_run, of_a_month])
def test_each_line_and_the_sum_can_be_checked_by_hand(bill):
    _, _, *lines, last = (
        [cell.strip(" *") for cell in line.split("|")[1:-1]] for line in table(bill(PRICES))
    )
    for _, hours, _, price, cost in lines:
        assert float(hours) * float(price) == pytest.approx(float(cost), abs=0.002, rel=0.01)
    assert sum(float(line[1]) for line in lines) == pytest.approx(float(last[1]), abs=0.05)
    assert sum(float(line[4]) for line in lines) == pytest.approx(float(last[4]), abs=0.005)


def test_times_are_those_of_the_results(monkeypatch, tmp_path):
    file = tmp_path / "RESULTS.md"
    file.write_text("## Scale\n\n| step | s, 45,000 |\n| --- | --- |\n| **ingest** | 1,214.9 |\n")
    monkeypatch.setattr(costs, "FILE", file)
    assert measured("Scale", "s, 45,000", "ingest") == 1214.9
    with pytest.raises(LookupError, match="validate"):
        measured("Scale", "s, 45,000", "validate")


def cost(parts):
    return sum(part.cost for part in parts)


@pytest.mark.parametrize("name", ["node", "spot", "start", "rollout"])
def test_dearer_is_dearer(name):
    more = Prices(**{**vars(PRICES), name: 2 * getattr(PRICES, name)})
    assert cost(of_a_run(more)) > cost(of_a_run(PRICES))


@pytest.mark.parametrize("name", ["runs", "replicas"])
def test_more_is_dearer(name):
    more = Prices(**{**vars(PRICES), name: 2 * getattr(PRICES, name)})
    assert cost(of_a_month(more)) > cost(of_a_month(PRICES))
