"""What each strategy of balancing means in training."""

import dataclasses

import numpy as np
import pytest
import torch
from helpers import encode, noise_poster

from components.balance.balance import balance
from components.train.data import (
    PosterDataset,
    Posters,
    Regimen,
    Subset,
    Turn,
    Turns,
    augment,
    random_for,
    read_subset,
)
from components.train.losses import Batch, loss_of, mix
from components.train.settings import resolve_settings
from components.train.train import Order, train
from components.train.world import World
from marquee.catalog import Catalog
from marquee.images import Preprocessing, decode, preprocess
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


class Listed:
    """Stands for a regimen of given rows."""

    def __init__(self, rows):
        self._rows = np.array(rows)

    def __len__(self):
        return len(self._rows)

    def rows(self, epoch):
        return np.roll(self._rows, epoch)


def test_copies_of_a_poster_are_counted_and_varied():
    turns = Turns(Listed([2, 0, 2, 2]), 4, 1, World())
    assert turns.parts(0, 0) == [[Turn(2), Turn(0), Turn(2, copy=1), Turn(2, copy=2)]]
    image, size = decode(encode(noise_poster(4, 120, 180))), Preprocessing(height=48, width=32)
    first, second = (augment(image, size, random_for(0, 7, "a", copy)) for copy in (0, 1))
    assert not np.array_equal(first, second)


SHARES = {
    "one process": (1, 1),
    "two processes": (2, 1),
    "in parts": (1, 3),
    "two processes, in parts": (2, 2),
}


@pytest.mark.parametrize("name", SHARES)
def test_a_step_shows_the_same_posters_however_it_is_shared(name):
    size, accumulate = SHARES[name]
    regime = Listed(range(50))
    steps = [Turns(regime, 12, accumulate, World(rank, size)).parts(3, 1) for rank in range(size)]
    assert {len(parts) for parts in steps} == {3 * accumulate}
    for step in range(3):
        shown = [
            turn.row
            for parts in steps
            for part in parts[step * accumulate : (step + 1) * accumulate]
            for turn in part
        ]
        alone = Turns(regime, 12, 1, World()).rows(3, step + 1)
        assert sorted(shown) == sorted(alone)


def test_a_poster_comes_as_it_is_for_validation(plans, drawn_catalog):
    catalog = Catalog(drawn_catalog)
    subset, size = (
        read_subset(catalog, plans["none"], "validation"),
        Preprocessing(height=48, width=32),
    )
    row = subset.frame.iloc[3]
    data = catalog.read_image(row["part"], row["shard_offset"], row["size"])
    for workers in (0, 1):
        posters = Posters(PosterDataset(subset, size), workers, most=2)
        first, second = posters.batches([[Turn(3), Turn(1)], [Turn(3, 5)]])
        assert first.shape == (2, 48, 32, 3)
        assert np.array_equal(first[0], preprocess(data, size))
        assert np.array_equal(first[0], second[0])


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_come_whole_and_in_order_however_often_their_room_is_used(
    plans, drawn_catalog, workers
):
    subset = read_subset(Catalog(drawn_catalog), plans["none"], "train")
    dataset = PosterDataset(subset, Preprocessing(height=48, width=32), augment_seed=0)
    turns = [[Turn(n, n), Turn((5 * n) % 20, n, 1), Turn(3)][: 1 + n % 3] for n in range(20)]
    posters = Posters(dataset, workers, most=3)
    assert len(turns) > 2 * len(posters._slots)
    for stop in (4, len(turns)):  # the first reading is given up while posters are decoded ahead
        reading = posters.batches(turns)
        kept = [next(reading) for _ in range(stop)]
        reading.close()
        for batch, found in zip(turns, kept, strict=False):
            assert np.array_equal(found, np.stack([dataset[turn] for turn in batch]))


def settings_of(**changes):
    return resolve_settings("custom_cnn", Settings(train={"label_smoothing": 0.0, **changes}))


def batch_of(labels, weights, eras=None):
    return Batch(
        torch.tensor(labels),
        torch.tensor(weights),
        torch.tensor(eras if eras is not None else [-1] * len(labels)),
    )


