"""Model bundles: sealed, opened, fetched; whatever was changed is refused."""

import json
import re

import pytest
from bundles import tiny_bundle
from safetensors.numpy import load_file

from marquee import bundle as bundles
from marquee import storage
from marquee.bundle import BUNDLE_FILE, MODEL_FILE, SUMS_FILE, WEIGHTS_FILE, BundleInfo, load
from marquee.errors import DataError
from marquee.lineage import TRAINING_FILE, read_training_posters


@pytest.fixture
def sealed(tmp_path):
    return tiny_bundle(tmp_path / "bundle")


def test_a_bundle_is_read_as_it_was_sealed(sealed):
    opened = load(str(sealed.folder))
    assert opened.info == sealed.info
    assert opened.version == sealed.version
    assert re.fullmatch("[0-9a-f]{64}", opened.version)
    assert opened.model_file("fp32") == sealed.folder / MODEL_FILE


def test_the_same_content_has_the_same_version(sealed, tmp_path):
    assert tiny_bundle(tmp_path / "again").version == sealed.version
    assert tiny_bundle(tmp_path / "other", seed=1).version != sealed.version
    assert tiny_bundle(tmp_path / "run", run="2").version != sealed.version


def test_any_user_may_read_a_sealed_bundle(sealed):
    assert {file.stat().st_mode & 0o777 for file in sealed.folder.iterdir()} == {0o644}


def test_an_unknown_precision_is_refused(sealed):
    with pytest.raises(DataError, match="no precision 'int8': use one of: fp32"):
        sealed.model_file("int8")


def test_what_stands_beside_a_sealed_bundle_is_no_part_of_it(sealed):
    (sealed.folder / "signature.json").write_text("{}")
    assert load(str(sealed.folder)).version == sealed.version


def _append(file):
    file.write_bytes(file.read_bytes() + b"\0")


def _edit_sums(folder, old, new):
    sums = folder / SUMS_FILE
    sums.write_text(sums.read_text().replace(old, new))


