"""Train: from a catalog and a split plan to a sealed model bundle."""

import dataclasses
import json
import logging
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from components.train.architectures import ARCHITECTURES
from components.train.data import (
    EpochSampler,
    PosterDataset,
    Regimen,
    Subset,
    make_loader,
    read_subset,
)
from components.train.device import autocast, cpu_count, pick_device
from components.train.export import export
from components.train.features import FeatureCache
from components.train.loop import Batch, History, fit
from components.train.model import PosterModel
from components.train.settings import TrainSettings, resolve_settings
from components.train.thresholds import calibrate, choose_thresholds
from marquee import __version__, storage
from marquee.bundle import SUMS_FILE, BundleInfo, seal
from marquee.catalog import Catalog
from marquee.decision import decide
from marquee.errors import DataError, DataGateFailed
from marquee.images import Preprocessing
from marquee.licences import COLUMNS as LICENCE_COLUMNS
from marquee.licences import check_training_use
from marquee.lineage import write_training_posters
from marquee.log import progress
from marquee.metrics import score
from marquee.profile import reference_profile
from marquee.settings import LicenceSettings, Settings
from marquee.split import TRAIN, VALIDATION, SplitPlan

logger = logging.getLogger(__name__)

_FEWEST_POSTERS = 8


@dataclass(frozen=True, kw_only=True)
class TrainReport:
    """What a training gave."""

    architecture: str
    version: str
    """The bundle's version."""
    bundle_uri: str
    validation: dict[str, float]
    history: History
    settings: TrainSettings


def train(
    catalog_uri: str,
    split_uri: str,
    name: str,
    weights: str,
    bundle_uri: str,
    settings: Settings,
    run: str = "",
) -> TrainReport:
    """Train an architecture and seal the bundle.

    Args:
        catalog_uri: The catalog.
        split_uri: The split plan made for it.
        name: The architecture, such as `custom_cnn`.
        weights: Where pretrained weights come from: `torchvision`, `random`, a file or a URI.
        bundle_uri: Where the bundle goes; one that is there is replaced.
        settings: The settings of this process.
        run: The run's URI, for the bundle's lineage.

    Returns:
        The report.

    Raises:
        DataError: The plan was made for another catalog.
        DataGateFailed: A split has too few posters, or the terms of some forbid training.
    """
    chosen = resolve_settings(name, settings)
    torch.manual_seed(chosen.seed)
    torch.set_num_threads(cpu_count())
    plan, posters, subsets = _read(catalog_uri, split_uri, settings.licence)
    model = ARCHITECTURES[name].build(len(plan.genres), chosen, weights)
    preprocessing = Preprocessing(height=chosen.height, width=chosen.width)
    logger.info(
        "train: %s on %d posters, %d to validate", name, *(len(part) for part in subsets.values())
    )
    run_fit = _fit_head if ARCHITECTURES[name].frozen_backbone else _fit_network
    regimen = Regimen(subsets[TRAIN], plan, chosen.seed)
    history, logits = run_fit(model, preprocessing, subsets, regimen, chosen)
    info = _describe(name, plan, preprocessing, subsets[VALIDATION], logits, chosen, weights, run)
    digest = _publish(model, preprocessing, posters, info, bundle_uri)
    logger.info("train: bundle %s, version %s", bundle_uri, digest[:12])
    return TrainReport(
        architecture=name,
        version=digest,
        bundle_uri=bundle_uri,
        validation=info.validation,
        history=history,
        settings=chosen,
    )


def _read(
    catalog_uri: str, split_uri: str, licence: LicenceSettings
) -> tuple[SplitPlan, pd.DataFrame, dict[str, Subset]]:
    """Read the plan, where the posters that train come from, and the posters."""
    catalog, plan = Catalog(catalog_uri), SplitPlan.read(split_uri)
    if plan.balance["catalog_digest"] != catalog.manifest.digest:
        raise DataError(
            f"the split plan {split_uri} was made for another state of the catalog {catalog_uri}",
            remedy="run `marquee balance` again",
        )
    provenance = catalog.frame(["film_id", "source", *LICENCE_COLUMNS])
    posters = plan.frame[["poster_id", "split"]].merge(provenance, on="poster_id")
    check_training_use(posters, licence)
    subsets = {split: read_subset(catalog, plan, split) for split in (TRAIN, VALIDATION)}
    for split, subset in subsets.items():
        if len(subset) < _FEWEST_POSTERS:
            raise DataGateFailed(
                f"the split {split} has {len(subset)} posters",
                remedy="bring more posters, or raise balance.validation",
            )
    return plan, posters[posters["split"].isin(subsets)], subsets


def _fit_head(
    model: PosterModel,
    preprocessing: Preprocessing,
    subsets: dict[str, Subset],
    regimen: Regimen,
    settings: TrainSettings,
) -> tuple[History, NDArray[np.float32]]:
    """Train the head on cached features of the frozen backbone."""
    cache = FeatureCache(model, preprocessing, settings.precision)
    train_features, validation_features = (
        torch.from_numpy(cache.features(subsets[split])) for split in (TRAIN, VALIDATION)
    )
    head = model.head.cpu()
    # Splitting so small a network over threads costs more than it saves.
    torch.set_num_threads(1)
    _start_normalisation(head.normalise, train_features)
    subset = subsets[TRAIN]
    batch_size = min(settings.batch_size, len(regimen))

    def batches(epoch: int) -> Iterator[Batch]:
        order = regimen.rows(epoch)
        for start in range(0, len(order) - batch_size + 1, batch_size):
            rows = order[start : start + batch_size]
            yield _batch(train_features[rows], subset, regimen, rows, torch.device("cpu"))

    def score_validation(scored: torch.nn.Module) -> NDArray[np.float32]:
        with torch.no_grad():
            logits: NDArray[np.float32] = scored(validation_features).numpy()
        return logits

    # A head of a hundred thousand weights gains nothing from bf16.
    plain = dataclasses.replace(settings, precision="fp32")
    history = fit(
        head,
        batches,
        len(regimen) // batch_size,
        score_validation,
        subsets[VALIDATION].labels,
        torch.from_numpy(regimen.positives),
        plain,
    )
    return history, score_validation(head)


