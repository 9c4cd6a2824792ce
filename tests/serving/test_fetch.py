"""Posters by URL: what is refused before anything is sent, and hosts that misbehave."""

import asyncio
import gzip
import ipaddress
import logging
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
import uvloop
from certificates import write_certificate
from helpers import encode, noise_poster
from hypothesis import example, given
from hypothesis import strategies as st

from marquee.errors import UsageError
from serving.fetch import FetchSettings, PosterFetcher, UrlRefused, is_public, look_up

# aiohttp deprecates the one way to say how long a parting may take.
pytestmark = pytest.mark.filterwarnings("ignore:The ssl_shutdown_timeout:DeprecationWarning")

HOST = "posters.example.org"
OTHER = "img2.example.org"
URL = f"https://{HOST}/alien.jpg"
POSTER = encode(noise_poster(1))
LIMIT = len(POSTER) + 1_000
PUBLIC = "8.8.8.8"

FORM, NOT_ALLOWED, LENGTH = "not of the form https://host/path", "is not allowed", "characters"

URLS = {
    # The scheme.
    "http": (f"http://{HOST}/a.jpg", FORM),
    "ftp": (f"ftp://{HOST}/a.jpg", FORM),
    "file": ("file:///etc/passwd", FORM),
    "file of a host": (f"file://{HOST}/etc/passwd", FORM),
    "gopher": (f"gopher://{HOST}:443/_GET", FORM),
    "data": ("data:image/png;base64,AAAA", FORM),
    "javascript": ("javascript:alert(1)", FORM),
    "websocket": (f"wss://{HOST}/a.jpg", FORM),
    "no scheme": (f"{HOST}/a.jpg", FORM),
    "scheme-relative": (f"//{HOST}/a.jpg", FORM),
    "upper-case scheme": (f"HTTPS://{HOST}/a.jpg", FORM),
    "one slash": (f"https:/{HOST}/a.jpg", FORM),
    "three slashes": (f"https:///{HOST}/a.jpg", FORM),
    "nested scheme": (f"url:https://{HOST}/a.jpg", FORM),
    # Another host than it seems.
    "userinfo": (f"https://me@{HOST}/a.jpg", FORM),
    "user and password": (f"https://me:secret@{HOST}/a.jpg", FORM),
    "empty userinfo": (f"https://@{HOST}/a.jpg", FORM),
    "allowed host as user": (f"https://{HOST}@169.254.169.254/", FORM),
    "allowed host as user and password": (f"https://{HOST}:443@evil.com/a.jpg", FORM),
    "two at signs": (f"https://a@{HOST}@evil.com/a.jpg", FORM),
    "encoded at sign": (f"https://evil.com%40{HOST}/a.jpg", FORM),
    "backslash before at": (f"https://evil.com\\@{HOST}/a.jpg", FORM),
    "backslash after host": (f"https://{HOST}\\.evil.com/a.jpg", FORM),
    "backslashes for slashes": (f"https:\\\\{HOST}\\a.jpg", FORM),
    "fragment before at": (f"https://evil.com#@{HOST}/a.jpg", FORM),
    "query before at": (f"https://evil.com?@{HOST}/a.jpg", FORM),
    "semicolon in host": (f"https://evil.com;{HOST}/a.jpg", FORM),
    "comma in host": (f"https://evil.com,{HOST}/a.jpg", FORM),
    "another host": ("https://evil.com/a.jpg", NOT_ALLOWED),
    "subdomain": (f"https://x.{HOST}/a.jpg", NOT_ALLOWED),
    "parent domain": ("https://example.org/a.jpg", NOT_ALLOWED),
    "allowed host as prefix": (f"https://{HOST}.evil.com/a.jpg", NOT_ALLOWED),
    "allowed host as suffix": (f"https://evil{HOST}/a.jpg", NOT_ALLOWED),
    "dot for any character": ("https://postersxexample.org/a.jpg", NOT_ALLOWED),
    "trailing dot": (f"https://{HOST}./a.jpg", NOT_ALLOWED),
    "two trailing dots": (f"https://{HOST}../a.jpg", NOT_ALLOWED),
    "leading dot": (f"https://.{HOST}/a.jpg", NOT_ALLOWED),
    "upper-case host": (f"https://{HOST.upper()}/a.jpg", FORM),
    "Cyrillic o": ("https://p\u043esters.example.org/a.jpg", FORM),
    "fullwidth letters": ("https://\uff50osters.example.org/a.jpg", FORM),
    "ideographic full stop": ("https://posters\u3002example.org/a.jpg", FORM),
    "one dot leader": ("https://posters\u2024example.org/a.jpg", FORM),
    "long s": ("https://po\u017fters.example.org/a.jpg", FORM),
    "soft hyphen": ("https://post\u00aders.example.org/a.jpg", FORM),
    "zero-width space": ("https://post\u200bers.example.org/a.jpg", FORM),
    "sharp s": ("https://po\u00dfters.example.org/a.jpg", FORM),
    "circled letters": ("https://\u24db\u24de\u24d2alhost/a.jpg", FORM),
    "punycode": ("https://xn--psters-hof.example.org/a.jpg", NOT_ALLOWED),
    "broken punycode": ("https://xn--.example.org/a.jpg", NOT_ALLOWED),
    "encoded dot": ("https://posters%2eexample.org/a.jpg", FORM),
    "encoded letter": ("https://%70osters.example.org/a.jpg", FORM),
    "encoded NUL": (f"https://{HOST}%00.evil.com/a.jpg", FORM),
    "empty host": ("https:///a.jpg", FORM),
    "localhost": ("https://localhost/a.jpg", NOT_ALLOWED),
    "metadata by name": ("https://metadata.google.internal/computeMetadata/v1/", NOT_ALLOWED),
    "Kubernetes by name": ("https://kubernetes.default.svc/api", NOT_ALLOWED),
    "public name of loopback": ("https://127.0.0.1.nip.io/a.jpg", NOT_ALLOWED),
    # An address for the host.
    "loopback": ("https://127.0.0.1/a.jpg", NOT_ALLOWED),
    "metadata": ("https://169.254.169.254/latest/meta-data/", NOT_ALLOWED),
    "public address": ("https://8.8.8.8/a.jpg", NOT_ALLOWED),
    "decimal": ("https://2130706433/a.jpg", NOT_ALLOWED),
    "decimal metadata": ("https://2852039166/latest/", NOT_ALLOWED),
    "decimal beyond 32 bits": ("https://6425673729/a.jpg", NOT_ALLOWED),
    "hexadecimal": ("https://0x7f000001/a.jpg", NOT_ALLOWED),
    "hexadecimal parts": ("https://0x7f.0x0.0x0.0x1/a.jpg", NOT_ALLOWED),
    "octal": ("https://017700000001/a.jpg", NOT_ALLOWED),
    "octal parts": ("https://0177.0.0.01/a.jpg", NOT_ALLOWED),
    "mixed bases": ("https://0xa9.254.0251.254/latest/", NOT_ALLOWED),
    "two parts": ("https://127.1/a.jpg", NOT_ALLOWED),
    "three parts": ("https://192.168.257/a.jpg", NOT_ALLOWED),
    "zero": ("https://0/a.jpg", NOT_ALLOWED),
    "unspecified": ("https://0.0.0.0/a.jpg", NOT_ALLOWED),
    "address with a dot": ("https://127.0.0.1./a.jpg", NOT_ALLOWED),
    "fullwidth digits": ("https://\uff11\uff12\uff17.0.0.1/a.jpg", FORM),
    "circled digits": ("https://\u2460\u2461\u2466.0.0.1/a.jpg", FORM),
    "encoded digits": ("https://%31%32%37.0.0.1/a.jpg", FORM),
    "IPv6 loopback": ("https://[::1]/a.jpg", FORM),
    "IPv6 unspecified": ("https://[::]/a.jpg", FORM),
    "IPv6 metadata": ("https://[fd00:ec2::254]/latest/", FORM),
    "IPv6-mapped": ("https://[::ffff:169.254.169.254]/latest/", FORM),
    "IPv6-mapped in hexadecimal": ("https://[::ffff:a9fe:a9fe]/latest/", FORM),
    "IPv6-compatible": ("https://[::127.0.0.1]/a.jpg", FORM),
    "6to4": ("https://[2002:7f00:1::]/a.jpg", FORM),
    "NAT64": ("https://[64:ff9b::a9fe:a9fe]/latest/", FORM),
    "zone id": ("https://[fe80::1%25eth0]/a.jpg", FORM),
    "raw zone id": ("https://[fe80::1%eth0]/a.jpg", FORM),
    "IPv6 without brackets": ("https://::1/a.jpg", FORM),
    "IPvFuture": ("https://[v1.fe80]/a.jpg", FORM),
    "allowed host in brackets": (f"https://[{HOST}]/a.jpg", FORM),
    # The port.
    "port 80": (f"https://{HOST}:80/a.jpg", FORM),
    "port of the kubelet": (f"https://{HOST}:10250/a.jpg", FORM),
    "port 0": (f"https://{HOST}:0/a.jpg", FORM),
    "empty port": (f"https://{HOST}:/a.jpg", FORM),
    "port with a zero": (f"https://{HOST}:0443/a.jpg", FORM),
    "port with a sign": (f"https://{HOST}:+443/a.jpg", FORM),
    "port that wraps": (f"https://{HOST}:65979/a.jpg", FORM),
    "two ports": (f"https://{HOST}:443:22/a.jpg", FORM),
    "port in Arabic digits": (f"https://{HOST}:\u0664\u0664\u0663/a.jpg", FORM),
    # Characters that readers of URLs differ on.
    "empty": ("", FORM),
    "leading space": (f" {URL}", FORM),
    "trailing space": (f"{URL} ", FORM),
    "trailing newline": (f"{URL}\n", FORM),
    "tab in scheme": (f"ht\ttps://{HOST}/a.jpg", FORM),
    "newline in host": ("https://posters.\nexample.org/a.jpg", FORM),
    "space in host": (f"https://{HOST} .evil.com/a.jpg", FORM),
    "header injection": (f"{URL} HTTP/1.1\r\nX-Evil: 1\r\n\r\nGET /", FORM),
    "carriage return": (f"{URL}\r", FORM),
    "NUL": (f"{URL}\0.png", FORM),
    "escape": (f"{URL}\x1b[2J", FORM),
    "delete": (f"{URL}\x7f", FORM),
    "C1 control": (f"{URL}\x85", FORM),
    "line separator": (f"{URL}\u2028", FORM),
    "no-break space": (f"https://{HOST}/a\u00a0b.jpg", FORM),
    "byte-order mark": (f"\ufeff{URL}", FORM),
    "right-to-left override": (f"https://{HOST}/\u202egpj.a", FORM),
    "lone surrogate": (f"{URL}\ud800", FORM),
    "letters beyond ASCII": (f"https://{HOST}/am\u00e9lie.jpg", FORM),
    "backslash in path": (f"https://{HOST}/..\\a.jpg", FORM),
    "fragment": (f"{URL}#x", FORM),
    "broken encoding": (f"https://{HOST}/a%2.jpg", FORM),
    "brackets": (f"https://{HOST}/[a].jpg", FORM),
    "quote": (f'https://{HOST}/a".jpg', FORM),
    "template": (f"https://{HOST}/{{a}}.jpg", FORM),
    "no path": (f"https://{HOST}", FORM),
    "query without a path": (f"https://{HOST}?a.jpg", FORM),
    # The length.
    "overlong": (URL + "?" + "a" * 2_048, LENGTH),
    "a megabyte": ("https://" + "a." * 500_000 + "org/a.jpg", LENGTH),
}

