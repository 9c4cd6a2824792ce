"""Kubeflow's Model Registry as ours: a registered model a label set, a version a bundle.

It knows neither stages nor signatures, so both are ours. What a label set's champion is, its
registered model's custom properties say. Lineage and metrics are custom properties of the version,
which are written once; its history and marks are documents of it, each of which is written once
too. So writers who come at the same time lose nothing, although the registry's updates replace all
properties of an object. Bundles lie in storage of their own (`$MARQUEE_MODELS`), and a version's
artifact names the immutable URI.
"""

import asyncio
import json
import os
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Collection, Coroutine, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Self
from urllib.parse import urlsplit

from marquee.bundle import load
from marquee.endpoint import MODEL_NAME
from marquee.errors import DataError, InfrastructureError, UsageError
from marquee.registry import Event, Mark, MarkKind, ModelVersion, Stage, event, find, now
from marquee.registry.store import BundleStore

_PREFIX = f"{MODEL_NAME}-"
_FORMAT, _FORMAT_VERSION = "marquee", "1"
_BUNDLE, _REGISTERED, _CONTENT = "bundle", "registered", "content"
_CHAMPION, _PROMOTION, _METRIC = "champion", "promotion", "metric/"
_LINEAGE = ("architecture", "label_set", "catalog_digest", "run", "code_version", "registered_at")
_PAGE = 100


@dataclass(frozen=True, kw_only=True)
class _Line:
    """A document of a version: an event, or a mark."""

    name: str
    at: int
    """Unix time in ns: an event's own time has seconds."""
    event: Event
    mark: Mark | None = None
    implied: bool = False
    """Whether it only tells what another version's promotion did to this one."""

    @classmethod
    def new(
        cls, event: Event, mark: Mark | None = None, name: str = "", after: "_Line | None" = None
    ) -> Self:
        """Make one of now, or of just after another one, under a name that nobody else writes."""
        name = name or f"{event.time} {uuid.uuid4().hex[:8]}"
        # Another machine's clock may be ahead of ours.
        at = max(time.time_ns(), after.at + 1) if after else time.time_ns()
        return cls(name=name, at=at, event=event, mark=mark)

    @classmethod
    def implied_by(cls, event: Event) -> Self:
        """Make one of what another version's promotion did."""
        return replace(cls.new(event), implied=True)

    @property
    def stage(self) -> Stage | None:
        """The stage that it moved its version to, if it did."""
        what = self.event.what
        return Stage(what) if what in list(Stage) and not self.implied else None

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        document = json.loads(text)
        mark = document["mark"]
        return cls(
            name=document["name"],
            at=document["at"],
            event=Event(**document["event"]),
            mark=Mark(**mark | {"kind": MarkKind(mark["kind"])}) if mark else None,
            implied=document["implied"],
        )


@dataclass(frozen=True)
class _Kept:
    """A version as the registry has it."""

    model: Any
    version: Any
    uri: str
    lines: tuple[_Line, ...]

    @property
    def promotion(self) -> _Line | None:
        """That which made it champion; none if another is, or it was moved elsewhere since.

        Nobody ever takes a champion's name away, for that might hit one that was named meanwhile.
        """
        properties = _properties(self.model)
        if properties.get(_CHAMPION) != self.version.name:
            return None
        line = _Line.from_json(properties[_PROMOTION])
        moved = [other for other in self.lines if other.stage and other.at > line.at]
        return None if moved else line

    @property
    def pending(self) -> _Line | None:
        """The promotion that made it champion, if whoever made it died before writing it down."""
        line = self.promotion
        return None if line is None or line.name in {o.name for o in self.lines} else line

    def entry(self) -> ModelVersion:
        properties = _properties(self.version)
        return ModelVersion(
            version=self.version.name,
            uri=self.uri,
            **{name: properties[name] for name in _LINEAGE},
            stage=self._stage(),
            metrics={
                name.removeprefix(_METRIC): float(value)
                for name, value in properties.items()
                if name.startswith(_METRIC)
            },
            marks=tuple(self._marks()),
        )

    def _stage(self) -> Stage:
        if self.promotion:
            return Stage.CHAMPION
        last = next((line.stage for line in reversed(self.lines) if line.stage), Stage.CANDIDATE)
        return Stage.RETIRED if last is Stage.CHAMPION else last

    def _marks(self) -> Iterator[Mark]:
        """Give the marks; of those with the same kind and reason, the last one."""
        marks = [line.mark for line in self.lines if line.mark]
        yield from {(mark.kind, mark.reason): mark for mark in marks}.values()


