"""Prediction records: one row a prediction, what drift monitoring reads; no image bytes."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

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


def write_records(uri: str, writer: str, number: int, records: Sequence[PredictionRecord]) -> str:
    """Write records as one Parquet file.

    Args:
        uri: The folder of all records.
        writer: Names this process, such as the pod's name.
        number: Counts this process's files.
        records: One or more; the first one's hour names the folder.

    Returns:
        The file's URI.
    """
    rows = [
        dataclasses.asdict(record) | {"probabilities": list(record.probabilities.items())}
        for record in records
    ]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), sink)
    time = records[0].time
    file = storage.join(
        uri, f"date={time:%Y-%m-%d}", f"hour={time:%H}", f"{writer}-{number:06d}.parquet"
    )
    storage.write_bytes(file, sink.getvalue().to_pybytes())
    return file
