import threading

import pytest
from bundles import tiny_bundle

from marquee.bundle import load
from marquee.errors import DataError, UsageError
from marquee.registry import FileRegistry, Stage


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
