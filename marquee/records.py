"""Prediction records: one row a prediction, what drift monitoring reads; no image bytes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from marquee import storage

SCHEMA_VERSION = 1

SCHEMA = pa.schema(
    [
        ("prediction_id", pa.string()),
        ("time", pa.timestamp("us", tz="UTC")),
        ("model_version", pa.string()),
        ("film_id", pa.string()),
        ("client_id", pa.string()),
        ("probabilities", pa.map_(pa.string(), pa.float32())),
        ("genres", pa.list_(pa.string())),
        ("unsure", pa.bool_()),
        ("era", pa.string()),
        ("era_source", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("brightness", pa.float32()),
        ("contrast", pa.float32()),
        ("saturation", pa.float32()),
        ("hue", pa.float32()),
        ("embedding", pa.list_(pa.float32())),
        ("latency_ms", pa.float32()),
        ("outcome", pa.string()),
    ],
    metadata={"schema_version": str(SCHEMA_VERSION)},
)

_REPETITIVE = [
    "model_version",
    "probabilities.key_value.key",
    "genres.list.element",
    "era",
    "era_source",
    "outcome",
]
"""Columns stored as a dictionary; elsewhere nearly every value is new, and trying costs time."""


@dataclass(frozen=True, kw_only=True)
class PredictionRecord:
    """One prediction."""

    prediction_id: str
    time: datetime
    """When it was made (UTC)."""
    model_version: str
    film_id: str | None
    client_id: str | None
    probabilities: dict[str, float]
    genres: list[str]
    unsure: bool
    era: str
    era_source: str
    """`given`, `predicted`, or `none` where the era is unknown."""
    width: int
    """Of the poster as it was sent, in px; so is `height`."""
    height: int
    brightness: float
    contrast: float
    saturation: float
    hue: float
    embedding: list[float]
    latency_ms: float
    """From the request's arrival to its answer, in milliseconds."""
    outcome: str
    """`ok`, or why there is no answer."""


def to_table(records: Sequence[PredictionRecord]) -> pa.Table:
    """Turn records into rows of the schema.

    It is built column by column, in a tenth of the time of a dictionary a row.

    Args:
        records: Any number.

    Returns:
        A row each.
    """
    columns: dict[str, list[Any]] = {
        name: [getattr(record, name) for record in records] for name in SCHEMA.names
    }
    columns["probabilities"] = [list(record.items()) for record in columns["probabilities"]]
    for name in ("film_id", "client_id"):
        columns[name] = [text and _encodable(text) for text in columns[name]]
    return pa.Table.from_pydict(columns, schema=SCHEMA)


def write_records(
    uri: str, writer: str, number: int, rows: pa.Table, timeout: float | None = None
) -> str:
    """Write records as one Parquet file.

    Args:
        uri: The folder of all records.
        writer: Names this process, such as the pod's name.
        number: Counts this process's files.
        rows: One or more, as `to_table` gives them; the first one's hour names the folder.
        timeout: As of `marquee.storage.write_bytes`.

    Returns:
        The file's URI.
    """
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, use_dictionary=_REPETITIVE)
    time = rows["time"][0].as_py()
    file = storage.join(
        uri, f"date={time:%Y-%m-%d}", f"hour={time:%H}", f"{writer}-{number:06d}.parquet"
    )
    storage.write_bytes(file, sink.getvalue().to_pybytes(), timeout)
    return file


def _encodable(text: str) -> str:
    """Replace what UTF-8 cannot hold: JSON's lone surrogates, which would cost the whole file."""
    return text.encode("utf-8", "replace").decode("utf-8")
