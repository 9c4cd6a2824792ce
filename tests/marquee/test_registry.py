"""One contract for both registries, of files and Kubeflow's; and what each has to stand."""

import json
import os
import subprocess
import sys
import threading
import uuid

import pytest
from bundles import tiny_bundle
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from model_registry_server import running_model_registry

from marquee import signing, storage
from marquee.bundle import MODEL_FILE, load
from marquee.errors import DataError, InfrastructureError, UsageError
from marquee.registry import MarkKind, Stage, kubeflow, open_bundle, open_registry
from marquee.registry.files import FileRegistry


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


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A server of ours that is like Kubeflow's Model Registry."""
    monkeypatch.setenv("MARQUEE_MODELS", str(tmp_path / "models"))
    with running_model_registry() as server:
        yield server


@pytest.fixture
def real_hub(monkeypatch, tmp_path):
    """The address of Kubeflow's own, with a label set for this test alone."""
    monkeypatch.setenv("MARQUEE_MODELS", str(tmp_path / "models"))
    monkeypatch.setattr(kubeflow, "_PREFIX", f"test-{uuid.uuid4().hex[:8]}-")
    return os.environ["MARQUEE_TEST_HUB_URL"]


@pytest.fixture(
    params=[
        "disk",
        "bucket",
        "s3_bucket",
        "hub",
        *["real hub"] * ("MARQUEE_TEST_HUB_URL" in os.environ),
    ]
)
def registry(request, tmp_path):
    match request.param:
        case "bucket" | "s3_bucket" as kind:
            return open_registry(request.getfixturevalue(kind) + "/registry")
        case "hub":
            return open_registry(request.getfixturevalue("hub").url)
        case "real hub":
            return open_registry(request.getfixturevalue("real_hub"))
    return open_registry(str(tmp_path / "registry"))


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


def at_once(*work):
    """Do things from a thread each; what one raises is raised here."""
    failures = []

    def run(do):
        try:
            do()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(do,)) for do in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def test_concurrent_writers_lose_nothing(registry, make_bundle):
    uris = [make_bundle(number) for number in range(6)]
    at_once(*(lambda uri=uri: registry.register(uri, evaluation(uri)) for uri in uris))
    assert len(registry.versions()) == len(registry.history()) == 6


_MOVES = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from([*Stage, MarkKind.PURGED])), min_size=1, max_size=3
)


@pytest.mark.parametrize("kind", ["disk", pytest.param("hub", marks=pytest.mark.slow)])
@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(writers=st.lists(_MOVES, min_size=2, max_size=4))
def test_whatever_writers_do_at_once_nothing_is_lost(kind, writers, make_bundles, tmp_path_factory):
    place = tmp_path_factory.mktemp("registry")
    with running_model_registry() as server, pytest.MonkeyPatch.context() as environment:
        environment.setenv("MARQUEE_MODELS", str(place / "models"))
        uri = str(place) if kind == "disk" else server.url
        versions = [
            open_registry(uri).register(bundle, evaluation(bundle)).version
            for bundle in make_bundles
        ]

        def write(moves, writer):
            mine = open_registry(uri)
            for number, (version, what) in enumerate(moves):
                reason = f"{writer}/{number}"
                if what is MarkKind.PURGED:
                    mine.mark(versions[version], what, reason, 1)
                else:
                    mine.move(versions[version], what, reason)

        at_once(*(lambda n=n, moves=moves: write(moves, n) for n, moves in enumerate(writers)))
        found = open_registry(uri)
        asked = {f"{n}/{m}" for n, moves in enumerate(writers) for m in range(len(moves))}
        said = {event.reason.removesuffix(" (1 posters)") for event in found.history()}
        assert asked <= said
        marked = {mark.reason for entry in found.versions() for mark in entry.marks}
        assert marked == {
            f"{n}/{m}"
            for n, moves in enumerate(writers)
            for m, (_, what) in enumerate(moves)
            if what is MarkKind.PURGED
        }
        champions = [e for e in found.versions() if e.stage is Stage.CHAMPION]
        assert len(champions) <= 1
        champion = found.champion("study4")
        assert [champion] == champions if champion else not champions


@pytest.fixture(scope="module")
def make_bundles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles")
    return [str(tiny_bundle(folder / str(number), seed=number).folder) for number in range(3)]


@pytest.mark.parametrize("writes", range(8))
def test_a_registry_that_dies_amid_a_change_can_go_on(hub, make_bundle, writes):
    """The hub's changes take several writes: after any of them, the same once more mends it."""
    first, second = map(make_bundle, (1, 2))
    registry = open_registry(hub.url)
    old = registry.register(first, evaluation(first)).version
    registry.move(old, Stage.CHAMPION, "the first")

    def change():
        version = registry.register(second, evaluation(second)).version
        registry.move(version, Stage.CHAMPION, "better", "gs://verdict")

    hub.fail_after = writes
    try:
        change()
    except InfrastructureError:
        champions = [e for e in registry.versions() if e.stage is Stage.CHAMPION]
        assert len(champions) == 1
    hub.fail_after = None
    change()
    new = registry.champion("study4")
    assert load(second).version == new.version
    assert registry.get(old).stage is Stage.RETIRED
    promoted = [event for event in registry.history() if event.version == new.version]
    assert promoted[0].what == "registered"
    assert ("better", "gs://verdict") in {(event.reason, event.verdict) for event in promoted}


