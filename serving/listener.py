"""The socket that a server listens on, opened before the server starts."""

import socket

from marquee.errors import InfrastructureError

_DOUBLES = 7


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket; connections wait in it until somebody accepts them.

    Args:
        host: The address; also IPv6.
        port: The port; 0 for any free one.

    Returns:
        The socket.

    Raises:
        InfrastructureError: The address is not ours, or is taken.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        raise InfrastructureError(
            f"cannot listen on {host} port {port} ({error.strerror})",
            remedy="stop what listens there, or give another --port or --host",
        ) from error


def doubled(listener: socket.socket) -> list[socket.socket]:
    """Give a listening socket and some doubles, which take connections from the same queue.

    uvloop takes one connection from each socket a turn of its loop: in a crowd, whose turns are
    long, new clients would wait for more than a second before anybody read what they sent.

    Args:
        listener: The socket.

    Returns:
        Sockets to be served, and to be closed.
    """
    return [listener, *(listener.dup() for _ in range(_DOUBLES))]


def url_of(listener: socket.socket) -> str:
    """Give the URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
