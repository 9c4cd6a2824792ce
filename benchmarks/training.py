"""Training beside a bare loop, and the loader beside bare decoding.

Run `python -m benchmarks.training [--films 1000] [--rounds 5]`. Each pair is measured in turn, in
one process, on the same drawn posters: training (posters decoded beside it, checkpoints, moving
average) beside a loop of five lines with its batches in memory, with a core left for decoding and
on all cores; the loader beside as many processes that do nothing but `marquee.images`.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.results import record
from components.balance.balance import balance
from components.ingest.ingest import ingest
from components.ingest.sources.drawn import DrawnSource
from components.train.architectures import Phase, architecture, parameter_groups
from components.train.checkpoints import Checkpoints
from components.train.data import PosterDataset, Posters, Regimen, Subset, Turn, read_subset
from components.train.device import autocast
from components.train.loop import Task, Trainer
from components.train.model import PosterModel
from components.train.settings import TrainSettings, resolve_settings
from components.train.world import World
from marquee.catalog import Catalog
from marquee.images import Preprocessing, preprocess
from marquee.processes import cpus
from marquee.settings import BalanceSettings, Settings
from marquee.split import TRAIN, SplitPlan

_BATCH = 32
_WORKERS = 1


def bare_training(subset: Subset, size: Preprocessing, settings: TrainSettings) -> float:
    """Train on batches in memory; give posters a second."""
    torch.manual_seed(0)
    model = _model(subset, settings)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate)
    rows = range(0, len(subset) - settings.batch_size + 1, settings.batch_size)
    turns = [[Turn(row + n) for n in range(settings.batch_size)] for row in rows]
    batches = list(Posters(PosterDataset(subset, size), 0, settings.batch_size).batches(turns))
    labels = torch.from_numpy(subset.labels)
    model.train()
    start = time.perf_counter()
    for first, images in zip(rows, batches, strict=True):
        with autocast(torch.device("cpu"), settings.precision):
            logits = model(images)
        wanted = labels[first : first + settings.batch_size]
        loss = F.binary_cross_entropy_with_logits(logits.float(), wanted)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return len(batches) * settings.batch_size / (time.perf_counter() - start)


def our_training(
    subset: Subset, plan: SplitPlan, size: Preprocessing, settings: TrainSettings
) -> float:
    """Train as the train step does, but without the validation; give posters a second."""
    torch.manual_seed(0)
    model = _model(subset, settings)
    part = model.trained_part(0)
    phase = Phase(name="network", frozen=0, settings=settings)
    dataset = PosterDataset(subset, size, augment_seed=0)
    posters = Posters(dataset, settings.workers, settings.batch_size)
    task = Task(
        module=part,
        groups=parameter_groups(part, phase),
        train=subset,
        validation=subset,
        train_inputs=posters,
        validation_inputs=posters,
        regimen=Regimen(subset, plan, 0),
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(task, settings, World(), Checkpoints(folder, {}, "network", 1))
        # The processes that decode are started once a training, not once an epoch.
        next(posters.batches([[Turn(0)]]))
        start = time.perf_counter()
        trainer.train_epoch(lambda: False)
        return trainer.posters_an_epoch / (time.perf_counter() - start)


def bare_images(data: list[bytes], size: Preprocessing) -> float:
    """Decode posters in a process of their own; give posters a second."""
    with ProcessPoolExecutor(_WORKERS) as pool:
        list(pool.map(partial(_decode_all, size=size), [data[:8]] * _WORKERS))
        shares = [data[n::_WORKERS] for n in range(_WORKERS)]
        start = time.perf_counter()
        list(pool.map(partial(_decode_all, size=size), shares))
        return len(data) / (time.perf_counter() - start)


def _decode_all(data: list[bytes], size: Preprocessing) -> int:
    for item in data:
        preprocess(item, size)
    return len(data)


def our_loader(subset: Subset, size: Preprocessing) -> float:
    """Load posters from the catalog in batches; give posters a second."""
    posters = Posters(PosterDataset(subset, size), _WORKERS, _BATCH)
    next(posters.batches([[Turn(0)]]))
    turns = [
        [Turn(row) for row in range(first, min(first + _BATCH, len(subset)))]
        for first in range(0, len(subset), _BATCH)
    ]
    start = time.perf_counter()
    done = sum(len(batch) for batch in posters.batches(turns))
    return done / (time.perf_counter() - start)


def _model(subset: Subset, settings: TrainSettings) -> PosterModel:
    model = architecture("custom_cnn").build(subset.labels.shape[1], settings, "random")
    fast: PosterModel = model.to(memory_format=torch.channels_last)
    return fast


def on(threads: int, measure: Callable[..., float], *arguments: Any) -> Callable[[], float]:
    """Let torch compute on some threads while something is measured."""

    def run() -> float:
        torch.set_num_threads(threads)
        return measure(*arguments)

    return run


def in_turn(
    rounds: int, one: Callable[[], float], other: Callable[[], float]
) -> Iterator[tuple[float, float]]:
    """Measure two things in turn."""
    for _ in range(rounds):
        yield one(), other()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--films", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ingest(DrawnSource(arguments.films), folder, workers=0)
        catalog = Catalog(folder)
        plan = balance(folder, "all18", BalanceSettings())
        subset = read_subset(catalog, plan, TRAIN)
        settings = resolve_settings("custom_cnn", Settings(train={"workers": _WORKERS}))
        size = Preprocessing(height=settings.height, width=settings.width)
        data = [image for _, image in catalog.stream_images(subset.frame)]
        bare = partial(bare_training, subset, size, settings)
        ours = partial(our_training, subset, plan, size, settings)
        beside = max(1, cpus() - _WORKERS)
        pairs = {
            f"training, {beside} of {cpus()} cores": (on(beside, bare), on(beside, ours)),
            "training, all cores": (on(cpus(), bare), on(cpus(), ours)),
            "loader": (lambda: bare_images(data, size), lambda: our_loader(subset, size)),
        }
        rows: list[list[str | float]] = []
        for name, pair in pairs.items():
            found = list(in_turn(arguments.rounds, *pair))
            ratios = [mine / other for other, mine in found]
            rows.append(
                [
                    name,
                    f"{statistics.median(other for other, _ in found):.0f}",
                    f"{statistics.median(mine for _, mine in found):.0f}",
                    f"{statistics.median(ratios):.2f}",
                    f"{min(ratios):.2f} to {max(ratios):.2f}",
                ]
            )
    record(
        "Training",
        f"python -m benchmarks.training --films {arguments.films} --rounds {arguments.rounds}",
        ["", "bare, posters/s", "ours, posters/s", "ratio (median)", "ratios"],
        rows,
        f"custom_cnn at {size.height} x {size.width}, batches of {settings.batch_size}; "
        f"{_WORKERS} process decodes. The bare loop has its batches in memory; on all cores, as "
        "training runs by default, decoding takes its part of them from ours alone.",
    )


if __name__ == "__main__":
    main()