ADDRESSES = {
    "unspecified": "0.0.0.0",
    "this network": "0.1.2.3",
    "private 10": "10.0.0.1",
    "last of private 10": "10.255.255.255",
    "carrier-grade NAT": "100.64.0.1",
    "metadata of Alibaba": "100.100.100.200",
    "last of carrier-grade NAT": "100.127.255.255",
    "loopback": "127.0.0.1",
    "another loopback": "127.255.255.254",
    "metadata": "169.254.169.254",
    "metadata of ECS tasks": "169.254.170.2",
    "platform of Azure": "168.63.129.16",
    "private 172": "172.16.0.1",
    "last of private 172": "172.31.255.255",
    "metadata of Oracle": "192.0.0.192",
    "documentation 1": "192.0.2.1",
    "6to4 relay": "192.88.99.1",
    "private 192": "192.168.0.1",
    "benchmarking": "198.19.255.255",
    "documentation 2": "198.51.100.1",
    "documentation 3": "203.0.113.1",
    "multicast": "224.0.0.1",
    "mDNS": "224.0.0.251",
    "last of multicast": "239.255.255.255",
    "reserved": "240.0.0.1",
    "broadcast": "255.255.255.255",
    "IPv6 unspecified": "::",
    "IPv6 loopback": "::1",
    "unique local": "fc00::1",
    "metadata of AWS": "fd00:ec2::254",
    "metadata of Google": "fd20:ce::254",
    "link-local": "fe80::1",
    "link-local with a zone": "fe80::1%eth0",
    "metadata with a zone": "fe80::a9fe:a9fe%2",
    "site-local": "fec0::1",
    "IPv6 multicast": "ff02::1",
    "global IPv6 multicast": "ff0e::1",
    "IPv6 documentation": "2001:db8::1",
    "newer IPv6 documentation": "3fff::1",
    "discard": "100::1",
    "segment routing": "5f00::1",
    "IPv6-mapped metadata": "::ffff:169.254.169.254",
    "IPv6-mapped loopback": "::ffff:7f00:1",
    "IPv6-mapped public": "::ffff:8.8.8.8",
    "IPv6-compatible": "::127.0.0.1",
    "translated": "::ffff:0:169.254.169.254",
    "6to4 of loopback": "2002:7f00:1::1",
    "6to4 of metadata": "2002:a9fe:a9fe::",
    "6to4 of a public address": "2002:808:808::1",
    "Teredo": "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "NAT64 of metadata": "64:ff9b::169.254.169.254",
    "NAT64 of loopback": "64:ff9b::7f00:1",
    "NAT64 of private 10": "64:ff9b::10.0.0.1",
    "NAT64 of Azure's platform": "64:ff9b::168.63.129.16",
    "local NAT64": "64:ff9b:1::8.8.8.8",
    "ORCHID": "2001:20::1",
}

