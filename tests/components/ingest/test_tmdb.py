"""The TMDB source against a server that speaks TMDB's API, in its own thread or process."""

import dataclasses
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pandas as pd
import pytest

from components.ingest.ingest import ingest
from components.ingest.sources import make_source, plan
from components.ingest.sources.tmdb import choose_poster, slices
from components.ingest.sources.tmdb.api import TmdbApi, licence_of, read_token
from components.ingest.sources.tmdb.images import ImageHost
from components.ingest.sources.tmdb.retry import Pacer, is_temporary
from components.ingest.tmdb_server.server import TmdbServer
from marquee import licences
from marquee.catalog import Catalog
from marquee.errors import (
    DataError,
    DataGateFailed,
    InfrastructureError,
    InvalidImage,
    UsageError,
)
from marquee.retry_after import retry_after
from marquee.settings import Settings, TmdbSettings

FILMS = 90


@pytest.fixture(autouse=True)
def _token(monkeypatch):
    monkeypatch.setenv("TMDB_READ_ACCESS_TOKEN", "a-secret-token")


@pytest.fixture(scope="module")
def posters(tmp_path_factory):
    """Drawn posters, shared by the servers of this module."""
    return tmp_path_factory.mktemp("posters")


@pytest.fixture
def serve(posters, tmp_path):
    """Start a server; it ends with the test."""
    started = []

    def start(films=FILMS, **options):
        log = tmp_path / f"server{len(started)}.log"
        server = TmdbServer(films=films, cache=posters, log=log, **options)
        server.__enter__()
        started.append(server)
        server.log = log
        return server

    yield start
    for server in started:
        server.__exit__(None, None, None)


@pytest.fixture(params=["disk", pytest.param("flaky_bucket", marks=pytest.mark.slow)])
def out(request, tmp_path):
    """A place for a catalog: on disk, and where every tenth call is answered 503."""
    if request.param == "disk":
        return str(tmp_path / "out")
    return request.getfixturevalue(request.param) + "/out"


def settings_for(server, **changes):
    fields = {"rate": 0, "timeout": 1.0, "poster_size": "w92"} | changes
    return TmdbSettings(base_url=server.base_url, image_base_url=server.image_base_url, **fields)


def bring(server, out, mirror=False, imdb=None, **changes):
    # Each call that a bucket refuses costs seconds of waiting: few calls there.
    bucket = str(out).startswith("gs://")
    settings = Settings(
        tmdb=settings_for(server, **{"slice_pages": 500 if bucket else 2} | changes)
    )
    sources = [make_source("tmdb", span, settings=settings) for span in plan("tmdb", settings.tmdb)]
    return ingest(sources, str(out), part_rows=50 if bucket else 20, mirror=mirror, imdb=imdb)


def requested(log, route, since=0):
    """The paths of a route that were answered, from a line of the log on."""
    entries = [json.loads(line) for line in log.read_text().splitlines()[since:]]
    return [entry["path"] for entry in entries if route in entry["path"]]


def lines(log):
    return len(log.read_text().splitlines())


def test_every_film_comes_in_once_with_all_that_tmdb_says(serve, out):
    server = serve()
    report = bring(server, out)
    assert (report.added, report.refused, report.manifest.rows) == (FILMS, 0, FILMS)
    frame = Catalog(out).frame()
    assert frame["poster_id"].is_unique
    assert frame["imdb_id"].str.match(r"tt\d+").all()
    assert frame["collection_id"].notna().any()
    assert frame["keywords"].map(len).max() > 0
    assert set(frame["source"]) == {"tmdb"}
    assert set(frame["image_ref"].str.split("/").str[0]) == {"w92"}
    assert frame["year"].between(1874, 2026).all()
    today = datetime.now(UTC).date()
    assert {moment.date() for moment in frame["expires_at"]} == {today + timedelta(days=180)}
    assert (frame["expires_at"] - frame["retrieved_at"] <= timedelta(days=180)).all()
    labels = [(list(row.genres), list(row.label_sources["tmdb"])) for row in frame.itertuples()]
    assert all(genres == given for genres, given in labels)


