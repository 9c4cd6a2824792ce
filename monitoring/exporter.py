"""Gives Prometheus the latest drift report of each model, and the requests to train again.

Cardinality is bounded: a series for each genre and each era, and one for each thing that is
measured in all posters, whatever the traffic. What drifts in one genre of one era is in the report.
"""

import logging
import signal
import threading
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import Any

from prometheus_client import CollectorRegistry, Info, Metric, start_http_server
from prometheus_client.core import GaugeMetricFamily

from marquee import __version__
from marquee.errors import DataError
from marquee.verdict import Outcome
from monitoring.archive import documents, reports_folder
from monitoring.cached import CachedCollector
from monitoring.registry_exporter import RegistryCollector
from monitoring.retrain import Status, read_requests

logger = logging.getLogger(__name__)

_LAST = 60
"""How many reports are read: those of some models, and back to when films' genres are known."""
_GENRE, _ERA = "probability", "unsure"
"""What is said of each genre and of each era: how far probabilities moved, or unsure answers."""


class DriftCollector(CachedCollector):
    """Reads the latest reports.

    Args:
        out: The folder of all reports, or of all monitoring runs.
    """

    def __init__(self, out: str) -> None:
        super().__init__()
        self._out = out

    def read(self) -> list[Metric]:
        """Give what the latest report of each model says, and the latest one that knows truth."""
        # Which of the two folders it is shows only once there is a report.
        out, families = reports_folder(self._out), _families()
        for document in latest_reports(out).values():
            _add(families, document)
        for document in latest_reports(out, labelled=True).values():
            _add_truth(families, document)
        return [*families.values(), *self._requests(out)]

    def _requests(self, out: str) -> Iterator[Metric]:
        family = GaugeMetricFamily(
            "marquee_retraining_requests", "Requests to train again by status.", labels=["status"]
        )
        try:
            requests = read_requests(out)
        except DataError as error:
            logger.warning("requests to train cannot be read: %s", error)
            return
        for status in Status:
            family.add_metric([status], sum(item.status is status for item in requests))
        yield family


def latest_reports(out: str, *, labelled: bool = False) -> dict[str, dict[str, Any]]:
    """Read the latest report of each model that the last windows are about.

    Args:
        out: The folder of all reports.
        labelled: Only of windows some of whose films' genres are known.

    Returns:
        Model version to the content of `drift.json`.
    """
    found: dict[str, dict[str, Any]] = {}
    for document in islice(documents(out), _LAST):
        if document["counted"]["labelled"] or not labelled:
            found.setdefault(document["version"], document)
    return found


def _families() -> dict[str, GaugeMetricFamily]:
    said = {
        "share": ("Share of the slices that drift (0..1).", ()),
        "predictions": ("Predictions in the latest window.", ()),
        "labelled_predictions": ("Those of them whose film's genres are known.", ()),
        "window_end_timestamp_seconds": ("When the latest window ended.", ()),
        "worse_causes": (
            "Causes for which the model is less often right, in the latest window with truth.",
            (),
        ),
        "labelled_window_end_timestamp_seconds": ("When that window ended.", ()),
        "outcome": ("1 for what the report says.", ("outcome",)),
        "causes": ("Causes of drift by kind.", ("kind",)),
        "slices": ("Slices that were looked at.", ("kind",)),
        "insufficient_slices": ("Slices with too few posters to be judged.", ("kind",)),
        "effect": ("How far something moved in all posters.", ("kind", "what")),
        "genre_effect": ("How far a genre's probabilities moved (0..1).", ("genre",)),
        "genre_average_precision": ("By genre, the prior held fixed.", ("genre",)),
        "era_effect": ("How far the share of unsure answers moved.", ("era",)),
        "era_predictions": ("Predictions by era.", ("era",)),
    }
    return {
        name: GaugeMetricFamily(f"marquee_drift_{name}", text, labels=("model_version", *labels))
        for name, (text, labels) in said.items()
    }


def _add(families: dict[str, GaugeMetricFamily], document: dict[str, Any]) -> None:
    version, until = document["version"], datetime.fromisoformat(document["until"])

    def put(name: str, value: float, *labels: str) -> None:
        families[name].add_metric([version, *labels], value)

    put("share", document["drift_share"])
    put("predictions", document["counted"]["records"])
    put("labelled_predictions", document["counted"]["labelled"])
    put("window_end_timestamp_seconds", until.timestamp())
    for outcome in Outcome:
        put("outcome", float(document["outcome"] == outcome), outcome)
    findings = document["findings"]
    for kind in dict.fromkeys(finding["kind"] for finding in findings):
        mine = [finding for finding in findings if finding["kind"] == kind]
        put("causes", sum(cause["kind"] == kind for cause in document["causes"]), kind)
        put("slices", len(mine), kind)
        short = sum(finding["state"] == "insufficient" for finding in mine)
        put("insufficient_slices", short, kind)
    for finding in findings:
        _add_finding(put, finding)


def _add_truth(families: dict[str, GaugeMetricFamily], document: dict[str, Any]) -> None:
    version, until = document["version"], datetime.fromisoformat(document["until"])
    worse = sum(bool(cause.get("worse")) for cause in document["causes"])
    families["worse_causes"].add_metric([version], worse)
    families["labelled_window_end_timestamp_seconds"].add_metric([version], until.timestamp())
    for finding in document["findings"]:
        if finding["what"] == "average precision" and finding["effect"] is not None:
            family = families["genre_average_precision"]
            family.add_metric([version, finding["genre"]], finding["after"])


def _add_finding(put: Any, finding: dict[str, Any]) -> None:
    if finding["effect"] is None:
        return
    what, genre, era = finding["what"], finding["genre"], finding["era"]
    if not genre and not era:
        put("effect", finding["effect"], finding["kind"], what)
    elif what == _GENRE and not era:
        put("genre_effect", finding["effect"], genre)
    elif what == _ERA:
        put("era_effect", finding["effect"], era)
        put("era_predictions", finding["window"], era)


def exported(out: str, registry_uri: str = "") -> CollectorRegistry:
    """Give all that is exported.

    Args:
        out: The folder of all reports.
        registry_uri: The model registry; nothing is said of it without.
    """
    registry = CollectorRegistry()
    registry.register(DriftCollector(out))
    if registry_uri:
        registry.register(RegistryCollector(registry_uri))
    # There whatever the reports hold: its absence tells that the exporter is gone.
    Info("marquee_exporter", "What exports this.", registry=registry).info({"marquee": __version__})
    return registry


def serve_metrics(out: str, host: str, port: int, registry_uri: str = "") -> None:
    """Serve the metrics until SIGTERM.

    Args:
        out: The folder of all reports.
        host: The address to listen on.
        port: The port to listen on.
        registry_uri: The model registry; nothing is said of it without.
    """
    registry = exported(out, registry_uri)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    server, _ = start_http_server(port, host, registry)
    logger.info("metrics at http://%s:%d/metrics", host, port)
    stopped.wait()
    server.shutdown()
