"""Counts the predictions of a window, with DuckDB over the Parquet files of the records.

All of it is aggregated where it is read: a million records need no more memory than a thousand.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Self

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from marquee import storage
from marquee.bundle import EMBEDDING_SIZE
from marquee.errors import DataError
from marquee.profile import (
    BINS,
    EMBEDDINGS,
    MEASURES,
    PREDICTED,
    SLICES,
    UNLABELLED,
    Profile,
    empty_profile,
)
from marquee.records import REPLAY_CLIENT, record_files
from marquee.records import SCHEMA as RECORD_SCHEMA
from monitoring.findings import Finding
from monitoring.truth import TRUTH_SCHEMA

_MEMORY = "400MB"
_SEED = 1
SAMPLE = 2000
"""How many predictions Evidently gets to see."""
_SAMPLED = "probabilities, width, height, brightness, contrast, saturation, hue"
_SLICE = f"""
    CASE era_source
        WHEN 'given' THEN era
        WHEN 'predicted' THEN '{PREDICTED}' || era
        ELSE 'unknown'
    END"""
_NO_RECORDS = "no_records"
_MEASURED = {
    "size": "log2(greatest(width::double * height, 1))",
    "shape": "width / greatest(height, 1)::double",
}


@dataclass(frozen=True, kw_only=True)
class Window:
    """A stretch of time."""

    since: datetime
    until: datetime
    """The moment after its last one."""

    def __str__(self) -> str:
        return f"{self.since:%Y-%m-%d %H:%M} to {self.until:%Y-%m-%d %H:%M} UTC"


@dataclass(frozen=True, kw_only=True)
class Counted:
    """What the records of a window hold besides the predictions of a model."""

    records: int
    """Predictions of this model, each once."""
    duplicates: int
    """Rows that were there already, from files that were delivered twice."""
    failed: int
    """Requests without an answer."""
    versions: dict[str, int]
    """Predictions by model version, this one's among them."""
    labelled: int
    """Predictions whose film's genres are known."""
    files: int


