"""Posters that a request names by URL, fetched without lending the client our place in the network.

A server inside a cluster reaches what its clients must not. So only hosts on a list are asked, only
at addresses that anybody could reach, and the addresses that were checked are those connected to.
"""

import asyncio
import logging
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address, ip_address, ip_network

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from marquee.errors import DataError, UsageError
from marquee.settings import check_range
from serving.batching import Overloaded

Lookup = Callable[[str], Awaitable[list[tuple[str, int]]]]
"""Gives the addresses and ports of a host."""

_LONGEST_URL = 2_048
_CONNECTIONS = 8
"""At a time, each holding one poster in memory; further ones wait, within their own time."""

_MOST_FETCHES = 64
"""Posters being fetched for all requests together; further requests are to come again."""

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
# The last label starts with a letter: no spelling of an IP address does.
_HOST = re.compile(rf"(?=.{{3,253}}$)(?:{_LABEL}\.)+(?=[a-z]){_LABEL}")
# What every reader of URLs takes for the same: nothing to decode, fold or strip before the path.
_URL = re.compile(
    r"https://(?P<host>[a-z0-9.-]+)(?::443)?/(?:[A-Za-z0-9._~:/?@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*"
)

_NAT64 = ip_network("64:ff9b::/96")
_PUBLIC = ip_network("0.0.0.0/0"), ip_network("2000::/3")
# IANA's special-purpose address registries (https://www.iana.org/assignments/, iana-ipv4- and
# iana-ipv6-special-registry). Not `ip_address(...).is_global`, which differs between versions of
# Python: 3.11.7 takes 192.0.0.192, Oracle's metadata service, for global.
_SPECIAL = tuple(
    ip_network(network)
    for network in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
        *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16"),
        *("198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3"),
        "168.63.129.16/32",  # Azure's platform, behind an address that looks public.
        *("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
    )
)

logger = logging.getLogger(__name__)


class UrlRefused(DataError):
    """A URL that is not fetched, or that did not give a poster."""


@dataclass(frozen=True, kw_only=True)
class FetchSettings:
    """Which posters may be fetched by URL, and at what cost."""

    hosts: tuple[str, ...]
    """The hosts that may be asked, each with its full name, such as `image.tmdb.org`."""
    seconds: float = 5.0
    """A poster must be there within this time, from looking up its host to its last byte."""
    max_bytes: int = 20_000_000
    """The largest file."""

    def __post_init__(self) -> None:
        if not self.hosts:
            raise UsageError("fetch.hosts is empty", remedy="name the hosts that may be asked")
        for host in self.hosts:
            if not _HOST.fullmatch(host):
                raise UsageError(
                    f"fetch.hosts has {host!r}",
                    remedy="give full host names in lower case, such as image.tmdb.org: no IP "
                    "address, port, path or pattern",
                )
        check_range("fetch.seconds", self.seconds, 0.1, 60)
        check_range("fetch.max_bytes", self.max_bytes, 1, 100_000_000)


def is_public(address: str) -> bool:
    """Tell whether an address belongs to the public internet.

    Args:
        address: An IPv4 or IPv6 address.

    Returns:
        False for private, loopback, link-local, shared, reserved and multicast addresses, and for
        IPv6 addresses that stand for an IPv4 address. NAT64 is judged by the address inside: on an
        IPv6-only cluster it is how public IPv4 hosts are reached.
    """
    ip = ip_address(address)
    if ip in _NAT64:
        ip = IPv4Address(int(ip) & 0xFFFF_FFFF)
    return any(ip in network for network in _PUBLIC) and not any(ip in n for n in _SPECIAL)


async def look_up(host: str) -> list[tuple[str, int]]:
    """Ask the system's resolver.

    Args:
        host: A full host name.

    Returns:
        All its addresses, with port 443.

    Raises:
        OSError: It has none, or the resolver does not answer.
    """
    # The dot keeps the search list out: in a pod, `image.tmdb.org` could otherwise be a service.
    infos = await asyncio.get_running_loop().getaddrinfo(f"{host}.", 443, type=socket.SOCK_STREAM)
    return [(str(address[0]), 443) for *_, address in infos]


