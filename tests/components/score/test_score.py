"""Labels of a whole catalog: right, complete, and resumable."""

import json
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bundles import tiny_bundle
from helpers import encode, noise_poster, row, write_folder

from components.ingest.ingest import ingest
from components.ingest.sources.folder import FolderSource
from components.score.labels import Job, LabelFile, column_of
from components.score.score import score
from marquee import storage
from marquee.catalog import SCHEMA, Catalog, PartMissing
from marquee.engine import Engine
from marquee.errors import DataGateFailed, UsageError
from marquee.genres import LABEL_SETS
from marquee.images import preprocess
from marquee.licences import TMDB
from marquee.settings import LicenceSettings, Settings

POSTERS = 30
SETTINGS = Settings()


def make_catalog(folder, count=POSTERS, part_rows=8, first=0, **changes):
    ids = [f"f{number:03d}" for number in range(first, first + count)]
    images = {
        f"{name}.jpg": encode(noise_poster(number, 50 + number % 9, 80))
        for number, name in enumerate(ids)
    }
    rows = [row(name, year=1950 + 10 * (n % 8), **changes) for n, name in enumerate(ids)]
    rows[0]["year"] = ""
    write_folder(folder / "posters", rows, images)
    ingest(FolderSource(str(folder / "posters")), str(folder / "catalog"), part_rows)
    return str(folder / "catalog")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return tiny_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture
def catalog(tmp_path):
    return make_catalog(tmp_path)


def read(labels):
    """The rows by poster, and the file's metadata."""
    file = pq.ParquetFile(str(labels))
    frame = file.read().to_pandas().set_index("poster_id").sort_index()
    return frame, json.loads(file.schema_arrow.metadata[b"marquee"])


def test_labels_are_what_the_engine_says(bundle, catalog, tmp_path):
    report = score(catalog, str(bundle.folder), str(tmp_path / "labels.parquet"), SETTINGS)
    frame, about = read(tmp_path / "labels.parquet")
    rows = Catalog(catalog).frame()
    assert list(frame.index) == list(rows["poster_id"])
    assert (about["model_version"], about["catalog_digest"]) == (
        bundle.version,
        Catalog(catalog).manifest.digest,
    )
    images = dict(Catalog(catalog).stream_images(rows))
    size, engine = bundle.info.preprocessing, Engine(bundle)
    predictions = engine.predict(np.stack([preprocess(images[n], size) for n in frame.index]))
    for name, prediction in zip(frame.index, predictions, strict=True):
        found = frame.loc[name]
        assert list(found["genres"]) == prediction.genres
        assert found["unsure"] == prediction.unsure
        values = {genre: found[column_of(genre)] for genre in bundle.info.genres}
        assert values == pytest.approx(prediction.probabilities, abs=1e-5)
    assert set(frame["model_version"]) == {bundle.version}
    assert frame["error"].isna().all()
    assert frame.loc["f001", ["title", "year", "era", "era_source"]].tolist() == [
        "Film f001",
        1960,
        "new_hollywood",
        "given",
    ]
    assert pd.isna(frame.loc["f000", "year"])
    assert frame.loc["f000", ["era", "era_source"]].tolist() == ["unknown", "none"]
    assert (report.posters, report.unreadable, report.unsure) == (POSTERS, 0, frame["unsure"].sum())
    assert report.genres == {g: sum(g in found for found in frame["genres"]) for g in report.genres}
    assert report.scalars()["share/Horror"] == report.genres["Horror"] / POSTERS
    assert not list(tmp_path.glob("labels.parquet.*"))


def test_every_label_has_a_column_of_its_own():
    for genres in LABEL_SETS.values():
        assert len({column_of(genre) for genre in genres}) == len(genres)
    assert column_of("Science Fiction") == "p_science_fiction"


def damage(catalog, poster_id):
    """Change a poster's bytes where they are stored."""
    rows = Catalog(catalog).frame(["shard_offset"]).set_index("poster_id")
    place = rows.loc[poster_id]
    shard = Path(Catalog(catalog).shard_uri(place["part"]))
    data = bytearray(shard.read_bytes())
    data[place["shard_offset"] + 10] ^= 255
    shard.write_bytes(data)


