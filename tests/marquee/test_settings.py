import dataclasses
import re

import pytest
from helpers import ROOT

from components.rollout.policy import RolloutSettings
from marquee.errors import UsageError
from marquee.settings import Settings, build, load, parse_overrides


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_later_ones_win(tmp_path, monkeypatch):
    (tmp_path / "marquee.toml").write_text(
        "[balance]\nseed = 1\ntrain = 0.6\n[ingest]\npart_rows = 9\n"
    )
    monkeypatch.setenv("MARQUEE_BALANCE__SEED", "2")
    monkeypatch.setenv("MARQUEE_CACHE", "no setting")
    assert load().balance.seed == 2
    settings = load(parse_overrides(["balance.seed=3"]))
    assert (settings.balance.seed, settings.balance.train, settings.ingest.part_rows) == (3, 0.6, 9)


def test_kfp_hands_numbers_over_as_floats_and_forms_as_text():
    settings = load({"balance.seed": 7.0, "balance.train": "0.5", "train.vgg16.epochs": "20"})
    assert (settings.balance.seed, settings.balance.train) == (7, 0.5)
    assert settings.train == {"vgg16": {"epochs": 20}}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"balance.train": 2}, "balance.train is 2"),
        ({"balance.train": 0.9, "balance.validation": 0.5}, "leave 0.05 or more"),
        ({"balance.seed": 1.5}, "balance.seed is 1.5"),
        ({"balance.seed": True}, "balance.seed is True"),
        ({"balance.sed": 1}, "unknown setting balance.sed"),
        ({"balanse.seed": 1}, r"unknown section \[balanse\]"),
        ({"ingest.part_rows.x": 1}, "part_rows"),
        ({"validate.max_blank_share": -0.1}, "validate.max_blank_share is -0.1"),
    ],
)
def test_mistakes_are_named(overrides, message):
    with pytest.raises(UsageError, match=message):
        load(overrides)


@pytest.mark.parametrize("word", ["seed=1", "balance.seed"])
def test_words_that_are_no_setting(word):
    with pytest.raises(UsageError, match=re.escape(repr(word))):
        parse_overrides([word])


def test_a_damaged_file_and_a_missing_one(tmp_path):
    with pytest.raises(UsageError, match="no settings file"):
        load(file="nowhere.toml")
    (tmp_path / "marquee.toml").write_text("[balance\n")
    with pytest.raises(UsageError, match="not valid TOML"):
        load()


def test_the_documented_file_is_valid(tmp_path):
    text = (ROOT / "docs/settings.md").read_text()
    (tmp_path / "marquee.toml").write_text(text.partition("```toml\n")[2].partition("```")[0])
    documented = load()
    assert documented.train == {"seed": 0, "vgg16": {"epochs": 60}}
    assert build(RolloutSettings, "rollout", documented.rollout) == RolloutSettings()
    assert documented.tune == {"vgg16": {"dropout": {"low": 0.5, "high": 0.9}}}
    assert dataclasses.replace(documented, train={}, tune={}, rollout={}) == Settings()
