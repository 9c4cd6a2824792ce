"""The search space: what may be in it, and what is refused."""

import pytest

from components.train.architectures import NAMES
from components.train.search import SPACES, SearchSpace
from components.train.settings import resolve_settings
from marquee.errors import UsageError
from marquee.settings import Settings, load, parse_overrides


@pytest.mark.parametrize("name", NAMES)
def test_each_architecture_has_one_around_its_own_settings(name):
    space = SearchSpace.of(name, Settings())
    assert len(space.parameters) >= 6
    defaults = resolve_settings(name, Settings())
    assert space.present == {p.name: getattr(defaults, p.name) for p in SPACES[name]}


def test_values_are_laid_over_what_is_set():
    settings = Settings(train={"epochs": 7, "vgg16": {"dropout": 0.7, "crop": 0.1}})
    space = SearchSpace.of("vgg16", settings)
    found = resolve_settings("vgg16", space.apply({"crop": 0.2, "batch_size": 32}))
    assert (found.epochs, found.dropout, found.crop, found.batch_size) == (7, 0.7, 0.2, 32)
    assert resolve_settings("vgg16", settings).crop == space.present["crop"] == 0.1


def test_settings_may_give_another_one():
    words = ["tune.custom_cnn.dropout.low=0.1", "tune.custom_cnn.dropout.high=0.5"]
    words += ['tune.custom_cnn.loss.choices=["cross_entropy", "asymmetric"]']
    words += ["tune.custom_cnn.patience.low=2", "tune.custom_cnn.patience.high=9"]
    space = SearchSpace.of("custom_cnn", load(parse_overrides(words)))
    assert {item.name: item.extremes for item in space.parameters} == {
        "dropout": (0.1, 0.5),
        "loss": ("cross_entropy", "asymmetric"),
        "patience": (2, 9),
    }


REFUSED = {
    "no setting": ("learning_rat", {"low": 0.1, "high": 1.0}, "no setting train.learning_rat"),
    "seed": ("seed", {"low": 0, "high": 9}, "luckiest"),
    "budget": ("epochs", {"low": 1, "high": 9}, "all trials have it in common"),
    "after training": ("default_precision", {"choices": ["fp32", "int8"]}, "acts after training"),
    "beyond what is valid": ("dropout", {"low": 0.1, "high": 1.2}, "train.dropout is 1.2"),
    "no such choice": ("loss", {"choices": ["cross_entropy", "hinge"]}, "train.loss is 'hinge'"),
    "wrong type": ("mirror", {"low": 0.0, "high": 1.0}, "mirror"),
    "no end": ("dropout", {"low": 0.1}, "either low and high or choices"),
    "both": ("dropout", {"low": 0.1, "high": 0.9, "choices": [0.5, 0.6]}, "either low and high"),
    "nothing": ("dropout", {}, "either low and high or choices"),
    "upside down": ("dropout", {"low": 0.9, "high": 0.1}, "not below high"),
    "one choice": ("loss", {"choices": ["cross_entropy"]}, "two or more"),
    "log of zero": ("dropout", {"low": 0.0, "high": 0.9, "log": True}, "log"),
    "log of whole numbers": ("patience", {"low": 2, "high": 9, "log": True}, "log"),
    "no whole number": ("patience", {"low": 1.5, "high": 9}, "whole number"),
    "without the present": ("dropout", {"low": 0.5, "high": 0.9}, "what is set now: 0.3"),
    "unknown word": ("dropout", {"low": 0.1, "top": 0.9}, "unknown setting tune.custom_cnn"),
    "no table": ("dropout", 0.5, "tune.custom_cnn.dropout is 0.5"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "values", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_searched_is_refused(name, values, said):
    with pytest.raises(UsageError) as refused:
        SearchSpace.of("custom_cnn", Settings(tune={"custom_cnn": {name: values}}))
    assert said in str(refused.value)
    assert refused.value.remedy


def test_an_unknown_architecture_is_refused():
    with pytest.raises(UsageError, match=r"unknown section \[tune.vgg17\]"):
        SearchSpace.of("vgg16", Settings(tune={"vgg17": {}}))
