"""The model registry: immutable versions by digest, their stages, and where they come from.

The file-backed registry keeps, below one URI::

    registry.json            versions with stages and marks, history; replaced atomically
    tombstones.json          ids of posters that were purged; replaced atomically
    versions/<version>/      the bundle, immutable: it is there whole, or deleted whole
    evaluations/<version>.json
"""

import dataclasses
import enum
import getpass
import json
import shutil
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from marquee import storage
from marquee.bundle import SUMS_FILE, Bundle, load
from marquee.contract import check_schema_version, parse_json
from marquee.errors import DataError, InfrastructureError, UsageError

SCHEMA_VERSION = 2
TOMBSTONES_SCHEMA_VERSION = 1
REGISTRY_FILE = "registry.json"
TOMBSTONES_FILE = "tombstones.json"


class Stage(enum.StrEnum):
    """Where a version stands."""

    CANDIDATE = "candidate"
    CHAMPION = "champion"
    RETIRED = "retired"
    QUARANTINED = "quarantined"


class MarkKind(enum.StrEnum):
    """What is said of a version besides its stage."""

    PURGED = "purged"
    """Posters that it was trained on were purged."""
    DELETED = "deleted"
    """Its bundle was deleted; the entry stays."""


@dataclass(frozen=True, kw_only=True)
class Mark:
    """What is said of a version besides its stage, and why."""

    kind: MarkKind
    reason: str
    """Such as which posters were purged from where."""
    time: str
    posters: int = 0
    """How many of the posters that trained the version had been purged by then; all that went from
    its catalog if the bundle does not name them."""


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
    marks: tuple[Mark, ...] = ()

    def marked(self, kind: MarkKind, reason: str = "") -> Mark | None:
        """Find the mark of a kind; the one for a reason if one is given."""
        for mark in self.marks:
            if mark.kind is kind and reason in ("", mark.reason):
                return mark
        return None

    @property
    def deleted(self) -> bool:
        """Whether its bundle was deleted."""
        return self.marked(MarkKind.DELETED) is not None


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

    def mark(self, version: str, kind: MarkKind, reason: str, posters: int = 0) -> ModelVersion:
        """Say something of a version; the same again changes nothing."""
        ...

    def delete_bundle(self, version: str, reason: str) -> ModelVersion:
        """Delete a version's bundle whole; its entry stays, retired and marked."""
        ...

    def add_tombstones(self, poster_ids: Collection[str]) -> int:
        """Remember posters that were purged; give how many are new."""
        ...

    def tombstones(self) -> frozenset[str]:
        """Give the ids of the posters that were purged.

        A sealed bundle is never edited, so what it shows of posters may name some of these: a
        server leaves them out of `similar`.
        """
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
        versions = [_version(item) for item in document["versions"]]
        return cls(
            {item.version: item for item in versions},
            [Event(**event) for event in document["history"]],
        )


def _version(item: dict[str, Any]) -> ModelVersion:
    # Version 1 of the schema had no marks.
    marks = [Mark(**mark | {"kind": MarkKind(mark["kind"])}) for mark in item.get("marks", ())]
    return ModelVersion(**item | {"stage": Stage(item["stage"]), "marks": tuple(marks)})


