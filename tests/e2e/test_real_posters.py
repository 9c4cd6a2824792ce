"""The whole run on real posters: what the platform promises of accuracy and memory."""

import pytest

from benchmarks.real_posters import run

QUICK = ("train.vgg16.mirror=false", "train.vgg16.fine_tune_epochs=1", "train.precisions=")
"""Half the features, and a taste of fine-tuning: RESULTS.md has the figures of the defaults."""


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.timeout(2400)
def test_both_architectures_beat_the_study(tmp_path):
    summary, seen = run("study4", "custom_cnn,vgg16", tmp_path / "out", QUICK)
    assert summary["posters"] == 6581
    for name, macro_f1 in {"custom_cnn": 0.48, "vgg16": 0.56}.items():
        entry = summary["architectures"][name]
        blind = max(values["test/macro_f1"] for values in entry["baselines"].values())
        assert entry["metrics"]["test/macro_f1"] >= macro_f1 > blind
    assert seen.largest_mb < 3 * 1024
