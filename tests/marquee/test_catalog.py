import dataclasses
import json
import shutil
import tarfile
import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import OLD, encode, noise_poster

from marquee import storage
from marquee.catalog import (
    SCHEMA,
    Catalog,
    CatalogWriter,
    Facts,
    Poster,
    Refusal,
    digest_of,
)
from marquee.errors import DataError
from marquee.images import decode, measure


def make_poster(number, **changes):
    data = encode(noise_poster(number))
    facts = {
        "poster_id": f"p{number:03d}",
        "film_id": f"film{number}",
        "title": f"Film {number}",
        "year": 1980 + number % 40,
        "genres": ("Comedy", "Drama"),
        "label_sources": {"tmdb": ("Comedy",), "imdb": ("Comedy", "Drama")},
        "source": "test",
        "licence": "CC0-1.0",
    } | changes
    image = decode(data)
    height, width = image.shape[:2]
    return Poster(
        facts=Facts(**facts),
        data=data,
        perceptual_hash="00ff00ff00ff00ff",
        mode="RGB",
        width=width,
        height=height,
        attributes=measure(image),
    )


def write(uri, posters, part_rows=4):
    writer = CatalogWriter(uri, "test", part_rows)
    for poster in posters:
        writer.add(poster)
    return writer.publish()


@pytest.fixture(
    params=[
        "disk",
        "bucket",
        pytest.param("flaky_bucket", marks=pytest.mark.slow),
        "s3_bucket",
        pytest.param("flaky_s3_bucket", marks=pytest.mark.slow),
    ]
)
def uri(request, tmp_path):
    if request.param != "disk":
        return request.getfixturevalue(request.param) + "/catalog"
    return str(tmp_path / "catalog")


def test_what_goes_in_comes_out_by_row_stream_and_range(uri):
    posters = [make_poster(number) for number in range(10)]
    manifest = write(uri, posters)
    catalog = Catalog(uri)
    assert (manifest.rows, len(manifest.parts), len(catalog)) == (10, 3, 10)
    frame = catalog.frame()
    assert set(frame.columns) == {*SCHEMA.names, "part"}
    first = frame.iloc[0]
    assert (first.poster_id, first.era, list(first.genres)) == (
        "p000",
        "painted_blockbuster",
        ["Comedy", "Drama"],
    )
    assert {name: list(value) for name, value in first.label_sources.items()} == {
        "tmdb": ["Comedy"],
        "imdb": ["Comedy", "Drama"],
    }
    by_id = {poster.facts.poster_id: poster.data for poster in posters}
    assert dict(catalog.stream_images(frame)) == by_id
    for place in frame.itertuples():
        assert (
            catalog.read_image(place.part, place.shard_offset, place.size) == by_id[place.poster_id]
        )
        found = catalog.read_poster(
            place.poster_id, place.part, place.shard_offset, place.size, place.sha256
        )
        assert (found == decode(by_id[place.poster_id])).all()


def _stored_as(bad):
    """A catalog that holds bytes under their own sha256, whatever they are."""
    return lambda uri: write(uri, [dataclasses.replace(make_poster(1), data=bad)])


def _overwritten(uri):
    manifest = write(uri, [make_poster(1)])
    shard = Catalog(uri).shard_uri(manifest.parts[0])
    storage.write_bytes(shard, storage.read_bytes(shard)[:-9000] + bytes(9000))


