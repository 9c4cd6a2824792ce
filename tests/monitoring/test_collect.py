"""The collector counts what records hold: each prediction once, this model's, in this window."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from benchmarks.simulated_drift import GENRES, World
from marquee.decision import decide
from marquee.errors import DataError
from marquee.profile import PREDICTED, SLICES, UNLABELLED
from marquee.records import REPLAY_CLIENT, SCHEMA, write_records
from marquee.registry import Event, Stage
from monitoring.collect import Records, Window, unreadable
from monitoring.findings import Finding, Kind
from monitoring.roles import roles
from monitoring.truth import read_truth

VERSION = "a" * 64
DAY = Window(since=datetime(2026, 11, 1, tzinfo=UTC), until=datetime(2026, 11, 2, tzinfo=UTC))


@pytest.fixture(scope="module")
def drawn():
    return World().draw(600, np.random.default_rng(0))


@pytest.fixture
def uri(drawn, tmp_path):
    drawn.write(str(tmp_path / "records"), VERSION, DAY.since, DAY.until)
    return str(tmp_path / "records")


def opened(uri, window=DAY, **more):
    return Records(uri, window, VERSION, GENRES, **more)


def test_it_counts_as_the_reference_is_counted(drawn, uri):
    with opened(uri) as records:
        found = records.profile()
    drawn.labelled = False
    wanted = drawn.profile()
    drawn.labelled = True
    for name in ("posters", "unsure", "chosen", "measures"):
        assert np.array_equal(getattr(found, name), getattr(wanted, name)), name
    # Records keep half the digits: a value on a bin's edge may be in the next one.
    assert np.abs(found.scores - wanted.scores).sum() <= 0.001 * wanted.scores.sum()
    assert found.embeddings.shape == (512, 64)
    assert not found.is_reference


def test_truth_tells_which_posters_have_a_genre(drawn, uri, tmp_path):
    lines = drawn.truth().splitlines()
    (tmp_path / "truth.csv").write_text("\n".join(lines[:401]) + "\n")
    with opened(uri, truth=read_truth(str(tmp_path / "truth.csv"), GENRES)) as records:
        found, counted = records.profile(), records.counted()
    assert (counted.records, counted.labelled) == (600, 400)
    assert found.scores[:, :, UNLABELLED].sum() == 200 * len(GENRES)
    assert found.scores[:, :, 1].sum() == drawn.labels[:400].sum()


def test_a_folder_may_have_any_name(drawn, tmp_path):
    uri = str(tmp_path / "o'brien's \"records\"")
    drawn.write(uri, VERSION, DAY.since, DAY.until)
    with opened(uri) as records:
        assert records.counted().records == 600


def test_what_was_delivered_twice_counts_once(uri):
    files = list(Path(uri).rglob("*.parquet"))
    for file in files:
        file.with_name(f"again-{file.name}").write_bytes(file.read_bytes())
    with opened(uri) as records:
        counted = records.counted()
        assert records.profile().total == 600
    assert (counted.records, counted.duplicates, counted.files) == (600, 600, 2 * len(files))


def test_a_window_is_half_open(drawn, uri):
    halves = [
        Window(since=DAY.since, until=DAY.since + timedelta(hours=12)),
        Window(since=DAY.since + timedelta(hours=12), until=DAY.until),
    ]
    counts = []
    for half in halves:
        with opened(uri, half) as records:
            counts.append(records.counted().records)
    assert counts == [300, 300]


def test_a_window_without_records_is_empty(uri):
    later = Window(since=DAY.until + timedelta(days=3), until=DAY.until + timedelta(days=4))
    with opened(uri, later) as records:
        assert records.counted().records == 0
        assert records.profile().total == 0
    with opened(uri + "/nowhere") as records:
        assert records.profile().total == 0


def table(drawn, of="other", **changes):
    rows = drawn._records(VERSION, DAY.since, DAY.until).slice(0, 10)
    for name, value in changes.items():
        rows = rows.set_column(
            SCHEMA.get_field_index(name), SCHEMA.field(name), [[value] * rows.num_rows]
        )
    ids = [f"{of} {n}" for n in range(rows.num_rows)]
    return rows.set_column(0, SCHEMA.field(0), [ids])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_version": "b" * 64}, {"others": 10}),
        ({"client_id": REPLAY_CLIENT}, {"replayed": 10}),
        ({"outcome": "refused"}, {"failed": 10}),
    ],
    ids=["another model", "a rollout's replay", "no answer"],
)
def test_what_is_none_of_its_predictions_is_left_out(drawn, uri, changes, said):
    write_records(uri, "other", 0, table(drawn, **changes))
    with opened(uri) as records:
        counted = records.counted()
        assert records.profile().total == counted.records == 600
    names = ("others", "replayed", "failed", "duplicates", "jumped")
    assert {name: getattr(counted, name) for name in names} == dict.fromkeys(names, 0) | said


def test_eras_given_and_guessed_are_kept_apart(drawn, uri):
    write_records(uri, "guessed", 0, table(drawn, era="digital", era_source="predicted"))
    write_records(uri, "none", 0, table(drawn, "nobody", era="unknown", era_source="none"))
    with opened(uri) as records:
        found = records.profile()
    assert found.posters[SLICES.index(f"{PREDICTED}digital")] == 10
    assert found.posters[SLICES.index("unknown")] == 10
    assert found.posters.sum() == 620


def test_an_era_that_nobody_knows_is_refused(drawn, uri):
    write_records(uri, "odd", 0, table(drawn, era="stone age"))
    with opened(uri) as records, pytest.raises(DataError, match="stone age"):
        records.profile()


def test_what_is_no_file_of_records_is_named(uri):
    folder = Path(uri) / "date=2026-11-01" / "hour=03"
    (folder / "broken.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match="cannot be read"):
        opened(uri)
    assert unreadable(uri, DAY) == [str(folder / "broken.parquet")]


def test_a_file_whose_pages_are_damaged_is_found(uri):
    file = sorted(Path(uri).rglob("*.parquet"))[0]
    data = bytearray(file.read_bytes())
    data[200:2000] = bytes(1800)  # its footer is whole
    file.write_bytes(data)
    assert unreadable(uri, DAY) == [str(file)]
    with opened(uri, leave_out=[str(file)]) as records:
        counted = records.counted()
    assert (counted.unreadable, counted.records) == ((str(file),), 575)


def test_records_of_a_newer_marquee_are_refused(drawn, uri):
    rows = table(drawn)
    newer = rows.replace_schema_metadata({"schema_version": "2"})
    write_records(uri, "newer", 0, newer)
    with pytest.raises(DataError, match="schema_version 2"):
        opened(uri)


@pytest.mark.parametrize("hours", [-30, 30], ids=["set back", "set forward"])
def test_a_clock_that_jumps_loses_nothing(drawn, uri, hours):
    rows = table(drawn)
    times = rows["time"].to_pylist()
    times[5:] = [time + timedelta(hours=hours) for time in times[5:]]
    write_records(uri, "jumped", 0, rows.set_column(1, SCHEMA.field(1), [times]))
    with opened(uri) as records:
        counted = records.counted()
    assert (counted.records, counted.jumped) == (610, 5)


def test_roles_are_those_of_the_time(drawn, uri):
    noon = DAY.since + timedelta(hours=12)
    history = [
        event("registered", VERSION, DAY.since - timedelta(days=1)),
        event(Stage.CHAMPION, VERSION, noon),
        event(Stage.CHAMPION, "c" * 64, DAY.since),
    ]
    write_records(uri, "other", 0, table(drawn, model_version="b" * 64))
    with opened(uri, roles=roles(History(history))) as records:
        counted = records.counted()
    assert counted.roles == (
        (VERSION, "canary", 300),
        (VERSION, "stable", 300),
        ("b" * 64, "unregistered", 10),
    )


def event(what, version, time):
    return Event(time=time.isoformat(), who="a test", what=what, version=version, reason="")


class History:
    def __init__(self, events):
        self.history = lambda: events


def test_it_tells_how_often_a_choice_was_right(drawn, uri, tmp_path):
    (tmp_path / "truth.csv").write_text(drawn.truth())
    with opened(uri, truth=read_truth(str(tmp_path / "truth.csv"), GENRES)) as records:
        found = records.right()
    chosen, _ = decide(drawn.probabilities, (0.4,) * len(GENRES))
    assert found == {
        genre: (int(chosen[:, g].sum()), int((chosen[:, g] & drawn.labels[:, g]).sum()))
        for g, genre in enumerate(GENRES)
    }


def test_a_sample_has_all_eras(uri):
    with opened(uri) as records:
        rows = records.sample()
    assert rows.num_rows == 600
    assert set(rows["slice"].to_pylist()) <= set(SLICES)


def test_examples_are_the_most_extreme_of_their_slice(drawn, uri):
    finding = Finding(
        kind=Kind.PREDICTION,
        what="probability",
        genre="Horror",
        era="digital",
        threshold=0.05,
        before=0.2,
        after=0.4,
    )
    with opened(uri) as records:
        found = records.examples(finding, 3)
    values = drawn.probabilities[
        (drawn.frame["era"] == "digital").to_numpy(), GENRES.index("Horror")
    ]
    assert [p for _, _, p in found] == pytest.approx(sorted(values)[::-1][:3], abs=1e-6)
    assert all(film.startswith("tt") for _, film, _ in found)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("film,genres\n", "no column film_id"),
        ("film_id,genres\ntt1,Comedy|Porridge\n", "line 2: the genre 'Porridge' is unknown"),
        ("film_id,genres\ntt1,TV Movie|Zombie\n", "no film .* has any genre that the model"),
    ],
)
def test_truth_that_is_damaged_is_refused(tmp_path, text, message):
    (tmp_path / "truth.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_truth(str(tmp_path / "truth.csv"), GENRES)


def test_truth_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match="there is no file"):
        read_truth(str(tmp_path / "truth.csv"), GENRES)


def test_of_a_film_that_is_there_twice_the_last_row_counts(tmp_path):
    (tmp_path / "truth.csv").write_text(
        "film_id,genres\ntt1,Comedy\ntt2,\ntt1,horror|War|TV Movie\n"
    )
    assert read_truth(str(tmp_path / "truth.csv"), GENRES).to_pylist() == [
        {"film_id": "tt1", "genres": ["Horror", "War", "TV Movie"]},
        {"film_id": "tt2", "genres": []},
    ]