class FileRegistry:
    """A registry of files, on a disk or in a bucket.

    Args:
        uri: Where the registry is or is to be.
    """

    def __init__(self, uri: str) -> None:
        self.uri = str(storage.local_path(uri).absolute()) if storage.is_local(uri) else uri
        self._document = storage.join(self.uri, REGISTRY_FILE)
        self._tombstones = storage.join(self.uri, TOMBSTONES_FILE)

    def register(self, bundle_uri: str, evaluation: dict[str, Any]) -> ModelVersion:
        """Keep a bundle and its test metrics; the same version again changes nothing.

        Args:
            bundle_uri: A sealed bundle.
            evaluation: The content of its `evaluation.json`.

        Returns:
            The version, a candidate if it is new.

        Raises:
            DataError: The evaluation is of another version, or this version's bundle was deleted.
        """
        bundle = load(bundle_uri)
        self._refuse_deleted(bundle.version)
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

    def _refuse_deleted(self, version: str) -> None:
        known = self._read().versions.get(version)
        if known and known.deleted:
            raise DataError(
                f"version {version[:12]} was deleted from {self.uri}: {known.marks[-1].reason}",
                remedy="train again on the posters that are left",
            )

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
        return list(self._read().versions.values())

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
            UsageError: None or several versions match, or the new champion's bundle was deleted.
        """
        digest = self.get(version).version

        def change(state: _State) -> ModelVersion:
            moved = dataclasses.replace(state.versions[digest], stage=stage)
            if moved.deleted and stage is Stage.CHAMPION:
                raise UsageError(
                    f"the bundle of version {digest[:12]} was deleted", remedy="choose another one"
                )
            for other in list(state.versions.values()):
                rival = other.label_set == moved.label_set and other.version != digest
                if stage is Stage.CHAMPION and rival and other.stage is Stage.CHAMPION:
                    state.versions[other.version] = dataclasses.replace(other, stage=Stage.RETIRED)
                    state.events.append(_event(Stage.RETIRED, other.version, "a new champion"))
            state.versions[digest] = moved
            state.events.append(_event(stage, digest, reason))
            return moved

        return self._change(change)

    def mark(self, version: str, kind: MarkKind, reason: str, posters: int = 0) -> ModelVersion:
        """Say something of a version; the same again changes nothing.

        Args:
            version: Its digest, or the first digits of it.
            kind: What is said.
            reason: Why; a mark of the same kind and reason is only replaced by one of more posters.
            posters: How many posters it is about.

        Returns:
            The version as it now stands.

        Raises:
            UsageError: None or several versions match.
        """
        digest = self.get(version).version
        new = Mark(kind=kind, reason=reason, time=_now(), posters=posters)

        def change(state: _State) -> ModelVersion:
            entry = state.versions[digest]
            old = entry.marked(kind, reason)
            if old and old.posters >= posters:
                return entry
            marks = (*(mark for mark in entry.marks if mark is not old), new)
            state.versions[digest] = dataclasses.replace(entry, marks=marks)
            count = f" ({posters:,} posters)" if posters else ""
            state.events.append(_event(kind, digest, f"{reason}{count}"))
            return state.versions[digest]

        return self._change(change)

    def delete_bundle(self, version: str, reason: str) -> ModelVersion:
        """Delete a version's bundle whole; its entry stays, retired and marked.

        Args:
            version: Its digest, or the first digits of it.
            reason: Why, for the mark.

        Returns:
            The version as it now stands.

        Raises:
            UsageError: None or several versions match.
            InfrastructureError: Something of the bundle is still there.
        """
        entry = self.get(version)
        if entry.stage in (Stage.CHAMPION, Stage.CANDIDATE):
            self.move(entry.version, Stage.RETIRED, f"its bundle is deleted: {reason}")
        # First said, then done: whoever is killed in between leaves no entry without its bundle.
        if not entry.deleted:
            entry = self.mark(entry.version, MarkKind.DELETED, reason)
        place = storage.join(self.uri, "versions", entry.version)
        storage.remove(place)
        left = storage.list_files(place)
        if left:
            raise InfrastructureError(
                f"{place} still holds {left[0]}", remedy="check your rights there, and try again"
            )
        return entry

    def add_tombstones(self, poster_ids: Collection[str]) -> int:
        """Remember posters that were purged.

        Args:
            poster_ids: Their ids.

        Returns:
            How many are new.
        """
        new: set[str] = set()

        def add(data: bytes | None) -> bytes:
            known = self._parse_tombstones(data)
            new.clear()
            new.update(set(poster_ids) - known)
            if not new:
                return data or b""
            document = {
                "schema_version": TOMBSTONES_SCHEMA_VERSION,
                "poster_ids": sorted(known | new),
            }
            return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()

        storage.update(self._tombstones, add)
        return len(new)

    def tombstones(self) -> frozenset[str]:
        """Give the ids of the posters that were purged; servers leave them out of `similar`."""
        return self._parse_tombstones(storage.read_versioned(self._tombstones)[0])

    def _parse_tombstones(self, data: bytes | None) -> frozenset[str]:
        if data is None:
            return frozenset()
        document = parse_json(data, self._tombstones)
        check_schema_version(document, TOMBSTONES_SCHEMA_VERSION, self._tombstones)
        return frozenset(document["poster_ids"])

    def history(self) -> list[Event]:
        """Tell who did what, the oldest first."""
        return self._read().events

    def _read(self) -> _State:
        return self._parse(storage.read_versioned(self._document)[0])

    def _parse(self, data: bytes | None) -> _State:
        return _State() if data is None else _State.from_json(data, self._document)

    def _change(self, change: Callable[[_State], ModelVersion]) -> ModelVersion:
        """Apply a change to the newest state; again when another writer was faster."""
        results = []

        def apply(data: bytes | None) -> bytes:
            state = self._parse(data)
            results.append(change(state))
            return state.to_json()

        storage.update(self._document, apply)
        return results[-1]


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
