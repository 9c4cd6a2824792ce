"""A model of films before 1990 meets films from 2000 on: the report says so, and is right."""

import pytest

from benchmarks.real_drift import run

QUICK = (
    "train.custom_cnn.height=96",
    "train.custom_cnn.width=64",
    "train.custom_cnn.epochs=8",
    "train.custom_cnn.ema=0.99",
    "train.precisions=",
)
"""RESULTS.md has the figures of the defaults."""


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.timeout(900)
def test_the_report_says_what_is_known(tmp_path):
    claims, rows, _ = run(tmp_path, QUICK)
    assert [claim for claim in claims if not claim.holds] == []
    assert len(rows) >= 10