def test_a_masked_label_changes_no_weight_and_a_weighed_one_by_its_share():
    logits = torch.zeros(1, 2, requires_grad=True)

    def gradient(weights):
        loss = loss_of(logits, batch_of([[1.0, 1.0]], [weights]), torch.ones(2), settings_of())
        return torch.autograd.grad(loss, logits)[0][0].tolist()

    assert gradient([1.0, 0.0]) == [-0.5, 0]
    assert gradient([1.0, 0.5]) == [-0.5, -0.25]


def test_weights_of_positives_can_be_tempered():
    logits = torch.zeros(1, 2)
    batch = batch_of([[1.0, 0.0]], [[1.0, 1.0]])
    weights = torch.tensor([9.0, 9.0])
    for power, expected in ((1.0, 10), (0.5, 4), (0.0, 2)):
        loss = loss_of(logits, batch, weights, settings_of(positive_power=power))
        assert float(loss) == pytest.approx(expected * np.log(2), rel=1e-5)


def test_the_asymmetric_loss_forgives_easy_negatives_only():
    logits = torch.tensor([[-4.0, 0.0, 4.0]])
    ones = torch.ones(3)

    def losses(labels, kind):
        changes = {"gamma_positive": 0.0, "gamma_negative": 4.0, "asymmetric_clip": 0.05}
        chosen = settings_of(loss=kind, **changes)
        parts = []
        for genre in range(3):
            weights = torch.nn.functional.one_hot(torch.tensor([genre]), 3).float().tolist()
            parts.append(float(loss_of(logits, batch_of([labels], weights), ones, chosen)))
        return parts

    assert losses([1.0] * 3, "asymmetric") == pytest.approx(losses([1.0] * 3, "cross_entropy"))
    easy, even, wrong = losses([0.0] * 3, "asymmetric")
    assert easy == 0
    # q = .5 - .05; -q^4 log(1 - q)
    assert even == pytest.approx(0.45**4 * -np.log(0.55), rel=1e-4)
    shifted = 1 / (1 + np.exp(-4)) - 0.05
    assert wrong == pytest.approx(shifted**4 * -np.log(1 - shifted), rel=1e-4)


def test_eras_count_where_they_are_known():
    outputs = torch.zeros(2, 2 + 8)
    known = batch_of([[1.0, 0.0]] * 2, [[1.0, 1.0]] * 2, [3, -1])
    without = float(loss_of(outputs[:, :2], known, torch.ones(2), settings_of()))
    found = float(loss_of(outputs, known, torch.ones(2), settings_of(era_weight=0.5)))
    assert found - without == pytest.approx(0.5 * 2 * np.log(8), rel=1e-5)


def test_mixup_blends_inputs_and_labels_alike():
    inputs = torch.arange(4.0)[:, None]
    batch = batch_of(torch.eye(4).tolist(), torch.ones(4, 4).tolist())
    mixed, blended = mix(inputs, batch, 1.0, np.random.default_rng(0))
    assert blended.labels @ inputs == pytest.approx(mixed)
    assert (blended.labels.sum(dim=1) == 1).all()
    assert (blended.eras == -1).all()


def test_mixup_does_not_learn_from_masked_labels():
    batch = batch_of([[1.0], [1.0], [0.0], [0.0]], [[0.0], [0.0], [1.0], [1.0]])
    _, blended = mix(torch.zeros(4, 1), batch, 1.0, np.random.default_rng(0))
    assert (blended.labels == 0).all()
    assert blended.weights.sum() == pytest.approx(2)


@pytest.mark.parametrize("strategy", ["none", "sampler", "oversample"])
def test_every_strategy_trains(strategy, plans, drawn_catalog, tmp_path):
    plans[strategy].write(str(tmp_path / "split"))
    tiny = {"height": 48, "width": 32, "epochs": 1, "batch_size": 16, "workers": 0}
    order = Order(
        catalog_uri=drawn_catalog,
        split_uri=str(tmp_path / "split"),
        architecture="custom_cnn",
        weights="random",
        bundle_uri=str(tmp_path / "bundle"),
    )
    report = train(order, Settings(train=tiny))
    assert 0 < report.validation["macro_map"] <= 1
