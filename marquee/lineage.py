"""Which posters trained a model: a list that training seals in the bundle.

`training_posters.parquet` has a row for every poster of the training and validation splits. It
holds ids, where the posters come from and what they are under, and no other facts, so that a purge
can find the models that learnt from what goes. Bundles of Marquee 0.1 have no such list.
"""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from marquee.bundle import read_file

TRAINING_FILE = "training_posters.parquet"
SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("poster_id", "film_id", "source", "licence", "split")]
)
"""Columns of training_posters.parquet."""


def write_training_posters(folder: Path, frame: pd.DataFrame) -> None:
    """Write the list into a bundle that is about to be sealed.

    Args:
        folder: The bundle's folder.
        frame: One row a poster with the columns of `SCHEMA`.
    """
    ordered = frame.sort_values("poster_id", ignore_index=True)
    table = pa.Table.from_pandas(ordered, schema=SCHEMA, preserve_index=False)
    pq.write_table(table, folder / TRAINING_FILE, compression="zstd")


def read_training_posters(bundle_uri: str) -> pd.DataFrame | None:
    """Read the list of a sealed bundle.

    Args:
        bundle_uri: The bundle.

    Returns:
        One row a poster with the columns of `SCHEMA`, or None if the bundle has no list.

    Raises:
        DataError: There is no bundle, or its list is missing or was changed.
    """
    data = read_file(bundle_uri, TRAINING_FILE)
    if data is None:
        return None
    return pq.read_table(pa.BufferReader(data)).to_pandas()
