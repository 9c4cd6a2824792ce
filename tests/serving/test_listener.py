"""Sockets that listen."""

import asyncio
import socket

import pytest
import uvloop

from serving.listener import doubled, listen


async def turns_to_accept(sockets, clients):
    """Count the turns of the event loop that it takes to accept clients that wait."""
    loop = asyncio.get_running_loop()
    accepted = []

    class Noted(asyncio.Protocol):
        def connection_made(self, transport):
            accepted.append(transport)

    address = sockets[0].getsockname()
    waiting = [socket.create_connection(address) for _ in range(clients)]
    servers = [await loop.create_server(Noted, sock=each) for each in sockets]
    turns = 0
    while len(accepted) < clients:
        await asyncio.sleep(0)
        turns += 1
    for each in (*servers, *accepted, *waiting):
        each.close()
    return turns


def test_doubles_take_several_connections_a_turn():
    turns = {}
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for name, give in {"one": lambda listener: [listener], "doubled": doubled}.items():
            with listen("127.0.0.1", 0) as listener:
                turns[name] = runner.run(turns_to_accept(give(listener), 80))
    assert turns["doubled"] < turns["one"] / 3


def test_who_closes_all_frees_the_port():
    listener = listen("127.0.0.1", 0)
    address = listener.getsockname()
    for each in doubled(listener):
        each.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
