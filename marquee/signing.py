"""Signatures of model bundles: who vouches for a version.

A version is the sha256 of its SHA256SUMS, which names the digest of every file, so a signature over
the version covers the whole bundle. It stands beside the bundle's files as `signature.json`
(Ed25519) or `model.sig` (sigstore, by the Model Registry's signer), in neither case named by
SHA256SUMS.

Where an identity token is at hand (`SIGNING_IDENTITY_TOKEN_PATH`) sigstore signs. Otherwise a
private key does: the PEM in `$MARQUEE_SIGNING_KEY`, as a pod gets it from a secret, or that of this
machine, which is made when first needed. Keys are looked for in the folder `$MARQUEE_KEYS`, or
~/.config/marquee/keys: `signing.pem`, and in `trusted/` the public keys (`*.pem`) of others whose
signatures count.
"""

import base64
import contextlib
import enum
import hashlib
import json
import logging
import os
import tempfile
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from marquee import storage
from marquee.bundle import Bundle
from marquee.contract import check_schema_version, parse_json
from marquee.errors import DataError, InfrastructureError, UsageError
from marquee.log import in_pod

SCHEMA_VERSION = 1
SIGNATURE_FILE = "signature.json"
SIGSTORE_FILE = "model.sig"
FILES = (SIGNATURE_FILE, SIGSTORE_FILE)
_KEY_VARIABLE = "MARQUEE_SIGNING_KEY"
_KEY_FILE, _TRUSTED = "signing.pem", "trusted"
_CONTEXT = b"marquee bundle\n"
"""Goes before what is signed, so that the key's signatures of other things are none of a bundle."""

logger = logging.getLogger(__name__)


class Untrusted(DataError):
    """A bundle's signature is missing, wrong, or by somebody who is not trusted."""


class Scheme(enum.StrEnum):
    """How a bundle is signed."""

    ED25519 = "ed25519"
    SIGSTORE = "sigstore"


@dataclass(frozen=True, kw_only=True)
class Signature:
    """The content of `signature.json`."""

    version: str
    """The bundle's version (64 hex digits)."""
    key: str
    """The first 16 hex digits of the sha256 of the public key's 32 bytes."""
    signature: str
    """64 bytes as base64."""
    signed_at: str
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> str:
        """Write the content of `signature.json`."""
        return json.dumps(asdict(self), indent=2) + "\n"


@dataclass(frozen=True)
class Signer:
    """Who signed a bundle."""

    scheme: Scheme
    name: str
    """The key's id, or the identity that sigstore certified."""

    def __str__(self) -> str:
        return f"{self.name} ({self.scheme})"


