"""Tunes the settings of an architecture on this machine, with Optuna.

All that is known lies in one folder, so a search that was stopped or killed goes on, in the middle
of a trial if need be, and comes to what an undisturbed one comes to: which values a trial gets
follows from the seed, its number and the trials before it.
"""

import dataclasses
import fcntl
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from components.train.findings import Findings, Tried
from components.train.loop import Diverged, OutOfMemory
from components.train.order import Order
from components.train.search import (
    RANDOM_TRIALS,
    UNPRUNED,
    Parameter,
    SearchSpace,
    Value,
    first_pruned,
)
from components.train.settings import resolve_settings
from components.train.train import Measured, measure
from marquee import __version__, storage
from marquee.errors import DataError, UsageError
from marquee.processes import stoppable
from marquee.split import SplitPlan

logger = logging.getLogger(__name__)

_STUDY = "marquee"
_SEARCH = "search"
_STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned"}
_FAILURES = {Diverged: "diverged", OutOfMemory: "out of memory"}
_FAILURE = "failure"


def tune(
    order: Order, space: SearchSpace, out: Path, *, trials: int, seeds: int = 0, seed: int = 0
) -> Findings:
    """Search for better settings by the validation mAP; the test split stays out.

    The first trial has the settings as they are. A trial that does worse than the median of those
    before it, epoch by epoch, ends early.

    Args:
        order: What is trained on what; no bundle is made.
        space: What is tuned.
        out: The folder of this search; it begins or goes on there.
        trials: How many trials there shall be in all.
        seeds: With how many other seeds the best settings and the present ones are trained again.
        seed: Chooses what is tried.

    Returns:
        What was found.

    Raises:
        UsageError: The folder holds another search, or another process is at it.
        DataError: Not one trial came to an end.
        Stopped: It was asked to stop; the same call goes on.
        MarqueeError: As `components.train.train.train`.
    """
    out.mkdir(parents=True, exist_ok=True)
    with _alone(out), stoppable():
        search = _Search(order, space, out, seed)
        search.try_out(trials)
        return search.findings(seeds)


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    with (out / ".lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"another process searches in {out}", remedy="wait for it, or choose another --out"
            ) from None
        yield


