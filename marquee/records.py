"""Prediction records: one row a prediction, what drift monitoring reads; no image bytes."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from marquee import storage

SCHEMA_VERSION = 1
_ENDING = ".parquet"
REPLAY_CLIENT = "marquee-rollout"
"""The `client_id` of posters that a rollout replays: no user sent them."""

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

logger = logging.getLogger(__name__)


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
    file = storage.join(uri, *_folders(time), f"{writer}-{number:06d}{_ENDING}")
    storage.write_bytes(file, sink.getvalue().to_pybytes(), timeout)
    return file


def _encodable(text: str) -> str:
    """Replace what UTF-8 cannot hold: JSON's lone surrogates, which would cost the whole file."""
    return text.encode("utf-8", "replace").decode("utf-8")


def record_files(uri: str, since: datetime, until: datetime) -> list[str]:
    """Find the files that may hold the records of a stretch of time.

    A file lies in the folder of its first record's hour, whenever it arrived there.

    Args:
        uri: The folder of all records.
        since: The first moment (UTC).
        until: The moment after the last one.

    Returns:
        Their URIs.
    """
    folders = (storage.join(uri, *_folders(hour)) for hour in _hours(since, until))
    return [
        storage.join(folder, name)
        for folder in folders
        for name in storage.list_files(folder)
        # What is being written has another name until it is whole.
        if name.endswith(_ENDING) and not name.startswith(".")
    ]


class RecordReader:
    """Reads the records of one stretch of time after another.

    Files never change, so what a file covers is remembered: one of another time is read once.

    Args:
        uri: The folder of all records.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._ends: dict[str, datetime] = {}

    def read(self, since: datetime, until: datetime, columns: Sequence[str]) -> pa.Table:
        """Read the records of a stretch of time.

        Args:
            since: The first moment (UTC).
            until: The moment after the last one.
            columns: What to read, `time` besides.

        Returns:
            A row a record, in no order. A file is written up to a minute after its first record.
        """
        wanted = [*dict.fromkeys(("time", *columns))]
        schema = _schema(wanted)
        tables = [
            self._read(file, wanted)
            for file in record_files(self.uri, since, until)
            if self._ends.get(file, since) >= since
        ]
        table = pa.concat_tables([schema.empty_table(), *tables])
        times = table["time"]
        inside = pc.and_(pc.greater_equal(times, since), pc.less(times, until))
        return table.filter(inside)

    def _read(self, file: str, columns: list[str]) -> pa.Table:
        """Read a file; one that is damaged has nothing to say, and would have it each time."""
        try:
            table = pq.read_table(pa.BufferReader(storage.read_bytes(file)), columns=columns)
        except pa.ArrowException as error:
            logger.warning("%s is no file of prediction records: %s", file, error)
            self._ends[file] = datetime.min.replace(tzinfo=UTC)
            return pa.table({name: [] for name in columns}, _schema(columns))
        self._ends[file] = pc.max(table["time"]).as_py()
        return table.replace_schema_metadata(None)


def _schema(columns: Sequence[str]) -> pa.Schema:
    return pa.schema([SCHEMA.field(name) for name in columns])


def _folders(time: datetime) -> tuple[str, str]:
    """Name the folders of the records that begin at a time."""
    return f"date={time:%Y-%m-%d}", f"hour={time:%H}"


def _hours(since: datetime, until: datetime) -> Iterator[datetime]:
    """Give the hours whose folders may hold a stretch's records: a file is named by its first."""
    hour = (since - timedelta(hours=1)).replace(minute=0, second=0, microsecond=0)
    while hour < until:
        yield hour
        hour += timedelta(hours=1)
