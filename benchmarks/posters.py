"""The posters that are measured on: real ones where they are present."""

import tarfile
from itertools import islice
from pathlib import Path

from components.ingest.drawing import draw_poster
from components.ingest.drawn_films import drawn_film

SHARD = Path(__file__).parents[2] / "shared/data/posters/images-00.tar"
DRAWN_WIDTH = 185


def read_posters(count: int) -> tuple[list[bytes], str]:
    """Read real posters or draw some; say which."""
    if SHARD.exists():
        with tarfile.open(SHARD) as shard:
            files = islice(filter(tarfile.TarInfo.isfile, shard), count)
            return [shard.extractfile(file).read() for file in files], "real"  # type: ignore[union-attr]
    return [draw_poster(drawn_film(number), DRAWN_WIDTH) for number in range(count)], "drawn"