def test_the_licence_is_the_servers_and_its_posters_may_train(serve, tmp_path):
    bring(serve(), tmp_path / "out")
    frame = Catalog(str(tmp_path / "out")).frame(licences.COLUMNS)
    assert set(frame["licence"]) == {"CC0-1.0"}
    assert licences.obstacles(frame, Settings().licence) == []


LICENCES = {
    "our server": ("http://127.0.0.1:1/3", {"marquee": {"licence": "CC0-1.0"}}, "CC0-1.0"),
    "silent": ("http://127.0.0.1:1/3", {}, licences.TMDB),
    "empty": ("http://127.0.0.1:1/3", {"marquee": {"licence": ""}}, licences.TMDB),
    "odd": ("http://127.0.0.1:1/3", {"marquee": "CC0"}, licences.TMDB),
    "tmdb": ("https://api.themoviedb.org/3", {"marquee": {"licence": "CC0-1.0"}}, licences.TMDB),
    "tmdb, spelled oddly": (
        "https://API.TheMovieDB.org./3",
        {"marquee": {"licence": "CC0-1.0"}},
        licences.TMDB,
    ),
    "tmdb's other host": (
        "https://api.tmdb.org/3",
        {"marquee": {"licence": "CC0-1.0"}},
        licences.TMDB,
    ),
    "a host that only sounds alike": (
        "https://nottmdb.org/3",
        {"marquee": {"licence": "CC0-1.0"}},
        "CC0-1.0",
    ),
}


@pytest.mark.parametrize("name", LICENCES)
def test_no_server_of_tmdb_can_give_another_licence(name):
    base_url, configuration, expected = LICENCES[name]
    assert licence_of([base_url], configuration) == expected


def test_images_of_tmdb_are_tmdbs_whoever_lists_them():
    ours = {"marquee": {"licence": "CC0-1.0"}}
    urls = ["http://127.0.0.1:1/3", "https://image.tmdb.org/t/p"]
    assert licence_of(urls, ours) == licences.TMDB


def test_slices_adapt_until_they_fit_and_cover_every_film(serve, tmp_path):
    server = serve()
    whole = bring(server, tmp_path / "whole", slice_pages=500)
    spans = plan("tmdb", settings_for(server, slice_pages=1))
    assert len(spans) >= FILMS / 20
    parsed = [slices.Slice.parse(span) for span in spans]
    assert all(early.last < late.first for early, late in pairwise(parsed))
    cut = bring(server, tmp_path / "cut", slice_pages=1)
    assert cut.manifest.digest == whole.manifest.digest


def test_years_bound_what_comes_in(serve, tmp_path):
    bring(serve(), tmp_path / "out", from_year=1990, to_year=1999)
    years = Catalog(str(tmp_path / "out")).frame(["year"])["year"]
    assert years.between(1990, 1999).all()
    assert len(years)


def test_years_without_a_film_are_refused(serve):
    with pytest.raises(DataGateFailed, match=r"no film released in 1874-01-01\.\.1875-12-31"):
        plan("tmdb", settings_for(serve(), from_year=1874, to_year=1875))


def test_the_same_again_asks_for_no_film_and_no_poster(serve, out):
    server = serve()
    first = bring(server, out)
    before = lines(server.log)
    second = bring(server, out)
    assert (second.added, second.unchanged) == (0, FILMS)
    assert second.manifest.digest == first.manifest.digest
    assert not re.findall(r"/3/movie/\d", " ".join(requested(server.log, "/movie/", before)))
    assert requested(server.log, "/t/p/", before) == []


