"""Ingest of folders: sound, broken and interrupted."""

import csv
import json
import os
import signal
import subprocess
import sys
import tarfile
import time

import pandas as pd
import pytest
from helpers import REAL_POSTERS, encode, noise_poster, row, write_folder
from PIL import Image

from components.ingest.ingest import ingest
from components.ingest.sources import make_source
from components.ingest.sources.folder import FolderSource
from marquee.catalog import Catalog
from marquee.errors import DataError, DataGateFailed, UsageError


def run(folder, out, **options):
    return ingest(FolderSource(str(folder), **options), str(out), part_rows=5)


def sound(seed=0):
    return encode(noise_poster(seed, 100, 150))


def test_a_sound_folder_comes_in_whole(make_folder, tmp_path):
    report = run(make_folder(12), tmp_path / "out")
    assert (report.added, report.refused, report.manifest.rows) == (12, 0, 12)


def test_the_same_again_adds_nothing(make_folder, tmp_path):
    folder = make_folder(7)
    first = run(folder, tmp_path / "out")
    second = run(folder, tmp_path / "out")
    assert (second.added, second.unchanged) == (0, 7)
    assert (second.manifest.parts, second.manifest.digest) == (
        first.manifest.parts,
        first.manifest.digest,
    )


def test_new_and_changed_rows_come_in_later(make_folder, tmp_path):
    folder = make_folder(4)
    run(folder, tmp_path / "out")
    rows = list(csv.DictReader((folder / "posters.csv").open()))
    rows[1]["title"] = "Director's Cut"
    (folder / "images/f0002.jpg").write_bytes(sound(99))
    write_folder(folder, [*rows, row("new")], {"new.png": encode(noise_poster(5), "PNG")})
    report = run(folder, tmp_path / "out")
    assert (report.added, report.unchanged, report.manifest.rows) == (3, 2, 5)
    assert report.manifest.digest == run(folder, tmp_path / "fresh").manifest.digest


def test_all_columns_arrive(tmp_path):
    cells = row(
        "a",
        year="",
        genres="comedy|Science Fiction",
        genres_tmdb="Comedy",
        genres_imdb="",
        keywords="superhero | Space Opera||superhero",
        licence="CC0-1.0",
        imdb_id="tt1",
        tmdb_id="42",
        film_id="film",
        source="mine",
    )
    folder = write_folder(tmp_path / "in", [cells], {"a.webp": encode(noise_poster(1), "WEBP")})
    run(folder, tmp_path / "out")
    found = Catalog(str(tmp_path / "out")).frame().iloc[0]
    assert list(found.genres) == ["Comedy", "Science Fiction"]
    assert {name: list(value) for name, value in found.label_sources.items()} == {
        "tmdb": ["Comedy"]
    }
    assert list(found.keywords) == ["Space Opera", "superhero"]
    assert (found.licence, found.imdb_id, found.tmdb_id) == ("CC0-1.0", "tt1", 42)
    assert (found.film_id, found.source, found.era) == ("film", "mine", "unknown")


def test_images_in_tars(make_folder, tmp_path):
    folder = make_folder(6)
    reference = run(folder, tmp_path / "a").manifest.digest
    for number in range(2):
        with tarfile.open(folder / f"images-{number:02d}.tar", "w") as tar:
            for file in sorted((folder / "images").iterdir())[number::2]:
                tar.add(file, file.name)
    for file in (folder / "images").iterdir():
        file.unlink()
    assert run(folder, tmp_path / "b").manifest.digest == reference


def test_a_folder_in_a_bucket(make_folder, bucket, tmp_path):
    from marquee import storage

    folder = make_folder(3)
    for file in filter(lambda path: path.is_file(), folder.rglob("*")):
        storage.write_bytes(f"{bucket}/in/{file.relative_to(folder)}", file.read_bytes())
    report = run(f"{bucket}/in", f"{bucket}/out")
    assert report.manifest.digest == run(folder, tmp_path / "out").manifest.digest