def test_a_hub_that_is_away_is_named(hub, make_bundle):
    registry = open_registry(hub.url)
    hub.down = True
    with pytest.raises(InfrastructureError, match=hub.url):
        registry.versions()


def test_a_hub_wants_a_place_for_bundles(hub, monkeypatch):
    monkeypatch.delenv("MARQUEE_MODELS")
    with pytest.raises(UsageError, match="where bundles are kept"):
        open_registry(hub.url)


def test_the_hub_names_champion_lineage_and_an_immutable_uri(hub, make_bundle):
    uri = make_bundle(1)
    registry = open_registry(hub.url)
    entry = registry.register(uri, evaluation(uri))
    registry.move(entry.version, Stage.CHAMPION, "the first")
    model = hub.find("registered_models", "poster-genre-study4")
    assert model["customProperties"]["champion"]["string_value"] == entry.version
    version = hub.find("model_versions", entry.version, model["id"])
    assert version["customProperties"]["catalog_digest"]["string_value"] == "0" * 64
    assert version["customProperties"]["metric/test/macro_f1"]["double_value"] == 0.5
    artifact = hub.find("artifacts", "bundle", version["id"])
    assert artifact["uri"].endswith(f"/versions/{entry.version}")
    assert artifact["modelSourceKind"] == "kfp"
    assert artifact["modelSourceId"] == entry.run


def test_what_is_registered_is_signed_and_verified_before_use(registry, make_bundle):
    uri = make_bundle(1)
    entry = registry.register(uri, evaluation(uri))
    assert open_bundle(entry).version == entry.version
    storage.remove(storage.join(entry.uri, signing.SIGNATURE_FILE))
    with pytest.raises(signing.Untrusted, match="is not signed"):
        open_bundle(entry)


def test_a_registered_bundle_that_was_changed_is_refused(tmp_path, make_bundle):
    uri = make_bundle(1)
    entry = FileRegistry(str(tmp_path / "registry")).register(uri, evaluation(uri))
    (storage.local_path(entry.uri) / MODEL_FILE).write_bytes(b"changed")
    with pytest.raises(DataError, match="was changed"):
        open_bundle(entry)


def test_history_tells_who_promoted_what_when_and_on_which_verdict(registry, make_bundle):
    import getpass

    uri = make_bundle(1)
    version = registry.register(uri, evaluation(uri)).version
    registry.move(version, Stage.CHAMPION, "all 7 checks hold", "gs://run/verdict.json")
    event = open_registry(registry.uri).history()[-1]
    assert (event.what, event.version) == ("champion", version)
    assert (event.reason, event.verdict) == ("all 7 checks hold", "gs://run/verdict.json")
    assert event.who == getpass.getuser()
    assert event.time.startswith("20")


def test_marks_are_kept_and_said_once(registry, make_bundle):
    uri = make_bundle(1)
    version = registry.register(uri, evaluation(uri)).version
    for posters in (3, 3, 2):
        registry.mark(version, MarkKind.PURGED, "source tmdb", posters)
    registry.mark(version, MarkKind.PURGED, "film 7", 1)
    registry.mark(version, MarkKind.PURGED, "source tmdb", 5)
    entry = open_registry(registry.uri).get(version)
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
    assert open_registry(registry.uri).tombstones() == {"a", "b", "caf\u00e9"}


def test_tombstones_are_a_document(tmp_path):
    FileRegistry(str(tmp_path)).add_tombstones(["caf\u00e9", "a"])
    document = json.loads((tmp_path / "tombstones.json").read_text())
    assert document == {"schema_version": 1, "poster_ids": ["a", "caf\u00e9"]}


def test_concurrent_tombstones_lose_nothing(registry):
    groups = [[f"{group}-{number}" for number in range(5)] for group in range(6)]
    at_once(*(lambda group=group: registry.add_tombstones(group) for group in groups))
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


def test_version_1_is_read_and_written_as_version_3(tmp_path):
    """The fixture of schema version 1, written down so that later code keeps reading it."""
    file = tmp_path / "registry.json"
    file.write_text(VERSION_1)
    registry = FileRegistry(str(tmp_path))
    assert registry.champion("all18").marks == ()
    registry.mark("abc123", MarkKind.PURGED, "source tmdb", 3)
    assert json.loads(file.read_text())["schema_version"] == 3
    entry = registry.champion("all18")
    assert (entry.metrics, len(entry.marks)) == ({"test/macro_f1": 0.5}, 1)


@pytest.mark.parametrize("name", ["registry.json", "tombstones.json"])
def test_a_newer_document_is_refused(name, tmp_path):
    (tmp_path / name).write_text('{"schema_version": 99}')
    registry = FileRegistry(str(tmp_path))
    with pytest.raises(DataError, match="schema_version 99"):
        registry.versions() if name == "registry.json" else registry.tombstones()


def test_kubeflows_client_leaves_asyncio_as_it_is(hub, tmp_path):
    code = (
        "import asyncio, sys; before = asyncio.Task, asyncio.run;"
        "from marquee.registry.kubeflow import KubeflowRegistry;"
        "found = KubeflowRegistry(*sys.argv[1:]).versions();"
        "assert (asyncio.Task, asyncio.run) == before; print(found)"
    )
    command = [sys.executable, "-c", code, hub.url, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
