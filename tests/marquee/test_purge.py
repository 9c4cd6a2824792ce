"""Purges: what goes, what stays, that the proof can fail, and that a kill costs nothing."""

import hashlib
import io
import json
import pkgutil
import tarfile
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from bundles import tiny_bundle
from helpers import encode, noise_poster

from marquee import bundle as bundles
from marquee import feature_cache, storage
from marquee.bundle import load
from marquee.catalog import Catalog, CatalogWriter, Facts, Poster, Refusal, read_rows
from marquee.errors import InfrastructureError, UsageError
from marquee.images import decode, measure
from marquee.purge import Choice, purge
from marquee.registry import MarkKind, Stage
from marquee.registry.files import FileRegistry

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
LATER = datetime.now(UTC) + timedelta(days=100)
TMDB = Choice(source="tmdb")


def make_poster(name, picture, **changes):
    """A poster whose image is chosen by a number: the same number, the same bytes."""
    data = encode(noise_poster(picture))
    image = decode(data)
    height, width = image.shape[:2]
    facts = {
        "poster_id": name,
        "film_id": f"film-{name}",
        "title": f"Film {name}",
        "year": 1990,
        "genres": ("Comedy",),
        "source": "tmdb" if name.startswith("t") else "folder",
        "licence": "CC0-1.0",
    }
    return Poster(
        facts=Facts(**facts | changes),
        data=data,
        perceptual_hash="00ff00ff00ff00ff",
        mode="RGB",
        width=width,
        height=height,
        attributes=measure(image),
    )


KEPT = [make_poster(f"f{n}", 100 + n) for n in range(5)]
GOING = [
    make_poster("t0", 0, tmdb_id=550, imdb_id="tt0137523"),
    make_poster("t1", 1, expires_at=LONG_AGO),
    make_poster("t2", 2, expires_at=LATER),
    # It has the picture of f3: its row goes, the picture is still needed.
    make_poster("t3", 103),
]


def write(uri, *posters, part_rows=4):
    writer = CatalogWriter(uri, "test", part_rows)
    for poster in posters:
        writer.add(poster)
    return writer.publish()


def sha256(poster):
    return hashlib.sha256(poster.data).hexdigest()


@pytest.fixture(params=["disk", "bucket", "s3_bucket"])
def place(request, tmp_path):
    return str(tmp_path) if request.param == "disk" else request.getfixturevalue(request.param)


@pytest.fixture
def uri(place):
    """A catalog of both sources, with a superseded row and a part that nobody lists."""
    uri = f"{place}/run/catalog"
    mixed = [poster for pair in zip(KEPT, GOING, strict=False) for poster in pair]
    write(uri, *mixed, KEPT[4])
    write(uri, make_poster("t2", 22, title="Film t2, refreshed", expires_at=LATER))
    abandon(uri, make_poster("t9", 9))
    return uri


def abandon(uri, *posters):
    """Leave a part as a writer does that is killed before it publishes the list."""
    before = storage.read_bytes(f"{uri}/catalog.json")
    write(uri, *posters)
    storage.write_bytes(f"{uri}/catalog.json", before)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MARQUEE_CACHE", str(tmp_path / "cache"))
    for key in ("one", "two"):
        for posters in (KEPT[:2] + GOING[:2], KEPT[2:] + GOING[2:], GOING[:1]):
            feature_cache.save(key, {sha256(poster): np.ones(3) for poster in posters})
    return {sha256(poster) for poster in KEPT + GOING}


@pytest.fixture
def registry(place, uri, tmp_path):
    """Models that were trained on all posters, on those that stay, and nobody knows on which."""
    registry = FileRegistry(f"{place}/run/registry")
    digest = Catalog(uri).manifest.digest
    for number, (name, options) in enumerate(
        {
            "both": {"trained_on": ["f0", "f1", "t1", "t2", "t9"]},
            "kept": {"trained_on": ["f0", "f1"], "catalog_digest": digest},
            "old": {"catalog_digest": digest},
            "elsewhere": {"catalog_digest": "1" * 64},
        }.items()
    ):
        folder = tmp_path / "bundles" / name
        version = tiny_bundle(folder, seed=number, architecture=name, **options).version
        registry.register(str(folder), {"version": version, "metrics": {}})
    return registry


