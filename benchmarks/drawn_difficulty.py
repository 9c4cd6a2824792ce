"""How hard the drawn posters are: colour alone must not do, shapes must be learnable.

Run `python -m benchmarks.drawn_difficulty [--films 1500] [--seed 0]`. For both label sets it
prints the test macro F1 of three models, each with one threshold a genre tuned on validation
posters: `predict all`, logistic regression on colour histograms, and a small convolutional
network trained from scratch.
"""

import argparse
import io
import itertools
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from PIL import Image
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from torch import nn

from benchmarks.results import record
from components.ingest.drawing import draw_poster
from components.ingest.drawn_films import drawn_film
from marquee.genres import LABEL_SETS, label_matrix

HEIGHT, WIDTH = 96, 64
"""Input of the network in pixels."""

DRAWN_WIDTH = 185
SHARES = (0.70, 0.15)
"""Shares of training and validation posters; the rest is the test set."""

MAX_EPOCHS, IMAGES_SEEN = 30, 28_000
"""Whichever ends first: under a minute on one free core, whatever the number of films."""

NEARLY = 0.97

BATCH, LEARNING_RATE = 32, 5e-3


@dataclass(frozen=True)
class Posters:
    """Posters and their labels."""

    pixels: np.ndarray
    """N x HEIGHT x WIDTH x 3 bytes."""

    labels: np.ndarray
    """N x G zeros and ones."""

    def among(self, rows: np.ndarray) -> "Posters":
        return Posters(self.pixels[rows], self.labels[rows])


Model = Callable[[Posters], np.ndarray]
"""Scores the posters: N x G numbers."""


def draw(films: int, seed: int, label_set: str) -> Posters:
    """Draw posters.

    Args:
        films: How many films to invent; those without a genre of the label set are left out.
        seed: Seed of the catalogue.
        label_set: `all18` or `study4`.

    Returns:
        The posters at the network's input size.
    """
    labels = LABEL_SETS[label_set]
    catalogue = [drawn_film(number, seed) for number in range(films)]
    catalogue = [film for film in catalogue if set(film.genres) & set(labels)]
    pixels = np.empty((len(catalogue), HEIGHT, WIDTH, 3), np.uint8)
    for row, film in enumerate(catalogue):
        with Image.open(io.BytesIO(draw_poster(film, DRAWN_WIDTH))) as poster:
            pixels[row] = np.asarray(poster.resize((WIDTH, HEIGHT), Image.Resampling.BOX))
    facts = pd.DataFrame({"genres": [film.genres for film in catalogue]})
    return Posters(pixels, label_matrix(facts, labels))


def split(posters: Posters, seed: int) -> tuple[Posters, Posters, Posters]:
    """Split at random into training, validation and test posters."""
    order = np.random.default_rng(seed).permutation(len(posters.labels))
    first = round(SHARES[0] * len(order))
    second = round(sum(SHARES) * len(order))
    train, validation, test = np.split(order, [first, second])
    return posters.among(train), posters.among(validation), posters.among(test)


def macro_f1(model: Model, validation: Posters, test: Posters) -> float:
    """Score a model on test posters, with a threshold per genre tuned on validation ones.

    The threshold is the median of those nearly as good as the best: a genre has some twenty
    validation posters, too few to trust the very best.
    """
    tuned, scores = model(validation), model(test)
    predicted = np.zeros_like(test.labels)
    for genre in range(test.labels.shape[1]):
        candidates = np.unique(tuned[:, genre])
        truth = validation.labels[:, genre]
        f1 = np.array([f1_score(truth, tuned[:, genre] >= c) for c in candidates])
        threshold = np.median(candidates[f1 >= NEARLY * f1.max()])
        predicted[:, genre] = scores[:, genre] >= threshold
    return float(f1_score(test.labels, predicted, average="macro", zero_division=0))


def predict_all(posters: Posters) -> np.ndarray:
    """Give every genre to every poster."""
    return np.ones(posters.labels.shape)


def histograms(pixels: np.ndarray) -> np.ndarray:
    """Count colours in 8 x 8 x 8 cells; square roots of shares, N x 512."""
    cells = (pixels >> 5).reshape(len(pixels), -1, 3).astype(int) @ (64, 8, 1)
    counts = np.stack([np.bincount(row, minlength=512) for row in cells])
    return np.sqrt(counts / cells.shape[1])