def _lost(uri):
    manifest = write(uri, [make_poster(1)])
    storage.remove(Catalog(uri).shard_uri(manifest.parts[0]))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        pytest.param(_overwritten, "is damaged: the bytes of the poster p001", id="overwritten"),
        pytest.param(_lost, "which holds the poster p001, is missing", id="lost"),
        pytest.param(_stored_as(b"<html>"), "cannot be decoded: not an image", id="no image"),
        pytest.param(_stored_as(b""), "cannot be decoded: not an image", id="nothing"),
    ],
)
def test_a_poster_that_cannot_be_used_is_named(make, says, uri):
    make(uri)
    catalog = Catalog(uri)
    place = next(catalog.frame().itertuples())
    places = place.poster_id, place.part, place.shard_offset, place.size, place.sha256
    for read in (
        lambda: catalog.read_poster(*places),
        lambda: [
            catalog.pixels(poster_id, place.part, place.sha256, data)
            for poster_id, data in catalog.stream_images(catalog.frame())
        ],
    ):
        with pytest.raises(DataError, match=says) as caught:
            read()
        assert catalog.shard_uri(place.part) in caught.value.message
        assert place.poster_id in caught.value.message
        assert "ingest again" in caught.value.remedy


def test_shards_are_plain_tars(tmp_path):
    manifest = write(str(tmp_path), [make_poster(1)])
    with tarfile.open(tmp_path / "parts" / manifest.parts[0] / "shard.tar") as tar:
        assert tar.getnames() == ["p001"]
        assert tar.extractfile("p001").read() == make_poster(1).data


def test_the_digest_is_of_the_content_alone(tmp_path):
    posters = [make_poster(number) for number in range(6)]
    reference = write(str(tmp_path / "a"), posters).digest
    assert write(str(tmp_path / "b"), posters[::-1], part_rows=2).digest == reference
    changed = [*posters[:5], make_poster(5, title="Another title")]
    assert write(str(tmp_path / "c"), changed).digest != reference


def test_a_later_row_supersedes(tmp_path):
    uri = str(tmp_path)
    write(uri, [make_poster(1), make_poster(2)])
    write(uri, [make_poster(1, title="New title")])
    frame = Catalog(uri).frame(["title"])
    assert frame["title"].tolist() == ["New title", "Film 2"]
    assert len(Catalog(uri)) == 2
    assert (
        Catalog(uri).manifest.digest
        == write(str(tmp_path / "x"), [make_poster(1, title="New title"), make_poster(2)]).digest
    )


def test_two_writers_lose_nothing(uri):
    one, two = CatalogWriter(uri, "a"), CatalogWriter(uri, "b")
    one.add(make_poster(1))
    two.add(make_poster(2))
    one.publish()
    two.publish()
    assert Catalog(uri).frame(["title"])["poster_id"].tolist() == ["p001", "p002"]


def _refusal(source, row):
    return Refusal(id="x", row=row, source=source, reason="bad", remedy="mend")


def test_each_source_replaces_its_own_quarantine(tmp_path):
    uri = str(tmp_path)
    one, two = CatalogWriter(uri, "one"), CatalogWriter(uri, "two")
    one.refuse(_refusal("one", 7))
    two.refuse(_refusal("two", 9))
    one.publish()
    assert two.publish().quarantined == 2
    assert [refusal.row for refusal in Catalog(uri).quarantine()] == [7, 9]
    assert CatalogWriter(uri, "one").publish().quarantined == 1
    assert [refusal.source for refusal in Catalog(uri).quarantine()] == ["two"]


def test_an_edit_that_is_taken_back_is_taken_back(tmp_path):
    uri = str(tmp_path)
    original = write(uri, [make_poster(1)])
    write(uri, [make_poster(1, title="Edited")])
    assert write(uri, [make_poster(1)]).digest == original.digest
    assert Catalog(uri).frame(["title"])["title"].tolist() == ["Film 1"]


def test_posters_that_go_take_their_bytes_along(uri):
    write(uri, [make_poster(number) for number in range(10)])
    writer = CatalogWriter(uri, "test")
    assert writer.keep_only({"p001", "p008", "p009"}) == 7
    catalog = Catalog(uri)
    frame = catalog.frame()
    assert dict(catalog.stream_images(frame)) == {
        f"p00{number}": make_poster(number).data for number in (1, 8, 9)
    }
    kept = [make_poster(number) for number in (1, 8, 9)]
    assert catalog.manifest.digest == write(f"{uri}-fresh", kept).digest
    stored = {name.split("/")[1] for name in storage.list_files(uri) if "shard.tar" in name}
    assert stored == set(catalog.manifest.parts)