def named(registry):
    return {entry.architecture: entry for entry in registry.versions()}


def everything(uri):
    """All bytes below a URI, by file."""
    return {name: storage.read_bytes(f"{uri}/{name}") for name in storage.list_files(uri)}


def stored_sources(uri):
    """The sources of all rows in all parts, listed or not."""
    parts = [name for name in storage.list_files(uri) if name.endswith(".parquet")]
    return {source for name in parts for source in read_rows(f"{uri}/{name}", ["source"])["source"]}


def test_a_source_goes_with_all_that_was_derived_from_it(uri, cache, registry):
    writer = CatalogWriter(uri, "tmdb:1990-01-01..1994-12-31")
    writer.refuse(Refusal(id="t7", row=None, source="tmdb:1990", reason="bad", remedy="wait"))
    writer.refuse(Refusal(id="f7", row=3, source="folder:/x", reason="bad", remedy="mend"))
    writer.publish()
    report = purge(uri, TMDB, registry)
    assert (report.posters, report.rows, report.refusals, report.leftovers) == (5, 6, 1, 1)
    catalog = Catalog(uri)
    assert dict(catalog.stream_images(catalog.frame())) == {
        poster.facts.poster_id: poster.data for poster in KEPT
    }
    assert catalog.manifest.digest == write(f"{uri}-fresh", *KEPT).digest
    assert catalog.manifest.quarantined == 1
    assert [refusal.id for refusal in catalog.quarantine()] == ["f7"]
    gone = [*GOING[:3], make_poster("t2", 22), make_poster("t9", 9)]
    for content in everything(uri).values():
        assert not any(poster.data in content for poster in gone)
    assert stored_sources(uri) == {"folder"}
    left = {name for key in ("one", "two") for name in feature_cache.read(key, cache).places}
    assert left == {sha256(poster) for poster in KEPT}
    assert (report.features, report.tombstones) == (8, 5)
    assert registry.tombstones() == {"t0", "t1", "t2", "t3", "t9"}


@pytest.mark.parametrize("place", ["disk"], indirect=True)
def test_the_models_that_were_trained_on_it_are_marked(uri, cache, registry):
    before = {name: everything(entry.uri) for name, entry in named(registry).items()}
    report = purge(uri, TMDB, registry)
    marks = {
        name: [(mark.kind, mark.posters) for mark in entry.marks]
        for name, entry in named(registry).items()
    }
    assert marks == {
        "both": [(MarkKind.PURGED, 3)],
        "kept": [],
        "old": [(MarkKind.PURGED, 5)],
        "elsewhere": [],
    }
    assert {model.architecture: model.posters for model in report.models} == {"both": 3, "old": 5}
    assert "purge of source tmdb" in named(registry)["both"].marks[0].reason
    assert {name: everything(entry.uri) for name, entry in named(registry).items()} == before


def test_the_same_again_does_nothing(uri, cache, registry):
    purge(uri, TMDB, registry)
    before = everything(uri) | everything(registry.uri)
    report = purge(uri, TMDB, registry)
    assert (report.posters, report.rows, report.models, report.files_read) == (0, 0, [], 0)
    assert everything(uri) | everything(registry.uri) == before


@pytest.mark.parametrize("place", ["disk"], indirect=True)
def test_a_dry_run_says_the_same_and_changes_nothing(uri, cache, registry):
    before = everything(uri) | everything(registry.uri)
    plan = purge(uri, TMDB, registry, dry_run=True)
    assert everything(uri) | everything(registry.uri) == before
    report = purge(uri, TMDB, registry)
    for name in ("posters", "rows", "bytes", "refusals", "models"):
        assert getattr(plan, name) == getattr(report, name)