PUBLIC_ADDRESSES = {
    "a resolver": PUBLIC,
    "before private 10": "9.255.255.255",
    "after private 10": "11.0.0.0",
    "before carrier-grade NAT": "100.63.255.255",
    "after carrier-grade NAT": "100.128.0.0",
    "after private 172": "172.32.0.0",
    "beside Azure's platform": "168.63.129.17",
    "last before multicast": "223.255.255.255",
    "IPv6": "2606:4700::1111",
    "IPv6 of a cloud": "2a00:1450:4001:80b::200e",
    "NAT64 of a public address": "64:ff9b::8.8.8.8",
}


def settings(**changes):
    return FetchSettings(**{"hosts": (HOST, OTHER), "max_bytes": LIMIT} | changes)


def fixed(*addresses):
    async def lookup(host):
        return list(addresses)

    return lookup


@asynccontextmanager
async def fetching(*arguments, **parts):
    fetcher = PosterFetcher(*arguments, **parts)
    try:
        yield fetcher
    finally:
        await fetcher.close()


def fetch(url, **parts):
    async def run():
        async with fetching(settings(), **parts) as fetcher:
            return await fetcher.fetch(url)

    return asyncio.run(run())


@pytest.fixture
def network(monkeypatch):
    """Everything that this process asks a resolver or connects to."""
    seen = []

    def spy(owner, name, what):
        real = getattr(owner, name)

        def recorded(*arguments, **options):
            seen.append(what(*arguments))
            return real(*arguments, **options)

        monkeypatch.setattr(owner, name, recorded)

    spy(socket.socket, "connect", lambda _, address: address)
    spy(socket, "getaddrinfo", lambda host, *_: host)
    return seen