def test_large_posters_end_a_part_early(tmp_path, monkeypatch):
    monkeypatch.setattr("marquee.catalog._PART_BYTES", 3 * len(make_poster(0).data))
    manifest = write(str(tmp_path), [make_poster(number) for number in range(9)], part_rows=500)
    assert len(manifest.parts) >= 3


def test_no_catalog_says_how_to_make_one(tmp_path):
    with pytest.raises(DataError, match="marquee ingest"):
        Catalog(str(tmp_path))


def test_a_newer_catalog_is_refused(tmp_path):
    write(str(tmp_path), [make_poster(1)])
    file = tmp_path / "catalog.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"schema_version": 99}))
    with pytest.raises(DataError, match="schema_version 99"):
        Catalog(str(tmp_path))


def test_a_lost_part_is_named(tmp_path):
    manifest = write(str(tmp_path), [make_poster(1)])
    (tmp_path / "parts" / manifest.parts[0] / "posters.parquet").unlink()
    with pytest.raises(DataError, match="listed in the catalog but missing"):
        Catalog(str(tmp_path)).frame()


def test_version_1_is_read(tmp_path):
    """The fixture of schema version 1, written down so that later code keeps reading it."""
    document = '{"schema_version": 1, "parts": [], "rows": 0, "quarantined": 0, "digest": "e3b0"}'
    storage.write_text(str(tmp_path / "catalog.json"), document)
    assert Catalog(str(tmp_path)).manifest.digest == "e3b0"


