"""The model registry: immutable versions by digest, their stages, and where they come from.

There are two: files on a disk or in a bucket (`marquee.registry.files`), and Kubeflow's Model
Registry (`marquee.registry.kubeflow`).
"""

import enum
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from marquee import signing
from marquee.bundle import Bundle, load
from marquee.errors import DataError, UsageError
from marquee.processes import user_name


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
    verdict: str = ""
    """Where the verdict is that it was done on."""


class ModelRegistry(Protocol):
    """What a registry can do, on a laptop and on a cluster."""

    uri: str

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

    def move(self, version: str, stage: Stage, reason: str, verdict: str = "") -> ModelVersion:
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


def open_registry(uri: str) -> ModelRegistry:
    """Open a registry.

    Args:
        uri: A folder on a disk or in a bucket, or the address (http, https) of Kubeflow's Model
            Registry, whose bundles are kept at `$MARQUEE_MODELS`.
    """
    if is_kubeflow(uri):
        from marquee.registry.kubeflow import KubeflowRegistry

        return KubeflowRegistry(uri)
    from marquee.registry.files import FileRegistry

    return FileRegistry(uri)


def is_kubeflow(uri: str) -> bool:
    """Tell whether a registry is Kubeflow's, by its address."""
    return uri.startswith(("http://", "https://"))


def open_bundle(entry: ModelVersion) -> Bundle:
    """Fetch a registered bundle, and verify its sums and its signature.

    Args:
        entry: A version of a registry.

    Raises:
        Untrusted: Nobody who is trusted vouches for it.
        DataError: It was deleted, or is damaged.
    """
    if entry.deleted:
        raise DataError(
            f"the bundle of version {entry.version[:12]} was deleted: {entry.marks[-1].reason}",
            remedy="choose another one",
        )
    bundle = load(entry.uri, entry.version)
    signing.verify(bundle, entry.uri)
    return bundle


def copy(source: ModelRegistry, version: str, target: ModelRegistry) -> ModelVersion:
    """Copy a champion into another registry, as a candidate, with what is known of it.

    So a model goes from one environment to the next: the very files, by their digest. It is signed
    anew, by who copies it. The same again only brings marks and purged posters up to date.

    Args:
        source: Where it is the champion.
        version: Its whole digest.
        target: Where it goes.

    Returns:
        The version in the target.

    Raises:
        UsageError: The digest is not whole, or the version is not a champion.
        Untrusted: Nobody who is trusted vouches for it.
        DataError: It was deleted or is damaged, or was deleted from the target.
    """
    from marquee.registry.store import kept_evaluation

    entry = source.get(version)
    if entry.version != version:
        raise UsageError(
            f"{version!r} is not a whole digest: what goes to another registry is named in full",
            remedy=f"if {entry.version} is meant, say so",
        )
    if entry.stage is not Stage.CHAMPION:
        raise UsageError(
            f"version {version[:12]} is {entry.stage} in {source.uri}, not the champion",
            remedy="roll it out there first",
        )
    open_bundle(entry)
    if version not in [item.version for item in target.versions()]:
        target.register(entry.uri, kept_evaluation(entry.uri))
        reason = f"copied from {source.uri}, where it is the champion"
        target.move(version, Stage.CANDIDATE, reason)
    for mark in entry.marks:
        target.mark(version, mark.kind, mark.reason, mark.posters)
    target.add_tombstones(source.tombstones())
    return target.get(version)


def find(versions: Collection[str], version: str, where: str) -> str:
    """Find a version by its digest, or the first digits of it.

    Args:
        versions: The digests of those there are.
        version: What is looked for.
        where: The registry, for messages.

    Raises:
        UsageError: None or several match.
    """
    found = [item for item in versions if version and item.startswith(version)]
    if len(found) != 1:
        raise UsageError(
            f"{len(found)} versions in {where} start with {version!r}",
            remedy="give more of the digest",
        )
    return found[0]


def event(what: str, version: str, reason: str, verdict: str = "") -> Event:
    """Make a line of history: now, by the user of this process."""
    return Event(
        time=now(), who=user_name(), what=what, version=version, reason=reason, verdict=verdict
    )


def now() -> str:
    """Give the time as registries write it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
