"""How many CPUs there are for a process, and which ports."""

import os
import socket
from pathlib import Path

import pytest

from marquee import processes
from marquee.errors import InfrastructureError
from marquee.processes import cpus, free_port

MACHINE = len(os.sched_getaffinity(0))

LIMITS = {
    "none": ({}, MACHINE),
    "version 2, none": ({"cpu.max": "max 100000\n"}, MACHINE),
    "version 2, one": ({"cpu.max": "100000 100000\n"}, 1),
    "version 2, a part of one": ({"cpu.max": "20000 100000\n"}, 1),
    "version 2, one and a half": ({"cpu.max": "150000 100000\n"}, min(2, MACHINE)),
    "version 2, more than there are": ({"cpu.max": "900000000 100000\n"}, MACHINE),
    "version 1, none": ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "1\n"}, MACHINE),
    "version 1, one": (
        {"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"},
        1,
    ),
}


@pytest.mark.parametrize("name", LIMITS)
def test_the_containers_limit_counts(name, tmp_path):
    files, expected = LIMITS[name]
    for file, text in files.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(text)
    assert cpus(tmp_path) == expected


def test_no_connection_that_goes_out_takes_a_free_port():
    text = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text()
    first, last = map(int, text.split())
    assert not {free_port() for _ in range(50)} & set(range(first, last + 1))


def test_a_port_that_is_listened_on_is_not_free(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(processes, "_PORTS", [port] * 100)
        with pytest.raises(InfrastructureError, match=f"100 ports from {port} to {port} were"):
            free_port()
    assert free_port() == port
