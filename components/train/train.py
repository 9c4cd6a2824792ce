"""Train: from a catalog and a split plan to a sealed model bundle."""

import dataclasses
import json
import logging
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from components.train.architectures import Phase, architecture, parameter_groups, phases
from components.train.checkpoints import Checkpoints
from components.train.cross_validation import CrossValidation
from components.train.data import (
    Inputs,
    PosterDataset,
    Posters,
    Regimen,
    Subset,
    Turn,
    read_subset,
)
from components.train.export import export
from components.train.features import Features, FrozenPart, varied_features
from components.train.head import EvidenceHead
from components.train.loop import OutOfMemory, Task, Trainer, Watch
from components.train.model import PosterModel
from components.train.order import Order, PeerLost, TrainReport
from components.train.precision import reduce_precision
from components.train.progress import Progress
from components.train.reference import reference_profile
from components.train.settings import TrainSettings, resolve_settings
from components.train.similar import index_posters
from components.train.thresholds import calibrate, choose_thresholds
from components.train.weights import digest
from components.train.world import World, world
from marquee import __version__, storage
from marquee.bundle import SUMS_FILE, BundleInfo, seal
from marquee.catalog import Catalog
from marquee.decision import decide
from marquee.eras import ERAS
from marquee.errors import DataError, DataGateFailed, InfrastructureError
from marquee.images import Preprocessing
from marquee.licences import COLUMNS as LICENCE_COLUMNS
from marquee.licences import check_training_use
from marquee.lineage import write_training_posters
from marquee.metrics import macro_map, score
from marquee.settings import LicenceSettings, Settings
from marquee.split import TRAIN, VALIDATION, SplitPlan

logger = logging.getLogger(__name__)

_NO_MEMORY = "can't allocate memory"
_WORKER_LOST = ("exited unexpectedly", "is killed by signal")
_PEER_LOST = ("gloo/transport", "Connection closed by peer", "Connection reset by peer")
"""Of what torch says, where it has no type of its own."""

_FEWEST_POSTERS = 8
_BATCH = 8
"""Posters that the sealed model runs on at a time: more gain little, and take memory."""
_CALIBRATION_POSTERS = 200
"""Training posters that show int8 the range of each feature map."""


def train(order: Order, settings: Settings) -> TrainReport:
    """Train an architecture and seal the bundle; alone, or with the others that torchrun started.

    Args:
        order: What is to be trained.
        settings: The settings of this process.

    Returns:
        The report.

    Raises:
        DataError: The plan was made for another catalog, or a poster is damaged.
        DataGateFailed: A split has too few posters, or the terms of some forbid training.
        InfrastructureError: Memory or disk ran out, or a process was lost.
        Stopped: Training was asked to stop; the same order goes on where it was.
    """
    chosen = resolve_settings(order.architecture, settings)
    with _explained(chosen):
        with world() as processes:
            training = _Training(order, chosen, settings.licence, processes)
            logits = training.fit()
        # The others need not wait for the export: they would lose patience with a large one.
        return training.publish(logits)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a training without a bundle gave: how it ranks the N validation posters."""

    logits: NDArray[np.float32]
    """[N, G]."""
    labels: NDArray[np.float32]
    """[N, G] of zeros and ones."""
    groups: NDArray[np.int64]
    """The number of each poster's group of the split plan [N], counted from 0 without a gap."""
    epochs: int
    """How many it took, of all phases."""

    @property
    def score(self) -> float:
        """The validation macro mAP."""
        return macro_map(self.labels, self.logits)


def measure(order: Order, settings: Settings, watch: Watch | None = None) -> Measured:
    """Train an architecture in this process to see how good it becomes; no bundle is made.

    Args:
        order: What is to be trained; its checkpoints are the caller's to remove, once the result is
            kept.
        settings: The settings of this process.
        watch: Is given the learning curves of all phases so far after each epoch; what it raises
            ends the training.

    Returns:
        How it ranks the validation posters.

    Raises:
        MarqueeError: As `train`; `Diverged` and `OutOfMemory` among it.
    """
    chosen = resolve_settings(order.architecture, settings)
    with _explained(chosen), world() as processes:
        training = _Training(order, chosen, settings.licence, processes, watch)
        logits = training.fit()
    return training.measured(logits)