@pytest.mark.parametrize("when", ["at once", "later"])
def test_marked_bundles_are_deleted_whole(uri, cache, registry, when):
    champion = named(registry)["both"]
    registry.move(champion.version, Stage.CHAMPION, "the best")
    fetched = bundles.cache_folder() / "bundles" / champion.version
    fetched.mkdir(parents=True)
    if when == "later":
        purge(uri, TMDB, registry)
    report = purge(uri, TMDB, registry, bundles=True)
    models = {model.architecture: model for model in report.models}
    assert set(models) == {"both", "old"} and all(model.deleted for model in models.values())
    assert models["both"].stage == "champion"
    assert registry.champion("study4") is None
    for name, entry in named(registry).items():
        assert entry.deleted == (name in models)
        assert bool(storage.list_files(entry.uri)) == (not entry.deleted)
        assert entry.stage is (Stage.RETIRED if entry.deleted else Stage.CANDIDATE)
    assert not fetched.exists()
    assert purge(uri, TMDB, registry, bundles=True).models == []


CHOICES = {
    "film": ({"films": ("film-t0",)}, {"t0"}),
    "TMDB id": ({"films": ("550",)}, {"t0"}),
    "IMDb id": ({"films": ("tt0137523",)}, {"t0"}),
    "films": ({"films": ("550", "film-f1", "nothing")}, {"t0", "f1"}),
    "expired": ({"expired": True}, {"t1"}),
    "expired at a time": ({"expired": True, "now": LATER + timedelta(days=1)}, {"t1", "t2"}),
    "source": ({"source": "folder"}, {"f0", "f1", "f2", "f3", "f4"}),
    "nothing": ({"source": "nothing"}, set()),
}


@pytest.mark.parametrize("name", CHOICES)
def test_choices(name, tmp_path):
    changes, gone = CHOICES[name]
    uri = str(tmp_path / "catalog")
    write(uri, *KEPT, *GOING)
    report = purge(uri, Choice(**changes))
    ids = {poster.facts.poster_id for poster in KEPT + GOING}
    assert set(Catalog(uri).frame([])["poster_id"]) == ids - gone
    assert report.not_found == (["nothing"] if name == "films" else [])


@pytest.mark.parametrize(
    "changes", [{}, {"source": "a", "expired": True}, {"source": "a", "films": ("b",)}]
)
def test_there_is_one_way_of_choosing(changes):
    with pytest.raises(UsageError, match="exactly one way") as caught:
        Choice(**changes)
    assert "--film ID" in caught.value.remedy


def test_bundles_are_not_deleted_without_a_registry(tmp_path):
    with pytest.raises(UsageError, match="no registry"):
        purge(str(tmp_path), TMDB, bundles=True)


def test_a_superseded_row_goes_alone(tmp_path):
    """A poster that came from elsewhere since, and one that was refreshed in time, stay."""
    uri, registry = str(tmp_path / "catalog"), FileRegistry(str(tmp_path / "registry"))
    write(uri, make_poster("a", 1, source="tmdb"), make_poster("b", 2))
    write(uri, make_poster("a", 3), make_poster("c", 4, expires_at=LONG_AGO))
    write(uri, make_poster("c", 4, expires_at=LATER))
    digest = Catalog(uri).manifest.digest
    for choice, rows in ((TMDB, 1), (Choice(expired=True), 1)):
        report = purge(uri, choice, registry)
        assert (report.posters, report.rows) == (0, rows)
        assert len(Catalog(uri).rows([])) == len(Catalog(uri)) + (choice is TMDB)
    assert Catalog(uri).manifest.digest == digest
    assert registry.tombstones() == frozenset()
    stored = b"".join(everything(uri).values())
    assert make_poster("a", 1).data not in stored
    assert make_poster("c", 4).data in stored


