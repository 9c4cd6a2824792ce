"""Counts the predictions of a window, with DuckDB over the Parquet files of the records.

All of it is aggregated where it is read: a million records need no more memory than a thousand.
"""

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
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
from marquee.records import REPLAY_CLIENT, SCHEMA_VERSION, record_files
from marquee.records import SCHEMA as RECORD_SCHEMA
from monitoring.findings import Finding
from monitoring.roles import ROLES_SCHEMA, Role
from monitoring.truth import TRUTH_SCHEMA

logger = logging.getLogger(__name__)

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
_PLACE = "((date + to_hours(hour)) AT TIME ZONE 'UTC')"
"""The hour of a file's folder, which is that of its first record."""
_TIME = f"""
    CASE WHEN time >= {_PLACE} AND time < {_PLACE} + INTERVAL 2 HOUR THEN time ELSE {_PLACE} END"""
"""When a prediction was made. A file covers a minute: where a clock has jumped amid one, the hour
of its folder counts, so that each prediction is in some window."""
_JUMPED = f"""
    (time < {_PLACE} - INTERVAL 1 MINUTE OR time >= {_PLACE} + INTERVAL 2 HOUR)"""
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
        whole = not (self.since.second or self.until.second)
        shape = "%Y-%m-%d %H:%M" if whole else "%Y-%m-%d %H:%M:%S"
        return f"{self.since:{shape}} to {self.until:{shape}} UTC"


@dataclass(frozen=True, kw_only=True)
class Counted:
    """What the records of a window hold besides the predictions of a model."""

    records: int
    """Predictions of this model, each once."""
    duplicates: int
    """Rows that were there already, from files that were delivered twice."""
    failed: int
    """Requests without an answer."""
    roles: tuple[tuple[str, str, int], ...]
    """Model version, its role and its predictions, the most first; this model's among them. The
    role is empty if nobody knows any."""
    labelled: int
    """Predictions whose film's genres are known."""
    replayed: int
    """Posters that a rollout replayed; no user sent them."""
    jumped: int
    """Rows whose time is not that of their file: a clock was set meanwhile."""
    files: int
    unreadable: tuple[str, ...] = ()
    """Files that are damaged, and were left out."""

    @property
    def others(self) -> int:
        """Predictions of other models."""
        return sum(count for _, _, count in self.roles) - self.records


