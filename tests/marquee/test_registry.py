import json
import threading

import pytest
from bundles import tiny_bundle

from marquee import storage
from marquee.bundle import load
from marquee.errors import DataError, InfrastructureError, UsageError
from marquee.registry import FileRegistry, MarkKind, Stage


def evaluation(uri):
    return {"version": load(uri).version, "metrics": {"test/macro_f1": 0.5}}


@pytest.fixture
def make_bundle(tmp_path):
    def make(number):
        folder = tmp_path / f"bundle{number}"
        folder.mkdir()
        tiny_bundle(folder, seed=number)
        return str(folder)

    return make


@pytest.fixture(params=["disk", "bucket"])
def registry(request, tmp_path):
    if request.param == "bucket":
        return FileRegistry(request.getfixturevalue("bucket") + "/registry")
    return FileRegistry(str(tmp_path / "registry"))


def test_a_registered_bundle_is_an_immutable_copy_with_its_lineage(registry, make_bundle):
    uri = make_bundle(1)
    entry = registry.register(uri, evaluation(uri))
    bundle = load(uri)
    assert (entry.version, entry.stage) == (bundle.version, Stage.CANDIDATE)
    assert (entry.catalog_digest, entry.run) == (bundle.info.catalog_digest, bundle.info.run)
    assert load(entry.uri).version == entry.version
    assert registry.get(entry.version[:10]) == entry
    assert registry.register(uri, evaluation(uri)) == entry
    assert len(registry.versions()) == len(registry.history()) == 1


def test_a_new_champion_retires_the_old_one(registry, make_bundle):
    first, second = (
        registry.register(uri, evaluation(uri)).version for uri in map(make_bundle, (1, 2))
    )
    assert registry.champion("study4") is None
    registry.move(first, Stage.CHAMPION, "the first")
    registry.move(second, Stage.CHAMPION, "it is better")
    assert registry.champion("study4").version == second
    assert registry.get(first).stage is Stage.RETIRED
    assert registry.champion("all18") is None
    assert [event.what for event in registry.history()] == [
        "registered",
        "registered",
        "champion",
        "retired",
        "champion",
    ]


def test_an_evaluation_of_another_bundle_is_refused(tmp_path, make_bundle):
    registry = FileRegistry(str(tmp_path / "registry"))
    with pytest.raises(DataError, match="evaluation is of version"):
        registry.register(make_bundle(1), evaluation(make_bundle(2)))
    assert registry.versions() == []


@pytest.mark.parametrize("version", ["", "nothing"])
def test_an_unknown_version_is_refused(version, tmp_path):
    with pytest.raises(UsageError, match="0 versions"):
        FileRegistry(str(tmp_path)).get(version)