def test_posters_that_cannot_be_read_say_why(bundle, catalog, tmp_path):
    for name in ("f000", "f011", *(f"f{number:03d}" for number in range(16, 24))):
        damage(catalog, name)
    report = score(catalog, str(bundle.folder), str(tmp_path / "labels.parquet"), SETTINGS)
    frame, _ = read(tmp_path / "labels.parquet")
    bad = frame[frame["error"].notna()]
    assert (report.posters, report.unreadable, len(bad)) == (POSTERS, 10, 10)
    assert "the bytes of the poster f011" in bad.loc["f011", "error"]
    empty = bad[["genres", "unsure", *(column_of(genre) for genre in bundle.info.genres)]]
    assert empty.isna().all(axis=None)
    assert frame.loc["f010", "genres"] is not None
    assert bad.loc["f011", "title"] == "Film f011"


def test_what_superseded_others_counts(bundle, tmp_path):
    uri = make_catalog(tmp_path)
    rows = tmp_path / "posters/posters.csv"
    rows.write_text(rows.read_text().replace("Film f003", "Mended"))
    catalog_only_grows(tmp_path)
    score(uri, str(bundle.folder), str(tmp_path / "labels.parquet"), SETTINGS)
    frame, _ = read(tmp_path / "labels.parquet")
    assert len(frame) == POSTERS
    assert frame.loc["f003", "title"] == "Mended"


def catalog_only_grows(folder):
    """Bring changed posters in without the compaction that ends an ingest."""
    from components.ingest.examine import Examiner
    from components.ingest.ingest import ingest_slice
    from marquee.catalog import CatalogWriter

    with Examiner(1) as examiner:
        writer = CatalogWriter(str(folder / "catalog"), "", 8)
        ingest_slice(FolderSource(str(folder / "posters")), writer, examiner)
    assert len(Catalog(str(folder / "catalog")).rows([])) == POSTERS + 1


@pytest.fixture
def interrupted(bundle, catalog, tmp_path):
    """Labels that were begun: the third part of the catalog could not be read."""
    lost = Catalog(catalog).shard_uri(Catalog(catalog).manifest.parts[2])
    Path(lost).rename(f"{lost}.lost")
    labels = tmp_path / "labels.parquet"
    with pytest.raises(PartMissing, match="missing"):
        score(catalog, str(bundle.folder), str(labels), SETTINGS)
    Path(f"{lost}.lost").rename(lost)
    assert not labels.exists()
    assert len(list(tmp_path.glob("labels.parquet.parts/*.parquet"))) == 2
    return labels


def test_the_same_command_goes_on(bundle, catalog, interrupted, tmp_path, caplog):
    caplog.set_level("INFO")
    score(catalog, str(bundle.folder), str(interrupted), SETTINGS)
    assert "going on, 16 posters are labelled already" in caplog.text
    score(catalog, str(bundle.folder), str(tmp_path / "whole.parquet"), SETTINGS)
    assert interrupted.read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_the_same_command_once_more_does_nothing(bundle, catalog, tmp_path):
    labels = tmp_path / "labels.parquet"
    first = score(catalog, str(bundle.folder), str(labels), SETTINGS)
    written = labels.stat().st_mtime_ns
    assert score(catalog, str(bundle.folder), str(labels), SETTINGS) == first
    assert labels.stat().st_mtime_ns == written


@pytest.mark.parametrize("begun", [True, False], ids=["begun", "finished"])
@pytest.mark.parametrize("other", ["model", "catalog"])
def test_labels_of_something_else_are_left_alone(
    bundle, catalog, interrupted, tmp_path, begun, other
):
    if not begun:
        score(catalog, str(bundle.folder), str(interrupted), SETTINGS)
    before = {file: file.read_bytes() for file in tmp_path.glob("labels.parquet*/*")}
    model = tiny_bundle(tmp_path / "other", seed=1) if other == "model" else bundle
    if other == "catalog":
        catalog = make_catalog(tmp_path / "more", 5)
    what = "has a beginning of labels" if begun else "holds labels"
    with pytest.raises(UsageError, match=what) as caught:
        score(catalog, str(model.folder), str(interrupted), SETTINGS)
    assert bundle.version[:12] in str(caught.value)
    assert "remove it" in caught.value.remedy
    assert {file: file.read_bytes() for file in tmp_path.glob("labels.parquet*/*")} == before


def test_of_two_that_begin_at_once_one_finds_the_others(tmp_path, monkeypatch):
    uri, taken = str(tmp_path / "labels.parquet"), []
    jobs = [
        Job(model_version=name, catalog_digest="c", genres=("Drama",), attributions=())
        for name in ("first", "second")
    ]
    replace = storage.replace_versioned

    def overtaken(place, data, token):
        if not taken:
            taken.append(place)
            LabelFile(uri, jobs[1])
        replace(place, data, token)

    monkeypatch.setattr(storage, "replace_versioned", overtaken)
    with pytest.raises(UsageError, match="has a beginning of labels of model second"):
        LabelFile(uri, jobs[0])


