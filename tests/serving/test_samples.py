"""The server keeps a share of the posters, only where the operator asks for it."""

import base64
import json
import logging
import time
from datetime import UTC, datetime

import pytest
from bundles import tiny_bundle
from helpers import encode, noise_poster

from marquee.errors import UsageError
from marquee.samples import recent_samples
from serving import samples
from serving.samples import SampleStore
from serving.settings import ServingSettings

POSTER = encode(noise_poster(1))


def kept(place):
    return [image for _, image in recent_samples(str(place), 99, datetime.now(UTC))]


def eventually(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_all_or_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "_TICK_SECONDS", 0.05)
    with SampleStore(str(tmp_path / "all"), 1.0, 1) as store:
        store.offer(b"one")
        eventually(lambda: kept(tmp_path / "all") == [b"one"])
    with SampleStore(str(tmp_path / "none"), 0.0, 1) as store:
        store.offer(b"one")
        time.sleep(0.3)
    assert kept(tmp_path / "none") == []


def test_storage_that_is_away_costs_samples_only(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(samples, "_TICK_SECONDS", 0.05)
    place = tmp_path / "place"
    place.write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING), SampleStore(str(place), 1.0, 1) as store:
        for _ in range(100):
            store.offer(b"one")
        eventually(lambda: "no sample kept" in caplog.text)
        place.unlink()
        store.offer(b"two")
        eventually(lambda: b"two" in kept(place))


@pytest.mark.parametrize("name", ["sample_share", "sample_hours"])
def test_a_value_out_of_range_is_refused(name):
    with pytest.raises(UsageError, match=f"serve.{name}"):
        ServingSettings(**{name: -1})


def test_what_is_sent_is_kept_as_it_was(start, tmp_path):
    place = tmp_path / "samples"
    bundle = tiny_bundle(tmp_path / "bundle")
    server = start(bundle, "--samples", place, "--sample-share", 1)
    image = base64.b64encode(POSTER).decode()
    assert server.predict(json.dumps({"instances": [{"image": {"b64": image}}]})).ok
    eventually(lambda: kept(place) == [POSTER])
