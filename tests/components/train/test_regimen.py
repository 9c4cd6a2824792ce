"""What each strategy of balancing means in training."""

import dataclasses

import numpy as np
import pytest
import torch
from helpers import encode, noise_poster

from components.balance.balance import balance
from components.train.data import (
    EpochSampler,
    PosterDataset,
    Regimen,
    Subset,
    augment,
    random_for,
    read_subset,
)
from components.train.loop import Batch, weighted_loss
from components.train.train import train
from marquee.catalog import Catalog
from marquee.images import Preprocessing, decode
from marquee.settings import BalanceSettings, Settings
from marquee.split import SplitPlan


@pytest.fixture(scope="module")
def plans(drawn_catalog):
    return {
        strategy: balance(drawn_catalog, "study4", BalanceSettings(strategy=strategy))
        for strategy in BalanceSettings.STRATEGIES
    }


def regimen(plan: SplitPlan, catalog: str, seed: int = 5) -> tuple[Subset, Regimen]:
    subset = read_subset(Catalog(catalog), plan, "train")
    return subset, Regimen(subset, plan, seed)


@pytest.mark.parametrize("strategy", BalanceSettings.STRATEGIES)
def test_an_epoch_shows_what_the_plan_says(strategy, plans, drawn_catalog):
    plan = plans[strategy]
    subset, regime = regimen(plan, drawn_catalog)
    rows = regime.rows(0)
    assert len(rows) == len(regime)
    shown = np.bincount(rows, minlength=len(subset))
    if strategy == "sampler":
        assert len(rows) == len(subset)
    else:
        assert shown.tolist() == subset.frame["repeats"].tolist()
    weighed = strategy == "class_weights"
    assert np.array_equal(
        regime.weights, subset.frame["weight"] if weighed else np.ones(len(shown))
    )
    expected = [plan.class_weights[genre] for genre in plan.genres]
    assert regime.positives.tolist() == expected
    assert (expected != [1.0] * 4) == weighed


@pytest.mark.parametrize("strategy", BalanceSettings.STRATEGIES)
def test_epochs_follow_the_seed_and_differ(strategy, plans, drawn_catalog):
    _, first = regimen(plans[strategy], drawn_catalog)
    _, again = regimen(plans[strategy], drawn_catalog)
    _, other = regimen(plans[strategy], drawn_catalog, seed=6)
    assert np.array_equal(first.rows(3), again.rows(3))
    assert not np.array_equal(first.rows(3), first.rows(4))
    assert not np.array_equal(first.rows(3), other.rows(3))


def test_the_sampler_draws_by_weight(plans, drawn_catalog):
    subset, regime = regimen(plans["sampler"], drawn_catalog)
    drawn = np.concatenate([regime.rows(epoch) for epoch in range(400)])
    found = np.bincount(drawn, minlength=len(subset)) / 400
    weights = subset.frame["weight"].to_numpy()
    # Each count is nearly Poisson: 400 epochs leave a deviation of sqrt(weight / 400).
    assert np.abs((found - weights) / np.sqrt(weights / 400)).max() < 5


def test_a_plan_of_version_1_weighs_as_it_did(drawn_catalog):
    plan = balance(drawn_catalog, "study4", BalanceSettings(rare_below=0))
    facts = {name: value for name, value in plan.balance.items() if name != "class_weights"}
    old = dataclasses.replace(plan, balance=facts)
    subset, regime = regimen(old, drawn_catalog)
    positives = subset.labels.sum(axis=0)
    expected = np.sqrt((len(subset) - positives) / positives)
    assert regime.positives == pytest.approx(expected)
    assert regime.positives == pytest.approx(regimen(plan, drawn_catalog)[1].positives)


def test_copies_of_a_poster_are_counted_and_varied():
    sampler = EpochSampler(4, lambda epoch: np.array([2, 0, 2, 2]))
    sampler.epoch = 7
    assert list(sampler) == [(7, 2, 0), (7, 0, 0), (7, 2, 1), (7, 2, 2)]
    image, size = decode(encode(noise_poster(4, 120, 180))), Preprocessing(height=48, width=32)
    first, second = (augment(image, size, random_for(0, 7, "a", copy)) for copy in (0, 1))
    assert not np.array_equal(first, second)


def test_validation_comes_once_and_in_order(plans, drawn_catalog):
    subset = read_subset(Catalog(drawn_catalog), plans["oversample"], "validation")
    assert list(EpochSampler(len(subset))) == [(0, row, 0) for row in range(len(subset))]
    dataset = PosterDataset(subset, Preprocessing(height=48, width=32))
    assert dataset[0, 3, 0][1] == 3


def test_a_masked_label_changes_no_weight_and_a_weighed_one_by_its_share():
    logits = torch.zeros(1, 2, requires_grad=True)

    def gradient(label_weights):
        labels, weights = torch.tensor([[1.0, 1.0]]), torch.tensor([1.0])
        batch = Batch(torch.empty(1), labels, torch.tensor([label_weights]), weights)
        loss = weighted_loss(logits, batch, torch.ones(2), label_smoothing=0)
        return torch.autograd.grad(loss, logits)[0][0].tolist()

    assert gradient([1.0, 0.0]) == [-0.5, 0]
    full, half = gradient([1.0, 0.5])
    assert half == pytest.approx(full / 2)


@pytest.mark.parametrize("strategy", ["none", "sampler", "oversample"])
def test_every_strategy_trains(strategy, plans, drawn_catalog, tmp_path):
    plans[strategy].write(str(tmp_path / "split"))
    tiny = {"height": 48, "width": 32, "epochs": 1, "batch_size": 16, "workers": 0}
    report = train(
        drawn_catalog,
        str(tmp_path / "split"),
        "custom_cnn",
        "random",
        str(tmp_path / "bundle"),
        Settings(train=tiny),
    )
    assert 0 < report.validation["macro_map"] <= 1
