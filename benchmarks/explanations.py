"""Are explanations faithful? On test posters: which pixels count, and what random weights show.

Run `python -m benchmarks.explanations --run RUN [--arch custom_cnn] [--posters 150]`. RUN is the
folder of a run on real posters, such as `benchmarks.real_posters --keep RUN` leaves; without it,
custom_cnn is trained for all18 first.

Deletion replaces a poster's cells by those of the blurred poster, the most evident for its most
probable genre first; insertion begins with the blurred poster and brings them back in that order.
The score is the area under the curve of the genre's probability over the share of cells: faithful
evidence makes it small for deletion and large for insertion. Cells of another poster's evidence for
the same genre have the same shapes, but know nothing of this poster.
"""

import argparse
import dataclasses
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from scipy.stats import spearmanr

from benchmarks.real_posters import run
from benchmarks.results import record
from components.train.architectures import architecture
from components.train.model import PosterModel
from components.train.settings import TrainSettings
from marquee.bundle import WEIGHTS_FILE, Bundle, load
from marquee.catalog import Catalog
from marquee.engine import Engine
from marquee.images import resize
from marquee.run_layout import RunLayout
from marquee.split import TEST, SplitPlan
from serving.explanation import Explainer, smoothed

BY_EVIDENCE, SMOOTHED, ANOTHER, RANDOM = (
    "by evidence",
    "by evidence, smoothed as overlays are",
    "by another poster's evidence",
    "at random",
)
SEEDS = (1, 2, 3)
"""Of random weights: not the training's own seed, whose first weights leave traces in the last."""

_STEPS = 10
_BATCH = 8
_TIMED = 30

Cells = NDArray[np.intp]
"""The cells of a grid [h * w] in some order."""


def posters(layout: RunLayout, bundle: Bundle, count: int) -> Iterator[NDArray[np.uint8]]:
    """Give some of a run's test posters, preprocessed [H, W, 3]."""
    catalog, plan = Catalog(layout.catalog), SplitPlan.read(layout.split)
    frame = catalog.frame(["shard_offset", "size", "sha256"]).set_index("poster_id")
    chosen = np.random.default_rng(0).permutation(plan.ids(TEST))[:count]
    for poster_id in chosen:
        row = frame.loc[poster_id]
        place = (row["part"], int(row["shard_offset"]), int(row["size"]), row["sha256"])
        yield resize(catalog.read_poster(poster_id, *place), bundle.info.preprocessing)


@dataclasses.dataclass(frozen=True)
class Explained:
    """A poster, and the evidence for its most probable genre."""

    pixels: NDArray[np.uint8]
    genre: int
    maps: NDArray[np.float32]
    """The evidence for every genre [G, h, w]."""

    @property
    def grid(self) -> NDArray[np.float32]:
        return self.maps[self.genre]


def explain(explainer: Explainer, bundle: Bundle, pixels: NDArray[np.uint8]) -> Explained:
    """Explain all genres of a poster."""
    explanation = explainer.explain(pixels, bundle.info.genres)
    genre = int(np.argmax(list(explanation.prediction.probabilities.values())))
    return Explained(pixels, genre, np.stack([item.grid for item in explanation.heatmaps]))


def orders(poster: Explained, other: Explained, random: np.random.Generator) -> dict[str, Cells]:
    """Give the orders in which a poster's cells are replaced."""
    return {
        BY_EVIDENCE: _descending(poster.grid),
        SMOOTHED: _descending(smoothed(poster.grid)),
        ANOTHER: _descending(other.maps[poster.genre]),
        RANDOM: random.permutation(poster.grid.size),
    }


def _descending(grid: NDArray[np.float32]) -> Cells:
    return np.argsort(-grid.ravel(), kind="stable")


def areas(
    probabilities: Callable[[NDArray[np.uint8]], NDArray[np.float64]],
    poster: Explained,
    order: Cells,
) -> tuple[float, float]:
    """Score an order of cells.

    Args:
        probabilities: Gives those of the genres [N, G] for posters [N, H, W, 3].
        poster: The poster.
        order: Its cells, those replaced first in front.

    Returns:
        The areas for deletion and insertion, each in 0..1.
    """
    height, width = poster.pixels.shape[:2]
    blurred = cv2.GaussianBlur(poster.pixels, (0, 0), width / 8)

    def hide(cells: Cells) -> NDArray[np.uint8]:
        hidden = np.zeros(poster.grid.size, np.uint8)
        hidden[cells] = 1
        grid = hidden.reshape(poster.grid.shape)
        mask = cv2.resize(grid, (width, height), interpolation=cv2.INTER_NEAREST)
        return np.where(mask[..., None] > 0, blurred, poster.pixels)

    counts = np.linspace(0, len(order), _STEPS + 1).round().astype(int)
    images = [hide(order[:n]) for n in counts] + [hide(order[n:]) for n in counts]
    found = [
        probabilities(np.stack(images[n : n + _BATCH]))[:, poster.genre]
        for n in range(0, len(images), _BATCH)
    ]
    deletion, insertion = np.concatenate(found).reshape(2, -1)
    shares = counts / len(order)
    return float(np.trapezoid(deletion, shares)), float(np.trapezoid(insertion, shares))


def scores(engine: Engine, explained: Sequence[Explained]) -> dict[str, NDArray[np.float64]]:
    """Score every order on every poster.

    Returns:
        For each order the areas [N, 2] for deletion and insertion.
    """
    random = np.random.default_rng(0)
    found: dict[str, list[tuple[float, float]]] = {}
    for poster, other in zip(explained, [*explained[1:], explained[0]], strict=True):
        for name, order in orders(poster, other, random).items():
            found.setdefault(name, []).append(areas(engine.probabilities, poster, order))
    return {name: np.array(values) for name, values in found.items()}


