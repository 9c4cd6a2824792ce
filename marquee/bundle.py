"""The model bundle: what training seals and serving loads, without torch.

A bundle is a folder: `model.onnx` (outputs `logits [N, G]`, `embedding [N, 64]`, `maps
[N, G, h, w]` where the architecture has them, `era [N, E]` where it predicts eras),
reduced-precision variants, `weights.safetensors`, the list of the posters that
trained it (`marquee.lineage`), `bundle.json` and `SHA256SUMS`.
Its version is the sha256 of SHA256SUMS, so whatever is changed becomes another version. Files that
SHA256SUMS does not name, such as signatures, may stand beside it.
"""

import dataclasses
import hashlib
import json
import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from marquee import storage
from marquee.contract import check_schema_version, parse_json
from marquee.decision import Calibration
from marquee.errors import DataError
from marquee.images import Preprocessing

SCHEMA_VERSION = 1
BUNDLE_FILE = "bundle.json"
SUMS_FILE = "SHA256SUMS"
MODEL_FILE = "model.onnx"
WEIGHTS_FILE = "weights.safetensors"
EMBEDDING_SIZE = 64
FULL_PRECISION = "fp32"
DEFAULT_ENGINE = "openvino"
"""The quicker one for both architectures, in fp32 and in int8 (benchmarks/engines.py)."""


