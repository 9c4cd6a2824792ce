"""What a server is told: one dataclass, checked when it is made."""

import ipaddress
from dataclasses import dataclass

from marquee.endpoint import MOST_POSTERS
from marquee.errors import UsageError
from marquee.settings import check_range


@dataclass(frozen=True, kw_only=True)
class ServingSettings:
    """Settings of `marquee serve`; the command's options have the same names."""

    host: str = "127.0.0.1"
    """The address to listen on."""
    port: int = 8080
    """The HTTP port; 0 for any free one."""
    grpc_port: int | None = None
    """The port of KServe's v2 protocol over gRPC; none without it."""
    records: str | None = None
    """Where prediction records go; nowhere without it."""
    token_file: str | None = None
    """A file with one access token a line; it is read anew when it changes."""
    allow_anonymous: bool = False
    """Answer without tokens on other addresses than loopback too."""
    url_hosts: tuple[str, ...] = ()
    """Hosts that posters may be fetched from by `url`; with none, `url` is refused."""
    record_seconds: float = 60.0
    """How long a record waits for others until a file of them is written."""
    samples: str | None = None
    """Where a share of the posters is kept for rollouts to replay; nowhere without it."""
    sample_share: float = 0.01
    """Of the posters, which is kept (0..1)."""
    sample_hours: int = 24
    """How long one is kept, at most."""
    require_signature: bool = False
    """Refuse a bundle that nobody signed."""
    registry: str | None = None
    """The registry whose purged posters are kept out of `similar`."""
    max_batch: int = 8
    """Posters a run of a quick model, at most; a slow one's share none."""
    max_wait_ms: float = 2.0
    """How long a run waits for posters that are just being decoded."""
    queue_seconds: float = 0.5
    """Requests are refused (503) while those before them would take longer than this."""
    max_posters: int = MOST_POSTERS
    """Posters a request."""
    max_request_mb: float = 32.0
    """MB (10^6 bytes) a request's body."""

    def __post_init__(self) -> None:
        check_range("serve.port", self.port, 0, 65_535)
        check_range("serve.grpc_port", self.grpc_port or 0, 0, 65_535)
        check_range("serve.record_seconds", self.record_seconds, 0.2, 600)
        check_range("serve.sample_share", self.sample_share, 0, 1)
        check_range("serve.sample_hours", self.sample_hours, 1, 720)
        check_range("serve.max_batch", self.max_batch, 1, 256)
        check_range("serve.max_wait_ms", self.max_wait_ms, 0, 1_000)
        check_range("serve.queue_seconds", self.queue_seconds, 0.05, 60)
        check_range("serve.max_posters", self.max_posters, 1, 1_000)
        check_range("serve.max_request_mb", self.max_request_mb, 0.1, 1_000)
        check_access(
            "serve",
            self.host,
            bool(self.token_file) or self.allow_anonymous,
            "give --token-file, or say --allow-anonymous if something before it asks",
        )


def check_access(command: str, host: str, is_settled: bool, remedy: str) -> None:
    """Refuse an address that anybody may reach, unless it is settled who may use it.

    Args:
        command: Which listens there.
        host: The address.
        is_settled: Whether tokens are asked for, or it was said that none need be.
        remedy: What to do.

    Raises:
        UsageError: Anybody could use it.
    """
    if not (is_settled or _is_loopback(host)):
        raise UsageError(
            f"{command}: anybody who reaches {host} could use the endpoint", remedy=remedy
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
