"""What several folders of tests need: pictures, folders of posters, places of real data."""

import csv
import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
OLD = ROOT / "tests/support/old"
"""Documents of earlier schema versions."""

REAL_POSTERS = ROOT.parent / "shared/data/posters"
VGG16_WEIGHTS = ROOT.parent / "shared/weights/vgg16_imagenet_features.safetensors"


def encode(image: Image.Image, format: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def noise_poster(seed: int, width: int = 60, height: int = 90) -> Image.Image:
    """A picture that is like no other: coarse random blocks."""
    blocks = np.random.default_rng(seed).integers(0, 256, (9, 6, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize((width, height), Image.Resampling.BICUBIC)


Row = dict[str, object]


def write_folder(folder: Path, rows: list[Row], images: dict[str, bytes]) -> Path:
    """Write posters.csv and images/ the way a person would."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with (folder / "posters.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows(rows)
    for name, data in images.items():
        (folder / "images" / name).write_bytes(data)
    return folder


def row(poster_id: str, **changes: object) -> Row:
    return {
        "id": poster_id,
        "title": f"Film {poster_id}",
        "year": 1999,
        "genres": "Comedy|Romance",
        **changes,
    }


def require_tool(name: str, package: str = "", folder: str = "") -> str:
    """Find a tool of the system or of `.tools`; without it, skip the test, or fail in CI."""
    path = shutil.which(name, path=ROOT / f".tools/{folder}/bin" if folder else None)
    if path is None:
        how = "run make tools" if folder else f"on Debian: apt-get install {package or name}"
        message = f"needs {name}: install it ({how})"
        if os.environ.get("MARQUEE_REQUIRE_TOOLS") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return path