BOMB = encode(Image.new("1", (20_000, 20_000)), "PNG")
BAD_ROWS = {
    "corrupt": (row("corrupt"), {"corrupt.jpg": sound()[:2000]}, "damaged"),
    "html": (row("html"), {"html.jpg": b"<html>404</html>"}, "HTML page"),
    "gif": (row("gif"), {"gif.gif": encode(noise_poster(1), "GIF")}, "GIF image"),
    "empty": (row("empty"), {"empty.jpg": b""}, "empty file"),
    "bomb": (row("bomb"), {"bomb.png": BOMB}, "too large"),
    "missing": (row("missing"), {}, "no image for the id 'missing'"),
    "duplicate": (row("good"), {}, "stands in row 2 already"),
    "genre": (row("genre", genres="Comedy|Romcom"), {"genre.jpg": sound(2)}, "'Romcom'"),
    "label": (row("label", genres_imdb="Sci-Fi"), {"label.jpg": sound(2)}, "genres_imdb"),
    "no genre": (row("none", genres=""), {"none.jpg": sound(2)}, "no genre"),
    "year": (row("year", year="19999"), {"year.jpg": sound(2)}, "'19999'"),
    "id": (row("../etc", year=2000), {}, "cannot name a file"),
    "no id": (row(""), {}, "cannot name a file"),
    "endless year": (row("long", year="9" * 5000), {"long.jpg": sound(2)}, "no release year"),
    "huge cell": (row("huge", title="x" * 200_000), {"huge.jpg": sound(2)}, "200,000 characters"),
    "two images": (row("twin"), {"twin.jpg": sound(2), "twin.png": sound(3)}, "2 images"),
    "number": (row("number", tmdb_id="twelve"), {"number.jpg": sound(2)}, "'twelve'"),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_bad_row_is_quarantined_and_the_rest_goes_through(name, tmp_path):
    bad_row, images, reason = BAD_ROWS[name]
    rows = [row("good"), bad_row, row("fine")]
    images = {"good.jpg": sound(11), "fine.jpg": sound(12)} | images
    report = run(write_folder(tmp_path / "in", rows, images), tmp_path / "out")
    catalog = Catalog(str(tmp_path / "out"))
    assert catalog.frame(["title"])["poster_id"].tolist() == ["fine", "good"]
    assert report.manifest.quarantined == 1
    refusal = json.loads((tmp_path / "out/quarantine.jsonl").read_text())
    assert reason in refusal["reason"]
    assert refusal["row"] == 3
    assert refusal["remedy"]


def test_a_link_that_leads_nowhere_is_quarantined(tmp_path):
    folder = write_folder(tmp_path / "in", [row("good"), row("loop")], {"good.jpg": sound()})
    (folder / "images/loop.jpg").symlink_to("loop.jpg")
    assert run(folder, tmp_path / "out").refused == 1


def test_plausible_folders_come_in(tmp_path):
    rows = [
        row("from pandas", year="1999.0", tmdb_id="12.0"),
        row("caf\u00e9"),
        row("packed"),
    ]
    images = {"from pandas.JPG": sound(1), "cafe\u0301.jpg": sound(2)}
    folder = write_folder(tmp_path / "in", rows, images)
    (folder / "images").rename(tmp_path / "elsewhere")
    (folder / "images").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "packed.jpg").write_bytes(sound(3))
    (tmp_path / "packed.json").write_text("{}")
    with tarfile.open(folder / "images-00.tar", "w") as tar:
        for name in ("packed.jpg", "packed.json"):
            tar.add(tmp_path / name, f"./{name}")
    report = run(folder, tmp_path / "out")
    assert (report.added, report.refused) == (3, 0)
    frame = Catalog(str(tmp_path / "out")).frame(["year", "tmdb_id"])
    assert frame.set_index("poster_id").loc["from pandas", ["year", "tmdb_id"]].tolist() == [
        1999,
        12,
    ]