def test_parts_that_become_one_keep_what_supersedes_what(tmp_path):
    """An edit that was taken back stays taken back."""
    uri = str(tmp_path)
    write(uri, make_poster("a", 1), make_poster("t0", 2))
    write(uri, make_poster("a", 1, title="Edited"))
    write(uri, make_poster("a", 1))
    purge(uri, TMDB)
    assert Catalog(uri).frame(["title"])["title"].tolist() == ["Film a"]


def _tar(path, images):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in images.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def _cut(path):
    path.write_bytes(path.read_bytes()[:-1500])


LEFTOVERS = {
    "images without rows": lambda root: _tar(root / "parts/aa/shard.tar", {"x": b"not known"}),
    "another machine's scratch": lambda root: _tar(
        root / "parts/.partial-host-1-x/bb/shard.tar", {"t0": b""}
    ),
    "half a shard": lambda root: _cut(_tar(root / "parts/cc/shard.tar", {"x": bytes(3000)})),
    "a copy beside the parts": lambda root: (root / "t0.jpg").write_bytes(GOING[0].data),
    "a copy in a part": lambda root: (
        root / "parts" / Catalog(str(root)).manifest.parts[0] / "x"
    ).write_bytes(GOING[0].data),
    "a copy in a tar": lambda root: _tar(root / "backup.tar", {"x": GOING[0].data}),
    "half a document": lambda root: (root / ".quarantine.jsonl.x").write_text('{"id": "t'),
    "half a part": lambda root: (
        _tar(root / "parts/dd/shard.tar", {}).with_name("posters.parquet").write_bytes(b"PAR1")
    ),
}


@pytest.mark.parametrize("name", LEFTOVERS)
def test_leftovers_go_too(name, tmp_path):
    write(str(tmp_path), *KEPT, *GOING)
    before = set(storage.list_files(str(tmp_path)))
    LEFTOVERS[name](tmp_path)
    (new,) = set(storage.list_files(str(tmp_path))) - before - {"parts/dd/shard.tar"}
    report = purge(str(tmp_path), TMDB)
    assert report.leftovers == 1
    assert not (tmp_path / new).exists()
    assert len(Catalog(str(tmp_path))) == len(KEPT)


def test_what_has_nothing_to_do_with_it_stays(tmp_path):
    uri = str(tmp_path)
    write(uri, *KEPT, *GOING)
    abandon(uri, make_poster("f9", 9))
    mine = ("notes.txt", "parts/notes.txt", "parts-of-old/x/shard", "parts/x/notes.txt")
    for name in mine:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("mine")
    _tar(tmp_path / "backup.tar", {"x": b"mine"})
    before = set(storage.list_files(uri))
    purge(uri, Choice(films=("nothing",)))
    assert set(storage.list_files(uri)) == before
    purge(uri, TMDB)
    assert {*mine, "backup.tar"} <= set(storage.list_files(uri))
    assert (
        len(list((tmp_path / "parts").glob("*/shard.tar"))) == len(Catalog(uri).manifest.parts) + 1
    )


@pytest.mark.parametrize("place", ["disk"], indirect=True)
def test_a_catalog_may_become_empty(uri):
    purge(uri, TMDB)
    purge(uri, Choice(source="folder"))
    assert (len(Catalog(uri)), Catalog(uri).manifest.parts) == (0, ())
    assert not [name for name in storage.list_files(uri) if name.startswith("parts/")]
    assert purge(uri, TMDB).posters == 0


def _nothing(*_arguments, **_options):
    return 0