def interval(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Give the mean of values [N] and its 95% interval, by the bootstrap."""
    rows = np.random.default_rng(0).integers(0, len(values), (5000, len(values)))
    low, high = np.quantile(values[rows].mean(axis=1), [0.025, 0.975])
    return float(values.mean()), float(low), float(high)


def randomised(bundle: Bundle, seed: int, what: str) -> PosterModel:
    """Give a bundle's network with new random weights.

    Args:
        bundle: The bundle.
        seed: Chooses the weights; another than the training's.
        what: `head`, or `all` for those of the backbone too.
    """
    settings = TrainSettings(**json.loads(bundle.info.environment["settings"]))
    settings = dataclasses.replace(settings, seed=seed)
    torch.manual_seed(seed)
    model = architecture(bundle.info.architecture).build(
        len(bundle.info.genres), settings, "random"
    )
    trained = load_file(bundle.folder / WEIGHTS_FILE)
    kept = {
        name: tensor
        for name, tensor in trained.items()
        if what != "all" and not name.startswith("head.")
    }
    model.load_state_dict(kept, strict=False)
    return model.eval()


def correlations(model: PosterModel, explained: Sequence[Explained]) -> NDArray[np.float64]:
    """Give the rank correlation [N] of each poster's map with another network's."""
    found = []
    for poster in explained:
        with torch.no_grad():
            features = model.features(torch.from_numpy(poster.pixels[None]))
            maps = model.head.maps(features)[0].numpy()  # type: ignore[operator]
        found.append(spearmanr(maps[poster.genre].ravel(), poster.grid.ravel()).statistic)
    return np.array(found)


def time_ratio(engine: Engine, explained: Sequence[Explained]) -> float:
    """Tell how many times as long as a prediction an explanation of one genre takes.

    Both in processor time, by turns; the median.
    """
    explainer, ratios = Explainer(engine), []
    for poster in islice(cycle(explained), _TIMED):
        moments = [time.process_time()]
        engine.predict(poster.pixels[None])
        moments.append(time.process_time())
        explainer.explain(poster.pixels, [engine.bundle.info.genres[poster.genre]])
        moments.append(time.process_time())
        predicting, explaining = np.diff(moments)
        ratios.append(explaining / predicting)
    return float(np.median(ratios))


def table(found: dict[str, NDArray[np.float64]]) -> list[list[str | float]]:
    """Give a row an order."""
    rows: list[list[str | float]] = []
    for name, values in found.items():
        label = f"**{name}**" if name == BY_EVIDENCE else name
        row: list[str | float] = [label, *(float(mean) for mean in values.mean(axis=0))]
        for number in (0, 1):
            difference = interval(values[:, number] - found[RANDOM][:, number])
            row.append("" if name == RANDOM else _with_interval(difference))
        rows.append(row)
    return rows


def _with_interval(found: tuple[float, float, float]) -> str:
    mean, low, high = found
    return f"{mean:+.3f} ({low:+.3f} to {high:+.3f})"


def remarks(engine: Engine, explained: Sequence[Explained]) -> str:
    """Say what random weights show, and what explaining costs."""
    texts = []
    for what in ("head", "all"):
        values = np.concatenate(
            [correlations(randomised(engine.bundle, seed, what), explained) for seed in SEEDS]
        )
        texts.append(f"{what}: {_with_interval(interval(values))}, |r| {np.abs(values).mean():.2f}")
    ratio = time_ratio(engine, explained)
    return (
        f"Rank correlation of the maps with those of random weights, three draws: "
        f"{'; '.join(texts)}. Explaining one genre takes {ratio:.2f} times a prediction's "
        "processor time, decoding not counted."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, help="a run on real posters")
    parser.add_argument("--arch", default="custom_cnn")
    parser.add_argument("--posters", type=int, default=150)
    parser.add_argument("--occlusion", action="store_true", help="explain as without maps")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if not arguments.run:
            run("all18", arguments.arch, Path(folder))
        layout = RunLayout(str(arguments.run or folder))
        bundle = load(layout.bundle(arguments.arch))
        if arguments.occlusion:
            info = dataclasses.replace(bundle.info, explanation="occlusion")
            bundle = dataclasses.replace(bundle, info=info)
        engine = Engine(bundle)
        explainer = Explainer(engine)
        explained = [
            explain(explainer, bundle, pixels)
            for pixels in posters(layout, bundle, arguments.posters)
        ]
        found = scores(engine, explained)
        said = "" if arguments.occlusion else remarks(engine, explained[:40])
    by = ", by occlusion" if arguments.occlusion else ""
    record(
        f"Explanations: {bundle.info.label_set}, {arguments.arch}{by}",
        f"python -m benchmarks.explanations --run RUN --arch {arguments.arch} "
        f"--posters {arguments.posters}{' --occlusion' if arguments.occlusion else ''}",
        ["cells replaced", "deletion", "insertion", "deletion - random", "insertion - random"],
        table(found),
        f"{len(explained)} test posters, {engine.precision}, a grid of "
        f"{' x '.join(map(str, explained[0].grid.shape))}. Area under the curve of the top genre's "
        "probability: the lower for deletion and the higher for insertion, the better; in "
        f"brackets, 95% intervals of the bootstrap by poster. {said}",
    )


if __name__ == "__main__":
    main()