@pytest.mark.parametrize("name", URLS)
def test_hostile_urls_are_refused_before_anything_is_asked(network, name):
    url, reason = URLS[name]
    with pytest.raises(UrlRefused, match=reason):
        fetch(url)
    assert network == []


@pytest.mark.parametrize("name", ADDRESSES)
def test_addresses_that_are_not_public_are_never_connected_to(network, name):
    address = ADDRESSES[name]
    assert not is_public(address)
    with pytest.raises(UrlRefused, match="has no address that may be used"):
        fetch(URL, lookup=fixed((address, 443)))
    assert network == []


@pytest.mark.parametrize("name", PUBLIC_ADDRESSES)
def test_public_addresses(name):
    assert is_public(PUBLIC_ADDRESSES[name])


@given(st.ip_addresses())
@example(ipaddress.ip_address("224.0.0.1"))
def test_no_address_is_public_that_the_standard_library_knows_better(address):
    if is_public(str(address)) and address not in ipaddress.ip_network("64:ff9b::/96"):
        assert address.is_global
        assert not address.is_multicast


MIXED = {
    "bad last": (PUBLIC, "10.0.0.1"),
    "bad first": ("10.0.0.1", PUBLIC),
    "bad in the middle": (PUBLIC, "::1", "2606:4700::1111"),
    "bad in the other family": (PUBLIC, "fd00:ec2::254"),
}


