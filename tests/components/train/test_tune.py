"""Searches on drawn films: what comes out, that they go on, and what they say of chance."""

import dataclasses
import json
import math
import os
import shutil
import signal
import tomllib

import numpy as np
import optuna
import pytest
import torch
from typer.testing import CliRunner

from components.train import loop
from components.train import tune as tuning
from components.train.findings import Findings, Tried
from components.train.loop import Diverged
from components.train.order import Order
from components.train.search import SPACES, SearchSpace
from components.train.settings import resolve_settings
from components.train.train import Measured
from marquee.cli.tune import app
from marquee.errors import DataError, Stopped, UsageError
from marquee.settings import Settings, load

TINY = {"height": 32, "width": 16, "epochs": 3, "batch_size": 32, "workers": 0}
FEW = {
    "learning_rate": {"low": 1e-3, "high": 1e-2, "log": True},
    "batch_size": {"choices": [16, 32]},
}
SETTINGS = Settings(train=TINY, tune={"custom_cnn": FEW})
TRIALS = 3


@pytest.fixture(scope="module")
def order(drawn_catalog, drawn_split):
    return Order(
        catalog_uri=drawn_catalog,
        split_uri=drawn_split,
        architecture="custom_cnn",
        weights="random",
        bundle_uri="",
    )


@pytest.fixture(scope="module")
def space():
    return SearchSpace.of("custom_cnn", SETTINGS)


@pytest.fixture(scope="module")
def searched(order, space, tmp_path_factory):
    """A folder with a search of three trials, and what it found."""
    out = tmp_path_factory.mktemp("search")
    return out, tuning.tune(order, space, out, trials=TRIALS, seeds=1)


def facts(found):
    return [(t.number, t.state, t.score, t.epochs, t.values) for t in found.tried]


def test_the_first_trial_has_the_present_settings(searched, space):
    _, found = searched
    assert [trial.number for trial in found.tried] == [0, 1, 2]
    assert found.tried[0].values == space.present
    values = [tuple(trial.values.items()) for trial in found.tried]
    assert len(set(values)) == TRIALS
    assert found.best.score == max(trial.score for trial in found.tried)
    assert all(trial.epochs == 3 and 0 < trial.score < 1 for trial in found.tried)
    for trial in found.tried:
        for parameter in space.parameters:
            assert parameter.holds(trial.values[parameter.name])


def test_the_best_and_the_present_settings_train_again_with_another_seed(searched):
    _, found = searched
    assert set(found.again) == {0, found.best.number}
    for number, (score,) in found.again.items():
        assert score != found.tried[number].score


def test_what_was_found_is_written(searched, tmp_path, monkeypatch):
    _, found = searched
    found.write(str(tmp_path))
    document = json.loads((tmp_path / "trials.json").read_text())
    assert [trial["number"] for trial in document["trials"]] == [0, 1, 2]
    assert document["best"] == found.best.number
    page = (tmp_path / "tune.html").read_text()
    for part in ("The best settings", "How much of it is chance", "other seeds", "All trials"):
        assert part in page
    # best.toml is a settings file.
    (tmp_path / "best.toml").rename(tmp_path / "marquee.toml")
    monkeypatch.chdir(tmp_path)
    own = resolve_settings("custom_cnn", load())
    assert {name: getattr(own, name) for name in found.best.values} == found.best.values


def test_a_search_goes_on_and_asks_for_no_more_than_it_lacks(
    searched, order, space, tmp_path, monkeypatch
):
    out, found = searched
    shutil.copytree(out, tmp_path / "copy")
    monkeypatch.setattr(tuning, "measure", None)
    again = tuning.tune(order, space, tmp_path / "copy", trials=TRIALS, seeds=1)
    assert facts(again) == facts(found)
    assert again.again == found.again
    assert again.chance == found.chance


class Killed(BaseException):
    """As by the kernel: nothing is tidied up."""


@pytest.mark.parametrize("stop", ["asked", "killed", "before watch"])
def test_a_search_that_ended_within_a_trial_comes_to_the_same(
    stop, searched, order, space, tmp_path, monkeypatch
):
    measure = tuning.measure
    begun = []

    def interrupted(order, settings, watch):
        begun.append(1)

        def follow(epochs):
            if stop == "before watch" and (len(begun), len(epochs)) == (2, TINY["epochs"]):
                raise Killed
            watch(epochs)
            if stop in ("asked", "killed") and (len(begun), len(epochs)) == (2, 2):
                if stop == "killed":
                    raise Killed
                os.kill(os.getpid(), signal.SIGTERM)

        return measure(order, settings, follow)

    monkeypatch.setattr(tuning, "measure", interrupted)
    with pytest.raises(Stopped if stop == "asked" else Killed):
        tuning.tune(order, space, tmp_path / "out", trials=TRIALS)
    monkeypatch.setattr(tuning, "measure", measure)
    found = tuning.tune(order, space, tmp_path / "out", trials=TRIALS)
    assert facts(found) == facts(searched[1])
    assert not (tmp_path / "out/checkpoints").exists()


