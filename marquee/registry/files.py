"""The file-backed registry: on a disk or in a bucket.

It keeps, below one URI::

    registry.json            versions with stages and marks, history; replaced atomically
    ...                      what `marquee.registry.store` keeps
"""

import dataclasses
import json
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from marquee import storage
from marquee.bundle import load
from marquee.contract import check_schema_version, parse_json
from marquee.errors import DataError, UsageError
from marquee.registry import Event, Mark, MarkKind, ModelVersion, Stage, event, find, now
from marquee.registry.store import BundleStore

SCHEMA_VERSION = 3
REGISTRY_FILE = "registry.json"


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
        self._store = BundleStore(self.uri)

    def register(self, bundle_uri: str, evaluation: dict[str, Any]) -> ModelVersion:
        """Keep a bundle and its test metrics, and sign it; the same again changes nothing.

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
        target = self._store.keep(bundle, evaluation)
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
            registered_at=now(),
        )

        def add(state: _State) -> ModelVersion:
            if entry.version not in state.versions:
                state.versions[entry.version] = entry
                state.events.append(event("registered", entry.version, f"run {entry.run}"))
            return state.versions[entry.version]

        return self._change(add)

    def _refuse_deleted(self, version: str) -> None:
        known = self._read().versions.get(version)
        if known and known.deleted:
            raise DataError(
                f"version {version[:12]} was deleted from {self.uri}: {known.marks[-1].reason}",
                remedy="train again on the posters that are left",
            )

    def get(self, version: str) -> ModelVersion:
        """Find a version.

        Args:
            version: Its digest, or the first digits of it.

        Raises:
            UsageError: None or several match.
        """
        versions = self._read().versions
        return versions[find(versions, version, self.uri)]

    def versions(self) -> list[ModelVersion]:
        """List all versions, the oldest first."""
        return list(self._read().versions.values())

    def champion(self, label_set: str) -> ModelVersion | None:
        """Find the champion of a label set."""
        for item in self.versions():
            if item.label_set == label_set and item.stage is Stage.CHAMPION:
                return item
        return None

    def move(self, version: str, stage: Stage, reason: str, verdict: str = "") -> ModelVersion:
        """Put a version into a stage; a new champion retires the old one of its label set.

        Args:
            version: Its digest, or the first digits of it.
            stage: Where to.
            reason: Why, for the history; such as a verdict's sentence.
            verdict: Where the verdict is.

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
                    state.events.append(event(Stage.RETIRED, other.version, "a new champion"))
            state.versions[digest] = moved
            state.events.append(event(stage, digest, reason, verdict))
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
        new = Mark(kind=kind, reason=reason, time=now(), posters=posters)

        def change(state: _State) -> ModelVersion:
            entry = state.versions[digest]
            old = entry.marked(kind, reason)
            if old and old.posters >= posters:
                return entry
            marks = (*(mark for mark in entry.marks if mark is not old), new)
            state.versions[digest] = dataclasses.replace(entry, marks=marks)
            count = f" ({posters:,} posters)" if posters else ""
            state.events.append(event(kind, digest, f"{reason}{count}"))
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
        self._store.delete(entry.version)
        return entry

    def add_tombstones(self, poster_ids: Collection[str]) -> int:
        """Remember posters that were purged; give how many are new."""
        return self._store.add_tombstones(poster_ids)

    def tombstones(self) -> frozenset[str]:
        """Give the ids of the posters that were purged; servers leave them out of `similar`."""
        return self._store.tombstones()

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