@contextmanager
def _explained(settings: TrainSettings) -> Iterator[None]:
    """Turn what torch says of lost processes and missing memory into an error of ours."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        text = f"{type(error).__name__}: {error}".splitlines()[0]
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or _NO_MEMORY in text:
            raise OutOfMemory(
                f"memory ran out while training ({text})",
                remedy=f"lower train.batch_size ({settings.batch_size}), or keep it and raise "
                f"train.accumulate ({settings.accumulate})",
            ) from error
        if any(words in text for words in _WORKER_LOST):
            raise InfrastructureError(
                f"a process that decodes posters was killed ({text})",
                remedy="give more memory, or lower train.workers; the same command goes on from "
                "the last checkpoint",
            ) from error
        if isinstance(error, dist.DistError) or any(words in text for words in _PEER_LOST):
            raise PeerLost(
                f"a process that trains beside this one was lost ({text})",
                remedy="see its log; the same command goes on from the last checkpoint",
            ) from error
        raise


class _Training:
    def __init__(
        self,
        order: Order,
        settings: TrainSettings,
        licence: LicenceSettings,
        processes: World,
        watch: Watch | None = None,
    ) -> None:
        self._watch = watch
        self._order, self._settings, self._world = order, settings, processes
        torch.manual_seed(settings.seed)
        torch.set_num_threads(processes.cores)
        self._plan, self._subsets = _read(order, licence)
        genres = len(self._plan.genres)
        build = architecture(order.architecture).build
        model = build(genres, settings, order.weights).to(processes.device)
        # Convolutions are faster where a pixel's channels lie side by side.
        self._model: PosterModel = model.to(memory_format=torch.channels_last)
        self._preprocessing = Preprocessing(height=settings.height, width=settings.width)
        self._regimen = Regimen(self._subsets[TRAIN], self._plan, settings.seed)
        self._history: list[dict[str, float]] = []
        self._folds: dict[str, list[float]] = {}

    def fit(self) -> NDArray[np.float32]:
        """Train all phases; give the genres' logits [N, G] for the validation posters."""
        order, sizes = self._order, [len(part) for part in self._subsets.values()]
        logger.info("train: %s on %d posters, %d to validate", order.architecture, *sizes)
        _warn_of_missing_genres(self._subsets[TRAIN], self._plan)
        listed = phases(order.architecture, self._model, self._settings)
        parts = self._frozen_parts(listed)
        identity = self._identity()
        self._cross_validate(listed[0], parts)
        for number, phase in enumerate(listed):
            progress = Progress(number, len(listed))
            logits = self._train_phase(phase, progress, parts.get(phase.frozen), identity)
        return logits[:, : len(self._plan.genres)]

    def publish(self, logits: NDArray[np.float32]) -> TrainReport:
        """Seal the bundle, if this process leads, and report."""
        order, info, sealed = self._order, self._describe(logits), ""
        if self._world.leads:
            sealed = self._seal(info, logits)
            storage.remove(order.checkpoints)
            logger.info("train: bundle %s, version %s", order.bundle_uri, sealed[:12])
        return TrainReport(
            architecture=order.architecture,
            version=sealed,
            bundle_uri=order.bundle_uri,
            validation=info.validation,
            history=self._history,
            cross_validation=self._folds,
            settings=self._settings,
        )

    def measured(self, logits: NDArray[np.float32]) -> Measured:
        """Give what the training came to, without a bundle."""
        validation = self._subsets[VALIDATION]
        groups = self._plan.frame.set_index("poster_id")["group_id"]
        numbers = pd.factorize(validation.frame["poster_id"].map(groups))[0]
        return Measured(
            logits=logits,
            labels=validation.labels,
            groups=numbers.astype(np.int64),
            epochs=len(self._history),
        )

    def _identity(self) -> dict[str, Any]:
        """Give all that decides how the training goes, but for how many work on it."""
        own = dataclasses.asdict(self._settings)
        for name in ("workers", "processes", "checkpoint_minutes", "keep_checkpoints"):
            del own[name]
        return {
            "architecture": self._order.architecture,
            "settings": own,
            "data": self._plan.training_digest,
            "weights": digest(self._model),
            "code": __version__,
        }

    def _cross_validate(self, phase: Phase, parts: dict[int, FrozenPart]) -> None:
        head = self._model.head
        if not phase.settings.folds:
            return
        if phase.frozen == len(self._model.backbone) and isinstance(head, EvidenceHead):
            folds = CrossValidation(
                head=head,
                frozen=parts[phase.frozen],
                phase=dataclasses.replace(phase, settings=_of_a_head(phase.settings)),
                plan=self._plan,
                world=self._world,
            )
            self._folds = folds.run(self._subsets[TRAIN].beside(self._subsets[VALIDATION]))
        else:
            logger.warning(
                "train: train.folds does nothing: %s has no head that trains on frozen features",
                self._order.architecture,
            )

    def _frozen_parts(self, listed: list[Phase]) -> dict[int, FrozenPart]:
        """Give what computes the inputs of each phase; one begins where a shorter one ends."""
        parts: dict[int, FrozenPart] = {}
        below: FrozenPart | None = None
        for last in sorted({phase.frozen for phase in listed} - {0}):
            below = parts[last] = FrozenPart(
                self._model, last, self._preprocessing, self._settings, self._world, below
            )
        return parts

    def _train_phase(
        self,
        phase: Phase,
        progress: Progress,
        frozen: FrozenPart | None,
        identity: dict[str, Any],
    ) -> NDArray[np.float32]:
        """Train a part of the network; give the outputs [N, ...] for the validation posters."""
        whole = phase.frozen == len(self._model.backbone)
        # Not those of the phase before.
        torch.set_num_threads(self._world.cores)
        inputs = self._inputs(phase, frozen)
        if whole:
            # Splitting a head over threads costs more than it saves.
            torch.set_num_threads(1)
        part = self._model.trained_part(phase.frozen)
        task = Task(
            module=part,
            groups=parameter_groups(part, phase),
            train=self._subsets[TRAIN],
            validation=self._subsets[VALIDATION],
            train_inputs=inputs[TRAIN],
            validation_inputs=inputs[VALIDATION],
            regimen=self._regimen,
        )
        checkpoints = Checkpoints(
            self._order.checkpoints, identity, f"{progress.phase}-{phase.name}",
            phase.settings.keep_checkpoints,
        )  # fmt: skip
        settings = _of_a_head(phase.settings) if whole else phase.settings
        before = self._history

        def curves(epochs: Sequence[Mapping[str, float]]) -> list[dict[str, float]]:
            own = {"phase": progress.phase + 1}
            return before + [{**row, "epoch": len(before) + row["epoch"], **own} for row in epochs]

        def follow(epochs: Sequence[Mapping[str, float]]) -> None:
            if self._watch:
                self._watch(curves(epochs))

        trainer = Trainer(
            task, settings, self._world, checkpoints, starts_trained=progress.phase > 0,
            watch=follow, progress=progress,
        )  # fmt: skip
        self._history = curves(trainer.fit().epochs)
        return trainer.scores(part)

    def _inputs(self, phase: Phase, frozen: FrozenPart | None) -> dict[str, Inputs]:
        train_split, validation = self._subsets[TRAIN], self._subsets[VALIDATION]
        if frozen is None:
            return {
                split: Posters(
                    PosterDataset(self._subsets[split], self._preprocessing, seed),
                    phase.settings.workers,
                    phase.settings.batch_size,
                )
                for split, seed in ((TRAIN, phase.settings.seed), (VALIDATION, None))
            }
        inputs = varied_features(frozen, train_split, phase.settings)
        head = self._model.head
        if phase.frozen == len(self._model.backbone) and isinstance(head, EvidenceHead):
            head.start(*inputs.moments())
        return {TRAIN: inputs, VALIDATION: Features(frozen.view(validation))}

    def _describe(self, logits: NDArray[np.float32]) -> BundleInfo:
        """Say of the trained model what `bundle.json` says."""
        order, plan, validation = self._order, self._plan, self._subsets[VALIDATION]
        calibration = calibrate(logits, validation.labels)
        probabilities = calibration.probabilities(logits)
        thresholds = choose_thresholds(probabilities, validation.labels)
        chosen, _ = decide(probabilities, thresholds)
        metrics = score(validation.labels, probabilities, chosen, plan.genres)
        return BundleInfo(
            architecture=order.architecture,
            label_set=plan.label_set,
            genres=plan.genres,
            thresholds=thresholds,
            calibration=calibration,
            preprocessing=self._preprocessing,
            explanation="maps" if isinstance(self._model.head, EvidenceHead) else "occlusion",
            validation=metrics,
            reference_profile={},
            catalog_digest=str(plan.balance["catalog_digest"]),
            split_digest=plan.digest,
            code_version=__version__,
            run=order.run,
            eras=ERAS if self._settings.era_weight else (),
            history=self._history,
            cross_validation=self._folds,
            environment=_environment(self._settings, order.weights),
        )

    def _seal(self, info: BundleInfo, logits: NDArray[np.float32]) -> str:
        """Write and seal the bundle; give its version."""
        uri = self._order.bundle_uri
        with storage.scratch_folder(uri.rstrip("/").rpartition("/")[0] or ".") as scratch:
            folder = scratch / "bundle"
            folder.mkdir()
            export(self._model, self._preprocessing, folder)
            training = self._subsets[TRAIN]
            posters = _with_origin(training.catalog, self._plan)
            write_training_posters(folder, posters[posters["split"].isin(self._subsets)])
            info = self._with_reduced_precision(folder, info, logits)
            index_posters(folder, info, training, self._pixels(training))
            validation = self._subsets[VALIDATION]
            profile = reference_profile(folder, info, validation, self._pixels(validation))
            info = dataclasses.replace(info, reference_profile=profile.to_document())
            version = seal(folder, info)
            storage.replace_folder(folder, uri, last=SUMS_FILE)
        return version

    def _with_reduced_precision(
        self, folder: Path, info: BundleInfo, logits: NDArray[np.float32]
    ) -> BundleInfo:
        training, validation = self._subsets[TRAIN], self._subsets[VALIDATION]
        some = np.linspace(0, len(training) - 1, min(_CALIBRATION_POSTERS, len(training)))
        reduced = reduce_precision(
            folder,
            self._settings.wanted_precisions,
            self._pixels(training.take(some.astype(np.int64))),
            lambda: self._pixels(validation),
            validation.labels,
            logits,
            info.calibration,
        )
        return dataclasses.replace(
            info,
            variants=reduced.variants,
            precision=reduced.default(self._settings.default_precision),
        )

    def _pixels(self, subset: Subset) -> Iterator[NDArray[np.uint8]]:
        dataset = PosterDataset(subset, self._preprocessing)
        posters = Posters(dataset, self._settings.workers, _BATCH)
        rows = range(len(subset))
        turns = [[Turn(row) for row in rows[n : n + _BATCH]] for n in rows[::_BATCH]]
        return (batch.numpy() for batch in posters.batches(turns))