@pytest.mark.parametrize("name", MIXED)
def test_one_bad_address_spoils_the_good_ones(network, name):
    with pytest.raises(UrlRefused, match="has no address that may be used"):
        fetch(URL, lookup=fixed(*((address, 443) for address in MIXED[name])))
    assert network == []


def test_an_inner_address_and_an_unknown_name_look_the_same_from_outside(caplog):
    async def unknown(host):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    said = []
    for lookup in (fixed(("10.1.2.3", 443)), fixed(), unknown):
        with pytest.raises(UrlRefused) as refused:
            fetch(URL, lookup=lookup)
        said.append(str(refused.value))
    assert len(set(said)) == 1
    assert "10.1.2.3" not in said[0]
    # The operator is told.
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 3
    assert "10.1.2.3" in caplog.text


def test_the_system_is_asked_for_the_name_alone(monkeypatch):
    """Without the dot, a search list would turn it into a name of the cluster first."""
    asked = []
    real = socket.getaddrinfo

    def getaddrinfo(host, *arguments):
        asked.append(host)
        return real(host.removesuffix("."), *arguments)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    addresses = asyncio.run(look_up("localhost"))
    assert asked == ["localhost."]
    assert ("127.0.0.1", 443) in addresses


# From here on a real server answers, over TLS, on loopback.


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return write_certificate(tmp_path_factory.mktemp("tls"), HOST)


class Host:
    """An https server that writes any bytes as its answer."""

    def __init__(self, certificate, answer, address="127.0.0.1"):
        self._answer = answer
        self._address = address
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._tls.load_cert_chain(certificate)
        self.trusted = ssl.create_default_context(cafile=certificate)
        self.requests = []
        self.open = self.most_open = self.connections = 0

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._handle, self._address, 0, ssl=self._tls)
        self.address = self._server.sockets[0].getsockname()[:2]
        return self

    async def __aexit__(self, *_):
        self._server.close()

    async def _handle(self, reader, writer):
        self.connections += 1
        self.open += 1
        self.most_open = max(self.open, self.most_open)
        with suppress(OSError, asyncio.IncompleteReadError):
            self.requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
            async for data in self._answer():
                writer.write(data)
                await writer.drain()
        self.open -= 1
        writer.close()


def _parts(host, **changes):
    """What lets a fetcher reach this host."""

    async def lookup(name):
        return [host.address]

    return {
        "lookup": lookup,
        "may_connect": lambda address: address == "127.0.0.1",
        "tls": host.trusted,
    } | changes


HEAD = b"HTTP/1.1 200 OK\r\n"


def sends(*parts, every=0.0):
    """An answer of these parts; the last one, if it is an endless one, for ever."""

    async def answer() -> AsyncIterator[bytes]:
        for part in parts:
            if isinstance(part, bytes):
                yield part
            while not isinstance(part, bytes):
                yield part[0]
                await asyncio.sleep(every)

    return answer


def sized(body, *headers, said=None):
    length = b"Content-Length: %d" % (len(body) if said is None else said)
    return HEAD + b"\r\n".join([length, *headers]) + b"\r\n\r\n" + body


def chunked(body):
    return HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


def status(line, *headers):
    return b"HTTP/1.1 " + b"\r\n".join([line, b"Content-Length: 0", *headers]) + b"\r\n\r\n"


BOMB = gzip.compress(bytes(LIMIT * 1_000))
LARGEST = bytes(LIMIT)

GOOD = {
    "with a length": (sized(POSTER), POSTER),
    "in chunks": (chunked(POSTER), POSTER),
    "until the end": (HEAD + b"\r\n" + POSTER, POSTER),
    "of an old server": (b"HTTP/1.0 200 OK\r\n\r\n" + POSTER, POSTER),
    "as it is": (sized(POSTER, b"Content-Encoding: Identity"), POSTER),
    "of another type": (sized(POSTER, b"Content-Type: text/html"), POSTER),
    "after early hints": (b"HTTP/1.1 103 Early Hints\r\n\r\n" + sized(POSTER), POSTER),
    "as large as allowed": (sized(LARGEST), LARGEST),
    "as large as allowed in chunks": (chunked(LARGEST), LARGEST),
    "empty": (sized(b""), b""),
    "a bomb that is not called packed": (sized(BOMB[:LIMIT]), BOMB[:LIMIT]),
}

WITHIN = "did not send the poster within"
BROKEN = r"did not send the poster \("
TOO_LARGE = f"sends more than {LIMIT:,} bytes"