class PosterFetcher:
    """Fetches posters from allowed hosts on the public internet, over https.

    Nothing is shared between two fetches: no connection, cookie, cached name or proxy.

    Args:
        settings: Which hosts, and the limits.
        lookup: Resolves a host's name.
        may_connect: Judges each address of a host.
        tls: Verifies the hosts' certificates; by default against the system's authorities.
    """

    def __init__(
        self,
        settings: FetchSettings,
        lookup: Lookup = look_up,
        may_connect: Callable[[str], bool] = is_public,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._settings = settings
        self._resolver = _CheckedResolver(lookup, may_connect)
        self._tls = tls
        self._reserved = 0

    @cached_property
    def _session(self) -> aiohttp.ClientSession:
        # Not in __init__: it belongs to the event loop that fetches.
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=self._resolver,
                use_dns_cache=False,
                force_close=True,
                limit=_CONNECTIONS,
                # A host that never says goodbye would keep its socket for 30 s, beyond the limit.
                ssl_shutdown_timeout=0.1,
                ssl=self._tls or True,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept": "image/*", "Accept-Encoding": "identity", "User-Agent": "marquee"},
            auto_decompress=False,
            trust_env=False,
        )

    @contextmanager
    def reserved(self, posters: int) -> Iterator[None]:
        """Count posters as being fetched until the context ends.

        Args:
            posters: How many.

        Raises:
            Overloaded: Too many are being fetched already.
        """
        # A request of more than that is served when nobody else fetches.
        if self._reserved and self._reserved + posters > _MOST_FETCHES:
            raise Overloaded(1)
        self._reserved += posters
        try:
            yield
        finally:
            self._reserved -= posters

    async def fetch(self, url: str) -> bytes:
        """Fetch a poster.

        Args:
            url: Where it is.

        Returns:
            The file's bytes, at most `max_bytes`; not yet decoded.

        Raises:
            UrlRefused: The URL may not be fetched, or its host did not send a file in time.
        """
        host = self._check(url)
        try:
            async with asyncio.timeout(self._settings.seconds):
                # Encoded: as it was checked, so it is sent.
                return await self._get(host, URL(url, encoded=True))
        except TimeoutError:
            why = f"within {self._settings.seconds:g} s"
        except (aiohttp.ClientError, OSError) as error:
            # Only the kind: the text names the address.
            why = f"({type(error).__name__})"
        raise UrlRefused(
            f"{host} did not send the poster {why}",
            remedy="try again later, or send the file itself",
        )

    async def close(self) -> None:
        """End what is still being fetched."""
        await self._session.close()

    def _check(self, url: str) -> str:
        if len(url) > _LONGEST_URL:
            raise UrlRefused(
                f"its url has {len(url):,} characters", remedy=f"use {_LONGEST_URL:,} at most"
            )
        match = _URL.fullmatch(url)
        if not match:
            raise UrlRefused(
                "its url is not of the form https://host/path",
                remedy="write https and the host in lower case, leave out user, port and fragment, "
                "and percent-encode what is no plain character",
            )
        if match["host"] not in self._settings.hosts:
            raise UrlRefused(
                f"the host {match['host']} is not allowed",
                remedy=f"use {', '.join(self._settings.hosts)}",
            )
        return match["host"]

    async def _get(self, host: str, url: URL) -> bytes:
        async with self._session.get(url, allow_redirects=False) as response:
            if response.status != 200:
                raise UrlRefused(
                    f"{host} answered with HTTP {response.status}",
                    remedy="give the URL of the poster itself: redirects are not followed",
                )
            if response.headers.get("Content-Encoding", "identity").lower() != "identity":
                raise UrlRefused(
                    f"{host} packed the poster", remedy="use a host that sends files as they are"
                )
            self._check_size(host, response.content_length or 0)
            data = bytearray()
            async for chunk in response.content.iter_any():
                data += chunk
                self._check_size(host, len(data))
            return bytes(data)

    def _check_size(self, host: str, size: int) -> None:
        if size > self._settings.max_bytes:
            raise UrlRefused(
                f"{host} sends more than {self._settings.max_bytes:,} bytes",
                remedy="use a smaller size of the poster",
            )


class _CheckedResolver(AbstractResolver):
    """Hands a host's addresses to the connection, all of them checked or none."""

    def __init__(self, lookup: Lookup, may_connect: Callable[[str], bool]) -> None:
        self._lookup = lookup
        self._may_connect = may_connect

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        try:
            addresses = await self._lookup(host)
        except OSError:
            addresses = []
        if not addresses or not all(self._may_connect(address) for address, _ in addresses):
            # Said here only: a client that learns whether an inner name exists can map them.
            logger.warning("%s is not fetched from: it resolves to %s", host, addresses)
            raise UrlRefused(
                f"{host} has no address that may be used",
                remedy="use a host with public addresses only",
            )
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)
            for address, port in addresses
        ]

    async def close(self) -> None:
        """Nothing is open."""
