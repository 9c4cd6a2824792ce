"""Signatures: whoever changes a bundle, or signs without being trusted, is found out."""

import json
import stat
import threading

import pytest
from bundles import tiny_bundle
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from marquee import signing
from marquee.bundle import MODEL_FILE, load, seal
from marquee.errors import DataError, UsageError
from marquee.signing import SIGNATURE_FILE, Untrusted


@pytest.fixture
def keys(tmp_path, monkeypatch):
    folder = tmp_path / "keys"
    monkeypatch.setenv("MARQUEE_KEYS", str(folder))
    return folder


@pytest.fixture
def bundle(tmp_path, keys):
    bundle = tiny_bundle(tmp_path / "bundle")
    signing.sign(bundle)
    return bundle


def verify(bundle):
    return signing.verify(load(str(bundle.folder)), str(bundle.folder))


def test_a_key_is_made_when_first_needed_and_kept(bundle, keys, tmp_path):
    path = keys / "signing.pem"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    pem = path.read_bytes()
    other = tiny_bundle(tmp_path / "other", seed=1)
    assert signing.sign(other) == verify(bundle) == verify(other)
    assert path.read_bytes() == pem
    assert sorted(file.name for file in keys.iterdir()) == ["signing.pem"]


def test_several_that_need_a_key_at_once_get_the_same(tmp_path, keys):
    bundles = [tiny_bundle(tmp_path / str(n), seed=n) for n in range(6)]
    signers = []
    threads = [
        threading.Thread(target=lambda b=bundle: signers.append(signing.sign(b)))
        for bundle in bundles
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(signers)) == 1


def test_the_signature_is_no_part_of_what_is_signed(bundle):
    assert (bundle.folder / SIGNATURE_FILE).exists()
    assert load(str(bundle.folder)).version == bundle.version


def test_what_was_sealed_anew_is_not_what_was_signed(bundle):
    (bundle.folder / MODEL_FILE).write_bytes(b"evil")
    seal(bundle.folder, bundle.info)
    with pytest.raises(Untrusted, match="no signature of the bundle"):
        verify(bundle)


def test_a_signature_of_another_bundle_does_not_count(bundle, tmp_path):
    other = tiny_bundle(tmp_path / "other", seed=1)
    signing.sign(other)
    (bundle.folder / SIGNATURE_FILE).write_bytes((other.folder / SIGNATURE_FILE).read_bytes())
    with pytest.raises(Untrusted):
        verify(bundle)


def test_a_bundle_without_a_signature_is_named(tmp_path, keys):
    bundle = tiny_bundle(tmp_path / "bundle")
    assert not signing.is_signed(str(bundle.folder))
    with pytest.raises(Untrusted, match="is not signed"):
        verify(bundle)


def test_where_nobody_is_trusted_a_signed_bundle_is_used_all_the_same(
    bundle, tmp_path, monkeypatch, caplog
):
    """A pod that serves may have no keys; what it is not told to ask for, it cannot refuse."""
    monkeypatch.setenv("MARQUEE_KEYS", str(tmp_path / "none"))
    signing.check(bundle, str(bundle.folder), required=False)
    assert "is not verified: nobody is trusted here" in caplog.text
    with pytest.raises(Untrusted, match="which is not trusted"):
        signing.check(bundle, str(bundle.folder), required=True)


def test_a_signature_of_somebody_else_is_refused_where_others_are_trusted(
    bundle, tmp_path, monkeypatch
):
    monkeypatch.setenv("MARQUEE_KEYS", str(tmp_path / "mine"))
    signing.sign(tiny_bundle(tmp_path / "own", seed=2))
    with pytest.raises(Untrusted, match="which is not trusted"):
        signing.check(bundle, str(bundle.folder), required=False)


DAMAGED = {
    "no JSON": lambda _: b"{",
    "a field is missing": lambda d: json.dumps({k: v for k, v in d.items() if k != "key"}).encode(),
    "no base64": lambda d: json.dumps(d | {"signature": "?"}).encode(),
    "of a later Marquee": lambda d: json.dumps(d | {"schema_version": 99}).encode(),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_signature_is_refused(bundle, name):
    path = bundle.folder / SIGNATURE_FILE
    path.write_bytes(DAMAGED[name](json.loads(path.read_text())))
    with pytest.raises(DataError):
        verify(bundle)


def test_another_machines_signature_counts_once_its_key_is_trusted(bundle, tmp_path, monkeypatch):
    theirs = tmp_path / "keys/signing.pem"
    monkeypatch.setenv("MARQUEE_KEYS", str(tmp_path / "ours"))
    with pytest.raises(Untrusted, match="which is not trusted") as caught:
        verify(bundle)
    assert "trusted" in caught.value.remedy
    key = serialization.load_pem_private_key(theirs.read_bytes(), None).public_key()
    trusted = tmp_path / "ours/trusted"
    trusted.mkdir(parents=True)
    (trusted / "them.pem").write_bytes(
        key.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    assert verify(bundle).name == signing.key_id(key)


def pem(key):
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


@pytest.mark.parametrize("kind", ["nonsense", "another kind"])
def test_a_key_that_is_none_is_named(tmp_path, keys, kind):
    keys.mkdir()
    text = b"nonsense" if kind == "nonsense" else pem(generate_private_key(65537, 2048))
    (keys / "signing.pem").write_bytes(text)
    with pytest.raises(UsageError, match="is no Ed25519 private key"):
        signing.sign(tiny_bundle(tmp_path / "bundle"))


def test_a_given_key_signs(tmp_path, keys):
    keys.mkdir()
    key = Ed25519PrivateKey.generate()
    (keys / "signing.pem").write_bytes(pem(key))
    signer = signing.sign(tiny_bundle(tmp_path / "bundle"))
    assert signer.name == signing.key_id(key.public_key())


def test_sigstore_signs_where_there_is_an_identity(tmp_path, keys, monkeypatch):
    """Sigstore's own servers cannot be reached here: what it was asked for is all that shows."""
    asked = []

    class Signer:
        class config:  # noqa: N801
            certificate_identity = "me@example.com"

        def sign_model(self, folder):
            asked.append("sign")
            (folder / "model.sig").write_text("proof")

        def verify_model(self, folder, proof):
            asked.append("verify")
            if proof.read_text() != "proof":
                raise RuntimeError("the log does not know it")

    monkeypatch.setattr(signing, "_sigstore", Signer)
    monkeypatch.setenv("SIGNING_IDENTITY_TOKEN_PATH", "/token")
    bundle = tiny_bundle(tmp_path / "bundle")
    signing.sign(bundle)
    assert verify(bundle).name == "me@example.com"
    (bundle.folder / "model.sig").write_text("forged")
    with pytest.raises(Untrusted, match="does not vouch"):
        verify(bundle)
    assert asked == ["sign", "verify", "verify"]
    assert not keys.exists()