class Records:
    """The records of one model in one window.

    Use it as a context manager: it holds a database in memory.

    Args:
        uri: The folder of all records.
        window: When.
        version: The model's version.
        genres: Its genres.
        truth: Films whose genres are known, as `read_truth` gives them; none without.

    Raises:
        DataError: The files cannot be read.
    """

    def __init__(
        self,
        uri: str,
        window: Window,
        version: str,
        genres: Sequence[str],
        truth: pa.Table | None = None,
    ) -> None:
        self.window = window
        self._genres = tuple(genres)
        self._files = record_files(uri, window.since, window.until)
        self._database = duckdb.connect()
        self._database.execute(f"SET memory_limit = '{_MEMORY}'")
        self._database.execute("SET preserve_insertion_order = false")
        self._database.execute("SET TimeZone = 'UTC'")
        if not storage.is_local(uri):
            self._database.register_filesystem(storage.filesystem(uri))
        with _explained(uri):
            self._prepare(version, truth)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def _prepare(self, version: str, truth: pa.Table | None) -> None:
        self._database.register("truth", truth if truth is not None else TRUTH_SCHEMA.empty_table())
        self._database.register(_NO_RECORDS, RECORD_SCHEMA.empty_table())
        files = [str(storage.local_path(f)) if storage.is_local(f) else f for f in self._files]
        source = f"read_parquet({files!r}, hive_partitioning = false)" if files else _NO_RECORDS
        since, until = (
            f"'{moment.isoformat()}'::timestamptz"
            for moment in (self.window.since, self.window.until)
        )
        self._database.execute(
            f"""CREATE VIEW rows AS
            SELECT *, {_SLICE} AS slice, hash(prediction_id) AS mark FROM {source}
            WHERE time >= {since} AND time < {until}
              AND client_id IS DISTINCT FROM '{REPLAY_CLIENT}'"""
        )
        self._database.execute(
            "CREATE TABLE twice AS SELECT mark FROM rows GROUP BY mark HAVING count(*) > 1"
        )
        self._database.execute(
            """CREATE VIEW once AS
            SELECT * FROM rows WHERE mark NOT IN (SELECT mark FROM twice)
            UNION ALL
            (SELECT * FROM rows WHERE mark IN (SELECT mark FROM twice)
             QUALIFY row_number() OVER (PARTITION BY prediction_id ORDER BY time) = 1)"""
        )
        self._database.execute(
            f"""CREATE VIEW predictions AS
            SELECT once.*, truth.genres AS known FROM once LEFT JOIN truth USING (film_id)
            WHERE outcome = 'ok' AND model_version = '{version}'"""
        )

    def counted(self) -> Counted:
        """Tell what the window's records hold."""
        rows, failed = self._one("SELECT count(*), count(*) FILTER (outcome <> 'ok') FROM once")
        (all_rows,) = self._one("SELECT count(*) FROM rows")
        records, labelled = self._one("SELECT count(*), count(known) FROM predictions")
        versions = self._all(
            "SELECT model_version, count(*) FROM once WHERE outcome = 'ok' "
            "GROUP BY ALL ORDER BY 2 DESC"
        )
        return Counted(
            records=records,
            duplicates=all_rows - rows,
            failed=failed,
            versions=dict(versions),
            labelled=labelled,
            files=len(self._files),
        )

    def profile(self) -> Profile:
        """Count the model's predictions.

        Raises:
            DataError: Records have an era that nobody knows.
        """
        places = {name: number for number, name in enumerate(SLICES)}
        genres = {name: number for number, name in enumerate(self._genres)}
        found = empty_profile(self._genres, is_reference=False)
        for name, posters, unsure in self._all(
            "SELECT slice, count(*), count(*) FILTER (unsure) FROM predictions GROUP BY ALL"
        ):
            if name not in places:
                raise DataError(
                    f"records have the era {name!r}",
                    remedy="read them with the Marquee that wrote them",
                )
            found.posters[places[name]] = posters
            found.unsure[places[name]] = unsure
        for name, genre, count in self._all(
            "SELECT slice, genre, count(*) FROM "
            "(SELECT slice, unnest(genres) AS genre FROM predictions) GROUP BY ALL"
        ):
            if genre in genres:
                found.chosen[genres[genre], places[name]] = count
        for name, genre, label, place, count in self._all(_SCORES):
            if genre in genres:
                found.scores[genres[genre], places[name], label, place] = count
        measures = list(MEASURES)
        for name, measure, place, count in self._all(_measures_query()):
            found.measures[measures.index(measure), places[name], place] = count
        return replace(found, embeddings=self._embeddings())

    def _embeddings(self) -> NDArray[np.float32]:
        rows = self._all(
            f"""SELECT embedding FROM (SELECT embedding FROM predictions WHERE len(embedding) > 0)
            USING SAMPLE reservoir({EMBEDDINGS} ROWS) REPEATABLE ({_SEED})"""
        )
        empty: NDArray[np.float32] = np.zeros((0, EMBEDDING_SIZE), np.float32)
        return np.array([row[0] for row in rows], dtype=np.float32) if rows else empty

    def sample(self) -> pa.Table:
        """Take some predictions of each slice (`SAMPLE` in all), the same ones each time.

        Returns:
            A row each: what a record has, `slice`, and `known`, the film's genres.
        """
        slices = self._one("SELECT greatest(count(DISTINCT slice), 1) FROM predictions")[0]
        return self._database.sql(
            f"""SELECT {_SAMPLED}, slice, known FROM predictions
            QUALIFY row_number() OVER (PARTITION BY slice ORDER BY mark) <= {SAMPLE // slices}"""
        ).to_arrow_table()

    def examples(self, finding: Finding, most: int = 5) -> list[tuple[str, str | None, float]]:
        """Give predictions of the slice that a finding is about.

        Args:
            finding: Of a genre's probabilities; the most extreme in its direction come first.
            most: How many.

        Returns:
            Prediction id, film id and probability of each.
        """
        order = "DESC" if finding.after >= finding.before else "ASC"
        return self._all(
            f"""SELECT prediction_id, film_id, probabilities[?] AS p FROM predictions
            WHERE ? IN ('', slice) ORDER BY p {order}, mark LIMIT {most}""",
            [finding.genre, finding.era],
        )

    def _one(self, query: str) -> Any:
        return self._all(query)[0]

    def _all(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        return self._database.execute(query, list(values)).fetchall()


def _bin(value: str) -> str:
    """Say in SQL into which bin a value of 0..1 falls."""
    return f"least({BINS - 1}, greatest(0, floor({value} * {BINS})))::int"


_SCORES = f"""
    SELECT slice, entry.key,
        CASE WHEN known IS NULL THEN {UNLABELLED} ELSE list_contains(known, entry.key)::int END,
        {_bin("entry.value")}, count(*)
    FROM (SELECT slice, known, unnest(map_entries(probabilities)) AS entry FROM predictions)
    GROUP BY ALL"""


def _measures_query() -> str:
    """Count all measures in one pass."""
    names = ", ".join(f"'{name}'" for name in MEASURES)
    values = ", ".join(
        f"({_MEASURED.get(name, name)} - {low}) / {high - low}"
        for name, (low, high) in MEASURES.items()
    )
    return f"""
        SELECT slice, name, {_bin("value")}, count(*)
        FROM (SELECT slice, unnest([{names}]) AS name, unnest([{values}]) AS value FROM predictions)
        GROUP BY ALL"""


@contextmanager
def _explained(uri: str) -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        raise DataError(
            f"the records of {uri} cannot be read: {error}", remedy="is this a folder of records?"
        ) from error