BROKEN = {
    "rows stay": ("marquee.catalog.CatalogWriter.remove", "the row t0, the row t1"),
    "parts stay": ("marquee.storage.remove", "the row t0"),
    "leftovers stay": ("marquee.purge.traces.remove_unlisted", "the image t9"),
    "quarantine stays": ("marquee.catalog.CatalogWriter.drop_refusals", "the refusal of t7"),
    "features stay": ("marquee.feature_cache.forget", "features"),
    "no tombstones": ("marquee.registry.files.FileRegistry.add_tombstones", "without a tombstone"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_the_proof_fails_if_something_is_left(name, tmp_path, cache, monkeypatch):
    target, words = BROKEN[name]
    uri, registry = str(tmp_path / "catalog"), FileRegistry(str(tmp_path / "registry"))
    write(uri, *KEPT, *GOING)
    abandon(uri, make_poster("t9", 9))
    writer = CatalogWriter(uri, "tmdb")
    writer.refuse(Refusal(id="t7", row=None, source="tmdb", reason="bad", remedy="wait"))
    writer.publish()
    with monkeypatch.context() as broken:
        broken.setattr(target, _nothing)
        with pytest.raises(InfrastructureError, match=words) as caught:
            purge(uri, TMDB, registry)
    assert caught.value.exit_code == 5 and caught.value.remedy
    purge(uri, TMDB, registry)


def test_the_proof_goes_on_failing_until_it_is_gone(tmp_path):
    """Bytes that hide in a part that stays, without a row: nothing but the proof sees them."""
    uri = str(tmp_path)
    (part,) = write(uri, *KEPT[:2]).parts
    write(uri, *GOING)
    shard = tmp_path / "parts" / part / "shard.tar"
    honest = shard.read_bytes()
    with tarfile.open(shard, "a") as tar:
        member = tarfile.TarInfo("innocent")
        member.size = len(GOING[1].data)
        tar.addfile(member, io.BytesIO(GOING[1].data))
    for _ in range(2):
        with pytest.raises(InfrastructureError, match=f"{part}/shard.tar: the image innocent"):
            purge(uri, TMDB)
    shard.write_bytes(honest)
    report = purge(uri, TMDB)
    assert (report.posters, report.rows, report.images_hashed) == (4, 0, 2)
    assert not list(tmp_path.glob("purging-*"))


class Killed(BaseException):
    pass


MOMENTS = {
    "tombstones set": ("marquee.registry.files.FileRegistry.mark", "purged"),
    "models marked": ("marquee.feature_cache.forget", ""),
    "features gone": ("marquee.catalog._rewrite_part", ""),
    "list published": ("marquee.storage.remove", "/parts/"),
    "parts gone": ("marquee.purge.traces.remove_unlisted", ""),
    "leftovers gone": ("marquee.purge.models.delete_bundles", ""),
    "deletion said": ("marquee.storage.remove", "/versions/"),
    "one bundle gone": ("marquee.purge.models.forget_fetched", ""),
    "bundles gone": ("marquee.purge._prove", ""),
    "proved": ("marquee.storage.remove", "purging-"),
}


@pytest.mark.parametrize("name", MOMENTS)
def test_whoever_is_killed_goes_on_with_the_same_command(name, tmp_path, cache, monkeypatch):
    target, word = MOMENTS[name]
    uri, registry = str(tmp_path / "catalog"), FileRegistry(str(tmp_path / "registry"))
    manifest = write(uri, *KEPT, *GOING)
    for model, options in {"a": {"trained_on": ["t0"]}, "b": {}}.items():
        folder, digest = tmp_path / model, manifest.digest
        bundle = tiny_bundle(folder, architecture=model, catalog_digest=digest, **options)
        registry.register(str(folder), {"version": bundle.version, "metrics": {}})
    original = pkgutil.resolve_name(target)

    def kill(*arguments, **options):
        if word in str(arguments):
            raise Killed
        return original(*arguments, **options)

    with monkeypatch.context() as deadly:
        deadly.setattr(target, kill)
        with pytest.raises(Killed):
            purge(uri, TMDB, registry, bundles=True)
    purge(uri, TMDB, registry, bundles=True)
    assert Catalog(uri).manifest.digest == write(str(tmp_path / "fresh"), *KEPT).digest
    assert stored_sources(uri) == {"folder"}
    assert feature_cache.holding({sha256(poster) for poster in GOING[:3]}) == []
    assert registry.tombstones() == {"t0", "t1", "t2", "t3"}
    assert all(entry.deleted for entry in registry.versions())
    assert not storage.list_files(f"{registry.uri}/versions")
    assert not list((tmp_path / "catalog").glob("purging-*"))


def test_posters_that_came_back_meanwhile_are_no_trace(tmp_path, monkeypatch):
    """An expired poster is purged, but not to the end, and ingested again before the next try."""
    uri = str(tmp_path)
    write(uri, make_poster("a", 1), make_poster("b", 2, expires_at=LONG_AGO))
    choice = Choice(expired=True)
    with monkeypatch.context() as broken:
        broken.setattr("marquee.purge.traces.remove_unlisted", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            purge(uri, choice)
    write(uri, make_poster("b", 2, expires_at=LATER))
    assert purge(uri, choice).posters == 0
    assert set(Catalog(uri).frame([])["poster_id"]) == {"a", "b"}


def test_a_damaged_bundle_counts_as_trained_on_it(tmp_path):
    uri, registry = str(tmp_path / "catalog"), FileRegistry(str(tmp_path / "registry"))
    write(uri, *GOING)
    version = tiny_bundle(tmp_path / "bundle", trained_on=["x"]).version
    entry = registry.register(str(tmp_path / "bundle"), {"version": version, "metrics": {}})
    storage.write_bytes(f"{entry.uri}/training_posters.parquet", b"changed")
    purge(uri, TMDB, registry)
    assert registry.get(version).marked(MarkKind.PURGED).posters == 4


def test_marks_count_what_earlier_purges_took(tmp_path):
    uri, registry = str(tmp_path / "catalog"), FileRegistry(str(tmp_path / "registry"))
    write(uri, *GOING)
    version = tiny_bundle(tmp_path / "bundle", trained_on=["t1", "t2", "t3"]).version
    registry.register(str(tmp_path / "bundle"), {"version": version, "metrics": {}})
    for now, posters in ((datetime.now(UTC), 1), (LATER, 2)):
        purge(uri, Choice(expired=True, now=now), registry)
        (mark,) = registry.get(version).marks
        assert mark.posters == posters


def test_a_note_of_a_newer_version_is_refused(tmp_path, monkeypatch):
    uri = str(tmp_path)
    write(uri, *GOING)
    monkeypatch.setattr("marquee.purge._prove", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        purge(uri, TMDB)
    (note,) = tmp_path.glob("purging-*")
    document = json.loads(note.read_text())
    assert document["schema_version"] == 1
    assert set(document) == {"schema_version", "poster_ids", "hashes", "digests"}
    note.write_text(json.dumps(document | {"schema_version": 99}))
    with pytest.raises(UsageError, match="schema_version 99"):
        purge(uri, TMDB)


def test_bundles_load_with_and_without_the_list(tmp_path):
    with_list = tiny_bundle(tmp_path / "a", trained_on=["p"])
    without = tiny_bundle(tmp_path / "b")
    assert load(str(tmp_path / "a")).version == with_list.version != without.version
    assert load(str(tmp_path / "b")).version == without.version


def test_the_feature_cache_forgets_and_nothing_else(cache, tmp_path):
    folder = bundles.cache_folder() / "features" / "one"
    (folder / ".half.npz.x1").write_bytes(b"PK\x03\x04")
    gone = {sha256(poster) for poster in GOING[:2]}
    before = feature_cache.read("one", cache - gone)
    assert len(feature_cache.holding(gone)) == 2 * 2 + 1
    assert feature_cache.forget(gone) == 2 * 3
    assert feature_cache.holding(gone) == []
    assert not (folder / ".half.npz.x1").exists()
    after = feature_cache.read("one", cache)
    assert after.places.keys() == before.places.keys() == cache - gone
    assert feature_cache.forget(frozenset()) == 0