DAMAGE = {
    "changed model": (lambda f: _append(f / MODEL_FILE), "model.onnx was changed"),
    "changed weights": (lambda f: _append(f / WEIGHTS_FILE), "weights.safetensors was changed"),
    "changed info": (lambda f: _append(f / BUNDLE_FILE), "bundle.json was changed"),
    "missing model": (lambda f: (f / MODEL_FILE).unlink(), "lacks model.onnx"),
    "missing sums": (lambda f: (f / SUMS_FILE).unlink(), "no model bundle at"),
    "sums are no sums": (lambda f: (f / SUMS_FILE).write_text("hello\n"), "damaged at 'hello'"),
    "sums without info": (lambda f: (f / SUMS_FILE).write_text(""), "does not name bundle.json"),
    "sums point outside": (lambda f: _edit_sums(f, "model.onnx", "../x"), "SHA256SUMS is damaged"),
    "sums are absolute": (lambda f: _edit_sums(f, "model.onnx", "/x"), "SHA256SUMS is damaged"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_bundle_is_refused(sealed, name):
    damage, reason = DAMAGE[name]
    damage(sealed.folder)
    with pytest.raises(DataError, match=reason) as caught:
        load(str(sealed.folder))
    assert caught.value.remedy


INFO = {
    "newer": ({"schema_version": 2}, "schema_version 2, this Marquee reads up to 1"),
    "no version": ({"schema_version": None}, "schema_version None"),
    "no genres": ({"genres": None}, "lacks or misstates"),
    "thresholds of other genres": ({"thresholds": [0.5]}, "1 values for 4 genres"),
    "calibration is a number": ({"calibration": 1}, "lacks or misstates"),
    "preprocessing lacks width": ({"preprocessing": {"height": 24}}, "lacks or misstates"),
}


@pytest.mark.parametrize("name", INFO)
def test_a_wrong_info_is_refused(sealed, name):
    changes, reason = INFO[name]
    text = json.dumps(json.loads(sealed.info.to_json()) | changes)
    with pytest.raises(DataError, match=reason):
        BundleInfo.from_json(text, "bundle.json")


def test_what_a_later_version_adds_is_ignored(sealed):
    text = json.dumps(json.loads(sealed.info.to_json()) | {"invented_later": True})
    assert BundleInfo.from_json(text, "bundle.json") == sealed.info


def test_no_bundle(tmp_path):
    with pytest.raises(DataError, match="no model bundle"):
        load(str(tmp_path / "nowhere"))


@pytest.fixture(params=["bucket", "s3_bucket"])
def remote(sealed, request, tmp_path, monkeypatch):
    monkeypatch.setenv("MARQUEE_CACHE", str(tmp_path / "cache"))
    uri = request.getfixturevalue(request.param) + "/bundle"
    for file in sealed.folder.iterdir():
        storage.write_bytes(f"{uri}/{file.name}", file.read_bytes())
    return uri


def test_a_remote_bundle_is_fetched_once(sealed, remote, monkeypatch):
    fetched = load(remote)
    assert (fetched.version, fetched.info) == (sealed.version, sealed.info)
    assert fetched.folder.is_relative_to(bundles.cache_folder())
    read = []
    monkeypatch.setattr(
        storage,
        "read_bytes",
        lambda uri: read.append(uri) or (sealed.folder / SUMS_FILE).read_bytes(),
    )
    assert load(remote).version == sealed.version
    assert read == [f"{remote}/{SUMS_FILE}"]


def test_a_tampered_remote_bundle_is_refused_and_not_kept(remote):
    storage.write_bytes(f"{remote}/{MODEL_FILE}", b"other")
    with pytest.raises(DataError, match="was changed after the bundle was sealed"):
        load(remote)
    assert not list((bundles.cache_folder() / "bundles").glob("*/bundle.json"))


def test_a_copy_that_was_damaged_since_is_fetched_again(sealed, remote):
    (load(remote).folder / MODEL_FILE).write_bytes(b"damaged")
    assert (load(remote).folder / MODEL_FILE).read_bytes() == sealed.model_file("fp32").read_bytes()


def test_no_remote_bundle(bucket):
    with pytest.raises(DataError, match="no model bundle"):
        load(f"{bucket}/nowhere")


def test_the_weights_stand_beside_the_model(sealed):
    assert "head.weight" in load_file(sealed.folder / WEIGHTS_FILE)


@pytest.fixture(params=["disk", "bucket", "s3_bucket"])
def listed(request, tmp_path):
    """A bundle that says which posters trained it, and its place."""
    sealed = tiny_bundle(tmp_path / "listed", trained_on=["b", "a"])
    if request.param == "disk":
        return sealed, str(sealed.folder)
    uri = request.getfixturevalue(request.param) + "/bundle"
    for file in sealed.folder.iterdir():
        storage.write_bytes(f"{uri}/{file.name}", file.read_bytes())
    return sealed, uri


def test_a_bundle_says_which_posters_trained_it(listed):
    sealed, uri = listed
    rows = read_training_posters(uri).to_dict("records")
    assert [row["poster_id"] for row in rows] == ["a", "b"]
    assert set(rows[0]) == {"poster_id", "film_id", "source", "licence", "split"}
    assert TRAINING_FILE in (sealed.folder / SUMS_FILE).read_text()
    storage.write_bytes(f"{uri}/{TRAINING_FILE}", b"other")
    with pytest.raises(DataError, match="was changed after the bundle was sealed"):
        read_training_posters(uri)
    storage.remove(f"{uri}/{TRAINING_FILE}")
    with pytest.raises(DataError, match="lacks training_posters"):
        read_training_posters(uri)


def test_an_older_bundle_has_no_list_of_posters(sealed, tmp_path):
    assert read_training_posters(str(sealed.folder)) is None
    assert load(str(sealed.folder)).version == sealed.version
    with pytest.raises(DataError, match="no model bundle"):
        read_training_posters(str(tmp_path / "nowhere"))


def test_fetched_copies_are_forgotten(remote, sealed):
    fetched = load(remote).folder
    assert bundles.forget_fetched(sealed.version)
    assert not fetched.exists()
    assert not bundles.forget_fetched(sealed.version)