def test_a_refresh_asks_for_what_changed_only(serve, out):
    server = serve()
    bring(server, out)
    ids = Catalog(out).frame(["tmdb_id"])["tmdb_id"].tolist()
    retitled, redrawn, gone = ids[3], ids[40], ids[60]
    server.change(retitled, title="Director's Cut", genres=["Western"])
    server.change(redrawn, poster=True)
    server.remove(gone)
    before = lines(server.log)
    report = bring(server, out, mirror=True)
    assert (report.added, report.removed, report.manifest.rows) == (2, 1, FILMS - 1)
    details = requested(server.log, "/3/movie/", before)
    asked_for = {int(found[1]) for path in details if (found := re.search(r"movie/(\d+)", path))}
    assert asked_for == {retitled, redrawn}
    # The poster of the film with a new title is read from the catalog.
    assert len(requested(server.log, "/t/p/", before)) == 1
    frame = Catalog(out).frame(["title", "genres"]).set_index("poster_id")
    assert frame.loc[f"tmdb-{retitled}", "title"] == "Director's Cut"
    assert list(frame.loc[f"tmdb-{retitled}", "genres"]) == ["Western"]
    assert report.manifest.digest == bring(server, f"{out}-fresh").manifest.digest


def test_what_is_about_to_expire_is_fetched_anew(serve, tmp_path):
    server = serve(films=20)
    bring(server, tmp_path / "out", retention_days=20)
    before = lines(server.log)
    report = bring(server, tmp_path / "out", retention_days=180)
    assert report.added == 20
    assert len(re.findall(r"/3/movie/\d", " ".join(requested(server.log, "/3/", before)))) == 20
    # The terms are about the bytes: they are fetched anew, and the old ones are gone.
    assert len(requested(server.log, "/t/p/", before)) == 20
    shards = list((tmp_path / "out/parts").glob("*/posters.parquet"))
    assert sum(len(pd.read_parquet(file)) for file in shards) == 20
    expiry = Catalog(str(tmp_path / "out")).frame(["expires_at"])["expires_at"]
    assert (expiry > datetime.now(UTC) + timedelta(days=170)).all()


def test_labels_are_compared_with_imdb(serve, out):
    server = serve()
    bring(server, out, imdb=server.titles_url)
    frame = Catalog(out).frame(["label_sources", "label_licences", "agreement"])
    joined = frame["label_sources"].map(lambda sources: "imdb" in sources)
    assert joined.sum() > 0.8 * FILMS
    assert set(frame.loc[joined, "label_licences"].map(lambda held: held["imdb"])) == {
        licences.IMDB
    }
    statuses = {status for row in frame["agreement"] for status in row.values()}
    assert {"agree", "imdb_only"} <= statuses
    again = bring(server, out, imdb=server.titles_url)
    assert (again.added, again.unchanged) == (0, FILMS)


def test_faults_change_nothing_in_the_catalog(serve, tmp_path):
    undisturbed = bring(serve(), tmp_path / "calm").manifest.digest
    server = serve(
        faults={"5xx": 0.05, "timeout": 0.02, "truncate": 0.03, "type": 0.03}, throttle_seconds=3
    )
    report = bring(server, tmp_path / "out", timeout=0.5)
    assert report.manifest.digest == undisturbed
    assert report.refused == 0
    counts = server.requests
    assert all(counts[kind] for kind in ("5xx", "timeout", "truncate", "type", "throttle"))


def test_a_refused_token_stops_everything_at_once(serve, tmp_path):
    server = serve(token="another")
    with pytest.raises(UsageError, match=r"refused the token \(HTTP 401, code 7"):
        bring(server, tmp_path / "out")
    assert server.requests.total() == 1


def test_a_token_that_is_revoked_meanwhile_is_not_tried_again(serve, tmp_path, monkeypatch):
    server = serve(token="a-secret-token")
    settings = Settings(tmdb=settings_for(server, slice_pages=500))
    source = make_source("tmdb", settings=settings)
    server._options.__dict__["token"] = "another"
    with pytest.raises(UsageError, match="refused the token"):
        ingest(source, str(tmp_path / "out"))
    assert server.requests.total() <= settings.tmdb.concurrency + 1