class Records:
    """The records of one model in one window.

    Use it as a context manager: it holds a database in memory.

    Args:
        uri: The folder of all records.
        window: When.
        version: The model's version.
        genres: Its genres.
        truth: Films whose genres are known, as `read_truth` gives them; none without.
        roles: Which role models had from when on, as `monitoring.roles` gives them.
        leave_out: Files that are damaged.

    Raises:
        DataError: The files cannot be read, or a newer Marquee wrote them.
    """

    def __init__(
        self,
        uri: str,
        window: Window,
        version: str,
        genres: Sequence[str],
        truth: pa.Table | None = None,
        roles: pa.Table | None = None,
        leave_out: Sequence[str] = (),
    ) -> None:
        self.window = window
        self._uri = uri
        self._genres = tuple(genres)
        self._left_out = tuple(leave_out)
        files = record_files(uri, window.since, window.until)
        self._has_roles = roles is not None
        self._held = ExitStack()
        here = self._held.enter_context(
            _here(uri, [file for file in files if file not in self._left_out])
        )
        self._files = list(here.values())
        self._database = self._held.enter_context(_connect())
        self._database.register("truth", TRUTH_SCHEMA.empty_table() if truth is None else truth)
        self._database.register("roles", ROLES_SCHEMA.empty_table() if roles is None else roles)
        try:
            with _explained(uri):
                self._prepare(version)
        except BaseException:
            self._held.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def _prepare(self, version: str) -> None:
        self._refuse_newer()
        # A film that has none of these genres was left out of training and of the reference, too.
        known = (
            f"CASE WHEN list_has_any(truth.genres, {_listed(self._genres)}) THEN truth.genres END"
        )
        since, until = (
            f"'{moment.isoformat()}'::timestamptz"
            for moment in (self.window.since, self.window.until)
        )
        self._database.execute(
            f"""CREATE VIEW all_rows AS
            SELECT * REPLACE ({_TIME} AS time), {_JUMPED} AS jumped,
                {_SLICE} AS slice, hash(prediction_id) AS mark
            FROM {self._source()} WHERE {_TIME} >= {since} AND {_TIME} < {until}"""
        )
        self._database.execute(
            f"""CREATE VIEW rows AS
            SELECT * FROM all_rows WHERE client_id IS DISTINCT FROM '{REPLAY_CLIENT}'"""
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
            SELECT once.*, {known} AS known FROM once LEFT JOIN truth USING (film_id)
            WHERE outcome = 'ok' AND model_version = '{version}'"""
        )

    def _source(self) -> str:
        """Name what the rows come from, in SQL."""
        if self._files:
            return _read(self._files)
        columns = RECORD_SCHEMA.append(pa.field("date", pa.date32())).append(
            pa.field("hour", pa.int64())
        )
        self._database.register(_NO_RECORDS, columns.empty_table())
        return _NO_RECORDS

    def _refuse_newer(self) -> None:
        if not self._files:
            return
        newest = self._one(
            f"SELECT max(try_cast(value::varchar AS int)) FROM parquet_kv_metadata("
            f"{_listed(self._files)}) WHERE key = 'schema_version'"
        )[0]
        if newest and newest > SCHEMA_VERSION:
            raise DataError(
                f"records of {self._uri} have schema_version {newest}, this Marquee reads up to "
                f"{SCHEMA_VERSION}",
                remedy="upgrade Marquee",
            )

    def counted(self) -> Counted:
        """Tell what the window's records hold."""
        rows, failed = self._one("SELECT count(*), count(*) FILTER (outcome <> 'ok') FROM once")
        all_rows, replayed, jumped = self._one(
            f"""SELECT count(*), count(*) FILTER (client_id = '{REPLAY_CLIENT}'),
                count(*) FILTER (jumped) FROM all_rows"""
        )
        records, labelled = self._one("SELECT count(*), count(known) FROM predictions")
        return Counted(
            records=records,
            duplicates=all_rows - replayed - rows,
            failed=failed,
            roles=tuple(self._roles()),
            labelled=labelled,
            replayed=replayed,
            jumped=jumped,
            files=len(self._files),
            unreadable=self._left_out,
        )

    def _roles(self) -> list[tuple[str, str, int]]:
        unknown = Role.UNREGISTERED if self._has_roles else ""
        return self._all(
            f"""SELECT model_version, coalesce(role, '{unknown}'), count(*)
            FROM (SELECT model_version, time FROM once WHERE outcome = 'ok') AS made
            ASOF LEFT JOIN roles ON model_version = version AND time >= since
            GROUP BY ALL ORDER BY 3 DESC, 1, 2"""
        )

    def right(self) -> dict[str, tuple[int, int]]:
        """Tell of each genre how often it was chosen where truth is known, and how often rightly.

        Returns:
            Genre to both counts.
        """
        found = dict.fromkeys(self._genres, (0, 0))
        for genre, chosen, right in self._all(
            """SELECT genre, count(*), count(*) FILTER (list_contains(known, genre)) FROM
            (SELECT known, unnest(genres) AS genre FROM predictions WHERE known IS NOT NULL)
            GROUP BY ALL"""
        ):
            if genre in found:
                found[genre] = chosen, right
        return found

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
        """Take some predictions (`SAMPLE` at most), the same ones each time.

        Returns:
            A row each: what a record has, `slice`, and `known`, the film's genres.
        """
        with _explained(self._uri):
            return self._database.sql(
                f"SELECT {_SAMPLED}, slice, known FROM predictions ORDER BY mark LIMIT {SAMPLE}"
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
        with _explained(self._uri):
            return self._database.execute(query, list(values)).fetchall()


def _bin(value: str) -> str:
    """Say in SQL into which bin a value of 0..1 falls."""
    return f"least({BINS - 1}, greatest(0, floor({value} * {BINS})))::int"


_SCORES = f"""
    SELECT slice, entry.key,
        CASE WHEN known IS NULL THEN {UNLABELLED} ELSE list_contains(known, entry.key)::int END,
        {_bin("entry.value")}, count(*)
    FROM (SELECT slice, known, unnest(map_entries(probabilities)) AS entry FROM predictions)
    WHERE isfinite(entry.value)
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
        WHERE isfinite(value)
        GROUP BY ALL"""


def unreadable(uri: str, window: Window) -> list[str]:
    """Find the files of a window that are damaged, by reading every value of each.

    Args:
        uri: The folder of all records.
        window: When.

    Returns:
        Their URIs.
    """
    columns = ", ".join(RECORD_SCHEMA.names)
    files = record_files(uri, window.since, window.until)
    found = []
    with _here(uri, files) as here, _connect() as database:
        for file, path in here.items():
            try:
                database.execute(f"SELECT max(hash({columns})) FROM {_read([path])}").fetchall()
            except duckdb.Error as error:
                logger.warning("%s is no file of prediction records: %s", file, error)
                found.append(file)
    return found


@contextmanager
def _here(uri: str, files: Sequence[str]) -> Iterator[dict[str, str]]:
    """Have files on this machine: DuckDB reads them once for each question.

    Args:
        uri: The folder of all records.
        files: Their URIs.

    Yields:
        URI to path.
    """
    if storage.is_local(uri):
        yield {file: str(storage.local_path(file)) for file in files}
        return
    with tempfile.TemporaryDirectory(prefix="marquee-records-") as folder:
        here = {file: folder + file.removeprefix(uri.rstrip("/")) for file in files}
        if files:
            storage.filesystem(uri).get(list(here), list(here.values()))
        yield here


def _connect() -> duckdb.DuckDBPyConnection:
    database = duckdb.connect()
    database.execute(f"SET memory_limit = '{_MEMORY}'")
    database.execute("SET preserve_insertion_order = false")
    database.execute("SET TimeZone = 'UTC'")
    return database


def _read(files: Sequence[str]) -> str:
    """Name what files hold, in SQL."""
    types = "{'date': DATE, 'hour': BIGINT}"
    return f"read_parquet({_listed(files)}, hive_partitioning = true, hive_types = {types})"


def _listed(texts: Sequence[str]) -> str:
    """Write a list of texts in SQL."""
    quoted = ("'" + text.replace("'", "''") + "'" for text in texts)
    return f"[{', '.join(quoted)}]"


@contextmanager
def _explained(uri: str) -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        raise DataError(
            f"the records of {uri} cannot be read: {error}", remedy="is this a folder of records?"
        ) from error
