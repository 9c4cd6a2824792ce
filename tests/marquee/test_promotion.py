"""From one environment to the next by digest: the very bundle, and nothing else."""

import hashlib
from pathlib import Path

import pytest
from bundles import tiny_bundle
from command import marquee
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from model_registry_server import running_model_registry

from marquee import signing
from marquee.bundle import MODEL_FILE, load
from marquee.errors import DataError, UsageError
from marquee.registry import MarkKind, Stage, copy, open_registry


@pytest.fixture
def dev(tmp_path):
    """A registry with a champion, signed by the people of dev."""
    registry = open_registry(str(tmp_path / "dev"))
    entry = registry.register(*trained(tmp_path, 1))
    registry.move(entry.version, Stage.CHAMPION, "its rollout reached its end")
    return registry


def trained(folder, seed):
    (folder / f"bundle{seed}").mkdir()
    tiny_bundle(folder / f"bundle{seed}", seed=seed)
    uri = str(folder / f"bundle{seed}")
    return uri, {"version": load(uri).version, "metrics": {"test/macro_f1": 0.5}, "films": 7}


@pytest.fixture(params=["files", "hub"])
def prod(request, tmp_path, monkeypatch):
    if request.param == "files":
        yield open_registry(str(tmp_path / "prod"))
        return
    monkeypatch.setenv("MARQUEE_MODELS", str(tmp_path / "models"))
    with running_model_registry() as server:
        yield open_registry(server.url)


def files(uri):
    """Give the digest of each file of a bundle, its signature aside."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in Path(uri).iterdir()
        if path.name not in signing.FILES
    }


def test_the_same_digest_arrives_with_its_lineage_as_a_candidate(dev, prod):
    (champion,) = dev.versions()
    copied = copy(dev, champion.version, prod)
    assert (copied.version, copied.stage) == (champion.version, Stage.CANDIDATE)
    assert (copied.metrics, copied.run) == (champion.metrics, champion.run)
    assert copied.uri != champion.uri and files(copied.uri) == files(champion.uri)
    assert dev.uri in prod.history()[-1].reason


def test_who_copies_has_to_trust_who_signed_and_signs_anew(dev, tmp_path, monkeypatch):
    (champion,) = dev.versions()
    theirs = signing.verify(load(champion.uri), champion.uri)
    key = (
        signing._private_key()
        .public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    keys = tmp_path / "keys-of-prod"
    monkeypatch.setenv("MARQUEE_KEYS", str(keys))
    prod = open_registry(str(tmp_path / "prod"))
    with pytest.raises(signing.Untrusted, match="not trusted"):
        copy(dev, champion.version, prod)
    assert prod.versions() == []
    (keys / "trusted").mkdir(parents=True)
    (keys / "trusted/dev.pem").write_bytes(key)
    copied = copy(dev, champion.version, prod)
    (keys / "trusted/dev.pem").unlink()
    assert signing.verify(load(copied.uri), copied.uri) != theirs


def test_the_same_again_changes_nothing(dev, prod):
    (champion,) = dev.versions()
    copy(dev, champion.version, prod)
    prod.move(champion.version, Stage.CHAMPION, "its rollout reached its end")
    history = prod.history()
    assert copy(dev, champion.version, prod).stage is Stage.CHAMPION
    assert prod.history() == history


def test_what_was_purged_since_is_told(dev, prod):
    (champion,) = dev.versions()
    copy(dev, champion.version, prod)
    dev.mark(champion.version, MarkKind.PURGED, "tmdb:1", 3)
    dev.add_tombstones(["tmdb:1"])
    assert copy(dev, champion.version, prod).marked(MarkKind.PURGED).posters == 3
    assert prod.tombstones() == {"tmdb:1"}


def damage(dev, champion):
    with (Path(champion.uri) / MODEL_FILE).open("ab") as stream:
        stream.write(b"!")


REFUSED = {
    "another-digest": (lambda dev, it: None, "0" * 64, UsageError, "0 versions"),
    "first-digits": (lambda dev, it: None, slice(12), UsageError, "named in full"),
    "a-candidate": (
        lambda dev, it: dev.move(it.version, Stage.CANDIDATE, "readmitted"),
        slice(None),
        UsageError,
        "candidate in",
    ),
    "one-that-a-judge-failed": (
        lambda dev, it: dev.move(it.version, Stage.QUARANTINED, "failed"),
        slice(None),
        UsageError,
        "quarantined in",
    ),
    "one-that-was-touched": (damage, slice(None), DataError, MODEL_FILE),
}


@pytest.mark.parametrize(("change", "asked", "error", "said"), REFUSED.values(), ids=REFUSED)
def test_nothing_else_is_promoted(dev, tmp_path, change, asked, error, said):
    (champion,) = dev.versions()
    change(dev, champion)
    prod = open_registry(str(tmp_path / "prod"))
    with pytest.raises(error, match=said):
        copy(dev, asked if isinstance(asked, str) else champion.version[asked], prod)
    assert prod.versions() == []


def test_three_environments_by_the_command_line(dev, tmp_path):
    """Dev's champion goes to staging, is proven there, and only then may go to prod."""
    digest = dev.versions()[0].version
    staging, prod = tmp_path / "staging", tmp_path / "prod"
    assert f"{digest} is a candidate" in marquee("registry", "copy", dev.uri, digest, staging)
    assert "not the champion" in marquee("registry", "copy", staging, digest, prod, code=2)
    marquee("registry", "promote", staging, digest, "--reason", "its rollout reached its end")
    marquee("registry", "copy", staging, digest, prod)
    assert files(open_registry(str(prod)).get(digest).uri) == files(dev.get(digest).uri)
    said = marquee("rollout", "start", digest, "--registry", prod, "--name", "films", "--dry-run")
    assert digest[:12] in said
    other = open_registry(str(prod)).register(*trained(tmp_path, 2)).version
    assert other != digest
    assert "0 versions" in marquee("registry", "copy", dev.uri, other, prod, code=2)