def test_the_token_appears_nowhere(serve, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    server = serve(films=20, faults={"5xx": 0.2})
    bring(server, tmp_path / "out")
    assert "a-secret-token" not in caplog.text
    for file in filter(lambda path: path.is_file(), (tmp_path / "out").rglob("*")):
        assert b"a-secret-token" not in file.read_bytes()


TOKENS = {
    "from the environment": ({"TMDB_READ_ACCESS_TOKEN": " abc\n"}, None, "abc"),
    "from a mounted secret": ({}, "file-token\n", "file-token"),
    "the environment wins": ({"TMDB_READ_ACCESS_TOKEN": "abc"}, "file-token", "abc"),
    "none": ({}, None, "there is no token"),
    "an empty file": ({}, "", "there is no token"),
    "two lines": ({"TMDB_READ_ACCESS_TOKEN": "one\ntwo"}, None, "holds is no token"),
}


@pytest.mark.parametrize("name", TOKENS)
def test_where_the_token_comes_from(name, monkeypatch, tmp_path):
    environment, file, expected = TOKENS[name]
    monkeypatch.delenv("TMDB_READ_ACCESS_TOKEN", raising=False)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    if file is not None:
        (tmp_path / "token").write_text(file)
        monkeypatch.setenv("TMDB_READ_ACCESS_TOKEN_FILE", str(tmp_path / "token"))
    if " " in expected:
        with pytest.raises(UsageError, match=expected) as caught:
            read_token()
        assert "two" not in str(caught.value)
    else:
        assert read_token() == expected


def test_a_host_that_is_silent_is_an_infrastructure_error(tmp_path):
    settings = TmdbSettings(base_url="http://127.0.0.1:9/3", rate=0, timeout=0.5, patience=1)
    with pytest.raises(InfrastructureError, match="does not answer"):
        plan("tmdb", settings)


def test_a_base_url_without_its_version_is_refused(serve):
    server = serve()
    settings = TmdbSettings(base_url=server.base_url.removesuffix("/3"), rate=0, patience=2)
    with pytest.raises(UsageError) as caught:
        plan("tmdb", settings)
    assert "must end with /3" in caught.value.remedy


def test_an_image_url_without_its_path_does_not_empty_the_catalog(serve, tmp_path):
    server = serve(films=40)
    settings = settings_for(server, slice_pages=500)
    wrong = dataclasses.replace(
        settings, image_base_url=server.image_base_url.removesuffix("/t/p"), concurrency=1
    )
    with pytest.raises(InfrastructureError, match="HTTP 404") as caught:
        ingest(make_source("tmdb", settings=Settings(tmdb=wrong)), str(tmp_path / "out"))
    assert "must end with /t/p" in caught.value.remedy


@pytest.mark.parametrize("name", ["base_url", "image_base_url"])
def test_what_is_no_url_is_refused(name):
    with pytest.raises(UsageError, match=f"tmdb.{name} is 'localhost:8081/t/p'"):
        TmdbSettings(**{name: "localhost:8081/t/p"})


CUT_ANEW = {
    "a year later": ({"to_year": 2020}, {"to_year": 2021}),
    "coarser slices": ({"slice_pages": 1}, {"slice_pages": 500}),
    "finer slices": ({"slice_pages": 500}, {"slice_pages": 1}),
}


@pytest.mark.parametrize("name", CUT_ANEW)
def test_a_refresh_misses_nothing_when_slices_are_cut_anew(name, serve, tmp_path):
    first, later = CUT_ANEW[name]
    server = serve()
    bring(server, tmp_path / "out", **first)
    tmdb_id = Catalog(str(tmp_path / "out")).frame(["tmdb_id"])["tmdb_id"].tolist()[5]
    server.change(tmdb_id, title="Director's Cut")
    bring(server, tmp_path / "out", **later)
    frame = Catalog(str(tmp_path / "out")).frame(["title"]).set_index("poster_id")
    assert frame.loc[f"tmdb-{tmdb_id}", "title"] == "Director's Cut"


def test_a_changed_poster_that_failed_is_tried_again_and_kept_meanwhile(
    serve, tmp_path, monkeypatch
):
    server = serve()
    bring(server, tmp_path / "out")
    tmdb_id = Catalog(str(tmp_path / "out")).frame(["tmdb_id"])["tmdb_id"].tolist()[5]
    server.change(tmdb_id, poster=True)

    async def fail(self, url):
        raise InvalidImage("never came whole", remedy="run again")

    with monkeypatch.context() as patch:
        patch.setattr(ImageHost, "fetch", fail)
        report = bring(server, tmp_path / "out", mirror=True)
    assert (report.refused, report.removed, report.manifest.rows) == (1, 0, FILMS)
    assert report.manifest.quarantined == 1
    # Even when no change is reported any more, and under slices of another name.
    monkeypatch.setattr(TmdbApi, "changed_since", lambda self, first, last: set())
    report = bring(server, tmp_path / "out", slice_pages=500)
    assert (report.added, report.manifest.quarantined) == (1, 0)
    refs = Catalog(str(tmp_path / "out")).frame(["image_ref"]).set_index("poster_id")["image_ref"]
    assert not refs[f"tmdb-{tmdb_id}"].endswith("v0.jpg")


def test_many_changes_are_asked_for_in_smaller_windows():
    asked = []

    class Api(TmdbApi):
        def get(self, path, needs, **query):
            asked.append((query["start_date"], query["end_date"]))
            whole = query["start_date"] == query["end_date"]
            return {"results": [{"id": len(asked)}], "total_pages": 1 if whole else 501}

    api = Api(TmdbSettings(), "any")
    found = api.changed_since(date(2026, 1, 1), date(2026, 1, 4))
    assert len(found) == 4
    assert {day for day, end in asked if day == end} == {f"2026-01-0{n}" for n in range(1, 5)}


def test_windows_of_changes_leave_no_day_out():
    asked = []

    class Api(TmdbApi):
        def get(self, path, needs, **query):
            asked.append((date.fromisoformat(query["start_date"]), query["end_date"]))
            return {"results": [], "total_pages": 1}

    Api(TmdbSettings(), "any").changed_since(date(2026, 1, 1), date(2026, 3, 1))
    ends = [date.fromisoformat(end) for _, end in asked]
    assert all(
        end - first < timedelta(days=14) for (first, _), end in zip(asked, ends, strict=True)
    )
    assert all(later[0] == end for later, end in zip(asked[1:], ends, strict=False))
    assert (asked[0][0], ends[-1]) == (date(2026, 1, 1), date(2026, 3, 1))


def test_a_limit_is_refused():
    with pytest.raises(UsageError, match="takes no limit"):
        make_source("tmdb", limit=5)


def poster(path, language, average=5.0, count=10):
    return {
        "file_path": path,
        "iso_639_1": language,
        "vote_average": average,
        "vote_count": count,
    }


POSTERS = {
    "tmdb's own choice": ("/b", [poster("/a", "en", 9), poster("/b", None)], "/b"),
    "another language is passed over": ("/fr", [poster("/fr", "fr", 9), poster("/a", "en")], "/a"),
    "english before none": ("/x", [poster("/none", None, 9), poster("/en", "en", 1)], "/en"),
    "the best voted": ("/x", [poster("/a", "en", 5), poster("/b", "en", 6)], "/b"),
    "many votes break a tie": ("/x", [poster("/a", "en", 5, 9), poster("/b", "en", 5, 8)], "/a"),
    "only other languages": ("/fr", [poster("/fr", "fr")], None),
    "none": (None, [], None),
}


@pytest.mark.parametrize("name", POSTERS)
def test_which_poster_is_chosen(name):
    own, listed, expected = POSTERS[name]
    document = {"poster_path": own, "images": {"posters": listed}}
    assert choose_poster(document, ["en", "null"]) == expected


class ShiftingApi:
    """Lists films whose pages shift while they are read: one film is seen twice, one not at all."""

    def __init__(self, readings):
        self.readings = readings
        self.begun = 0

    def discover(self, first, last, page):
        self.begun += page == 1
        pages = self.readings[min(self.begun, len(self.readings)) - 1]
        return {
            "results": [{"id": number} for number in pages[page - 1]],
            "total_pages": len(pages),
            "total_results": 4,
        }


class Inline:
    """An executor that calls at once."""

    map = staticmethod(map)


def test_a_listing_that_shifted_is_read_again():
    span = slices.Slice(date(1990, 1, 1), date(1990, 12, 31))
    api = ShiftingApi([[[1, 2], [2, 3]], [[1, 2], [3, 4]]])
    assert list(slices.list_films(api, span, Inline(), str)) == [1, 2, 3, 4]
    assert api.begun == 2


def test_a_listing_that_keeps_shifting_is_taken_together(caplog):
    span = slices.Slice(date(1990, 1, 1), date(1990, 12, 31))
    api = ShiftingApi([[[1, 2], [2, 3]], [[1, 4], [4, 3]]])
    assert list(slices.list_films(api, span, Inline(), str)) == [1, 2, 3, 4]
    assert "kept changing" in caplog.text


class CappingApi(ShiftingApi):
    """Says 500 pages where there are more, and lists films of two days."""

    def __init__(self):
        self.asked = []

    def discover(self, first, last, page):
        self.asked.append((first, last))
        return {
            "results": [{"id": 1}],
            "total_pages": 500 if first < last else 1,
            "total_results": 1,
        }


def test_500_pages_may_be_a_cap_and_are_cut():
    span = slices.Slice(date(1990, 1, 1), date(1990, 1, 2))
    assert [str(item) for item in slices.plan(CappingApi(), span, 500)] == [
        "1990-01-01..1990-01-01",
        "1990-01-02..1990-01-02",
    ]


def test_a_day_with_too_many_films_is_refused_rather_than_cut():
    day = slices.Slice(date(1990, 1, 1), date(1990, 1, 1))
    with pytest.raises(DataError, match="2 pages of films released on 1990-01-01, too many"):
        slices.plan(ShiftingApi([[[1, 2], [3, 4]]]), day, 1)


RETRY_AFTER = {
    "seconds": ("7", 7.0),
    "a date": ("Thu, 01 Jan 1970 00:01:40 GMT", 40.0),
    "a date that is over": ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
    "nothing": ("", None),
    "nonsense": ("soon", None),
}


@pytest.mark.parametrize("name", RETRY_AFTER)
def test_retry_after(name):
    text, expected = RETRY_AFTER[name]
    assert retry_after({"Retry-After": text} if text else {}, now=lambda: 60.0) == expected


def test_the_pacer_spaces_calls_evenly():
    pacer = Pacer(rate=10)
    delays = [pacer.reserve() for _ in range(5)]
    gaps = [late - early for early, late in pairwise(delays)]
    assert gaps == pytest.approx([0.1] * 4, abs=0.02)


def test_the_pacer_pauses_everybody():
    pacer = Pacer()
    pacer.pause(5)
    assert pacer.reserve() == pytest.approx(5, abs=0.5)


def ingest_command(server, out, *options):
    return [
        *(sys.executable, "-m", "marquee", "ingest", "--source", "tmdb", "--out", str(out)),
        *("--base-url", server.base_url, "--image-base-url", server.image_base_url, "--rate", "0"),
        *("--set", "tmdb.poster_size=w92", "--set", "ingest.part_rows=10", *options),
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_whoever_stops_it_keeps_what_is_there(number, serve, tmp_path):
    server = serve(films=400)
    out = tmp_path / "out"
    process = subprocess.Popen(
        ingest_command(server, out, "--set", "ingest.workers=1"),
        env=os.environ,
        stderr=subprocess.PIPE,
        text=True,
        # Where the tests run in the background, Ctrl-C is ignored, and that is inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    for _ in range(600):
        if (out / "catalog.json").exists():
            break
        time.sleep(0.05)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 7, said
    assert "run the same command again" in said
    kept = Catalog(str(out)).manifest.rows
    assert 0 < kept < 400
    subprocess.run(ingest_command(server, out), check=True, capture_output=True)
    assert Catalog(str(out)).manifest.rows == 400


def test_sigterm_does_not_wait_for_calls_that_are_being_retried(serve, tmp_path):
    server = serve(films=200, faults={"5xx": 0.9})
    process = subprocess.Popen(
        ingest_command(server, tmp_path / "out"), stderr=subprocess.PIPE, text=True
    )
    while server.requests["discover"] < 8:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 7, said


TEMPORARY = {408: True, 429: True, 500: True, 520: True, 524: True, 400: False, 404: False}


@pytest.mark.parametrize("code", TEMPORARY)
def test_which_answers_may_pass(code):
    assert is_temporary(code) == TEMPORARY[code]
