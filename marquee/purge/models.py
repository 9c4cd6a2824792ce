"""Models that were trained on posters that go: found, marked in the registry, deleted."""

import dataclasses
import logging
from dataclasses import dataclass

from marquee.bundle import forget_fetched
from marquee.errors import DataError
from marquee.lineage import read_training_posters
from marquee.purge.choice import Gone
from marquee.registry import MarkKind, ModelRegistry, ModelVersion

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class MarkedModel:
    """A model that was trained on posters that go."""

    version: str
    architecture: str
    label_set: str
    stage: str
    """Where it stood before the purge."""
    posters: int
    """How many of its posters are purged; see `marquee.registry.Mark`."""
    deleted: bool = False
    """Whether its bundle was deleted."""


def trained_on(registry: ModelRegistry, gone: Gone) -> list[MarkedModel]:
    """Find the models that were trained on what goes.

    Args:
        registry: Where to look.
        gone: What goes.
    """
    if not gone.poster_ids:
        return []
    purged = gone.poster_ids | registry.tombstones()
    found = []
    for entry in registry.versions():
        posters = 0 if entry.deleted else _count(entry, gone, purged)
        found += [_model(entry, posters)] if posters else []
    return found


def _count(entry: ModelVersion, gone: Gone, purged: frozenset[str]) -> int:
    """Count a version's posters that are purged, now or earlier; 0 if none of them goes now."""
    try:
        trained = read_training_posters(entry.uri)
    except DataError as error:
        logger.warning("purge: nobody can tell what trained %s: %s", entry.version[:12], error)
        return len(gone.poster_ids)
    if trained is None:
        return len(gone.poster_ids) if entry.catalog_digest in gone.digests else 0
    names = trained["poster_id"]
    return int(names.isin(purged).sum()) if names.isin(gone.poster_ids).any() else 0


def _model(entry: ModelVersion, posters: int) -> MarkedModel:
    return MarkedModel(
        version=entry.version,
        architecture=entry.architecture,
        label_set=entry.label_set,
        stage=entry.stage,
        posters=posters,
    )


def mark(registry: ModelRegistry, gone: Gone, reason: str) -> tuple[list[MarkedModel], int]:
    """Mark the models that were trained on what goes, and set the tombstones.

    Args:
        registry: Where the models are.
        gone: What goes.
        reason: What the marks say.

    Returns:
        The models, and how many tombstones are new.
    """
    models = trained_on(registry, gone)
    tombstones = registry.add_tombstones(gone.poster_ids)
    for model in models:
        registry.mark(model.version, MarkKind.PURGED, reason, model.posters)
    return models, tombstones


def delete_bundles(
    registry: ModelRegistry, models: list[MarkedModel], reason: str
) -> list[MarkedModel]:
    """Delete the bundles of the models that were marked for a reason, in this purge or earlier.

    Args:
        registry: Where the models are.
        models: Those that this purge marked.
        reason: What the marks say.

    Returns:
        These models and those that were marked earlier, as they are now; models whose bundles
        an earlier purge deleted are left out.
    """
    found = {model.version: model for model in models}
    for entry in registry.versions():
        if not entry.marked(MarkKind.PURGED, reason):
            continue
        # Once more where it was said already: whoever said it may have been killed before doing it.
        registry.delete_bundle(entry.version, reason)
        forget_fetched(entry.version)
        if not entry.deleted:
            known = entry.marked(MarkKind.PURGED, reason)
            model = found.get(entry.version) or _model(entry, known.posters if known else 0)
            found[entry.version] = dataclasses.replace(model, deleted=True)
    return list(found.values())
