"""What must not train a model, and why; which sentences must stand beside data."""

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from marquee import licences
from marquee.errors import DataGateFailed
from marquee.licences import attributions, check_not_expired, check_training_use, obstacles
from marquee.settings import LicenceSettings

NOW = datetime.now(UTC)
NONE = LicenceSettings()
TMDB = LicenceSettings(tmdb_agreement="contract 7")
IMDB = LicenceSettings(imdb_agreement="contract 8")
BOTH = LicenceSettings(tmdb_agreement="contract 7", imdb_agreement="contract 8")


def rows(*changes):
    plain = {"licence": licences.ASSERTED, "label_licences": {}, "expires_at": None}
    named = [plain | {"poster_id": f"p{n}"} | change for n, change in enumerate(changes)]
    return pd.DataFrame(named, columns=["poster_id", *licences.COLUMNS])


FROM_TMDB = {"licence": licences.TMDB, "expires_at": NOW + timedelta(days=90)}
JOINED = {"label_licences": {"imdb": licences.IMDB}}
OVER = {"expires_at": NOW - timedelta(seconds=1)}

REFUSED = {
    "TMDB": (rows({}, FROM_TMDB), NONE, ["p1"], "TMDB's terms of use"),
    "TMDB with IMDb's agreement": (rows(FROM_TMDB), IMDB, ["p0"], "licence.tmdb_agreement"),
    "TMDB with a blank agreement": (
        rows(FROM_TMDB),
        LicenceSettings(tmdb_agreement=" "),
        ["p0"],
        "without a separate written agreement",
    ),
    "TMDB in other words": (
        rows({"licence": "https://www.themoviedb.org/terms-of-use"}),
        NONE,
        ["p0"],
        "TMDB",
    ),
    "joined IMDb labels": (rows({}, {}, JOINED), NONE, ["p2"], "personal and non-commercial"),
    "joined IMDb labels on TMDB": (rows(FROM_TMDB | JOINED), TMDB, ["p0"], "licence.imdb_agreem"),
    "expired": (rows({}, OVER), NONE, ["p1"], "have expired"),
    "expired in spite of agreements": (rows(FROM_TMDB | OVER), BOTH, ["p0"], "purge CATALOG"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    frame, settings, ids, words = REFUSED[name]
    (obstacle,) = obstacles(frame, settings)
    assert list(obstacle.poster_ids) == ids
    with pytest.raises(DataGateFailed, match=ids[0]) as caught:
        check_training_use(frame, settings)
    assert words in str(caught.value)
    assert caught.value.exit_code == 3


PASSING = {
    "no rows": (rows(), NONE),
    "TMDB with an agreement": (rows(FROM_TMDB), TMDB),
    "joined IMDb labels with an agreement": (rows(JOINED), IMDB),
    "both with both": (rows(FROM_TMDB | JOINED), BOTH),
    "asserted by the user": (rows({}, {}), NONE),
    "free": (rows({"licence": "CC0-1.0"}), NONE),
    "no licence, no joined labels": (rows({"licence": None, "label_licences": None}), NONE),
    "a merge's gaps": (rows({"licence": float("nan"), "label_licences": float("nan")}), NONE),
    "not yet expired": (rows({"expires_at": NOW + timedelta(days=1)}), NONE),
    "never": (rows({"expires_at": pd.Timestamp("9999-12-31", tz="UTC").as_unit("us")}), NONE),
}


@pytest.mark.parametrize("name", PASSING)
def test_passing(name):
    frame, settings = PASSING[name]
    assert obstacles(frame, settings) == []
    check_training_use(frame, settings)


def test_all_obstacles_are_said_at_once():
    frame = rows(FROM_TMDB, JOINED, OVER)
    assert len(obstacles(frame, NONE)) == 3
    with pytest.raises(DataGateFailed) as caught:
        check_training_use(frame, NONE)
    for words in ("TMDB's terms", "IMDb gives", "have expired"):
        assert words in caught.value.message
    for words in ("licence.tmdb_agreement=", "licence.imdb_agreement=", "ingest them again"):
        assert words in caught.value.remedy


def test_expiry_is_judged_by_the_time_that_is_given():
    frame = rows({"expires_at": datetime(2030, 1, 1, tzinfo=UTC)})
    assert obstacles(frame, NONE, now=datetime(2029, 12, 31, tzinfo=UTC)) == []
    assert len(obstacles(frame, NONE, now=datetime(2030, 1, 1, tzinfo=UTC))) == 1


def test_only_expiry_stops_other_uses():
    check_not_expired(rows(FROM_TMDB, JOINED))
    with pytest.raises(DataGateFailed, match="such as p1"):
        check_not_expired(rows({}, OVER))


ATTRIBUTIONS = {
    "own": (rows({}), []),
    "TMDB": (rows({}, FROM_TMDB), ["This product uses TMDB and the TMDB APIs but is not endorsed"]),
    "IMDb": (rows(JOINED), ["Information courtesy of IMDb"]),
    "both": (rows(FROM_TMDB, JOINED), ["This product uses TMDB", "Information courtesy of IMDb"]),
    "nothing": (rows(), []),
}


@pytest.mark.parametrize("name", ATTRIBUTIONS)
def test_attributions(name):
    frame, beginnings = ATTRIBUTIONS[name]
    sentences = attributions(frame)
    assert len(sentences) == len(beginnings)
    assert all(s.startswith(b) for s, b in zip(sentences, beginnings, strict=True))
