"""Prediction records: where they are written, and that they come back as they were."""

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from marquee import storage
from marquee.records import SCHEMA, PredictionRecord, RecordReader, to_table, write_records

FIRST = PredictionRecord(
    prediction_id="a",
    time=datetime(2026, 1, 2, 23, 59, 59, 123456, tzinfo=UTC),
    model_version="0" * 64,
    film_id="348",
    client_id="web",
    probabilities={"Comedy": 0.25, "Science Fiction": 0.75},
    genres=["Science Fiction"],
    unsure=False,
    era="photographic",
    era_source="given",
    width=500,
    height=750,
    brightness=0.5,
    contrast=0.25,
    saturation=0.125,
    hue=0.0,
    embedding=[0.5] * 64,
    latency_ms=12.5,
    outcome="ok",
)
SECOND = dataclasses.replace(
    FIRST, prediction_id="b", time=FIRST.time + timedelta(seconds=5), film_id=None, client_id=None
)


def read(uri):
    with storage.open_binary(uri) as stream:
        return pq.read_table(stream)


def test_records_come_back_as_they_were(tmp_path):
    file = write_records(str(tmp_path), "pod", 7, to_table([FIRST, SECOND]))
    table = read(file)
    assert table.to_pylist(maps_as_pydicts="strict") == [
        dataclasses.asdict(FIRST),
        dataclasses.asdict(SECOND),
    ]
    assert table.schema.equals(SCHEMA)
    assert table.schema.metadata[b"schema_version"] == b"1"


def test_the_first_records_hour_names_the_folder(tmp_path):
    file = write_records(str(tmp_path), "pod", 7, to_table([FIRST, SECOND]))
    assert file == f"{tmp_path}/date=2026-01-02/hour=23/pod-000007.parquet"


def test_the_schema_names_every_field():
    assert SCHEMA.names == [field.name for field in dataclasses.fields(PredictionRecord)]


def test_records_in_a_bucket(bucket):
    file = write_records(f"{bucket}/records", "pod", 0, to_table([FIRST]))
    assert storage.list_files(f"{bucket}/records") == ["date=2026-01-02/hour=23/pod-000000.parquet"]
    assert read(file).num_rows == 1


@pytest.mark.parametrize("number", [0, 1_000_000])
def test_files_sort_by_their_number(tmp_path, number):
    file = write_records(str(tmp_path), "pod", number, to_table([FIRST]))
    assert file.endswith(f"pod-{number:06d}.parquet")


def test_what_is_no_whole_file_of_records_is_left_out(tmp_path, caplog):
    """One that is being written, one that was cut off, and one of somebody else's."""
    file = Path(write_records(str(tmp_path), "pod", 0, to_table([FIRST, SECOND])))
    whole = file.read_bytes()
    (file.parent / "pod-000001.parquet").write_bytes(whole[:-20])
    (file.parent / ".pod-000002.parquet.4711").write_bytes(whole[:99])
    (file.parent / "notes.txt").write_text("seen by Kim")
    reader = RecordReader(str(tmp_path))
    for _ in range(2):
        rows = reader.read(FIRST.time, FIRST.time + timedelta(minutes=1), ("film_id",))
        assert rows["film_id"].to_pylist() == [FIRST.film_id, None]
    assert caplog.text.count("is no file of prediction records") == 1