def sign(bundle: Bundle) -> Signer:
    """Sign a bundle; the signature lies beside its files, and replaces one of another key.

    Args:
        bundle: A verified bundle on this machine.

    Returns:
        Who signed it.

    Raises:
        UsageError: The private key cannot be read.
        InfrastructureError: Sigstore refused.
    """
    if os.environ.get("SIGNING_IDENTITY_TOKEN_PATH"):
        (bundle.folder / SIGNATURE_FILE).unlink(missing_ok=True)
        return _sign_by_sigstore(bundle.folder)
    (bundle.folder / SIGSTORE_FILE).unlink(missing_ok=True)
    key = _private_key()
    signature = Signature(
        version=bundle.version,
        key=key_id(key.public_key()),
        signature=base64.b64encode(key.sign(_message(bundle.version))).decode(),
        signed_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    storage.write_text(str(bundle.folder / SIGNATURE_FILE), signature.to_json())
    return Signer(Scheme.ED25519, signature.key)


def verify(bundle: Bundle, uri: str) -> Signer:
    """Check a bundle's signature.

    Args:
        bundle: The bundle, its sums verified.
        uri: Where it came from: its signature is read there.

    Returns:
        Who signed it.

    Raises:
        Untrusted: It is not signed, its signature is wrong, or its signer is not trusted.
    """
    document = _read(uri, SIGNATURE_FILE)
    if document is not None:
        return _verify_ed25519(bundle.version, document, storage.join(uri, SIGNATURE_FILE))
    proof = _read(uri, SIGSTORE_FILE)
    if proof is not None:
        return _verify_by_sigstore(bundle.folder, proof, uri)
    raise Untrusted(
        f"the bundle {uri} is not signed",
        remedy="register it: that signs it",
    )


def check(bundle: Bundle, uri: str, *, required: bool) -> None:
    """Verify a bundle's signature as far as can be; say so if it cannot, or refuse the bundle.

    Args:
        bundle: The bundle, its sums verified.
        uri: Where it came from.
        required: Whether one is refused that nobody who is trusted signed.

    Raises:
        Untrusted: Its signature is wrong or by somebody who is not among those trusted, or one is
            asked for, and it has none or nobody is trusted here.
    """
    if required or (is_signed(uri) and _is_anybody_trusted(uri)):
        logger.info("the bundle %s is signed by %s", bundle.version[:12], verify(bundle, uri))
    elif is_signed(uri):
        logger.warning(
            "the signature of the bundle %s is not verified: nobody is trusted here "
            "(docs/registry.md#signatures)",
            uri,
        )
    else:
        logger.warning("the bundle %s is not signed", uri)


def _is_anybody_trusted(uri: str) -> bool:
    """Tell whether signatures of a bundle's kind can count here: a bare pod has no keys."""
    if storage.exists(storage.join(uri, SIGNATURE_FILE)):
        return bool(_trusted_keys())
    return bool(os.environ.get("SIGNING_CERTIFICATE_IDENTITY"))


def is_signed(uri: str) -> bool:
    """Tell whether a signature stands beside a bundle, right or wrong."""
    return any(storage.exists(storage.join(uri, name)) for name in FILES)


def key_id(key: Ed25519PublicKey) -> str:
    """Name a public key by the first 16 hex digits of its sha256."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def _message(version: str) -> bytes:
    return _CONTEXT + version.encode()


def _read(uri: str, name: str) -> bytes | None:
    try:
        return storage.read_bytes(storage.join(uri, name))
    except FileNotFoundError:
        return None


def _keys() -> Path:
    return storage.local_path(os.environ.get("MARQUEE_KEYS") or "~/.config/marquee/keys")


def _private_key() -> Ed25519PrivateKey:
    """Give the key that signs here; make this machine's if there is none, for its owner's eyes."""
    given = os.environ.get(_KEY_VARIABLE)
    if given:
        return _parse_key(given.encode(), f"${_KEY_VARIABLE}")
    path = _keys() / _KEY_FILE
    if not path.exists():
        if in_pod():
            raise UsageError(
                "this pod has no key to sign with, and one of its own would die with it",
                remedy="put one into the secret marquee-signing (docs/registry.md)",
            )
        _make_key(path)
    return _parse_key(path.read_bytes(), str(path))


def _parse_key(pem: bytes, where: str) -> Ed25519PrivateKey:
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise _no_key(where, str(error)) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise _no_key(where, "it is of another kind")
    return key


def _make_key(path: Path) -> None:
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # mkstemp: readable by its owner alone from the start, and whole when the link appears.
    descriptor, partial = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(pem)
        with contextlib.suppress(FileExistsError):  # another process was faster
            path.hardlink_to(partial)
    finally:
        Path(partial).unlink()


def _no_key(where: str, why: str) -> UsageError:
    return UsageError(
        f"{where} is no Ed25519 private key: {why}",
        remedy="put one there (openssl genpkey -algorithm ed25519), or remove the file: Marquee "
        "makes a key when it has none",
    )


def _trusted_keys() -> dict[str, Ed25519PublicKey]:
    """Give the public keys whose signatures count, by id: this machine's own, and others'."""
    has_own = os.environ.get(_KEY_VARIABLE) or (_keys() / _KEY_FILE).exists()
    found = [_private_key().public_key()] if has_own else []
    for path in sorted((_keys() / _TRUSTED).glob("*.pem")):
        try:
            key = serialization.load_pem_public_key(path.read_bytes())
        except ValueError as error:
            raise UsageError(f"{path} is no public key: {error}", remedy="remove it") from None
        if isinstance(key, Ed25519PublicKey):
            found.append(key)
    return {key_id(key): key for key in found}


def _verify_ed25519(version: str, document: bytes, where: str) -> Signer:
    values: dict[str, Any] = parse_json(document, where)
    check_schema_version(values, SCHEMA_VERSION, where)
    try:
        signature = Signature(**values)
        raw = base64.b64decode(signature.signature, validate=True)
    except (TypeError, ValueError) as error:
        raise Untrusted(f"{where} is damaged: {error}", remedy="register it again") from None
    trusted = _trusted_keys()
    if signature.key not in trusted:
        raise Untrusted(
            f"the bundle {version[:12]} is signed with key {signature.key}, which is not trusted",
            remedy=f"put its public key into {_keys() / _TRUSTED}, if you trust its owner",
        )
    try:
        trusted[signature.key].verify(raw, _message(version))
    except InvalidSignature:
        raise Untrusted(
            f"{where} is no signature of the bundle {version[:12]}",
            remedy="do not use it: it was changed after it was signed",
        ) from None
    return Signer(Scheme.ED25519, signature.key)


def _sigstore() -> Any:
    from model_registry.signing import Signer as SigstoreSigner

    return SigstoreSigner(signature_filename=SIGSTORE_FILE)


def _sign_by_sigstore(folder: Path) -> Signer:
    signer = _sigstore()
    try:
        signer.sign_model(folder)
    except Exception as error:  # what sigstore's clients raise is many things
        raise InfrastructureError(
            f"sigstore did not sign {folder}: {error}",
            remedy="check the SIGNING_ variables and the network, or unset "
            "SIGNING_IDENTITY_TOKEN_PATH to sign with a key",
        ) from error
    return Signer(Scheme.SIGSTORE, signer.config.certificate_identity or "identity token")


def _verify_by_sigstore(folder: Path, proof: bytes, uri: str) -> Signer:
    signer = _sigstore()
    with tempfile.TemporaryDirectory(prefix="signature-") as scratch:
        path = Path(scratch) / SIGSTORE_FILE
        path.write_bytes(proof)
        try:
            signer.verify_model(folder, path)
        except Exception as error:
            raise Untrusted(
                f"sigstore does not vouch for the bundle {uri}: {error}",
                remedy="set SIGNING_CERTIFICATE_IDENTITY and SIGNING_OIDC_ISSUER to whose "
                "signature you trust; if they are set, do not use the bundle",
            ) from error
    return Signer(Scheme.SIGSTORE, str(signer.config.certificate_identity))
