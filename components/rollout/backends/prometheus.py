"""Traffic of a cluster's models, as Prometheus has it from the mesh or from Knative's queue proxy.

The model servers' own metrics do not count: a pod that crashed tells nothing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import requests

from components.rollout.backends.inference_service import Mode
from components.rollout.evidence import BOUNDS_MS, Latencies, Traffic
from marquee.errors import InfrastructureError

_TIMEOUT = 10.0
_LAG_SECONDS = 10.0
"""How long ago a stretch of time ends: samples take a moment to be there."""
_LOOK_BACK_SECONDS = 300.0
"""How long before a stretch the last sample may be: as long as Prometheus takes one for fresh."""

Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Counters:
    """PromQL selectors of counters; `$target` and `$namespace` are replaced."""

    requests: str
    errors: str
    buckets: str
    """Of a histogram, by `le`, of the requests without an error."""
    unit_ms: float = 1.0
    """What `le` is in, in ms."""


_OLD_REVISION = 'revision_name="$target",namespace_name="$namespace"'
_REVISION = 'kn_revision_name="$target",k8s_namespace_name="$namespace"'
# A sidecar before the model server would count what the gateway has counted already.
_SERVICE = (
    'reporter="source",destination_service_name="$target",'
    'destination_service_namespace="$namespace"'
)
COUNTERS: Mapping[Mode, Sequence[Counters]] = {
    Mode.KNATIVE: (
        Counters(
            requests=f"http_server_request_duration_seconds_count{{{_REVISION}}}",
            errors=f"http_server_request_duration_seconds_count{{{_REVISION},"
            'http_response_status_code=~"5.."}',
            buckets=f"http_server_request_duration_seconds_bucket{{{_REVISION},"
            'http_response_status_code!~"5.."}',
            unit_ms=1000.0,
        ),
        Counters(
            requests=f"revision_request_count{{{_OLD_REVISION}}}",
            errors=f'revision_request_count{{{_OLD_REVISION},response_code_class="5xx"}}',
            buckets=f"revision_request_latencies_bucket{{{_OLD_REVISION},"
            'response_code_class!="5xx"}',
        ),
    ),
    Mode.STANDARD: (
        Counters(
            requests=f"istio_requests_total{{{_SERVICE}}}",
            errors=f'istio_requests_total{{{_SERVICE},response_code=~"5..|0"}}',
            buckets=f"istio_request_duration_milliseconds_bucket{{{_SERVICE},"
            'response_code!~"5..|0"}',
        ),
    ),
}
"""What counts requests in each mode. Knative's queue proxy has other metrics from 1.19 on than
before; where one kind is, the other is not."""


class Prometheus:
    """A Prometheus server.

    Args:
        url: Such as http://prometheus.monitoring:9090.
        namespace: Of the InferenceService.
        counters: What to ask it for; what there is of it counts.
    """

    def __init__(self, url: str, namespace: str, counters: Sequence[Counters]) -> None:
        self._url = url.rstrip("/")
        self._namespace = namespace
        self._counters = counters

    def traffic(self, target: str, since: float, until: float, *, lenient: bool) -> Traffic:
        """Give what went to a target in a stretch of time.

        Stretches that follow each other count everything once, whatever the scrape interval is:
        an increase belongs to the moment of the sample that shows it. (PromQL's `increase` needs
        two samples in the stretch, and leaves out what is between stretches.)

        Args:
            target: The revision or Service; nothing went to none.
            since: Unix time; so is `until`.
            until: The end.
            lenient: Take each latency for the shortest that its bucket may hold, instead of
                spreading a bucket evenly: what is coarse shall not speak against a canary.
        """
        found = Traffic()
        for counters in self._counters if target else ():
            found += self._counted(counters, target, since, until, lenient)
        return found

    def _counted(
        self, counters: Counters, target: str, since: float, until: float, lenient: bool
    ) -> Traffic:
        stretch = (since - _LAG_SECONDS, until - _LAG_SECONDS)
        asked, failed = (
            sum(self._increases(counter, target, *stretch).values())
            for counter in (counters.requests, counters.errors)
        )
        buckets: dict[float, float] = {}
        for labels, value in self._increases(counters.buckets, target, *stretch).items():
            bound = float(dict(labels)["le"]) * counters.unit_ms
            buckets[bound] = buckets.get(bound, 0.0) + value
        return Traffic(
            requests=round(asked),
            errors=min(round(failed), round(asked)),
            latencies=_latencies(buckets, lenient),
        )

    def _increases(
        self, counter: str, target: str, since: float, until: float
    ) -> dict[Labels, float]:
        """Give by how much each series of a counter rose."""
        selector = counter.replace("$target", target).replace("$namespace", self._namespace)
        window = math.ceil(until - since + _LOOK_BACK_SECONDS)
        return {
            frozenset(series["metric"].items()): _increase(
                [(float(time), float(value)) for time, value in series["values"]], since
            )
            for series in self._ask(f"{selector}[{window}s]", until)
        }

    def _ask(self, query: str, moment: float) -> list[dict[str, Any]]:
        try:
            response = requests.get(
                f"{self._url}/api/v1/query", {"query": query, "time": str(moment)}, timeout=_TIMEOUT
            )
            response.raise_for_status()
            results: list[dict[str, Any]] = response.json()["data"]["result"]
        except (requests.RequestException, KeyError, ValueError) as error:
            raise InfrastructureError(
                f"Prometheus at {self._url} does not answer ({error})",
                remedy="check its address and the query",
            ) from error
        return results


def _increase(samples: Sequence[tuple[float, float]], since: float) -> float:
    """Sum up by how much a counter rose in samples after a moment.

    A counter that fell was started anew, from 0; so was one that has no sample before.
    """
    total, before = 0.0, 0.0
    for time, value in samples:
        if time > since:
            total += value - before if value >= before else value
        before = value
    return total


def _latencies(buckets: Mapping[float, float], lenient: bool) -> Latencies:
    """Turn cumulated counts by upper bound (ms) into a histogram of ours."""
    if not buckets:
        return Latencies()
    bounds = sorted(buckets)
    cumulated = np.maximum.accumulate([buckets[bound] for bound in bounds])
    finite = [bound for bound in bounds if math.isfinite(bound)]
    if lenient:
        counts = np.zeros(len(BOUNDS_MS) + 1)
        lowers = np.array([0.0, *finite])[: len(bounds)]
        # The last bin of ours that ends no later than the bucket begins.
        places = np.maximum(np.searchsorted(BOUNDS_MS, lowers, side="right") - 1, 0)
        np.add.at(counts, places, np.diff(cumulated, prepend=0.0))
        return Latencies(np.round(counts).astype(np.int64))
    edges = [0.0, *finite, *([2 * finite[-1]] if len(finite) < len(bounds) else [])]
    ours = np.interp([0.0, *BOUNDS_MS, max(edges[-1], 2 * BOUNDS_MS[-1])], edges, [0.0, *cumulated])
    return Latencies(np.diff(np.round(ours)).astype(np.int64))
