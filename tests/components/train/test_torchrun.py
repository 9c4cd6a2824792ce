"""A pod of a TrainJob that looks whether anybody still follows the training."""

import pytest

from components.train import torchrun
from components.train.exchange import Exchange

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
