"""Cross-validation of a head on frozen features: how much of a figure is the luck of the split."""

import copy
import logging
import tempfile
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold
from torch import nn

from components.train.architectures import Phase, parameter_groups
from components.train.checkpoints import Checkpoints
from components.train.data import Regimen, Subset
from components.train.features import Features, FrozenPart, varied_features
from components.train.head import EvidenceHead
from components.train.loop import Task, Trainer, outputs
from components.train.thresholds import calibrate, choose_thresholds
from components.train.world import World
from marquee.decision import decide
from marquee.metrics import score
from marquee.split import SplitPlan

logger = logging.getLogger(__name__)

METRICS: tuple[str, ...] = ("macro_map", "macro_f1", "micro_f1", "top1")


@dataclass(frozen=True, kw_only=True)
class CrossValidation:
    """Trains a head anew for each fold.

    Posters of one film, collection or picture stay in one fold. Each fold tests once; the one after
    it then stops the training, calibrates and chooses thresholds, and the others train.
    """

    head: EvidenceHead
    """The head as it is before training."""
    frozen: FrozenPart
    phase: Phase
    plan: SplitPlan
    world: World

    def run(self, everyone: Subset) -> dict[str, list[float]]:
        """Cross-validate.

        Args:
            everyone: The posters of the training and validation splits; the test split stays out.

        Returns:
            Of each of `METRICS` a value a fold.
        """
        parts = self.parts(everyone)
        found = [self._test(everyone, parts, number) for number in range(len(parts))]
        return {name: [values[name] for values in found] for name in METRICS}

    def parts(self, everyone: Subset) -> list[NDArray[np.int64]]:
        """Deal posters to folds; give the rows of each."""
        groups = everyone.frame["poster_id"].map(self.plan.frame.set_index("poster_id")["group_id"])
        folds = GroupKFold(self.phase.settings.folds, shuffle=True, random_state=0)
        return [rows for _, rows in folds.split(everyone.labels, groups=groups)]

    def _test(
        self, everyone: Subset, parts: list[NDArray[np.int64]], number: int
    ) -> dict[str, float]:
        tested, validating = parts[number], parts[(number + 1) % len(parts)]
        chosen = [rows for rows in parts if rows is not tested and rows is not validating]
        training = everyone.take(np.concatenate(chosen))
        test, validation = everyone.take(tested), everyone.take(validating)
        inputs = varied_features(self.frozen, training, self.phase.settings)
        head = copy.deepcopy(self.head)
        head.start(*inputs.moments())
        part = nn.Sequential(head)
        task = Task(
            module=part,
            groups=parameter_groups(part, self.phase),
            train=training,
            validation=validation,
            train_inputs=inputs,
            validation_inputs=Features(self.frozen.view(validation)),
            regimen=Regimen(training, self.plan, self.phase.settings.seed),
        )
        with tempfile.TemporaryDirectory() as folder:
            trainer = Trainer(
                task, self.phase.settings, self.world, Checkpoints(folder, {}, "fold", 1)
            )
            trainer.fit()
        genres = len(self.plan.genres)
        logits = trainer.scores(part)[:, :genres]
        calibration = calibrate(logits, validation.labels)
        thresholds = choose_thresholds(calibration.probabilities(logits), validation.labels)
        unseen = Features(self.frozen.view(test))
        unseen_logits = outputs(part, unseen, len(test), self.phase.settings, self.world)
        probabilities = calibration.probabilities(unseen_logits[:, :genres])
        decided, _ = decide(probabilities, thresholds)
        values = score(test.labels, probabilities, decided, self.plan.genres)
        logger.info("train: fold %d: macro mAP %.3f, macro F1 %.3f", number + 1,
                    values["macro_map"], values["macro_f1"])  # fmt: skip
        return values