def _of_a_head(settings: TrainSettings) -> TrainSettings:
    """A head of a hundred thousand weights gains nothing from half precision."""
    return dataclasses.replace(settings, precision="fp32")


def _warn_of_missing_genres(subset: Subset, plan: SplitPlan) -> None:
    missing = [g for g, n in zip(plan.genres, subset.labels.sum(axis=0), strict=True) if not n]
    if missing:
        logger.warning(
            "train: no training poster has %s: the model cannot learn it (bring such posters, or "
            "predict another label set)",
            ", ".join(missing),
        )


def _read(order: Order, licence: LicenceSettings) -> tuple[SplitPlan, dict[str, Subset]]:
    """Read the plan and the posters, if the terms of all allow training."""
    catalog, plan = Catalog(order.catalog_uri), SplitPlan.read(order.split_uri)
    if plan.balance["catalog_digest"] != catalog.manifest.digest:
        raise DataError(
            f"the split plan {order.split_uri} was made for the catalog "
            f"{plan.balance['catalog_digest'][:12]}; {order.catalog_uri} is "
            f"{catalog.manifest.digest[:12]}",
            remedy="run `marquee balance` again",
        )
    check_training_use(_with_origin(catalog, plan), licence)
    subsets = {split: read_subset(catalog, plan, split) for split in (TRAIN, VALIDATION)}
    for split, subset in subsets.items():
        if len(subset) < _FEWEST_POSTERS:
            raise DataGateFailed(
                f"the split {split} has {len(subset)} posters, fewer than {_FEWEST_POSTERS}",
                remedy=f"bring more posters, or raise balance.{split}",
            )
    return plan, subsets


def _with_origin(catalog: Catalog, plan: SplitPlan) -> pd.DataFrame:
    """Give all posters of the plan, with where they come from and what their terms are."""
    origin = catalog.frame(["film_id", "source", *LICENCE_COLUMNS])
    return plan.frame[["poster_id", "split"]].merge(origin, on="poster_id")


def _environment(settings: TrainSettings, weights: str) -> dict[str, str]:
    packages = ("torch", "torchvision", "onnx", "openvino", "onnxruntime", "numpy", "pillow")
    return {
        **{package: version(package) for package in packages},
        "python": platform.python_version(),
        "weights": weights.rpartition("/")[2],
        "settings": json.dumps(dataclasses.asdict(settings)),
    }