@dataclass(frozen=True, kw_only=True)
class BundleInfo:
    """The content of `bundle.json`."""

    architecture: str
    label_set: str
    genres: tuple[str, ...]
    """G names, in the order of the model's outputs."""
    thresholds: tuple[float, ...]
    """G probabilities from which on a genre is chosen."""
    calibration: Calibration
    preprocessing: Preprocessing
    explanation: str
    """`maps` if the output `maps` is exact evidence, else `occlusion`."""
    validation: dict[str, float]
    """Metrics on the validation split, by name."""
    reference_profile: dict[str, Any]
    catalog_digest: str
    split_digest: str
    """Which posters trained it and which may test it."""
    code_version: str
    run: str
    engine: str = DEFAULT_ENGINE
    precision: str = FULL_PRECISION
    """The precision that the engine uses unless told otherwise."""
    variants: dict[str, str] = field(default_factory=lambda: {FULL_PRECISION: MODEL_FILE})
    """Precision to model file."""
    eras: tuple[str, ...] = ()
    """What the output `era` means, in its order; none if the model does not predict eras."""
    history: list[dict[str, float]] = field(default_factory=list)
    """The learning curves: a row an epoch (epoch, loss, validation_macro_map, learning_rate)."""
    cross_validation: dict[str, list[float]] = field(default_factory=dict)
    """Metrics of heads like this one's, a value a fold; none if there was no cross-validation."""
    environment: dict[str, str] = field(default_factory=dict)
    """Versions, seed and settings that the training ran with."""
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        lengths = {
            "thresholds": len(self.thresholds),
            "calibration.scale": len(self.calibration.scale),
            "calibration.shift": len(self.calibration.shift),
        }
        for name, length in lengths.items():
            if length != len(self.genres):
                raise DataError(
                    f"bundle.{name} has {length} values for {len(self.genres)} genres",
                    remedy="train again",
                )

    def to_json(self) -> str:
        """Write the content of `bundle.json`."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str) -> Self:
        """Read the content of `bundle.json`.

        Args:
            text: The JSON document.
            where: Its URI, for error messages.

        Raises:
            DataError: It is damaged, or newer than this code.
        """
        document = parse_json(text, where)
        check_schema_version(document, SCHEMA_VERSION, where)
        known = {item.name for item in dataclasses.fields(cls)}
        values = {name: value for name, value in document.items() if name in known}
        try:
            calibration = {name: tuple(value) for name, value in values.pop("calibration").items()}
            return cls(
                **values
                | {
                    "genres": tuple(values["genres"]),
                    "thresholds": tuple(values["thresholds"]),
                    "eras": tuple(values.get("eras", ())),
                    "calibration": Calibration(**calibration),
                    "preprocessing": Preprocessing(**values["preprocessing"]),
                }
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{where} lacks or misstates {error}", remedy="is this a Marquee bundle?"
            ) from None


@dataclass(frozen=True)
class Bundle:
    """A verified bundle on this machine."""

    folder: Path
    info: BundleInfo

    @cached_property
    def version(self) -> str:
        """The sha256 of SHA256SUMS (64 hex digits)."""
        return hashlib.sha256((self.folder / SUMS_FILE).read_bytes()).hexdigest()

    def model_file(self, precision: str) -> Path:
        """Find the model of a precision.

        Raises:
            DataError: The bundle has no such variant.
        """
        if precision not in self.info.variants:
            raise DataError(
                f"the bundle has no precision {precision!r}",
                remedy=f"use one of: {', '.join(self.info.variants)}",
            )
        return self.folder / self.info.variants[precision]


def seal(folder: Path, info: BundleInfo) -> str:
    """Write `bundle.json` and `SHA256SUMS` beside the model files.

    Args:
        folder: Holds the model files.
        info: What to say of them.

    Returns:
        The bundle's version.
    """
    (folder / BUNDLE_FILE).write_text(info.to_json(), encoding="utf-8")
    names = sorted(
        file.relative_to(folder).as_posix()
        for file in folder.rglob("*")
        if file.is_file() and file.name != SUMS_FILE
    )
    lines = [f"{_sha256(folder / name)}  {name}\n" for name in names]
    (folder / SUMS_FILE).write_text("".join(lines), encoding="utf-8")
    for name in (*names, SUMS_FILE):
        # safetensors writes for the owner alone; a server runs as another user.
        (folder / name).chmod(0o644)
    return Bundle(folder, info).version


def load(uri: str, version: str = "") -> Bundle:
    """Open a bundle, fetching it first if it is not on this machine, and verify its sums.

    Args:
        uri: The bundle's folder.
        version: Which version is meant; any without it.

    Returns:
        The bundle.

    Raises:
        DataError: There is no bundle, a file is missing or was changed, it is another version, or
            it is newer than this code.
    """
    folder = storage.local_path(uri) if storage.is_local(uri) else _fetch(uri)
    if not (folder / SUMS_FILE).is_file():
        raise DataError(f"no model bundle at {uri}", remedy="give a folder with SHA256SUMS")
    try:
        _verify(folder, uri)
    except DataError:
        if storage.is_local(uri):
            raise
        storage.remove(str(folder))  # what was fetched earlier was damaged since
        folder = _fetch(uri)
    text = (folder / BUNDLE_FILE).read_text(encoding="utf-8")
    bundle = Bundle(folder, BundleInfo.from_json(text, storage.join(uri, BUNDLE_FILE)))
    if version and bundle.version != version:
        raise DataError(
            f"{uri} holds version {bundle.version[:12]}, not {version[:12]}",
            remedy="another run has replaced it; give each run a place of its own",
        )
    return bundle


def cache_folder() -> Path:
    """Where Marquee keeps what it can make again: `$MARQUEE_CACHE`, or ~/.cache/marquee.

    Raises:
        UsageError: `$MARQUEE_CACHE` is not on this machine.
    """
    return storage.local_path(os.environ.get("MARQUEE_CACHE") or "~/.cache/marquee")


def read_file(uri: str, name: str) -> bytes | None:
    """Read one file of a bundle, without the others.

    Args:
        uri: The bundle's folder.
        name: The file's name in it.

    Returns:
        The content, or None if the bundle was sealed without such a file.

    Raises:
        DataError: There is no bundle, or the file is missing or was changed.
    """
    digest = _parse_sums(_read_sums(uri), uri).get(name)
    if digest is None:
        return None
    data = _read_named(uri, name)
    if hashlib.sha256(data).hexdigest() != digest:
        raise _changed(uri, name)
    return data


def read_version(uri: str) -> str:
    """Give the version of the bundle at a URI, without its files.

    Raises:
        DataError: There is no bundle.
    """
    return hashlib.sha256(_read_sums(uri)).hexdigest()


def forget_fetched(version: str) -> bool:
    """Remove this machine's copy of a bundle that was fetched from elsewhere.

    Args:
        version: The bundle's version.

    Returns:
        Whether there was one.
    """
    copy = _fetched(version)
    there = copy.exists()
    storage.remove(str(copy))
    return there


def _fetched(version: str) -> Path:
    return cache_folder() / "bundles" / version


def _read_sums(uri: str) -> bytes:
    try:
        return storage.read_bytes(storage.join(uri, SUMS_FILE))
    except FileNotFoundError:
        raise DataError(
            f"no model bundle at {uri}", remedy="give a folder with SHA256SUMS"
        ) from None


def _fetch(uri: str) -> Path:
    sums = _read_sums(uri)
    target = _fetched(hashlib.sha256(sums).hexdigest())
    if not target.exists():
        with storage.scratch_folder(str(target.parent)) as scratch:
            folder = scratch / "bundle"
            folder.mkdir()
            (folder / SUMS_FILE).write_bytes(sums)
            for name in _sums(folder, uri):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(_read_named(uri, name))
            _verify(folder, uri)
            storage.publish_folder(folder, str(target))
    return target


def _read_named(uri: str, name: str) -> bytes:
    try:
        return storage.read_bytes(storage.join(uri, name))
    except FileNotFoundError:
        raise _lacking(uri, name) from None


def _lacking(where: str, name: str) -> DataError:
    return DataError(f"{where} lacks {name}", remedy="fetch or register the bundle again")


def _changed(where: str, name: str) -> DataError:
    return DataError(
        f"{where}/{name} was changed after the bundle was sealed",
        remedy="do not use it; fetch the bundle again",
    )


def _sums(folder: Path, where: str) -> dict[str, str]:
    return _parse_sums((folder / SUMS_FILE).read_bytes(), where)


def _parse_sums(data: bytes, where: str) -> dict[str, str]:
    """Read the content of SHA256SUMS: file name to digest."""
    sums = {}
    for line in data.decode().splitlines():
        digest, separator, name = line.partition("  ")
        if not separator or Path(name).is_absolute() or ".." in Path(name).parts:
            raise DataError(f"{where}/{SUMS_FILE} is damaged at {line!r}", remedy="restore it")
        sums[name] = digest
    return sums


def _verify(folder: Path, where: str) -> None:
    sums = _sums(folder, where)
    if BUNDLE_FILE not in sums:
        raise DataError(f"{where}/{SUMS_FILE} does not name {BUNDLE_FILE}", remedy="restore it")
    for name, digest in sums.items():
        if not (folder / name).is_file():
            raise _lacking(where, name)
        if _sha256(folder / name) != digest:
            raise _changed(where, name)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