class _Search:
    def __init__(self, order: Order, space: SearchSpace, out: Path, seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._order = dataclasses.replace(order, checkpoints_uri=str(out / "checkpoints"))
        self._space, self._out, self._seed = space, out, seed
        self._epochs = resolve_settings(space.architecture, space.settings).epochs
        self._study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(out / "journal.log"))),
            study_name=_STUDY,
            direction="maximize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(
                n_startup_trials=UNPRUNED, n_warmup_steps=first_pruned(self._epochs)
            ),
        )
        self._check_identity()
        if not self._study.trials:
            self._study.enqueue_trial(space.present)

    def try_out(self, trials: int) -> None:
        """Add trials until there are as many."""
        while len(self._ended()) < trials:
            number = len(self._study.trials)
            running = [t for t in self._study.trials if t.state is TrialState.RUNNING]
            # Of its own for each trial: one that goes on draws what an undisturbed one would.
            self._study.sampler = optuna.samplers.TPESampler(
                n_startup_trials=RANDOM_TRIALS, seed=1000 * self._seed + number
            )
            # `ask` would begin another one; Optuna has no public way to go on with a trial.
            trial = (
                optuna.trial.Trial(self._study, running[0]._trial_id)
                if running
                else self._study.ask()
            )
            self._try(trial, trials)

    def findings(self, seeds: int) -> Findings:
        """Train the best settings and the present ones again, and put together what is known."""
        tried = [self._tried(trial) for trial in self._ended()]
        complete = [item for item in tried if item.state == "complete"]
        if not complete:
            raise DataError(
                "not one trial came to an end",
                remedy="lower the largest learning_rate of [tune], or batch_size if memory ran out",
            )
        best = max(complete, key=lambda item: (item.score, -item.number))
        again = {
            item.number: [self._again(item, 1 + n).score for n in range(seeds)]
            for item in {tried[0].number: tried[0], best.number: best}.values()
            if item.state == "complete"
        }
        return Findings(
            architecture=self._space.architecture,
            parameters=self._space.parameters,
            present=self._space.present,
            tried=tried,
            best=best,
            again=again if seeds else {},
            measured={item.number: self._kept(str(item.number)) for item in complete},
        )

    def _check_identity(self) -> None:
        """Refuse to go on with a search that was for something else."""
        settings = dataclasses.asdict(
            resolve_settings(self._space.architecture, self._space.settings)
        )
        for name in ("workers", "processes", "checkpoint_minutes", "keep_checkpoints"):
            del settings[name]
        identity = {
            "architecture": self._space.architecture,
            "settings": settings,
            "search space": {item.name: str(item) for item in self._space.parameters},
            "split": SplitPlan.read(self._order.split_uri).training_digest,
            "weights": self._order.weights,
            "seed": self._seed,
            "version of Marquee": __version__,
        }
        kept = self._study.user_attrs.get(_SEARCH)
        if kept is None:
            self._study.set_user_attr(_SEARCH, identity)
            return
        changed = [name for name, value in identity.items() if kept.get(name) != value]
        if changed:
            raise UsageError(
                f"{self._out} holds a search with another {changed[0]}",
                remedy="choose another --out, or remove it",
            )

    def _ended(self) -> list[FrozenTrial]:
        return [trial for trial in self._study.trials if trial.state.is_finished()]

    def _try(self, trial: optuna.trial.Trial, trials: int) -> None:
        values = {item.name: _suggest(trial, item) for item in self._space.parameters}
        begun = time.monotonic()
        reported = set(self._study.trials[trial.number].intermediate_values)

        def watch(epochs: Sequence[Mapping[str, float]]) -> None:
            for step, score in self._steps(epochs):
                if step not in reported:
                    trial.report(score, step)
                    reported.add(step)
            if trial.should_prune():
                raise optuna.TrialPruned

        try:
            measured = self._measure(values, watch)
        except optuna.TrialPruned:
            said = "worse than the median, given up"
            self._study.tell(trial, state=TrialState.PRUNED)
        except tuple(_FAILURES) as error:
            failure = _FAILURES[type(error)]
            said = f"{failure} ({error.message})"
            trial.set_user_attr(_FAILURE, failure)
            self._study.tell(trial, state=TrialState.FAIL)
        else:
            self._keep(str(trial.number), measured)
            said = f"mAP {measured.score:.4f}"
            self._study.tell(trial, measured.score)
        storage.remove(self._order.checkpoints)
        logger.info("tune: trial %d of %d: %s; %s; %.0f s", trial.number + 1, trials, said,
                    self._so_far(), time.monotonic() - begun)  # fmt: skip

    def _steps(self, epochs: Sequence[Mapping[str, float]]) -> Iterator[tuple[int, float]]:
        """Number epochs so that all trials have the same numbers, whenever a phase ended."""
        before: dict[float, int] = {}
        for row in epochs:
            before[row["phase"]] = before.get(row["phase"], 0) + 1
            step = self._epochs * (int(row["phase"]) - 1) + before[row["phase"]]
            yield step, row["validation_macro_map"]

    def _so_far(self) -> str:
        complete = [t for t in self._ended() if t.state is TrialState.COMPLETE]
        if not complete:
            return "none has ended so far"
        best = self._study.best_trial
        return f"the best so far is {best.value:.4f} (trial {best.number + 1})"

    def _measure(self, values: Mapping[str, Value], watch: Any = None) -> Measured:
        return measure(self._order, self._space.apply(values), watch)

    def _again(self, item: Tried, seed: int) -> Measured:
        """Train with a seed that nobody has chosen by its result."""
        name = f"{item.number}-seed-{seed}"
        if not self._place(name).exists():
            seeds = resolve_settings(self._space.architecture, self._space.settings).seed + seed
            self._keep(name, self._measure({**item.values, "seed": seeds}))
            storage.remove(self._order.checkpoints)
            logger.info("tune: trial %d with seed %d: mAP %.4f", item.number + 1, seeds,
                        self._kept(name).score)  # fmt: skip
        return self._kept(name)

    def _place(self, name: str) -> Path:
        return self._out / "scores" / f"{name}.npz"

    def _keep(self, name: str, measured: Measured) -> None:
        place = self._place(name)
        place.parent.mkdir(exist_ok=True)
        partial = place.with_suffix(".partial.npz")
        np.savez_compressed(partial, **vars(measured))
        partial.replace(place)

    def _kept(self, name: str) -> Measured:
        with np.load(self._place(name)) as found:
            values = {key: found[key] for key in found.files}
        return Measured(**{**values, "epochs": int(values["epochs"])})

    def _tried(self, trial: FrozenTrial) -> Tried:
        scores = trial.intermediate_values.values()
        started, ended = trial.datetime_start, trial.datetime_complete
        return Tried(
            number=trial.number,
            state=_STATES.get(trial.state) or trial.user_attrs[_FAILURE],
            score=trial.value if trial.value is not None else max(scores, default=float("nan")),
            epochs=len(trial.intermediate_values),
            seconds=(ended - started).total_seconds() if started and ended else 0.0,
            values=trial.params,
        )


def _suggest(trial: optuna.trial.Trial, parameter: Parameter) -> Value:
    if parameter.choices:
        return trial.suggest_categorical(parameter.name, parameter.choices)  # type: ignore[return-value]
    if parameter.whole:
        return trial.suggest_int(parameter.name, int(parameter.low), int(parameter.high))
    return trial.suggest_float(parameter.name, parameter.low, parameter.high, log=parameter.log)