def test_writers_at_the_same_time_lose_nothing(uri):
    def work(name, first):
        writer = CatalogWriter(uri, name, part_rows=2)
        for number in range(first, first + 8):
            writer.add(make_poster(number))
        writer.refuse(Refusal(id=name, row=1, source=name, reason="bad", remedy="mend"))
        writer.publish()

    writers = [threading.Thread(target=work, args=(f"w{n}", 8 * n)) for n in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    catalog = Catalog(uri)
    assert (len(catalog), catalog.manifest.quarantined) == (24, 3)
    assert len(catalog.frame([])) == 24
    assert [refusal.id for refusal in catalog.quarantine()] == ["w0", "w1", "w2"]
    frame = catalog.frame(["source_digest", "row_digest"])
    digests = dict(zip(frame["poster_id"], frame["row_digest"], strict=True))
    assert catalog.manifest.digest == digest_of(digests, digests.__getitem__)


def test_a_catalog_of_version_1_is_read_and_grows(tmp_path):
    shutil.copytree(OLD / "catalog-v1", tmp_path / "catalog")
    uri = str(tmp_path / "catalog")
    old = Catalog(uri)
    frame = old.frame()
    assert len(frame) == 3
    assert frame["mode"].isna().all() and frame["label_licences"].isna().all()
    assert {poster_id for poster_id, _ in old.stream_images(frame)} == set(frame["poster_id"])
    writer = CatalogWriter(uri, "test")
    writer.add(make_poster(1))
    manifest = writer.publish()
    assert (manifest.rows, manifest.schema_version) == (4, 2)
    assert writer.relabel(lambda facts: dataclasses.replace(facts, title="Again")) == 4
    assert set(Catalog(uri).frame(["title"])["title"]) == {"Again"}
    assert writer.remove({"drawn-000000"}) == 1
    assert len(Catalog(uri).frame()) == 3


def test_relabelled_rows_have_the_digest_of_rows_written_so(uri):
    write(uri, [make_poster(number) for number in range(5)])
    writer = CatalogWriter(uri, "test")
    assert writer.relabel(lambda facts: facts) == 0
    changed = {"p001": "One", "p003": "Three"}
    count = writer.relabel(
        lambda facts: dataclasses.replace(facts, title=changed.get(facts.poster_id, facts.title))
    )
    assert count == 2
    anew = [make_poster(n, title=changed.get(f"p{n:03d}", f"Film {n}")) for n in range(5)]
    assert Catalog(uri).manifest.digest == write(uri + "-anew", anew).digest
    frame = Catalog(uri).frame()
    images = dict(Catalog(uri).stream_images(frame))
    assert all(images[poster.facts.poster_id] == poster.data for poster in anew)


def test_a_change_of_licence_alone_is_kept(uri):
    write(uri, [make_poster(number) for number in range(3)])
    digest = Catalog(uri).manifest.digest
    licences = {"imdb": "IMDb Non-Commercial Datasets"}
    writer = CatalogWriter(uri, "test")
    changed = writer.relabel(lambda facts: dataclasses.replace(facts, label_licences=licences))
    assert changed == 3
    assert Catalog(uri).frame(["label_licences"])["label_licences"].tolist() == [licences] * 3
    assert Catalog(uri).manifest.digest == digest


INTERLEAVED = {
    "a removal and an addition": (
        lambda writer: writer.remove({"p000"}),
        lambda other: (other.add(make_poster(50)), other.publish()),
        {*(f"p{n:03d}" for n in range(1, 6)), "p050"},
    ),
    "a removal and a superseded row": (
        lambda writer: writer.remove({"p000"}),
        lambda other: (other.add(make_poster(1, title="New")), other.publish()),
        {f"p{n:03d}" for n in range(1, 6)},
    ),
    "a removal and a change of facts": (
        lambda writer: writer.remove({"p000"}),
        lambda other: other.relabel(lambda facts: dataclasses.replace(facts, title="New")),
        {f"p{n:03d}" for n in range(1, 6)},
    ),
    "two removals": (
        lambda writer: writer.remove({"p000"}),
        lambda other: other.remove({"p001"}),
        {f"p{n:03d}" for n in range(2, 6)},
    ),
}


@pytest.mark.parametrize("name", INTERLEAVED)
def test_changes_that_meet_are_both_made(name, tmp_path, monkeypatch):
    """The other writer publishes between this one's reading and its writing."""
    first, second, left = INTERLEAVED[name]
    uri = str(tmp_path / "catalog")
    write(uri, [make_poster(number) for number in range(6)])
    writer, other = CatalogWriter(uri, "one"), CatalogWriter(uri, "two")
    replace, met = storage.replace_versioned, []

    def replace_late(place, data, token):
        if place.endswith("catalog.json") and not met:
            met.append(True)
            second(other)
        replace(place, data, token)

    monkeypatch.setattr(storage, "replace_versioned", replace_late)
    first(writer)
    catalog = Catalog(uri)
    frame = catalog.frame(["title", "row_digest"])
    assert set(frame["poster_id"]) == left
    assert catalog.manifest.rows == len(left)
    digests = dict(zip(frame["poster_id"], frame["row_digest"], strict=True))
    assert catalog.manifest.digest == digest_of(digests, digests.__getitem__)
    listed = {path.name for path in (tmp_path / "catalog/parts").iterdir()}
    assert listed == set(catalog.manifest.parts)
    if "superseded" in name or "facts" in name:
        assert frame.set_index("poster_id").loc["p001", "title"] == "New"


def test_compacting_drops_what_is_superseded_once_it_is_much(uri):
    write(uri, [make_poster(number) for number in range(8)])
    few = [make_poster(0, title="New")]
    writer = CatalogWriter(uri, "test")
    for poster in few:
        writer.add(poster)
    writer.publish()
    digest = writer.publish().digest
    writer.compact()
    catalog = Catalog(uri)
    assert catalog.manifest.digest == digest
    held = [catalog.frame([])["part"].value_counts()[part] for part in catalog.manifest.parts]
    assert sum(held) == 8
    raw = [
        pq.read_table(pa.BufferReader(storage.read_bytes(catalog.part_uri(part))))
        for part in catalog.manifest.parts
    ]
    assert sorted(map(len, raw)) == [1, 3, 4]