@pytest.mark.parametrize("what", ["a folder", "another file", "other Parquet"])
def test_what_holds_no_labels_is_not_replaced(bundle, catalog, tmp_path, what):
    labels = tmp_path / "labels.parquet"
    if what == "a folder":
        labels.mkdir()
    elif what == "another file":
        labels.write_text("my thesis")
    else:
        pd.DataFrame({"a": [1]}).to_parquet(labels)
    with pytest.raises(UsageError, match="there already, and holds no labels"):
        score(catalog, str(bundle.folder), str(labels), SETTINGS)


def test_posters_that_expired_since_are_not_used(bundle, catalog, tmp_path):
    part = Catalog(catalog).part_uri(Catalog(catalog).manifest.parts[1])
    table, column = pq.read_table(part), SCHEMA.get_field_index("expires_at")
    over = pa.array([datetime(2020, 1, 1, tzinfo=UTC)] * len(table), SCHEMA.field(column).type)
    pq.write_table(table.set_column(column, SCHEMA.field(column), over), part)
    with pytest.raises(DataGateFailed, match="8 posters have expired"):
        score(catalog, str(bundle.folder), str(tmp_path / "labels.parquet"), SETTINGS)
    assert not list(tmp_path.glob("labels*"))


def test_terms_that_need_an_agreement(bundle, tmp_path):
    terms = {"source": "tmdb", "licence": TMDB, "expires_at": "2931-01-01"}
    catalog = make_catalog(tmp_path, 5, **terms)
    place = str(tmp_path / "labels.parquet")
    with pytest.raises(DataGateFailed, match="machine learning") as caught:
        score(catalog, str(bundle.folder), place, SETTINGS)
    assert "licence.tmdb_agreement" in caught.value.remedy
    agreed = Settings(licence=LicenceSettings(tmdb_agreement="2026-17"))
    score(catalog, str(bundle.folder), place, agreed)
    frame, about = read(place)
    assert "uses TMDB" in about["attributions"][0]
    assert set(frame["licence"]) == {TMDB}
    assert frame["expires_at"].dt.year.tolist() == [2931] * 5


def test_in_a_bucket(bundle, bucket, tmp_path):
    make_catalog(tmp_path)
    ingest(FolderSource(str(tmp_path / "posters")), f"{bucket}/catalog", 8)
    report = score(f"{bucket}/catalog", str(bundle.folder), f"{bucket}/out/l.parquet", SETTINGS)
    here = score(
        str(tmp_path / "catalog"), str(bundle.folder), str(tmp_path / "l.parquet"), SETTINGS
    )
    assert (report.posters, report.genres) == (here.posters, here.genres)
    assert storage.list_files(f"{bucket}/out") == ["l.parquet"]
    assert storage.read_bytes(f"{bucket}/out/l.parquet") == (tmp_path / "l.parquet").read_bytes()


def command(catalog, bundle, labels):
    words = ("score", "--catalog", catalog, "--bundle", bundle.folder, "--out", labels, "--json")
    return [sys.executable, "-m", "marquee", *map(str, words)]


@pytest.fixture(scope="module")
def many_parts(tmp_path_factory):
    return make_catalog(tmp_path_factory.mktemp("many"), 300, part_rows=3)


@pytest.mark.slow
@pytest.mark.parametrize("way", [signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_run_goes_on(bundle, many_parts, tmp_path, way):
    catalog = many_parts
    labels = tmp_path / "labels.parquet"
    process = subprocess.Popen(command(catalog, bundle, labels), stderr=subprocess.PIPE, text=True)
    while len(list(tmp_path.glob("labels.parquet.parts/*.parquet"))) < 5:
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(way)
    _, said = process.communicate(timeout=60)
    assert process.returncode == (7 if way == signal.SIGTERM else -9)
    assert "Traceback" not in said
    assert not labels.exists()
    again = subprocess.run(command(catalog, bundle, labels), capture_output=True, text=True)
    assert "posters are labelled already" in again.stderr
    assert json.loads(again.stdout)["posters"] == 300
    score(catalog, str(bundle.folder), str(tmp_path / "whole.parquet"), SETTINGS)
    assert labels.read_bytes() == (tmp_path / "whole.parquet").read_bytes()