def test_a_mirrored_catalog_follows_what_is_removed(make_folder, tmp_path):
    folder = make_folder(8)
    run(folder, tmp_path / "out")
    rows = list(csv.DictReader((folder / "posters.csv").open()))[:5]
    rows[0]["genres"] = "Nonsense"
    write_folder(folder, rows, {})
    assert run(folder, tmp_path / "out").manifest.rows == 8
    source = FolderSource(str(folder))
    report = ingest(source, str(tmp_path / "out"), part_rows=5, mirror=True)
    assert (report.removed, report.manifest.rows) == (4, 4)
    assert report.manifest.digest == run(folder, tmp_path / "fresh").manifest.digest


def test_the_same_folder_by_another_path_is_the_same_source(make_folder, tmp_path, monkeypatch):
    folder = make_folder(3)
    (folder / "images/f0001.jpg").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    run(folder, tmp_path / "out")
    assert run("./posters/", tmp_path / "out").manifest.quarantined == 1


def test_of_a_duplicate_id_the_first_row_stays(tmp_path):
    rows = [row("a", title="First"), row("a", title="Second")]
    run(write_folder(tmp_path / "in", rows, {"a.jpg": sound()}), tmp_path / "out")
    assert Catalog(str(tmp_path / "out")).frame(["title"])["title"].tolist() == ["First"]


def test_a_mended_row_leaves_the_quarantine(tmp_path):
    rows = [row("good"), row("bad")]
    folder = write_folder(tmp_path / "in", rows, {"good.jpg": sound(1), "bad.jpg": b""})
    assert run(folder, tmp_path / "out").manifest.quarantined == 1
    (folder / "images/bad.jpg").write_bytes(sound(2))
    manifest = run(folder, tmp_path / "out").manifest
    assert (manifest.rows, manifest.quarantined) == (2, 0)


def test_rows_of_the_wrong_length_and_line_numbers_across_multiline_cells(tmp_path):
    folder = write_folder(tmp_path / "in", [row("a", title="two\nlines")], {"a.jpg": sound()})
    with (folder / "posters.csv").open("a") as stream:
        stream.write("b,B,1999,Comedy,surplus\nc,C\n")
    run(folder, tmp_path / "out")
    lines = (tmp_path / "out/quarantine.jsonl").read_text().splitlines()
    assert [json.loads(line)["row"] for line in lines] == [4, 5]


def test_nothing_usable_is_an_error_and_still_explained(tmp_path):
    folder = write_folder(tmp_path / "in", [row("a"), row("b")], {"a.jpg": b"", "b.jpg": b""})
    with pytest.raises(DataGateFailed, match="2 rows were refused"):
        run(folder, tmp_path / "out")
    assert len((tmp_path / "out/quarantine.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (None, UsageError, "has no posters.csv"),
        (b"id,title\n1,x\n", DataError, "lacks the column.s. year, genres"),
        (b"", DataError, "lacks the column"),
        (b"id;title;year;genres\n", DataError, "separate the cells by commas"),
        (
            b'id,title,year,genres\na,x,1999,Comedy\nb,"x,1999,Comedy\nc,x,1999,War\n',
            DataError,
            "begins at line 3",
        ),
        ("id,title,year,genres\n1,\xe9,2000,Comedy\n".encode("latin-1"), DataError, "not UTF-8"),
        (b"id,title,year,genres\n", DataGateFailed, "not one poster"),
    ],
    ids=["no csv", "columns", "empty csv", "semicolons", "open quote", "latin-1", "header only"],
)
def test_unusable_folders(content, error, message, tmp_path):
    if content is not None:
        (tmp_path / "posters.csv").write_bytes(content)
    with pytest.raises(error, match=message):
        run(tmp_path, tmp_path / "out")


def test_a_missing_folder(tmp_path):
    with pytest.raises(UsageError, match="no folder"):
        make_source("folder", path=str(tmp_path / "nowhere"))


def test_a_limit_takes_the_same_sample_every_time(make_folder, tmp_path):
    folder = make_folder(20)
    first = run(folder, tmp_path / "a", limit=6).manifest
    assert first.rows == 6
    assert run(folder, tmp_path / "b", limit=6).manifest.digest == first.digest
    ids = Catalog(str(tmp_path / "a")).frame(["title"])["poster_id"].tolist()
    assert ids != [f"f{number:04d}" for number in range(6)]


