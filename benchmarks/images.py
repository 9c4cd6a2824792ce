"""Decodes and resizes posters by `marquee.images`, beside torchvision with antialiasing.

Run `python -m benchmarks.images [--posters 400] [--rounds 5]`. It takes real posters of ../shared
where they are present, and draws some otherwise. Both start with a file's bytes, end with bytes of
shape [H, W, 3], and use one thread. They take turns, some posters at a time, so that whatever else
the machine does meanwhile slows both down.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import torch
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from benchmarks.posters import read_posters
from benchmarks.results import record
from marquee.images import Preprocessing, decode, preprocess, resize

SIZES = (Preprocessing(height=256, width=176), Preprocessing(height=144, width=96))
"""The default inputs of vgg16 and custom_cnn."""

TURN = 20
"""Posters after which the other one has its turn."""

Task = tuple[Callable[[Any], Any], Sequence[Any]]
"""What is done, and to what."""


def torch_decode(data: bytes) -> torch.Tensor:
    """Decode a JPEG file to bytes of shape [3, H, W]."""
    return decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8), ImageReadMode.RGB)


def torch_resize(image: torch.Tensor, size: Preprocessing) -> np.ndarray:
    """Resize to bytes of shape [H, W, 3]."""
    resized = functional.resize(
        image, [size.height, size.width], InterpolationMode.BILINEAR, antialias=True
    )
    return resized.permute(1, 2, 0).contiguous().numpy()


def torch_preprocess(data: bytes, size: Preprocessing) -> np.ndarray:
    """Decode and resize."""
    return torch_resize(torch_decode(data), size)


def rates(theirs: Task, ours: Task, rounds: int) -> list[float]:
    """Let both work in turn; give what each does in a second of CPU time, and the ratio."""
    seconds: list[list[float]] = [[], []]
    for _ in range(rounds):
        for first in range(0, len(ours[1]), TURN):
            for (work, items), taken in zip((theirs, ours), seconds, strict=True):
                turn = items[first : first + TURN]
                start = time.thread_time()
                for item in turn:
                    work(item)
                taken.append((time.thread_time() - start) / len(turn))
    their_rate, our_rate = (1 / median(taken) for taken in seconds)
    return [their_rate, our_rate, our_rate / their_rate]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--posters", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    files, kind = read_posters(arguments.posters)
    tensors, images = [torch_decode(file) for file in files], [decode(file) for file in files]
    tasks: dict[str, tuple[Task, Task]] = {"decode": ((torch_decode, files), (decode, files))}
    for size in SIZES:
        name = f"{size.height}x{size.width}"
        tasks[f"resize to {name}"] = (
            (partial(torch_resize, size=size), tensors),
            (partial(resize, preprocessing=size), images),
        )
        tasks[f"**decode + resize to {name}**"] = (
            (partial(torch_preprocess, size=size), files),
            (partial(preprocess, preprocessing=size), files),
        )
    rows: list[list[str | float]] = []
    for name, (theirs, ours) in tasks.items():
        their_rate, our_rate, ratio = rates(theirs, ours, arguments.rounds)
        rows.append([name, f"{their_rate:,.0f}", f"{our_rate:,.0f}", ratio])
    record(
        "Posters to pixels",
        f"python -m benchmarks.images --posters {arguments.posters} --rounds {arguments.rounds}",
        ["", "torchvision, posters/s", "marquee, posters/s", "speed / torchvision"],
        rows,
        f"{len(files):,} {kind} posters, one thread each, in turn, {TURN} posters at a time; the "
        "figures are medians over the turns, of CPU time.",
    )


if __name__ == "__main__":
    main()