def test_concurrent_writers_lose_nothing(tmp_path, make_bundle):
    uris = [make_bundle(number) for number in range(6)]
    registry = FileRegistry(str(tmp_path / "registry"))
    threads = [
        threading.Thread(target=registry.register, args=(uri, evaluation(uri))) for uri in uris
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(registry.versions()) == len(registry.history()) == 6


def test_marks_are_kept_and_said_once(registry, make_bundle):
    uri = make_bundle(1)
    version = registry.register(uri, evaluation(uri)).version
    for posters in (3, 3, 2):
        registry.mark(version, MarkKind.PURGED, "source tmdb", posters)
    registry.mark(version, MarkKind.PURGED, "film 7", 1)
    registry.mark(version, MarkKind.PURGED, "source tmdb", 5)
    entry = FileRegistry(registry.uri).get(version)
    assert {mark.reason: mark.posters for mark in entry.marks} == {"source tmdb": 5, "film 7": 1}
    assert entry.marked(MarkKind.PURGED, "film 7").posters == 1
    assert not entry.marked(MarkKind.PURGED, "film 8") and not entry.deleted
    assert [(event.what, event.reason) for event in registry.history()[1:]] == [
        ("purged", "source tmdb (3 posters)"),
        ("purged", "film 7 (1 posters)"),
        ("purged", "source tmdb (5 posters)"),
    ]
    registry.move(version, Stage.CHAMPION, "the best")
    assert len(registry.champion("study4").marks) == 2


def test_a_deleted_bundle_leaves_its_entry(registry, make_bundle):
    uri = make_bundle(1)
    entry = registry.register(uri, evaluation(uri))
    registry.move(entry.version, Stage.CHAMPION, "the only one")
    for _ in range(2):
        left = registry.delete_bundle(entry.version, "purge of source tmdb")
        assert (left.stage, left.deleted, len(left.marks)) == (Stage.RETIRED, True, 1)
    assert registry.champion("study4") is None
    assert storage.list_files(entry.uri) == []
    assert [event.what for event in registry.history()] == [
        "registered",
        "champion",
        "retired",
        "deleted",
    ]
    with pytest.raises(DataError, match="purge of source tmdb"):
        registry.register(uri, evaluation(uri))
    with pytest.raises(UsageError, match="was deleted"):
        registry.move(entry.version, Stage.CHAMPION, "once more")
    assert storage.list_files(entry.uri) == []


def test_a_bundle_that_cannot_be_deleted_is_named(registry, make_bundle, monkeypatch):
    uri = make_bundle(1)
    version = registry.register(uri, evaluation(uri)).version
    with monkeypatch.context() as broken:
        broken.setattr(storage, "remove", lambda _: None)
        with pytest.raises(InfrastructureError, match="still holds SHA256SUMS"):
            registry.delete_bundle(version, "purge")
    entry = registry.delete_bundle(version, "purge")
    assert storage.list_files(entry.uri) == []


def test_tombstones_are_sorted_and_said_once(registry):
    assert registry.tombstones() == frozenset()
    assert registry.add_tombstones(["b", "a", "b"]) == 2
    assert registry.add_tombstones(["caf\u00e9", "a"]) == 1
    assert registry.add_tombstones([]) == 0
    assert FileRegistry(registry.uri).tombstones() == {"a", "b", "caf\u00e9"}
    document = json.loads(storage.read_text(f"{registry.uri}/tombstones.json"))
    assert document == {"schema_version": 1, "poster_ids": ["a", "b", "caf\u00e9"]}


def test_concurrent_tombstones_lose_nothing(registry):
    groups = [[f"{group}-{number}" for number in range(5)] for group in range(6)]
    threads = [threading.Thread(target=registry.add_tombstones, args=(group,)) for group in groups]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert registry.tombstones() == {name for group in groups for name in group}


VERSION_1 = """{
  "schema_version": 1,
  "versions": [{
    "version": "abc123", "uri": "/registry/versions/abc123", "architecture": "vgg16",
    "label_set": "all18", "stage": "champion", "catalog_digest": "d1", "run": "/run",
    "code_version": "0.1.0", "metrics": {"test/macro_f1": 0.5},
    "registered_at": "2025-01-01T00:00:00+00:00"
  }],
  "history": [{"time": "2025-01-01T00:00:00+00:00", "who": "me", "what": "registered",
               "version": "abc123", "reason": "run /run"}]
}
"""


def test_version_1_is_read_and_written_as_version_2(tmp_path):
    """The fixture of schema version 1, written down so that later code keeps reading it."""
    file = tmp_path / "registry.json"
    file.write_text(VERSION_1)
    registry = FileRegistry(str(tmp_path))
    assert registry.champion("all18").marks == ()
    registry.mark("abc123", MarkKind.PURGED, "source tmdb", 3)
    assert json.loads(file.read_text())["schema_version"] == 2
    entry = registry.champion("all18")
    assert (entry.metrics, len(entry.marks)) == ({"test/macro_f1": 0.5}, 1)


@pytest.mark.parametrize("name", ["registry.json", "tombstones.json"])
def test_a_newer_document_is_refused(name, tmp_path):
    (tmp_path / name).write_text('{"schema_version": 99}')
    registry = FileRegistry(str(tmp_path))
    with pytest.raises(DataError, match="schema_version 99"):
        registry.versions() if name == "registry.json" else registry.tombstones()