def _start_normalisation(norm: torch.nn.BatchNorm1d, features: torch.Tensor) -> None:
    """Begin with the features' own mean and variance: they do not change in training."""
    assert norm.running_mean is not None and norm.running_var is not None
    norm.running_mean.copy_(features.mean(dim=0))
    norm.running_var.copy_(features.var(dim=0))


def _fit_network(
    model: PosterModel,
    preprocessing: Preprocessing,
    subsets: dict[str, Subset],
    regimen: Regimen,
    settings: TrainSettings,
) -> tuple[History, NDArray[np.float32]]:
    """Train a whole network on the posters."""
    device = pick_device()
    # One core a thread: with more threads than cores, those that compute wait for each other most
    # of the time.
    torch.set_num_threads(max(1, cpu_count() - settings.workers))
    model.to(device).to(memory_format=torch.channels_last)
    subset = subsets[TRAIN]
    batch_size = min(settings.batch_size, len(regimen))
    sampler = EpochSampler(len(regimen), regimen.rows)
    loader = make_loader(
        PosterDataset(subset, preprocessing, augment_seed=settings.seed),
        sampler,
        batch_size,
        settings.workers,
        drop_last=True,
    )

    def batches(epoch: int) -> Iterator[Batch]:
        sampler.epoch = epoch
        with progress(f"epoch {epoch + 1}", len(loader)) as advance:
            for images, rows in loader:
                yield _batch(images.to(device), subset, regimen, rows.numpy(), device)
                advance(1)

    def score_validation(scored: torch.nn.Module) -> NDArray[np.float32]:
        return _logits(scored, subsets[VALIDATION], preprocessing, settings, device)

    history = fit(
        model,
        batches,
        len(loader),
        score_validation,
        subsets[VALIDATION].labels,
        torch.from_numpy(regimen.positives),
        settings,
    )
    return history, score_validation(model)


def _batch(
    inputs: torch.Tensor,
    subset: Subset,
    regimen: Regimen,
    rows: NDArray[np.int64],
    device: torch.device,
) -> Batch:
    return Batch(
        inputs,
        torch.from_numpy(subset.labels[rows]).to(device),
        torch.from_numpy(subset.label_weights[rows]).to(device),
        torch.from_numpy(regimen.weights[rows]).to(device),
    )


def _logits(
    model: torch.nn.Module,
    subset: Subset,
    preprocessing: Preprocessing,
    settings: TrainSettings,
    device: torch.device,
) -> NDArray[np.float32]:
    """Give the logits [N, G] of a subset's posters, in the order of its rows."""
    loader = make_loader(
        PosterDataset(subset, preprocessing),
        EpochSampler(len(subset)),
        settings.batch_size,
        settings.workers,
    )
    collected = []
    with torch.no_grad(), autocast(device, settings.precision):
        for images, _ in loader:
            collected.append(model(images.to(device)).float().cpu().numpy())
    return np.concatenate(collected)


def _describe(
    name: str,
    plan: SplitPlan,
    preprocessing: Preprocessing,
    validation: Subset,
    logits: NDArray[np.float32],
    settings: TrainSettings,
    weights: str,
    run: str,
) -> BundleInfo:
    """Say of a trained model what `bundle.json` says."""
    calibration = calibrate(logits, validation.labels)
    probabilities = calibration.probabilities(logits)
    thresholds = choose_thresholds(probabilities, validation.labels)
    chosen, _ = decide(probabilities, thresholds)
    metrics = score(validation.labels, probabilities, chosen, plan.genres)
    return BundleInfo(
        architecture=name,
        label_set=plan.label_set,
        genres=plan.genres,
        thresholds=thresholds,
        calibration=calibration,
        preprocessing=preprocessing,
        explanation="maps",
        validation=metrics,
        reference_profile=reference_profile(validation.frame, probabilities, chosen, plan.genres),
        catalog_digest=str(plan.balance["catalog_digest"]),
        split_digest=plan.digest,
        code_version=__version__,
        run=run,
        environment=_environment(settings, weights),
    )


def _environment(settings: TrainSettings, weights: str) -> dict[str, str]:
    packages = ("torch", "torchvision", "onnx", "numpy", "pillow")
    return {
        **{package: version(package) for package in packages},
        "python": platform.python_version(),
        "weights": weights.rpartition("/")[2],
        "settings": json.dumps(dataclasses.asdict(settings)),
    }


def _publish(
    model: PosterModel,
    preprocessing: Preprocessing,
    posters: pd.DataFrame,
    info: BundleInfo,
    bundle_uri: str,
) -> str:
    near = bundle_uri.rstrip("/").rpartition("/")[0] or "."
    with storage.scratch_folder(near) as scratch:
        folder = scratch / "bundle"
        folder.mkdir()
        export(model, preprocessing, folder)
        write_training_posters(folder, posters)
        digest = seal(folder, info)
        storage.replace_folder(folder, bundle_uri, last=SUMS_FILE)
    return digest
