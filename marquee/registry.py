"""The model registry: immutable versions by digest, their stages, and where they come from.

The file-backed registry keeps, below one URI::

    registry.json            versions, champions by label set, history; replaced atomically
    versions/<version>/      the bundle, immutable
    evaluations/<version>.json
"""

import dataclasses
import enum
import getpass
import json
import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from marquee import storage
from marquee.bundle import SUMS_FILE, Bundle, load
from marquee.contract import check_schema_version, parse_json
from marquee.errors import DataError, UsageError

SCHEMA_VERSION = 1
REGISTRY_FILE = "registry.json"
_WRITE_ATTEMPTS = 20


class Stage(enum.StrEnum):
    """Where a version stands."""

    CANDIDATE = "candidate"
    CHAMPION = "champion"
    RETIRED = "retired"
    QUARANTINED = "quarantined"


@dataclass(frozen=True, kw_only=True)
class ModelVersion:
    """A registered version and its lineage."""

    version: str
    uri: str
    """Where its immutable bundle lies."""
    architecture: str
    label_set: str
    stage: Stage
    catalog_digest: str
    run: str
    code_version: str
    metrics: dict[str, float]
    """Test metrics."""
    registered_at: str


@dataclass(frozen=True, kw_only=True)
class Event:
    """A line of the registry's history."""

    time: str
    who: str
    what: str
    version: str
    reason: str
    """Such as a verdict's sentence."""


class ModelRegistry(Protocol):
    """What a registry can do, on a laptop and on a cluster."""

    def register(self, bundle_uri: str, evaluation: dict[str, Any]) -> ModelVersion:
        """Keep a bundle and its test metrics; the same version again changes nothing."""
        ...

    def get(self, version: str) -> ModelVersion:
        """Find a version."""
        ...

    def versions(self) -> list[ModelVersion]:
        """List all versions, the oldest first."""
        ...

    def champion(self, label_set: str) -> ModelVersion | None:
        """Find the champion of a label set."""
        ...

    def move(self, version: str, stage: Stage, reason: str) -> ModelVersion:
        """Put a version into a stage; a new champion retires the old one of its label set."""
        ...

    def history(self) -> list[Event]:
        """Tell who did what, the oldest first."""
        ...


@dataclass
class _State:
    versions: dict[str, ModelVersion] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)

    def to_json(self) -> bytes:
        document = {
            "schema_version": SCHEMA_VERSION,
            "versions": [dataclasses.asdict(item) for item in self.versions.values()],
            "history": [dataclasses.asdict(event) for event in self.events],
        }
        return (json.dumps(document, indent=2) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes, where: str) -> "_State":
        document = parse_json(data, where)
        check_schema_version(document, SCHEMA_VERSION, where)
        versions = [
            ModelVersion(**item | {"stage": Stage(item["stage"])}) for item in document["versions"]
        ]
        return cls(
            {item.version: item for item in versions},
            [Event(**event) for event in document["history"]],
        )