BAD = {
    "moved to the metadata service": (
        sends(status(b"302 Found", b"Location: https://169.254.169.254/latest/")),
        "HTTP 302",
    ),
    "moved within": (sends(status(b"301 Moved", b"Location: /b.jpg")), "HTTP 301"),
    "moved to plain http": (
        sends(status(b"307 Moved", b"Location: http://%b/" % HOST.encode())),
        "HTTP 307",
    ),
    "moved by a refresh": (sends(status(b"204 None", b"Refresh: 0; url=/b.jpg")), "HTTP 204"),
    "choices": (sends(status(b"300 Choices", b"Location: /b.jpg")), "HTTP 300"),
    "not modified": (sends(b"HTTP/1.1 304 Not Modified\r\n\r\n"), "HTTP 304"),
    "a part": (sends(status(b"206 Partial")), "HTTP 206"),
    "asks who we are": (sends(status(b"401 No", b'WWW-Authenticate: Basic realm="x"')), "HTTP 401"),
    "gone": (sends(status(b"404 Not Found")), "HTTP 404"),
    "fails": (sends(status(b"500 Oops")), "HTTP 500"),
    "overloaded": (sends(status(b"503 Later", b"Retry-After: 0")), "HTTP 503"),
    "another protocol": (
        sends(b"HTTP/1.1 101 Switch\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"),
        "HTTP 101",
    ),
    "one byte too large": (sends(sized(LARGEST + b"x")), TOO_LARGE),
    "one byte too large in chunks": (sends(chunked(LARGEST + b"x")), TOO_LARGE),
    "says a gigabyte": (sends(sized(b"", said=2**30), [b""]), TOO_LARGE),
    "says more than fits a number": (sends(sized(b"", said=10**30)), BROKEN),
    "endless": (sends(HEAD + b"\r\n", [bytes(4096)]), TOO_LARGE),
    "endless in chunks": (
        sends(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", [b"400\r\n%b\r\n" % bytes(1024)]),
        TOO_LARGE,
    ),
    "a bomb": (sends(sized(BOMB, b"Content-Encoding: gzip")), "packed the poster"),
    "a brotli bomb": (sends(sized(BOMB, b"Content-Encoding: br")), "packed the poster"),
    "packed twice": (sends(sized(BOMB, b"Content-Encoding: identity, gzip")), "packed the poster"),
    "silent": (sends([b""], every=0.02), WITHIN),
    "slow header": (sends(HEAD, [b"X: y\r\n"], every=0.02), WITHIN),
    "slow body": (sends(sized(b"", said=500), [b"x"], every=0.02), WITHIN),
    "slow chunks": (
        sends(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", [b"1\r\nx\r\n"], every=0.02),
        WITHIN,
    ),
    "endless header": (sends(HEAD, [b"X-Long: %b\r\n" % (b"y" * 1000)]), BROKEN),
    "endless line": (sends(HEAD + b"X-Long: ", [b"y" * 1000]), BROKEN),
    "for ever 'go on'": (sends([b"HTTP/1.1 100 Continue\r\n\r\n"], every=0.001), WITHIN),
    "longer than it says": (sends(sized(POSTER, said=10)), BROKEN),
    "ends early": (sends(sized(POSTER[:-1], said=len(POSTER))), BROKEN),
    "ends within a chunk": (sends(chunked(POSTER)[:-100]), BROKEN),
    "ends at once": (sends(), BROKEN),
    "not http": (sends(b"SSH-2.0-OpenSSH_9.2\r\n"), BROKEN),
    "negative length": (sends(sized(POSTER, said=-5)), BROKEN),
    "two lengths": (sends(sized(POSTER, b"Content-Length: 3")), BROKEN),
}


def _run(new_loop, certificate, answer, seconds=5.0):
    async def run():
        limits = settings(seconds=seconds)
        async with Host(certificate, answer) as host, fetching(limits, **_parts(host)) as fetcher:
            return await fetcher.fetch(URL), host

    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(run())


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def new_loop(request):
    """The tests' event loop, and the one that KServe's server takes."""
    return request.param


@pytest.mark.parametrize("name", GOOD)
def test_a_poster_arrives(new_loop, certificate, name):
    answer, expected = GOOD[name]
    data, host = _run(new_loop, certificate, sends(answer))
    assert data == expected
    assert host.connections == 1


@pytest.mark.parametrize("name", BAD)
def test_hosts_that_misbehave(new_loop, certificate, name):
    answer, reason = BAD[name]
    with pytest.raises(UrlRefused, match=reason) as refused:
        _run(new_loop, certificate, answer, 0.2 if reason is WITHIN else 5.0)
    assert "127.0.0.1" not in str(refused.value)


def test_the_request_says_what_was_checked_and_nothing_about_us(certificate):
    path = "/t/p/w342/..%2f%0d%0aX:/a(1).jpg?v=2&q=%C3%A9+b"

    async def run():
        answer = sends(sized(POSTER, b"Set-Cookie: id=1; Path=/"))
        async with Host(certificate, answer) as host, fetching(settings(), **_parts(host)) as to:
            return [await to.fetch(f"https://{HOST}:443{path}") for _ in range(2)], host

    posters, host = asyncio.run(run())
    assert posters == [POSTER] * 2
    assert host.connections == 2  # each checked anew
    expected = {
        f"GET {path} HTTP/1.1",
        f"Host: {HOST}",
        "Accept: image/*",
        "Accept-Encoding: identity",
        "User-Agent: marquee",
        "Connection: close",
    }
    for request in host.requests:
        assert set(request.strip().split("\r\n")) == expected


def test_a_proxy_of_the_environment_is_not_asked(certificate, monkeypatch):
    for name in ("https_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.2:9")
    data, _ = _run(asyncio.new_event_loop, certificate, sends(sized(POSTER)))
    assert data == POSTER


def test_the_next_address_is_tried(certificate):
    """As browsers do; all were checked."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = closed.getsockname()

    async def run():
        async with Host(certificate, sends(sized(POSTER))) as host:
            parts = _parts(host, lookup=fixed(nobody, host.address))
            async with fetching(settings(), **parts) as fetcher:
                return await fetcher.fetch(URL)

    assert asyncio.run(run()) == POSTER


def test_dns_that_answers_differently_every_time(new_loop, certificate, network):
    """A name that is public when it is checked and private when it is used."""
    asked = []

    async def run():
        good = Host(certificate, sends(sized(POSTER)))
        inner = Host(certificate, sends(sized(b"secret")), address="127.0.0.2")

        async def alternating(host):
            asked.append(host)
            return [(good if len(asked) % 2 else inner).address]

        parts = _parts(good, lookup=alternating)
        async with good, inner, fetching(settings(), **parts) as to:
            answers = await asyncio.gather(
                *(to.fetch(URL) for _ in range(10)), return_exceptions=True
            )
        return answers, good.connections, inner.connections

    with asyncio.Runner(loop_factory=new_loop) as runner:
        answers, good, inner = runner.run(run())
    assert answers[::2] == [POSTER] * 5
    assert all(isinstance(answer, UrlRefused) for answer in answers[1::2])
    assert (good, inner) == (5, 0)
    assert asked == [HOST] * 10  # the addresses used are those checked: nobody asks again
    assert {host for host, _ in network if new_loop is asyncio.new_event_loop} <= {"127.0.0.1"}


CERTIFICATES = {
    "for another host": (f"https://{OTHER}/a.jpg", {}),
    "of an unknown authority": (URL, {"tls": None}),
}


@pytest.mark.parametrize("name", CERTIFICATES)
def test_a_host_that_cannot_prove_its_name_gets_no_request(certificate, name):
    url, changes = CERTIFICATES[name]

    host = Host(certificate, sends(sized(POSTER)))

    async def run():
        async with host, fetching(settings(), **_parts(host, **changes)) as fetcher:
            await fetcher.fetch(url)

    with pytest.raises(UrlRefused, match="CertificateError"):
        asyncio.run(run())
    assert host.requests == []


def test_nobody_answers():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = closed.getsockname()
    with pytest.raises(UrlRefused, match=BROKEN) as refused:
        fetch(URL, lookup=fixed(nobody), may_connect=lambda _: True)
    assert "127.0.0.1" not in str(refused.value)


def test_a_host_that_never_shakes_hands():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        lookup = fixed(silent.getsockname())

        async def run():
            limits = settings(seconds=0.2)
            async with fetching(limits, lookup=lookup, may_connect=lambda _: True) as fetcher:
                await fetcher.fetch(URL)

        with pytest.raises(UrlRefused, match=WITHIN):
            asyncio.run(run())


def test_a_resolver_that_never_answers():
    async def lookup(host):
        await asyncio.Event().wait()

    async def run():
        async with fetching(settings(seconds=0.2), lookup=lookup) as fetcher:
            await fetcher.fetch(URL)

    with pytest.raises(UrlRefused, match=WITHIN):
        asyncio.run(run())


def test_many_at_a_time_share_few_connections(new_loop, certificate):
    async def answer():
        while host.most_open < 8:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.02)
        yield sized(POSTER)

    host = Host(certificate, answer)

    async def run():
        async with host, fetching(settings(seconds=30), **_parts(host)) as fetcher:
            return await asyncio.gather(*(fetcher.fetch(URL) for _ in range(40)))

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(run()) == [POSTER] * 40
    assert host.most_open == 8


def test_a_host_that_never_hangs_up_keeps_no_socket(certificate, monkeypatch):
    sockets = []
    connect = socket.socket.connect
    monkeypatch.setattr(
        socket.socket, "connect", lambda own, to: (sockets.append(own), connect(own, to))
    )

    class Deaf(Host):
        async def _handle(self, reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(sized(POSTER))
            writer.transport.pause_reading()
            self.writer = writer

    async def run():
        async with Deaf(certificate, None) as host, fetching(settings(), **_parts(host)) as fetcher:
            assert await fetcher.fetch(URL) == POSTER
            async with asyncio.timeout(10):
                while sockets[0].fileno() != -1:
                    await asyncio.sleep(0.01)

    asyncio.run(run())


def test_closing_ends_what_is_being_fetched(new_loop, certificate):
    async def run():
        async with Host(certificate, sends([b""], every=0.01)) as host:
            fetcher = PosterFetcher(settings(seconds=60), **_parts(host))
            task = asyncio.create_task(fetcher.fetch(URL))
            while not host.requests:
                await asyncio.sleep(0.01)
            await fetcher.close()
            await task

    with asyncio.Runner(loop_factory=new_loop) as runner, pytest.raises(UrlRefused, match=BROKEN):
        runner.run(run())


SETTINGS = {
    "no hosts": ({"hosts": ()}, "fetch.hosts is empty"),
    "text for a list": ({"hosts": HOST}, "fetch.hosts has 'p'"),
    "one label": ({"hosts": ("localhost",)}, "fetch.hosts has 'localhost'"),
    "IPv4": ({"hosts": (HOST, "10.0.0.1")}, "fetch.hosts has '10.0.0.1'"),
    "short IPv4": ({"hosts": ("127.1",)}, "fetch.hosts has"),
    "hexadecimal IPv4": ({"hosts": ("0x7f.0.0.0x1",)}, "fetch.hosts has"),
    "IPv6": ({"hosts": ("fd00:ec2::254",)}, "fetch.hosts has"),
    "IPv6 in brackets": ({"hosts": ("[::1]",)}, "fetch.hosts has"),
    "wildcard": ({"hosts": ("*.example.org",)}, "fetch.hosts has"),
    "leading dot": ({"hosts": (".example.org",)}, "fetch.hosts has"),
    "trailing dot": ({"hosts": ("example.org.",)}, "fetch.hosts has"),
    "upper case": ({"hosts": ("Example.org",)}, "fetch.hosts has"),
    "port": ({"hosts": ("example.org:8443",)}, "fetch.hosts has"),
    "URL": ({"hosts": ("https://example.org",)}, "fetch.hosts has"),
    "path": ({"hosts": ("example.org/t/p",)}, "fetch.hosts has"),
    "newline": ({"hosts": ("example.org\n",)}, "fetch.hosts has"),
    "beyond ASCII": ({"hosts": ("k\u00f6ln.example",)}, "fetch.hosts has"),
    "long label": ({"hosts": ("a" * 64 + ".org",)}, "fetch.hosts has"),
    "long name": ({"hosts": ("a." * 126 + "org",)}, "fetch.hosts has"),
    "no time": ({"seconds": 0}, "fetch.seconds is 0"),
    "no end": ({"seconds": float("inf")}, "fetch.seconds is inf"),
    "not a time": ({"seconds": float("nan")}, "fetch.seconds is nan"),
    "no bytes": ({"max_bytes": 0}, "fetch.max_bytes is 0"),
    "a gigabyte": ({"max_bytes": 2**30}, "fetch.max_bytes is 1073741824"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_that_make_no_sense(name):
    changes, reason = SETTINGS[name]
    with pytest.raises(UsageError, match=reason):
        settings(**changes)


@pytest.mark.parametrize("host", ["image.tmdb.org", "a.b", "xn--kln-sna.example", "3d.x-y.io"])
def test_host_names(host):
    assert settings(hosts=(host,)).hosts == (host,)
