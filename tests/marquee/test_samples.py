"""Posters that users sent: kept for hours, then gone, whoever comes across them."""

from datetime import UTC, datetime, timedelta

import pytest

from marquee import storage
from marquee.samples import forget_samples, keep_sample, recent_samples

NOON = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)


@pytest.fixture(params=["disk", "bucket", "s3_bucket"])
def place(request, tmp_path):
    if request.param == "disk":
        return str(tmp_path / "samples")
    return request.getfixturevalue(request.param) + "/samples"


def test_the_latest_come_first_and_each_once(place):
    for hours, image in ((0, b"old"), (1, b"again"), (2, b"again"), (3, b"new")):
        keep_sample(place, image, NOON + timedelta(hours=hours), 24)
    later = NOON + timedelta(hours=4)
    assert [image for _, image in recent_samples(place, 9, later)] == [b"new", b"again", b"old"]
    assert [image for _, image in recent_samples(place, 1, later)] == [b"new"]


def test_whoever_reads_removes_what_has_to_be_gone(place):
    short = keep_sample(place, b"short", NOON, 1)
    long = keep_sample(place, b"long", NOON, 24)
    assert list(recent_samples(place, 9, NOON + timedelta(minutes=20)))[1][1] == b"short"
    assert [image for _, image in recent_samples(place, 9, NOON + timedelta(hours=1))] == [b"long"]
    assert not storage.exists(short)
    assert forget_samples(place, NOON + timedelta(hours=24)) == 1
    assert not storage.exists(long)


def test_none_is_kept_for_longer_than_was_said(place):
    keep_sample(place, b"x", NOON, 2)
    assert forget_samples(place, NOON + timedelta(hours=2)) == 1


def test_a_place_without_samples_has_none(place):
    assert list(recent_samples(place, 9, NOON)) == []
