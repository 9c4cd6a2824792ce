"""A schedule reports on what is due: missed windows, late records, truth that came, no more."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from bundles import tiny_bundle

from benchmarks.simulated_drift import GENRES, SCENARIOS, World
from marquee import storage
from marquee.errors import UsageError
from marquee.registry import Stage, open_registry
from marquee.settings import MonitorSettings
from marquee.verdict import Outcome, Verdict
from monitoring.collect import Window
from monitoring.monitor import Watch, _champion, due, monitor, show

START = datetime(2026, 11, 2, tzinfo=UTC)
NOON = timedelta(hours=12)


@pytest.fixture(scope="module")
def reference():
    return World().draw(5000, np.random.default_rng(1)).profile().to_document()


@pytest.fixture
def world(tmp_path, reference):
    return _World(tmp_path, reference)


class _World:
    """A server that writes records day by day, and who watches it."""

    def __init__(self, folder: Path, reference):
        self.folder = folder
        self.records, self.out = str(folder / "records"), str(folder / "out")
        self.bundle = tiny_bundle(
            folder / "bundle", genres=GENRES, label_set="all18", reference_profile=reference
        )
        self.truth = ""

    def predict(self, day, count=200, hour=None, plant=None):
        drawn = World().draw(count, np.random.default_rng(day))
        if plant:
            plant(drawn, np.random.default_rng(0))
        since = START + timedelta(days=day, hours=hour or 0)
        length = timedelta(days=1) if hour is None else timedelta(hours=1)
        drawn.write(self.records, self.bundle.version, since, since + length)
        if hour is not None:  # another server's file of the same hour
            (file,) = (Path(self.records) / f"date={since:%Y-%m-%d}" / f"hour={since:%H}").glob(
                "simulated-000000.parquet"
            )
            file.rename(file.with_name("late.parquet"))
        (self.folder / "truth.csv").write_text(drawn.truth())

    def watch(self, **more):
        settings = MonitorSettings(backfill=4, evidently=False)
        given = {"bundle": str(self.bundle.folder)} | more
        return Watch(
            records=self.records, out=self.out, truth=self.truth, settings=settings, **given
        )

    def run(self, day, **more):
        """Run the monitor at noon of a day; give the days that it reported on."""
        reports = monitor(self.watch(**more), START + timedelta(days=day) + NOON)
        return [(report.window.since - START).days for report in reports]


def test_each_day_is_reported_on_once(world):
    world.predict(0)
    assert world.run(1) == [0]
    assert world.run(1) == []
    world.predict(1)
    assert world.run(2) == [1]


def test_missed_windows_are_made_up_for_from_the_first_records_on(world):
    world.predict(0)
    world.predict(2)
    assert world.run(3) == [0, 1, 2]


def test_a_window_is_not_due_before_its_records_are_written(world):
    world.predict(0)
    midnight = START + timedelta(days=1)
    assert due(world.watch(), midnight + timedelta(minutes=9)) == []
    assert len(due(world.watch(), midnight + timedelta(minutes=10))) == 1


def test_a_window_to_which_records_came_late_is_reported_on_again(world):
    world.predict(0)
    world.predict(1)
    assert world.run(2) == [0, 1]
    world.predict(0, count=50, hour=5)
    (report,) = monitor(world.watch(), START + timedelta(days=2) + NOON)
    assert report.window.since == START
    assert report.counted.files == 25


def test_when_truth_comes_windows_are_reported_on_again(world):
    world.predict(0)
    world.predict(1)
    assert world.run(2) == [0, 1]
    world.truth = str(world.folder / "truth.csv")
    assert world.run(2) == [0, 1]
    assert world.run(2) == []


def test_a_window_with_a_damaged_file_is_not_reported_on_again_and_again(world):
    world.predict(0)
    file = next(Path(world.records).rglob("*.parquet"))
    whole = file.read_bytes()
    file.write_bytes(b"PAR1")
    assert world.run(1) == [0]
    assert world.run(1) == []
    file.write_bytes(whole)  # restored
    assert world.run(1) == [0]
    assert world.run(1) == []


def test_a_report_stays_when_its_records_are_removed(world):
    world.predict(0)
    assert world.run(1) == [0]
    for file in Path(world.records).rglob("*.parquet"):
        file.unlink()
    assert world.run(1) == []


def test_truth_may_come_weeks_later(world):
    world.predict(0)
    assert world.run(1) == [0]
    world.truth = str(world.folder / "truth.csv")
    report, *silent = monitor(world.watch(), START + timedelta(days=30) + NOON)
    assert (report.window.since, report.counted.labelled) == (START, 200)
    assert [other.counted.records for other in silent] == [0] * 4


def test_a_damaged_report_is_made_again(world):
    world.predict(0)
    world.predict(1)
    assert world.run(2) == [0, 1]
    file = sorted(Path(world.out).glob("*/drift.json"))[0]
    file.write_text(file.read_text()[:100])
    assert world.run(2) == [0]


def test_the_verdict_on_the_latest_window_is_kept(world):
    world.predict(0)
    world.predict(1, count=20)
    world.run(2)
    world.predict(0, count=50, hour=5)
    assert world.run(2) == [0]
    verdict = Verdict.from_json((Path(world.out) / "verdict.json").read_text(), "here")
    assert verdict.outcome is Outcome.INCONCLUSIVE  # the second day's


def test_the_model_that_was_champion_for_most_of_a_window_is_watched(world, reference):
    other = tiny_bundle(
        world.folder / "other", genres=GENRES, label_set="all18", reference_profile=reference,
        thresholds=(0.3,) * len(GENRES),
    )  # fmt: skip

    class History:
        def versions(self):
            return [
                SimpleNamespace(version=b.version, label_set="all18", uri=str(b.folder))
                for b in (world.bundle, other)
            ]

        def history(self):
            evening = START + timedelta(hours=23)
            return [
                SimpleNamespace(what="champion", version=world.bundle.version, time=str(START)),
                SimpleNamespace(what="champion", version=other.version, time=str(evening)),
            ]

    def champion(day):
        since = START + timedelta(days=day)
        watch = world.watch(bundle="", registry="r")
        return _champion(History(), watch, Window(since=since, until=since + timedelta(days=1)))

    assert champion(0) == str(world.bundle.folder)
    assert champion(1) == str(other.folder)


def test_the_champion_of_the_time_is_watched(world, reference):
    registry = open_registry(str(world.folder / "registry"))
    entry = registry.register(
        str(world.bundle.folder), {"version": world.bundle.version, "metrics": {}}
    )
    with pytest.raises(UsageError, match="has no champion of all18"):
        world.predict(0)
        world.run(1, bundle="", registry=registry.uri)
    registry.move(entry.version, Stage.CHAMPION, "the first")
    (report,) = monitor(
        world.watch(bundle="", registry=registry.uri), START + timedelta(days=1) + NOON
    )
    assert report.version == world.bundle.version
    assert report.counted.roles == ((world.bundle.version, "unregistered", 200),)


def test_without_a_model_nothing_is_watched(world):
    with pytest.raises(UsageError, match="nobody says which model"):
        world.watch(bundle="")


def test_the_last_verdict_and_all_messages_are_shown(world, tmp_path):
    world.predict(0)
    world.predict(1, count=2000, plant=SCENARIOS[1].plant)
    reports = monitor(world.watch(), START + timedelta(days=2) + NOON)
    said = show(reports, str(tmp_path / "ui" / "page"), str(tmp_path / "ui" / "message"))
    assert "probabilities of Horror rose" in said
    assert said in (tmp_path / "ui" / "page").read_text()
    assert (tmp_path / "ui" / "message").read_text().count("**") == 4
    verdict = Path(world.out) / "verdict.json"
    assert Verdict.from_json(verdict.read_text(), "here").outcome is Outcome.FAILED
    assert show([], str(tmp_path / "page"), str(tmp_path / "message")).startswith("No window")


@pytest.mark.parametrize("kind", ["bucket", pytest.param("s3_bucket", marks=pytest.mark.slow)])
def test_all_of_it_may_be_in_a_bucket(world, kind, request):
    bucket = request.getfixturevalue(kind)
    world.records, world.out = f"{bucket}/records", f"{bucket}/monitoring/drift"
    world.predict(0, count=400)
    storage.write_text(f"{bucket}/genres.csv", (world.folder / "truth.csv").read_text())
    world.truth = f"{bucket}/genres.csv"
    (report,) = monitor(world.watch(), START + timedelta(days=1) + NOON)
    assert (report.counted.records, report.counted.labelled) == (400, 400)
    assert world.run(1) == []
    name = storage.join(storage.join(world.records, "date=2026-11-02"), "hour=03", "bad.parquet")
    storage.write_bytes(name, b"PAR1")
    (again,) = monitor(world.watch(), START + timedelta(days=1) + NOON)
    assert again.counted.unreadable == (name,)
    assert "drift.html" in {file.rpartition("/")[2] for file in storage.list_files(world.out)}