class FileRegistry:
    """A registry of files, on a disk or in a bucket.

    Args:
        uri: Where the registry is or is to be.
    """

    def __init__(self, uri: str) -> None:
        self.uri = str(storage.local_path(uri).absolute()) if storage.is_local(uri) else uri
        self._document = storage.join(self.uri, REGISTRY_FILE)

    def register(self, bundle_uri: str, evaluation: dict[str, Any]) -> ModelVersion:
        """Keep a bundle and its test metrics; the same version again changes nothing.

        Args:
            bundle_uri: A sealed bundle.
            evaluation: The content of its `evaluation.json`.

        Returns:
            The version, a candidate if it is new.

        Raises:
            DataError: The evaluation is of another version.
        """
        bundle = load(bundle_uri)
        if evaluation["version"] != bundle.version:
            raise DataError(
                f"the evaluation is of version {str(evaluation['version'])[:12]}, the bundle is "
                f"{bundle.version[:12]}",
                remedy="evaluate this bundle",
            )
        target = storage.join(self.uri, "versions", bundle.version)
        self._keep(bundle, target)
        kept = storage.join(self.uri, "evaluations", f"{bundle.version}.json")
        if not storage.exists(kept):
            storage.write_text(kept, json.dumps(evaluation, indent=2) + "\n")
        entry = ModelVersion(
            version=bundle.version,
            uri=target,
            architecture=bundle.info.architecture,
            label_set=bundle.info.label_set,
            stage=Stage.CANDIDATE,
            catalog_digest=bundle.info.catalog_digest,
            run=bundle.info.run,
            code_version=bundle.info.code_version,
            metrics=evaluation["metrics"],
            registered_at=_now(),
        )

        def add(state: _State) -> ModelVersion:
            if entry.version not in state.versions:
                state.versions[entry.version] = entry
                state.events.append(_event("registered", entry.version, f"run {entry.run}"))
            return state.versions[entry.version]

        return self._change(add)

    def _keep(self, bundle: Bundle, target: str) -> None:
        if storage.exists(storage.join(target, SUMS_FILE)):
            return
        with storage.scratch_folder(self.uri) as scratch:
            copy = scratch / "bundle"
            shutil.copytree(bundle.folder, copy)
            storage.publish_folder(copy, target, last=SUMS_FILE)

    def get(self, version: str) -> ModelVersion:
        """Find a version.

        Args:
            version: Its digest, or the first digits of it.

        Raises:
            UsageError: None or several match.
        """
        found = [item for item in self.versions() if item.version.startswith(version)]
        if len(found) != 1 or not version:
            raise UsageError(
                f"{len(found)} versions in {self.uri} start with {version!r}",
                remedy="give more of the digest",
            )
        return found[0]

    def versions(self) -> list[ModelVersion]:
        """List all versions, the oldest first."""
        return list(self._read()[0].versions.values())

    def champion(self, label_set: str) -> ModelVersion | None:
        """Find the champion of a label set."""
        for item in self.versions():
            if item.label_set == label_set and item.stage is Stage.CHAMPION:
                return item
        return None

    def move(self, version: str, stage: Stage, reason: str) -> ModelVersion:
        """Put a version into a stage; a new champion retires the old one of its label set.

        Args:
            version: Its digest, or the first digits of it.
            stage: Where to.
            reason: Why, for the history; such as a verdict's sentence.

        Returns:
            The version as it now stands.

        Raises:
            UsageError: None or several versions match.
        """
        digest = self.get(version).version

        def change(state: _State) -> ModelVersion:
            moved = dataclasses.replace(state.versions[digest], stage=stage)
            for other in list(state.versions.values()):
                rival = other.label_set == moved.label_set and other.version != digest
                if stage is Stage.CHAMPION and rival and other.stage is Stage.CHAMPION:
                    state.versions[other.version] = dataclasses.replace(other, stage=Stage.RETIRED)
                    state.events.append(_event(Stage.RETIRED, other.version, "a new champion"))
            state.versions[digest] = moved
            state.events.append(_event(stage, digest, reason))
            return moved

        return self._change(change)

    def history(self) -> list[Event]:
        """Tell who did what, the oldest first."""
        return self._read()[0].events

    def _read(self) -> tuple[_State, str]:
        data, token = storage.read_versioned(self._document)
        return (_State() if data is None else _State.from_json(data, self._document)), token

    def _change(self, change: "_Change") -> ModelVersion:
        """Apply a change to the newest state; begin again when another writer was faster."""
        for _ in range(_WRITE_ATTEMPTS):
            state, token = self._read()
            result = change(state)
            try:
                storage.replace_versioned(self._document, state.to_json(), token)
            except storage.Conflict:
                continue
            return result
        raise storage.Conflict(f"{self.uri} has too many writers", remedy="try again")


class _Change(Protocol):
    def __call__(self, state: _State) -> ModelVersion: ...


def _event(what: str, version: str, reason: str) -> Event:
    return Event(time=_now(), who=_user(), what=what, version=version, reason=reason)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container's user often has no name.
        return "unknown"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