def _command(folder, out):
    arguments = ["ingest", "--source", "folder", "--path", str(folder), "--out", str(out)]
    code = "from marquee.cli import main; main()"
    return [sys.executable, "-c", code, *arguments, "--set", "ingest.part_rows=5"]


def _parts(out):
    try:
        return len(json.loads((out / "catalog.json").read_text())["parts"])
    except FileNotFoundError:
        return 0


def test_kills_cost_nothing(make_folder, tmp_path):
    folder = make_folder(60, width=500)
    reference = run(folder, tmp_path / "undisturbed").manifest
    out = tmp_path / "killed"
    kills = 0
    for _ in range(4):
        before = _parts(out)
        process = subprocess.Popen(_command(folder, out), stderr=subprocess.DEVNULL)
        while process.poll() is None and _parts(out) <= before:
            time.sleep(0.001)
        os.kill(process.pid, signal.SIGKILL) if process.poll() is None else None
        kills += process.wait() == -signal.SIGKILL
    assert kills >= 3
    assert _parts(out) < 12
    subprocess.run(_command(folder, out), check=True, capture_output=True)
    manifest = Catalog(str(out)).manifest
    assert (manifest.digest, manifest.rows) == (reference.digest, 60)
    assert not list((out / "parts").glob(".partial*"))


TERMS = {
    "none": ({}, {}, ("asserted by the user", None, None)),
    "of all rows": ({}, {"licence": "CC-BY-4.0"}, ("CC-BY-4.0", None, None)),
    "of the row": ({"licence": "CC0-1.0"}, {"licence": "CC-BY-4.0"}, ("CC0-1.0", None, None)),
    "version": ({"terms_version": "2023-10-20"}, {}, ("asserted by the user", "2023-10-20", None)),
    "a date": ({"expires_at": "2931-12-31"}, {}, (None, None, "2931-12-31T00:00:00+00:00")),
    "a time": ({"expires_at": "2031-12-31 18:30"}, {}, (None, None, "2031-12-31T18:30:00+00:00")),
    "a zone": (
        {"expires_at": "2031-12-31T18:30+02:00"},
        {},
        (None, None, "2031-12-31T16:30:00+00:00"),
    ),
    "for ever": ({"expires_at": "9999-12-31"}, {}, (None, None, "9999-12-31T00:00:00+00:00")),
    "empty": ({"expires_at": "", "licence": ""}, {}, ("asserted by the user", None, None)),
}


@pytest.mark.parametrize("name", TERMS)
def test_terms_of_a_row(name, tmp_path):
    cells, options, (licence, version, expiry) = TERMS[name]
    folder = write_folder(tmp_path / "in", [row("a", **cells)], {"a.jpg": sound()})
    run(folder, tmp_path / "out", **options)
    found = Catalog(str(tmp_path / "out")).frame().iloc[0]
    assert found.licence == (licence or "asserted by the user")
    assert found.terms_version == version
    assert (None if pd.isna(found.expires_at) else found.expires_at.isoformat()) == expiry


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("soon", "'soon' in the column expires_at is no date"),
        ("31.12.2031", "is no date"),
        ("9999-12-31T23:59-12:00", "is no date"),
        ("2020-01-01", "the terms of the row ended on 2020-01-01"),
    ],
)
def test_a_row_without_valid_terms_is_quarantined(cell, reason, tmp_path):
    rows = [row("good"), row("bad", expires_at=cell)]
    folder = write_folder(tmp_path / "in", rows, {"good.jpg": sound(1), "bad.jpg": sound(2)})
    run(folder, tmp_path / "out")
    (refusal,) = Catalog(str(tmp_path / "out")).quarantine()
    assert (refusal.id, refusal.row) == ("bad", 3)
    assert reason in refusal.reason and refusal.remedy


@pytest.mark.real_data
def test_real_posters_by_sample(tmp_path):
    report = run(REAL_POSTERS, tmp_path / "out", limit=200)
    assert (report.manifest.rows, report.manifest.quarantined) == (200, 0)
    frame = Catalog(str(tmp_path / "out")).frame(["era", "label_sources"])
    assert frame["era"].nunique() >= 5
