"""A cluster's traffic as Prometheus has it; a server of ours answers its queries."""

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from components.rollout.backends.inference_service import Mode
from components.rollout.backends.prometheus import COUNTERS, Prometheus
from marquee.errors import InfrastructureError

SELECTOR = re.compile(r"^(?P<name>\w+)\{(?P<labels>.*)\}\[(?P<window>\d+)s\]$")
MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"([^"]*)"')


class Store:
    """Series, each with its labels and samples, and as much of PromQL as is asked for."""

    def __init__(self):
        self.series, self.asked = [], []

    def add(self, name, samples, **labels):
        self.series.append(({"__name__": name, **labels}, samples))

    def query(self, text, moment):
        self.asked.append(text)
        found = SELECTOR.match(text)
        wanted = [("__name__", "=", found["name"]), *MATCHER.findall(found["labels"])]
        since = moment - int(found["window"])
        return [
            {"metric": labels, "values": [[t, str(v)] for t, v in samples if since < t <= moment]}
            for labels, samples in self.series
            if all(self.matches(labels.get(key, ""), *rest) for key, *rest in wanted)
        ]

    @staticmethod
    def matches(value, operator, wanted):
        same = bool(re.fullmatch(wanted, value)) if "~" in operator else value == wanted
        return same is not operator.startswith("!")


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def url(store):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            import json

            query = parse_qs(urlsplit(self.path).query)
            result = store.query(query["query"][0], float(query["time"][0]))
            body = json.dumps({"status": "success", "data": {"result": result}}).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def steps(*values, begin=1_000, every=15):
    return [(begin + every * number, value) for number, value in enumerate(values)]


def prometheus(url, mode):
    return Prometheus(url, "films", COUNTERS[mode])


KNATIVE = {"kn_revision_name": "posters-00002", "k8s_namespace_name": "films"}
OLD = {"revision_name": "posters-00002", "namespace_name": "films"}
ISTIO = {
    "reporter": "source",
    "destination_service_name": "posters-00002",
    "destination_service_namespace": "films",
}


def add_knative(store):
    name = "http_server_request_duration_seconds"
    for code, counts in (("200", (0, 90, 180)), ("500", (0, 10, 20))):
        store.add(f"{name}_count", steps(*counts), http_response_status_code=code, **KNATIVE)
    for bound, counts in (("0.05", (0, 45, 90)), ("0.1", (0, 90, 180)), ("+Inf", (0, 90, 180))):
        labels = {"le": bound, "http_response_status_code": "200", **KNATIVE}
        store.add(f"{name}_bucket", steps(*counts), **labels)
    store.add(f"{name}_count", steps(0, 500, 900), http_response_status_code="200",
              kn_revision_name="another", k8s_namespace_name="films")  # fmt: skip


def add_old_knative(store):
    for code, counts in (("2xx", (0, 90, 180)), ("5xx", (0, 10, 20))):
        store.add("revision_request_count", steps(*counts), response_code_class=code, **OLD)
    for bound, counts in (("50", (0, 45, 90)), ("100", (0, 90, 180)), ("+Inf", (0, 90, 180))):
        labels = {"le": bound, "response_code_class": "2xx", **OLD}
        store.add("revision_request_latencies_bucket", steps(*counts), **labels)


def add_istio(store):
    for reporter in ("source", "destination"):
        place = ISTIO | {"reporter": reporter}
        for code, counts in (("200", (0, 90, 180)), ("503", (0, 6, 12)), ("0", (0, 4, 8))):
            store.add("istio_requests_total", steps(*counts), response_code=code, **place)
        for bound, counts in (("50", (0, 45, 90)), ("100", (0, 90, 180)), ("+Inf", (0, 90, 180))):
            labels = {"le": bound, "response_code": "200", **place}
            store.add("istio_request_duration_milliseconds_bucket", steps(*counts), **labels)


@pytest.mark.parametrize(
    ("mode", "add"),
    [(Mode.KNATIVE, add_knative), (Mode.KNATIVE, add_old_knative), (Mode.STANDARD, add_istio)],
)
def test_each_source_of_traffic_is_counted_once(store, url, mode, add):
    add(store)
    traffic = prometheus(url, mode).traffic("posters-00002", 1_010, 1_041, lenient=False)
    assert (traffic.requests, traffic.errors) == (200, 20)
    assert traffic.latencies.total == 180
    assert traffic.latencies.quantile(0.25) == pytest.approx(25, rel=0.1)
    assert traffic.latencies.quantile(0.75) == pytest.approx(75, rel=0.1)


def test_stretches_that_follow_each_other_count_everything_once(store, url):
    add_istio(store)
    counted = [
        prometheus(url, Mode.STANDARD).traffic("posters-00002", since, since + 7, lenient=False)
        for since in range(1_000, 1_056, 7)
    ]
    assert sum(traffic.requests for traffic in counted) == 200


def test_a_pod_that_starts_anew_counts_from_nothing(store, url):
    store.add("istio_requests_total", steps(50, 70, 5, 9), response_code="200", **ISTIO)
    traffic = prometheus(url, Mode.STANDARD).traffic("posters-00002", 1_011, 1_060, lenient=False)
    assert traffic.requests == 20 + 5 + 4


def test_coarse_buckets_do_not_speak_against_a_canary(store, url):
    """48 and 53 ms lie in two buckets, of which one is twice as long as the other."""
    for target, counts in (
        ("old", ((25, 0), (50, 100), (100, 100))),
        ("new", ((50, 0), (100, 100))),
    ):
        for bound, count in counts:
            store.add(
                "istio_request_duration_milliseconds_bucket", steps(0, count), le=str(bound),
                response_code="200", **ISTIO | {"destination_service_name": target},
            )  # fmt: skip
    source = prometheus(url, Mode.STANDARD)
    old = source.traffic("old", 1_010, 1_041, lenient=False).latencies.quantile(0.5)
    new = source.traffic("new", 1_010, 1_041, lenient=True).latencies.quantile(0.5)
    assert new < 1.5 * old


def test_nothing_went_to_nobody(store, url):
    assert prometheus(url, Mode.KNATIVE).traffic("", 0, 10, lenient=False).requests == 0
    assert store.asked == []


def test_a_server_that_is_away_is_a_fault_of_the_place():
    source = prometheus("http://127.0.0.1:9", Mode.STANDARD)
    with pytest.raises(InfrastructureError, match="Prometheus at"):
        source.traffic("posters", 0, 10, lenient=False)