class KubeflowRegistry:
    """A registry at Kubeflow's Model Registry.

    Args:
        url: Its address, such as https://registry.example:443.
        models: Where bundles are kept; `$MARQUEE_MODELS` without it.

    Raises:
        UsageError: Nobody says where bundles are kept.
        InfrastructureError: It cannot be reached.
    """

    def __init__(self, url: str, models: str = "") -> None:
        self.uri = url
        place = models or os.environ.get("MARQUEE_MODELS", "")
        if not place:
            raise UsageError(
                "nobody says where bundles are kept",
                remedy="set MARQUEE_MODELS to a bucket or folder, such as gs://models/marquee",
            )
        self._store = BundleStore(place)
        client = _connect(url)
        # The public client can neither list artifacts nor add documents.
        self._api, self._runner = client._api, client.async_runner

    def register(self, bundle_uri: str, evaluation: dict[str, Any]) -> ModelVersion:
        """Keep a bundle and its test metrics, and sign it; the same again changes nothing."""
        bundle = load(bundle_uri)
        info = bundle.info
        model = self._ensure_model(info.label_set)
        known = self._find_version(model, bundle.version)
        if known:
            self._refuse_deleted(self._kept(model, known).entry())
        target = self._store.keep(bundle, evaluation)
        lineage = {
            "architecture": info.architecture,
            "label_set": info.label_set,
            "catalog_digest": info.catalog_digest,
            "run": info.run,
            "code_version": info.code_version,
            "registered_at": now(),
            **{f"{_METRIC}{name}": float(v) for name, v in evaluation["metrics"].items()},
        }
        version = known or self._ensure_version(model, bundle.version, lineage)
        self._ensure_bundle(version, target, info.run, info.architecture)
        registered = event("registered", bundle.version, f"run {info.run}")
        kept = self._kept(model, version)
        if not kept.lines:
            self._write(version, _Line.new(registered, name=_REGISTERED), target)
        return self._kept(model, version).entry()

    def _refuse_deleted(self, known: ModelVersion) -> None:
        if known.deleted:
            raise DataError(
                f"version {known.version[:12]} was deleted from {self.uri}: "
                f"{known.marks[-1].reason}",
                remedy="train again on the posters that are left",
            )

    def get(self, version: str) -> ModelVersion:
        """Find a version."""
        return self._get(version).entry()

    def versions(self) -> list[ModelVersion]:
        """List all versions, the oldest first."""
        found = [self._kept(*item).entry() for item in self._listed().values()]
        return sorted(found, key=lambda entry: entry.registered_at)

    def champion(self, label_set: str) -> ModelVersion | None:
        """Find the champion of a label set."""
        kept = self._champion(label_set)
        return kept.entry() if kept else None

    def move(self, version: str, stage: Stage, reason: str, verdict: str = "") -> ModelVersion:
        """Put a version into a stage; a new champion retires the old one of its label set."""
        kept = self._get(version)
        if stage is Stage.CHAMPION:
            self._promote(kept, reason, verdict)
        else:
            said = event(stage, kept.version.name, reason, verdict)
            line = _Line.new(said, after=kept.promotion)
            self._write(kept.version, line, kept.uri)
        return self.get(kept.version.name)

    def _promote(self, kept: _Kept, reason: str, verdict: str) -> None:
        entry = kept.entry()
        if entry.deleted:
            raise UsageError(
                f"the bundle of version {entry.version[:12]} was deleted",
                remedy="choose another one",
            )
        old = self._champion(entry.label_set)
        replaced = old if old and old.version.name != entry.version else None
        retired = replaced and _Line.implied_by(
            event(Stage.RETIRED, replaced.version.name, "a new champion")
        )
        line = _Line.new(event(Stage.CHAMPION, entry.version, reason, verdict))
        self._crown(kept, line)
        if replaced and retired:
            self._write(replaced.version, retired, replaced.uri)
        self._write(kept.version, line, kept.uri)

    def _crown(self, kept: _Kept, promotion: _Line) -> None:
        """Say who the champion is and by which promotion, in one write; whoever comes last is."""
        model = self._find_model(kept.model.name)
        champion = self._champion_of(model)
        if champion and champion.pending:
            self._write(champion.version, champion.pending, champion.uri)
        model.custom_properties = {
            **_properties(model),
            _CHAMPION: kept.version.name,
            _PROMOTION: promotion.to_json(),
        }
        self._call(self._api.upsert_registered_model, model)

    def mark(self, version: str, kind: MarkKind, reason: str, posters: int = 0) -> ModelVersion:
        """Say something of a version; the same again changes nothing."""
        kept = self._get(version)
        old = kept.entry().marked(kind, reason)
        if old and old.posters >= posters:
            return kept.entry()
        mark = Mark(kind=kind, reason=reason, time=now(), posters=posters)
        count = f" ({posters:,} posters)" if posters else ""
        line = _Line.new(event(kind, kept.version.name, f"{reason}{count}"), mark)
        self._write(kept.version, line, kept.uri)
        return self.get(kept.version.name)

    def delete_bundle(self, version: str, reason: str) -> ModelVersion:
        """Delete a version's bundle whole; its entry stays, retired and marked."""
        entry = self.get(version)
        if entry.stage in (Stage.CHAMPION, Stage.CANDIDATE):
            self.move(entry.version, Stage.RETIRED, f"its bundle is deleted: {reason}")
        if not entry.deleted:
            self.mark(entry.version, MarkKind.DELETED, reason)
        self._store.delete(entry.version)
        return self.get(entry.version)

    def add_tombstones(self, poster_ids: Collection[str]) -> int:
        """Remember posters that were purged; give how many are new."""
        return self._store.add_tombstones(poster_ids)

    def tombstones(self) -> frozenset[str]:
        """Give the ids of the posters that were purged."""
        return self._store.tombstones()

    def history(self) -> list[Event]:
        """Tell who did what, the oldest first."""
        lines = [
            line
            for item in self._listed().values()
            for kept in [self._kept(*item)]
            for line in (*kept.lines, *filter(None, [kept.pending]))
        ]
        return [line.event for line in sorted(lines, key=lambda line: line.at)]

    def _get(self, version: str) -> _Kept:
        listed = self._listed()
        return self._kept(*listed[find(listed, version, self.uri)])

    def _champion(self, label_set: str) -> _Kept | None:
        model = self._find_model(f"{_PREFIX}{label_set}")
        return self._champion_of(model) if model else None

    def _champion_of(self, model: Any) -> _Kept | None:
        name = _properties(model).get(_CHAMPION)
        version = self._find_version(model, name) if name else None
        kept = self._kept(model, version) if version else None
        return kept if kept and kept.promotion else None

    def _listed(self) -> dict[str, tuple[Any, Any]]:
        """Give all versions by name, each behind its registered model."""
        models = [
            model
            for model in self._pages(self._api.get_registered_models)
            if model.name.startswith(_PREFIX)
        ]
        return {
            version.name: (model, version)
            for model in models
            for version in self._pages(self._api.get_model_versions, model.id)
        }

    def _kept(self, model: Any, version: Any) -> _Kept:
        artifacts = list(self._pages(self._api.get_model_version_artifacts, version.id))
        uri = next((item.uri for item in artifacts if item.name == _BUNDLE), "")
        # Others may have put artifacts there as well.
        texts = [_properties(item)[_CONTENT] for item in artifacts if _CONTENT in _properties(item)]
        lines = sorted(map(_Line.from_json, texts), key=lambda line: line.at)
        return _Kept(model, version, uri, tuple(lines))

    def _find_model(self, name: str) -> Any:
        return self._call(self._api.get_registered_model_by_params, name)

    def _find_version(self, model: Any, version: str) -> Any:
        return self._call(self._api.get_model_version_by_params, model.id, version)

    def _ensure_model(self, label_set: str) -> Any:
        from model_registry.types import RegisteredModel

        name = f"{_PREFIX}{label_set}"
        return self._ensure(
            lambda: self._find_model(name),
            lambda: self._call(
                self._api.upsert_registered_model, RegisteredModel(name=name, owner="marquee")
            ),
        )

    def _ensure_version(self, model: Any, version: str, lineage: dict[str, Any]) -> Any:
        from model_registry.types import ModelVersion as Version

        made = Version(name=version, author=lineage["run"], custom_properties=lineage)
        return self._ensure(
            lambda: self._find_version(model, version),
            lambda: self._call(self._api.upsert_model_version, made, model.id),
        )

    def _ensure_bundle(self, version: Any, uri: str, run: str, architecture: str) -> None:
        from model_registry.types import ModelArtifact

        made = ModelArtifact(
            name=_BUNDLE,
            uri=uri,
            model_format_name=_FORMAT,
            model_format_version=_FORMAT_VERSION,
            model_source_kind="kfp",
            model_source_class="pipelinerun",
            model_source_id=run,
            model_source_name=architecture,
        )
        self._ensure(
            lambda: self._call(self._api.get_model_artifact_by_params, _BUNDLE, version.id),
            lambda: self._call(self._api.upsert_model_version_artifact, made, version.id),
        )

    def _ensure(self, look: Callable[[], Any], make: Callable[[], Any]) -> Any:
        """Make something unless it is there; another writer may make it just then."""
        found = look()
        if found is not None:
            return found
        try:
            return make()
        except InfrastructureError:
            found = look()
            if found is None:
                raise
            return found

    def _write(self, version: Any, line: _Line, uri: str) -> None:
        from model_registry.types import DocArtifact

        document = DocArtifact(
            name=line.name, uri=uri, custom_properties={_CONTENT: line.to_json()}
        )
        self._call(self._api.upsert_model_version_artifact, document, version.id)

    def _pages(self, ask: Callable[..., Any], *arguments: Any) -> Iterator[Any]:
        from model_registry.types import ListOptions

        options = ListOptions(limit=_PAGE)
        while True:
            yield from self._call(ask, *arguments, options)
            if not options.next_page_token:
                return

    def _call(self, ask: Callable[..., Coroutine[Any, Any, Any]], *arguments: Any) -> Any:
        from mr_openapi.exceptions import OpenApiException

        try:
            return self._runner(ask(*arguments))
        except (OpenApiException, OSError) as error:
            raise InfrastructureError(
                f"the model registry at {self.uri} did not do as told ({error})",
                remedy="check its address and log",
            ) from error


def _connect(url: str) -> Any:
    from model_registry import ModelRegistry

    parts = urlsplit(url)
    secure = parts.scheme == "https"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is no token: not every registry wants one
        try:
            return ModelRegistry(
                f"{parts.scheme}://{parts.hostname}",
                parts.port or (443 if secure else 80),
                author="marquee",
                is_secure=secure,
                async_runner=_own_loop(),
            )
        except Exception as error:  # the client raises whatever its HTTP library does
            raise InfrastructureError(
                f"the model registry at {url} cannot be used ({error})",
                remedy="check the address; a secure one wants a token, in the file that "
                "KF_PIPELINES_SA_TOKEN_PATH names",
            ) from error


def _own_loop() -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Give what runs the client's coroutines: by itself it would change asyncio for everybody."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="model registry", daemon=True).start()

    def run(work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result()

    return run


def _properties(item: Any) -> dict[str, Any]:
    return dict(item.custom_properties or {})
