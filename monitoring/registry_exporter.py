"""Gives Prometheus what the model registry knows: who is champion, how good, and since when.

Cardinality is bounded: the champion and the latest versions of each label set are named, all
others are counted.
"""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from marquee.registry import Event, ModelVersion, Stage, open_registry
from monitoring.cached import CachedCollector

logger = logging.getLogger(__name__)

_LATEST = 10
"""Versions of a label set that are named besides its champion."""
_PREFIX, _OF_GENRE = "test/", "test/ap/"
"""What the names of test metrics begin with."""

_FAMILIES = {
    "readable": ("Whether the model registry could be read (0 or 1).", ()),
    "versions": ("Registered versions by stage.", ("label_set", "stage")),
    "version_info": (
        "1 for the champion and the latest versions.",
        ("label_set", "model_version", "architecture", "stage"),
    ),
    "registered_timestamp_seconds": (
        "When a version was registered.",
        ("label_set", "model_version"),
    ),
    "score": ("Metrics on the test posters.", ("label_set", "model_version", "metric")),
    "genre_average_precision": (
        "Average precision on the test posters.",
        ("label_set", "model_version", "genre"),
    ),
    "event_timestamp_seconds": (
        "When something was last done in the registry, and with which version.",
        ("label_set", "event", "model_version"),
    ),
}

Put = Callable[..., None]


class RegistryCollector(CachedCollector):
    """Reads the registry.

    Args:
        uri: The registry.
    """

    def __init__(self, uri: str) -> None:
        super().__init__()
        self._uri = uri

    def read(self) -> list[Metric]:
        """Give what the registry says; if it cannot be read, only that."""
        return list(self._read().values())

    def _read(self) -> dict[str, GaugeMetricFamily]:
        try:
            registry = open_registry(self._uri)
            history = registry.history()
            # Read last: it has every version that history names.
            families = _families(registry.versions(), history)
        except Exception as error:  # storage and clients raise whatever they like
            logger.warning("the registry at %s cannot be read: %s", self._uri, error)
            families = _empty()
            families["readable"].add_metric([], 0)
        else:
            families["readable"].add_metric([], 1)
        return families


def _empty() -> dict[str, GaugeMetricFamily]:
    return {
        name: GaugeMetricFamily(f"marquee_registry_{name}", text, labels=labels)
        for name, (text, labels) in _FAMILIES.items()
    }


def _families(
    versions: Sequence[ModelVersion], history: Sequence[Event]
) -> dict[str, GaugeMetricFamily]:
    families = _empty()

    def put(name: str, value: float, *labels: str) -> None:
        families[name].add_metric(labels, value)

    for label_set in dict.fromkeys(entry.label_set for entry in versions):
        mine = [entry for entry in versions if entry.label_set == label_set]
        for stage in Stage:
            put("versions", sum(entry.stage is stage for entry in mine), label_set, stage)
        for entry in _named(mine):
            _add_version(put, entry)
    label_sets = {entry.version: entry.label_set for entry in versions}
    # The last one of a kind counts: history is in order of time.
    last = {(label_sets[event.version], event.what): event for event in history}
    for (label_set, what), event in last.items():
        put("event_timestamp_seconds", _seconds(event.time), label_set, what, event.version)
    return families


def _named(versions: Sequence[ModelVersion]) -> list[ModelVersion]:
    latest = versions[-_LATEST:]
    return [entry for entry in versions if entry.stage is Stage.CHAMPION or entry in latest]


def _add_version(put: Put, entry: ModelVersion) -> None:
    who = (entry.label_set, entry.version)
    put("version_info", 1, *who, entry.architecture, entry.stage)
    put("registered_timestamp_seconds", _seconds(entry.registered_at), *who)
    for name, value in entry.metrics.items():
        if name.startswith(_OF_GENRE):
            put("genre_average_precision", value, *who, name.removeprefix(_OF_GENRE))
        else:
            put("score", value, *who, name.removeprefix(_PREFIX))


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()
