"""What alerts and dashboards are made from: everything that Marquee exports."""

import base64
import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from bundles import tiny_bundle
from helpers import encode, noise_poster
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from promql import OF_PROMETHEUS
from servers import start_server

from benchmarks.simulated_drift import GENRES, World
from marquee.registry import Stage, open_registry
from monitoring.collect import Window
from monitoring.drift import Order, drift
from monitoring.exporter import exported as exporter_of


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """All series of a server that has answered, and of the exporter of a report and a registry."""
    folder = tmp_path_factory.mktemp("exported")
    found = {name: list(series) for name, series in OF_PROMETHEUS.items()}
    for text in (_of_server(folder), _of_exporter(folder)):
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found.setdefault(sample.name, []).append(sample.labels)
    return found


def _of_server(folder):
    bundle = tiny_bundle(folder / "served")
    server = start_server(bundle, folder / "log", "--records", folder / "served-records")
    try:
        poster = base64.b64encode(encode(noise_poster(1))).decode()
        server.predict(json.dumps({"instances": [{"image": {"b64": poster}}]})).raise_for_status()
        return server.get("/metrics").text
    finally:
        server.stop()


def _of_exporter(folder):
    profile = World().draw(5000, np.random.default_rng(1)).profile()
    bundle = tiny_bundle(
        folder / "bundle", genres=GENRES, label_set="all18", reference_profile=profile.to_document()
    )
    since = datetime(2026, 11, 1, tzinfo=UTC)
    window = Window(since=since, until=since + timedelta(days=1))
    drawn = World().draw(2000, np.random.default_rng(2))
    records = str(folder / "records")
    drawn.write(records, bundle.version, window.since, window.until)
    (folder / "truth.csv").write_text(drawn.truth())
    order = Order(
        records=records,
        bundle=str(bundle.folder),
        out=str(folder / "reports"),
        window=window,
        truth=str(folder / "truth.csv"),
        evidently=False,
    )
    drift(order)
    return generate_latest(exporter_of(order.out, _registry(folder).uri)).decode()


def _registry(folder):
    """A registry that has a version in each stage, with the metrics of an evaluation."""
    registry = open_registry(str(folder / "registry"))
    names = ("macro_map", "macro_f1", "micro_f1", "top1", "top3", "ece", "ap/Horror")
    for seed, stage in enumerate(Stage):
        bundle = tiny_bundle(folder / f"registered{seed}", seed=seed)
        metrics = {f"test/{name}": 0.5 for name in names}
        registry.register(str(bundle.folder), {"version": bundle.version, "metrics": metrics})
        if stage is not Stage.CANDIDATE:
            registry.move(bundle.version, stage, "a test")
    return registry