def test_a_trial_that_was_to_be_given_up_as_it_was_killed_is_given_up_there(
    order, space, tmp_path, monkeypatch
):
    """Killed between the report of an epoch and the question whether to prune."""
    asked = []

    def prune(self, study, trial):
        asked.append(trial.last_step)
        if len(asked) == 2:
            raise Killed
        return trial.last_step == 2

    monkeypatch.setattr(optuna.pruners.MedianPruner, "prune", prune)
    with pytest.raises(Killed):
        tuning.tune(order, space, tmp_path, trials=1)
    with pytest.raises(DataError, match="not one trial came to an end"):
        tuning.tune(order, space, tmp_path, trials=1)
    assert asked == [1, 2, 2]


def test_a_result_that_was_not_kept_is_not_trained_for_again(
    searched, order, space, tmp_path, monkeypatch
):
    def killed(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(tuning._Search, "_keep", killed)
        with pytest.raises(Killed):
            tuning.tune(order, space, tmp_path, trials=1)
    monkeypatch.setattr(loop.Trainer, "train_epoch", None)
    found = tuning.tune(order, space, tmp_path, trials=1)
    assert facts(found) == facts(searched[1])[:1]
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize("changed", ["seed", "settings", "search space"])
def test_another_search_does_not_go_on_there(changed, searched, order, space):
    out, _ = searched
    options = {"trials": TRIALS, "seed": int(changed == "seed")}
    if changed == "settings":
        train = {**TINY, "epochs": 4}
        space = SearchSpace.of("custom_cnn", dataclasses.replace(SETTINGS, train=train))
    if changed == "search space":
        space = dataclasses.replace(space, parameters=space.parameters[:1])
    with pytest.raises(UsageError, match=f"a search with another {changed}"):
        tuning.tune(order, space, out, **options)


def test_two_do_not_search_in_one_folder(order, space, tmp_path):
    with (
        tuning._alone(tmp_path),
        pytest.raises(UsageError, match="another process searches"),
    ):
        tuning.tune(order, space, tmp_path, trials=1)


def told(score, epochs=5, posters=40, seed=0):
    """What a training would have measured whose curve rises to a score."""
    random = np.random.default_rng(seed)
    labels = (random.random((posters, 4)) < 0.4).astype(np.float32)
    logits = (labels * score + random.random((posters, 4))).astype(np.float32)
    return Measured(logits=logits, labels=labels, groups=np.arange(posters), epochs=epochs)


def test_what_does_worse_than_the_median_is_given_up(order, tmp_path, monkeypatch):
    space = SearchSpace.of("custom_cnn", Settings(train={"epochs": 10}))
    shown = []

    def made_up(order, settings, watch):
        """Every trial from the seventh on is bad."""
        number = len(shown)
        shown.append(0)
        rows = []
        for epoch in range(1, 11):
            value = 0.01 * epoch if number > 5 else 0.3 + 0.01 * epoch
            rows.append({"phase": 1, "epoch": epoch, "validation_macro_map": value})
            shown[-1] = epoch
            watch(rows)
        return told(0.5, seed=number)

    monkeypatch.setattr(tuning, "measure", made_up)
    found = tuning.tune(order, space, tmp_path, trials=8)
    assert [t.state for t in found.tried] == ["complete"] * 6 + ["pruned"] * 2
    assert shown == [10] * 6 + [2] * 2  # a fifth of the epochs
    assert found.tried[-1].score == pytest.approx(0.02)
    assert "(2 given up, 0 diverged, 0 out of memory)" in found.sentence()
    assert set(found.alike) == set(range(6))


def test_phases_have_the_same_epochs_in_all_trials(order, tmp_path):
    space = SearchSpace.of("vgg16", Settings())
    search = tuning._Search(
        dataclasses.replace(order, architecture="vgg16"), space, tmp_path, seed=0
    )
    rows = [{"phase": p, "validation_macro_map": v} for p, v in ((1, 0.1), (1, 0.2), (2, 0.3))]
    assert list(search._steps(rows)) == [(1, 0.1), (2, 0.2), (61, 0.3)]


FAULTS = {
    "diverged": (Diverged("the loss is nan"), "0 given up, 1 diverged, 0 out of memory"),
    "out of memory": (torch.OutOfMemoryError("no"), "0 given up, 0 diverged, 1 out of memory"),
}


@pytest.mark.parametrize(("state", "fault", "said"), [(k, *v) for k, v in FAULTS.items()])
def test_a_trial_that_fails_is_one_of_many(state, fault, said, order, space, tmp_path, monkeypatch):
    """The second trial's loss is no number, or there is no memory for it."""
    measure = tuning.measure
    begun = []

    def failing(order, settings, watch):
        begun.append(1)
        if len(begun) != 2:
            return told(len(begun))
        with monkeypatch.context() as patch:
            patch.setattr(loop.Trainer, "_train_step", step)
            return measure(order, settings, watch)

    def step(*_):
        raise fault

    monkeypatch.setattr(tuning, "measure", failing)
    found = tuning.tune(order, space, tmp_path, trials=3)
    assert [t.state for t in found.tried] == ["complete", state, "complete"]
    assert math.isnan(found.tried[1].score)
    assert said in found.sentence()
    found.write(str(tmp_path))
    assert state in (tmp_path / "tune.html").read_text()
    assert json.loads((tmp_path / "trials.json").read_text())["trials"][1]["score"] is None


def test_if_all_diverge_there_is_nothing_to_say(order, space, tmp_path, monkeypatch):
    def diverging(*_):
        raise Diverged("the loss is nan", remedy="lower it")

    monkeypatch.setattr(tuning, "measure", diverging)
    with pytest.raises(DataError, match="not one trial came to an end"):
        tuning.tune(order, space, tmp_path, trials=2)


def findings(measured):
    tried = [
        Tried(number=n, state="complete", score=m.score, epochs=5, seconds=1.0, values={"x": n})
        for n, m in enumerate(measured)
    ]
    return Findings(
        architecture="vgg16",
        parameters=SPACES["vgg16"][:1],
        present={"learning_rate": 1e-3},
        tried=tried,
        best=max(tried, key=lambda item: item.score),
        again={},
        measured=dict(enumerate(measured)),
    )


def test_the_best_of_many_that_are_alike_is_within_chance():
    """Fifty trials that say nothing of the labels: the luckiest looks good and is not."""
    random = np.random.default_rng(0)
    labels = (random.random((200, 4)) < 0.3).astype(np.float32)
    found = findings(
        [
            Measured(
                logits=random.random((200, 4)).astype(np.float32),
                labels=labels,
                groups=np.arange(200),
                epochs=5,
            )
            for _ in range(50)
        ]
    )
    scores = [one.score for one in found.measured.values()]
    assert found.best.score > np.mean(scores) + 0.05
    # What is left is what an average one has more than the present settings.
    assert found.chance.fair_gain == pytest.approx(np.mean(scores) - scores[0], abs=0.02)
    assert found.chance.gain > found.chance.fair_gain + 0.03
    assert not found.chance.surely_better
    assert "within chance" in found.sentence()
    assert sum(found.alike.values()) > 10


def test_a_trial_that_is_better_is_found_to_be():
    measured = [told(0.2, posters=400), *(told(0.2 + 0.1 * n, posters=400) for n in range(1, 9))]
    found = findings(measured)
    assert found.best.number == 8
    assert found.chance.surely_better
    assert found.chance.fair_gain == pytest.approx(found.chance.gain, abs=0.05)
    assert "): better." in found.sentence()
    assert not found.alike[0]


def test_if_nothing_beats_the_present_settings_it_is_said():
    found = findings([told(0.9), told(0.1)])
    assert "none beats the present settings" in found.sentence()
    assert found.chance.gain == found.chance.fair_interval[1] == 0


def test_the_command(searched, drawn_catalog, drawn_split, tmp_path, monkeypatch):
    out, found = searched
    shutil.copytree(out, tmp_path / "copy")
    monkeypatch.setattr(tuning, "measure", None)
    words = ["run", "--out", str(tmp_path / "copy"), "--catalog", drawn_catalog]
    words += ["--split", drawn_split, "--weights", "random", "--trials", str(TRIALS)]
    words += [f"--set=train.{name}={value}" for name, value in TINY.items()]
    words += [f"--set=tune.custom_cnn.{name}={json.dumps(value)}" for name, value in FEW.items()]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0
    assert " ".join(found.sentence().split()) in " ".join(result.output.split())
    fragment = tomllib.loads((tmp_path / "copy/best.toml").read_text())
    assert fragment == {"train": {"custom_cnn": found.best.values}}
    with pytest.raises(UsageError, match="no saying what to train on"):
        CliRunner().invoke(app, words[:3], catch_exceptions=False)


def test_optuna_is_asked_for_what_the_table_says(searched, space):
    out, _ = searched
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(out / "journal.log"))
    )
    study = optuna.load_study(study_name="marquee", storage=storage)
    asked = study.trials[-1].distributions
    assert asked == {
        "learning_rate": optuna.distributions.FloatDistribution(1e-3, 1e-2, log=True),
        "batch_size": optuna.distributions.CategoricalDistribution((16, 32)),
    }
