"""How many CPUs there are for a process."""

import os

import pytest

from marquee.processes import cpus

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
