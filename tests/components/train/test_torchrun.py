"""A pod of a TrainJob that looks whether anybody still follows the training."""

import time

import pytest

from components.train import torchrun
from components.train.exchange import Exchange
from marquee.errors import InfrastructureError, Stopped

BEAT, AWAY, NOTHING = "beat", "away", ""
MINUTE = 60.0
CASES = {
    "a launcher that gives signs of life": ([BEAT] * 40, False),
    "a launcher of an older version, which gives none": ([NOTHING] * 40, False),
    "a launcher that is gone": ([BEAT] + [NOTHING] * 11, True),
    "one that is away for a while": (([BEAT] + [NOTHING] * 9) * 3, False),
    "storage that is away": ([BEAT] + [AWAY] * 20 + [NOTHING] * 9, False),
    "storage that was away before": ([BEAT] + [AWAY] * 20 + [NOTHING] * 12, True),
}
"""What happens minute by minute, and whether the training is given up by the last one."""


@pytest.mark.parametrize("name", CASES)
def test_a_training_is_given_up_once_nobody_follows_it(name, tmp_path, monkeypatch):
    minutes, given_up = CASES[name]
    exchange = Exchange(str(tmp_path))
    clock = Clock(monkeypatch)
    watch = torchrun._Watch(exchange, judges=True)
    other = torchrun._Watch(exchange, judges=False)
    for minute in minutes:
        clock.now += MINUTE
        if minute == BEAT:
            exchange.beat()
        with monkeypatch.context() as patched:
            if minute == AWAY:
                patched.setattr("marquee.storage.read_text", refuse)
            watch.look()
            other.look()
    assert (watch.abandoned, exchange.is_abandoned()) == (given_up, given_up)
    assert not other.abandoned
    # A launcher that comes is followed again.
    exchange.beat()
    assert not exchange.is_abandoned()


class Clock:
    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(torchrun.time, "monotonic", lambda: self.now)


def refuse(uri):
    raise OSError("storage is away")


def test_what_ends_an_abandoned_training_is_not_begun_anew(tmp_path, monkeypatch):
    exchange = Exchange(str(tmp_path))
    exchange.beat()
    exchange.abandon()
    monkeypatch.setenv("PET_NODE_RANK", "1")
    monkeypatch.setenv("PET_NPROC_PER_NODE", "1")
    monkeypatch.delattr(torchrun, "run_torchrun")
    assert torchrun.main(str(tmp_path)) == torchrun._ABANDONED


def test_what_an_earlier_try_said_is_forgotten_even_if_torchrun_ends_at_once(tmp_path, monkeypatch):
    """A try that ends with 7 is not counted: tries that never began would go on for ever."""
    exchange = Exchange(str(tmp_path))
    for rank in range(3):
        exchange.write_error(rank, Stopped("stopped in epoch 2", remedy="run it again"))
    monkeypatch.setenv("PET_NODE_RANK", "0")
    monkeypatch.setenv("PET_NPROC_PER_NODE", "2")
    monkeypatch.setattr(torchrun, "run_torchrun", lambda *_: (1, False))
    assert torchrun.main(str(tmp_path)) == InfrastructureError.exit_code
    # That of another node is its own to forget.
    assert exchange.error().exit_code == Stopped.exit_code


def test_an_error_of_our_own_ends_the_training(tmp_path, monkeypatch):
    class Broken:
        def look(self):
            raise RuntimeError("a fault in Marquee")

    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexec sleep 20\n")
    python.chmod(0o755)
    monkeypatch.setattr(torchrun.sys, "executable", str(python))
    began = time.monotonic()
    with pytest.raises(RuntimeError, match="a fault in Marquee"):
        torchrun.run_torchrun([], str(tmp_path), Broken())
    assert time.monotonic() - began < 10