def train_colour(train: Posters, _seed: int) -> Model:
    """Fit a logistic regression per genre on colour histograms."""
    features = histograms(train.pixels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        models = [
            LogisticRegression(C=10, max_iter=300, class_weight="balanced").fit(features, target)
            for target in train.labels.T
        ]

    def score(posters: Posters) -> np.ndarray:
        inputs = histograms(posters.pixels)
        return np.column_stack([model.decision_function(inputs) for model in models])

    return score


class SmallCnn(nn.Module):
    """Five stages of convolution, batch norm and ReLU, then average and maximum pooling."""

    def __init__(self, genres: int) -> None:
        super().__init__()
        stages = _stage(3, 16, size=5, stride=2)
        for inputs, outputs in itertools.pairwise((16, 32, 64, 128)):
            stages += [*_stage(inputs, outputs), nn.MaxPool2d(2)]
        self.stages = nn.Sequential(*stages, *_stage(128, 160))
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(2 * 160, genres))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Turn N x 3 x H x W bytes into N x G logits."""
        maps = self.stages((pixels.float() - 128) / 64)
        return self.head(torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], dim=1))


def _stage(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


def train_cnn(train: Posters, seed: int) -> Model:
    """Train the network from scratch with flips and shifts, on the CPU."""
    torch.manual_seed(seed)
    network = SmallCnn(train.labels.shape[1]).to(memory_format=torch.channels_last)
    pixels, labels = _tensor(train.pixels), torch.from_numpy(train.labels).float()
    epochs = min(MAX_EPOCHS, round(IMAGES_SEEN / len(labels)))
    steps = -(-len(labels) // BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=epochs * steps
    )
    positives = labels.sum(0).clamp(min=1)
    loss_of = nn.BCEWithLogitsLoss(pos_weight=((len(labels) - positives) / positives).sqrt())
    for _ in range(epochs):
        for rows in torch.randperm(len(labels)).split(BATCH):
            if len(rows) > 1:  # batch norm needs two
                loss = loss_of(network(_augment(pixels[rows])), labels[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            schedule.step()
    network.eval()

    def score(posters: Posters) -> np.ndarray:
        with torch.no_grad():
            scores: np.ndarray = network(_tensor(posters.pixels)).numpy()
        return scores

    return score


def _tensor(pixels: np.ndarray) -> torch.Tensor:
    planes = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    return planes.contiguous(memory_format=torch.channels_last)


def _augment(pixels: torch.Tensor) -> torch.Tensor:
    if torch.rand(()) < 0.5:
        pixels = pixels.flip(3)
    shift = torch.randint(-4, 5, (2,)).tolist()
    return pixels.roll(shift, (2, 3))


TRAINERS: dict[str, Callable[[Posters, int], Model]] = {
    "predict all": lambda train, seed: predict_all,
    "colour": train_colour,
    "small CNN": train_cnn,
}


def measure(
    films: int, seed: int, label_set: str, trainers: Sequence[str] = tuple(TRAINERS)
) -> dict[str, tuple[float, float]]:
    """Measure how well models read the drawn posters.

    Args:
        films: Films in the catalogue.
        seed: Seed of catalogue, split and training.
        label_set: A name from `LABEL_SETS`.
        trainers: Names from `TRAINERS`.

    Returns:
        For each model its test macro F1 and the CPU seconds of its training.
    """
    train, validation, test = split(draw(films, seed, label_set), seed)
    results = {}
    for name in trainers:
        start = time.process_time()
        model = TRAINERS[name](train, seed)
        seconds = time.process_time() - start
        results[name] = macro_f1(model, validation, test), seconds
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--films", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="2 are slower on busy cores")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows: list[list[str | float]] = []
    for label_set in ("all18", "study4"):
        for name, (f1, seconds) in measure(arguments.films, arguments.seed, label_set).items():
            rows.append([label_set, name, f1, f"{seconds:.0f}"])
            print(f"{label_set:10} {name:12} {f1:8.3f} {seconds:8.1f} CPU s")
    record(
        f"How hard the drawn posters are, {arguments.films:,} films",
        f"python -m benchmarks.drawn_difficulty --films {arguments.films} --seed {arguments.seed}",
        ["label set", "model", "macro F1", "CPU s"],
        rows,
        "Test macro F1, a threshold a genre tuned on validation posters. The drawing was tuned "
        "while looking at seed 0.",
    )


if __name__ == "__main__":
    main()
