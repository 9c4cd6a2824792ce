"""The TMDB server of our own, asked over HTTP as a client would."""

import csv
import gzip
import io
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import timedelta
from pathlib import Path

import pytest
import requests
from PIL import Image

from components.ingest.drawn_films import drawn_film
from components.ingest.sources import drawn
from components.ingest.tmdb_server import answers, films
from components.ingest.tmdb_server.faults import KINDS, RateLimit, parse_shares, spread
from components.ingest.tmdb_server.server import TmdbServer
from marquee.errors import DataError, InfrastructureError, UsageError
from marquee.genres import TMDB_GENRE_IDS, VISUAL_GENRES
from marquee.processes import family

TOKEN = {"Authorization": "Bearer any"}
FILMS = 10_050
FIRST = films.film(0)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Posters that several servers share: what is drawn once is drawn."""
    return tmp_path_factory.mktemp("posters")


@pytest.fixture(scope="module")
def server(cache):
    with TmdbServer(films=FILMS, cache=cache) as server:
        yield server


def ask(server, path, headers=TOKEN, **query):
    return requests.get(f"{server.base_url}{path}", query, headers=headers, timeout=30)


def answer(server, path, **query):
    response = ask(server, path, **query)
    assert response.status_code == 200, response.text
    return response.json()


def image(server, size="w92", film=FIRST):
    path = films.posters(film)[0].path
    return requests.get(f"{server.image_base_url}/{size}{path}", timeout=30)


def pages(server, **query):
    for page in itertools.count(1):
        found = answer(server, "/discover/movie", page=page, **query)
        yield from found["results"]
        if page >= found["total_pages"]:
            return


def span(first, last):
    return {"primary_release_date.gte": first, "primary_release_date.lte": last}


def test_slices_by_date_give_every_film_once():
    with TmdbServer(films=300) as server:
        years = [span(f"{year}-01-01", f"{year + 19}-12-31") for year in range(1900, 2040, 20)]
        ids = [found["id"] for slice_ in years for found in pages(server, **slice_)]
        assert sorted(ids) == sorted(films.film(number).tmdb_id for number in range(300))
        assert len(list(pages(server))) == 300


def test_a_page_is_as_tmdb_gives_it(server):
    page = answer(server, "/discover/movie", page=2)
    assert (page["page"], page["total_results"], page["total_pages"]) == (2, FILMS, 503)
    assert len(page["results"]) == 20
    found = page["results"][0]
    drawn_as = drawn_film(films.number_of_tmdb(found["id"]))
    assert found["title"] == drawn_as.title
    assert found["release_date"][:4] == str(drawn_as.year)
    assert found["genre_ids"] == [TMDB_GENRE_IDS[genre] for genre in drawn_as.genres]
    assert found["poster_path"].endswith(".jpg")


@pytest.mark.parametrize(
    ("order", "key", "falling"),
    [
        (None, "popularity", True),
        ("popularity.asc", "popularity", False),
        ("primary_release_date.desc", "release_date", True),
        ("primary_release_date.asc", "release_date", False),
    ],
)
def test_orders(server, order, key, falling):
    query = {"sort_by": order} if order else {}
    values = [
        found[key]
        for page in (1, 2, 500)
        for found in answer(server, "/discover/movie", page=page, **query)["results"]
    ]
    assert values == sorted(values, reverse=falling)


@pytest.mark.parametrize(
    ("path", "query", "status", "code"),
    [
        ("/discover/movie", {"page": 501}, 400, 22),
        ("/discover/movie", {"page": 0}, 400, 22),
        ("/discover/movie", {"page": "two"}, 400, 22),
        ("/discover/movie", {"sort_by": "luck"}, 422, 5),
        ("/discover/movie", span("1999-13-01", ""), 400, 23),
        ("/movie/9000001", {}, 404, 34),
        ("/movie/1", {}, 404, 34),
        ("/movie/999999999999999999", {}, 404, 34),
        ("/movie/abc", {}, 404, 34),
        ("/person/1", {}, 404, 34),
        (f"/movie/{FIRST.tmdb_id}", {"append_to_response": ",".join("x" * 21)}, 400, 27),
        ("/movie/changes", {"start_date": "2026-01-01", "end_date": "2026-01-16"}, 422, 20),
        ("/movie/changes", {"start_date": "2026-01-02", "end_date": "2026-01-01"}, 422, 20),
        ("/movie/changes", {"page": 501}, 400, 22),
        (f"/find/{FIRST.imdb_id}", {}, 422, 5),
    ],
)
def test_errors_are_tmdbs(server, path, query, status, code):
    response = ask(server, path, **query)
    assert response.status_code == status
    document = response.json()
    assert (document["success"], document["status_code"]) == (False, code)
    assert document["status_message"]


def test_a_last_page_is_short_and_beyond_it_is_nothing():
    with TmdbServer(films=45) as server:
        lengths = [
            len(answer(server, "/discover/movie", page=page)["results"]) for page in (1, 2, 3, 4)
        ]
    assert lengths == [20, 20, 5, 0]


@pytest.mark.parametrize(
    ("expected", "headers", "query", "status"),
    [
        (None, TOKEN, {}, 200),
        (None, {}, {"api_key": "any"}, 200),
        (None, {}, {}, 401),
        (None, {"Authorization": "Bearer "}, {}, 401),
        (None, {"Authorization": "Basic YTpi"}, {}, 401),
        ("secret", {"Authorization": "Bearer secret"}, {}, 200),
        ("secret", {}, {"api_key": "secret"}, 200),
        ("secret", TOKEN, {}, 401),
    ],
    ids=["any token", "any key", "none", "empty", "basic", "right token", "right key", "wrong"],
)
def test_access(expected, headers, query, status, cache):
    with TmdbServer(films=1, token=expected, cache=cache) as server:
        response = ask(server, "/configuration", headers, **query)
        assert image(server).status_code == 200
    assert response.status_code == status
    if status == 401:
        assert response.json()["status_code"] == 7


def test_a_film_with_all_that_can_be_appended(server):
    known = next(
        film
        for film in map(films.film, range(1000))
        if films.collection(film) and len(films.posters(film)) == 2
    )
    found = answer(
        server,
        f"/movie/{known.tmdb_id}",
        append_to_response="external_ids,keywords,images",
    )
    assert (found["id"], found["imdb_id"]) == (known.tmdb_id, known.imdb_id)
    assert found["external_ids"]["imdb_id"] == known.imdb_id
    assert re.fullmatch(r"tt\d{8}", known.imdb_id)
    assert [genre["name"] for genre in found["genres"]] == list(known.genres)
    assert found["release_date"] == known.release_date.isoformat()
    assert found["belongs_to_collection"]["id"] == films.collection(known)[0]
    assert found["keywords"]["keywords"]
    first, second = found["images"]["posters"]
    assert first["file_path"] == found["poster_path"] != second["file_path"]
    assert first["width"] * 3 == first["height"] * 2
    assert {found[key] for key in ("adult", "video")} == {False}


def test_nothing_is_appended_unasked(server):
    found = answer(server, f"/movie/{FIRST.tmdb_id}", append_to_response="credits,keywords")
    assert "keywords" in found
    assert not {"images", "external_ids", "credits"} & set(found)


@pytest.mark.parametrize("languages", ["en", "null", "fr,null"])
def test_posters_by_language(server, languages):
    wanted = {None if language == "null" else language for language in languages.split(",")}
    for number in range(12):
        film = films.film(number)
        query = {"append_to_response": "images", "include_image_language": languages}
        found = answer(server, f"/movie/{film.tmdb_id}", **query)["images"]["posters"]
        expected = [poster.path for poster in films.posters(film) if poster.language in wanted]
        assert [poster["file_path"] for poster in found] == expected


def test_configuration_names_this_server_and_the_licence(server):
    found = answer(server, "/configuration")
    for key in ("base_url", "secure_base_url"):
        assert found["images"][key] == server.image_base_url + "/"
    assert found["images"]["poster_sizes"] == [
        "w92", "w154", "w185", "w342", "w500", "w780", "original",
    ]  # fmt: skip
    assert found["marquee"] == {"licence": "CC0-1.0"}
    assert answers.LICENCE == drawn.LICENCE


def test_genres(server):
    genres = answer(server, "/genre/movie/list")["genres"]
    assert {genre["name"]: genre["id"] for genre in genres} == TMDB_GENRE_IDS


def test_find_by_imdb_id(server):
    found = answer(server, f"/find/{FIRST.imdb_id}", external_source="imdb_id")
    assert [film["id"] for film in found["movie_results"]] == [FIRST.tmdb_id]
    for unknown in ("tt0111161", "tt90000001", "tt9", "nm0000001", "tt" + "9" * 40):
        assert not answer(server, f"/find/{unknown}", external_source="imdb_id")["movie_results"]


def test_films_are_the_same_in_every_catalogue(server):
    with TmdbServer(films=40) as small:
        for number in range(0, 40, 7):
            path = f"/movie/{films.film(number).tmdb_id}"
            assert answer(small, path) == answer(server, path)
        assert ask(small, f"/movie/{films.film(40).tmdb_id}").status_code == 404


def test_ids_are_unique_and_lead_back_to_their_films():
    numbers = [*range(2000), 999_999]
    known = [films.film(number) for number in numbers]
    assert len({film.tmdb_id for film in known}) == len({film.imdb_id for film in known}) == 2001
    assert [films.number_of_tmdb(film.tmdb_id) for film in known] == numbers
    assert [films.number_of_imdb(film.imdb_id) for film in known] == numbers


def test_films_are_what_a_client_counts_on():
    known = [films.film(number) for number in range(2000)]
    assert all(set(film.genres) & set(VISUAL_GENRES) and film.title for film in known)
    assert all(film.release_date.year == drawn_film(film.number).year for film in known)
    months = [film.release_date.month for film in known]
    assert min(months.count(month) for month in range(1, 13)) > 100
    members = [collection for film in known if (collection := films.collection(film))]
    assert 0.02 * len(known) < len(members) < 0.15 * len(known)
    assert all(members.count(collection) in (2, 3, 4) for collection in set(members))


@pytest.mark.parametrize("size", films.POSTER_WIDTHS)
def test_images_have_the_width_of_their_size(server, size):
    response = image(server, size)
    assert response.headers["Content-Type"] == "image/jpeg"
    with Image.open(io.BytesIO(response.content)) as poster:
        width = films.POSTER_WIDTHS[size]
        assert poster.size == (width, round(width * 1.5))
    assert image(server, size).content == response.content


@pytest.mark.parametrize(
    "path",
    [
        f"w93/{FIRST.tmdb_id}v0.jpg",
        f"w92/{FIRST.tmdb_id}v7.jpg",
        f"w92/{FIRST.tmdb_id}v0.png",
        "w92/9000001v0.jpg",
        "w92/other.jpg",
        "w92/..%2f..%2fsecret.jpg",
        "w92",
    ],
)
def test_unknown_images_are_not_found(server, path):
    response = requests.get(f"{server.image_base_url}/{path}", timeout=30)
    assert response.status_code == 404


def test_many_who_want_a_new_poster_all_get_it(server):
    film = films.film(77)
    with ThreadPoolExecutor(8) as threads:
        responses = list(threads.map(lambda _: image(server, "w342", film), range(8)))
    assert {response.status_code for response in responses} == {200}
    assert len({response.content for response in responses}) == 1


def changed(server, **query):
    return {film["id"] for film in answer(server, "/movie/changes", **query)["results"]}


def test_a_changed_film_is_listed_and_has_another_poster(cache):
    with TmdbServer(films=30, cache=cache) as server:
        ids = [films.film(number).tmdb_id for number in range(3)]
        before = [answer(server, f"/movie/{tmdb_id}") for tmdb_id in ids]
        old = image(server).content
        assert changed(server) == set()
        server.change(ids[0], poster=True)
        server.change(ids[1], title="Director's Cut", genres=["War", "Western"])
        after = [answer(server, f"/movie/{tmdb_id}") for tmdb_id in ids]
        assert changed(server) == set(ids[:2])
        assert after[2] == before[2]
        assert after[1]["title"] == "Director's Cut"
        assert [genre["id"] for genre in after[1]["genres"]] == [10752, 37]
        paths = {film["poster_path"] for film in (before[0], after[0])}
        sizes = [f"{server.image_base_url}/w92{path}" for path in paths]
        posters = {requests.get(url, timeout=30).content for url in sizes}
        assert len(posters) == 2 and old in posters


def test_changes_go_by_their_day():
    today = answers.today()
    with TmdbServer(films=130) as server:
        for number in range(130):
            server.change(films.film(number).tmdb_id, title=f"Film {number}")
        found = answer(server, "/movie/changes", page=2)
        assert (found["total_results"], found["total_pages"]) == (130, 2)
        assert len(found["results"]) == 30
        first = today - timedelta(14)
        assert len(changed(server, start_date=str(first), end_date=str(today))) == 100
        assert not changed(server, start_date=str(first), end_date=str(today - timedelta(1)))


def test_a_removed_film_is_gone_but_listed_among_the_changes():
    with TmdbServer(films=30) as server:
        server.remove(FIRST.tmdb_id)
        assert ask(server, f"/movie/{FIRST.tmdb_id}").status_code == 404
        assert image(server).status_code == 404
        assert len(list(pages(server))) == 29
        assert changed(server) == {FIRST.tmdb_id}
        with pytest.raises(DataError, match=f"no film {FIRST.tmdb_id}"):
            server.change(FIRST.tmdb_id, poster=True)
        with pytest.raises(DataError, match="unknown genre 'Romcom'"):
            server.change(films.film(1).tmdb_id, genres=["Romcom"])


def test_the_rate_limit_slides():
    limit = RateLimit(3)
    times = [0.0, 0.5, 0.9, 0.95, 0.99, 1.0, 1.4, 1.5, 1.95, 1.96]
    admitted = [at for at in times if limit.admits(at)]
    assert admitted == [0.0, 0.5, 0.9, 1.0, 1.5, 1.95]


def test_the_rate_limit_holds_for_the_api_and_not_for_images(cache):
    with TmdbServer(films=5, rate_limit=4, cache=cache) as server:
        start = time.monotonic()
        calls = [ask(server, "/configuration") for _ in range(50)]
        seconds = time.monotonic() - start
        refused = [call for call in calls if call.status_code == 429]
        assert 4 <= 50 - len(refused) <= 4 * (seconds + 1)
        assert refused[0].headers["Retry-After"] == "1"
        assert refused[0].json()["status_code"] == 25
        assert server.requests["rate limit"] == len(refused)
        assert [image(server).status_code for _ in range(20)] == [200] * 20
        time.sleep(1)
        assert ask(server, "/configuration").status_code == 200


def expect_5xx(get):
    response = get()
    assert response.status_code in (500, 502, 503, 504)
    assert response.json()["success"] is False


def expect_timeout(get):
    with pytest.raises(requests.Timeout):
        get(timeout=0.3)


def expect_truncate(get):
    with pytest.raises(requests.exceptions.ChunkedEncodingError, match="more expected"):
        get()


def expect_type(get):
    response = get()
    assert (response.status_code, response.headers["Content-Type"]) == (200, "text/html")
    assert response.content.startswith(b"<!doctype html>")


EXPECT = {
    "5xx": expect_5xx,
    "timeout": expect_timeout,
    "truncate": expect_truncate,
    "type": expect_type,
}


def befallen(server, kind, get):
    """Ask until the fault strikes: a tenth of the requests goes through."""
    while True:
        before = server.requests[kind]
        try:
            EXPECT[kind](get)
        except (AssertionError, pytest.fail.Exception):
            assert server.requests[kind] == before
        else:
            return


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_befalls_the_api_and_images(kind, cache):
    with TmdbServer(films=5, faults={kind: 0.9}, cache=cache) as server:
        path = films.posters(FIRST)[0].path
        for url in (f"{server.base_url}/configuration", f"{server.image_base_url}/w92{path}"):

            def get(timeout=30, url=url):
                return requests.get(url, headers=TOKEN, timeout=timeout)

            befallen(server, kind, get)


def test_a_server_that_stops_lets_go_of_all_its_clients():
    with ThreadPoolExecutor(8) as threads:
        with TmdbServer(films=1, faults={"timeout": 0.9}) as server:
            calls = [threads.submit(ask, server, "/configuration") for _ in range(8)]
            while not server.requests["timeout"]:
                time.sleep(0.001)
            start = time.monotonic()
        assert wait(calls, timeout=10).not_done == set()
        assert time.monotonic() - start < 10


def statuses(seed, paths, tries):
    with TmdbServer(films=1, faults={"5xx": 0.6}, seed=seed) as server:
        return {
            path: [ask(server, path).status_code == 404 for _ in range(tries)] for path in paths
        }


def test_faults_can_be_repeated_and_pass():
    paths = [f"/movie/{number}" for number in range(20)]
    first = statuses(0, paths, 12)
    assert statuses(0, paths[::-1], 12) == first
    assert statuses(1, paths, 12) != first
    assert all(any(passed) for passed in first.values())
    share = sum(passed.count(False) for passed in first.values()) / (20 * 12)
    assert 0.5 < share < 0.7


def test_the_spell_begins_with_the_200th_request_and_ends(cache):
    with TmdbServer(films=2, throttle_seconds=1, cache=cache) as server:
        for _ in range(100):
            assert ask(server, "/configuration").status_code == 200
        for _ in range(99):
            assert image(server).status_code == 200
        for refused in (ask(server, "/configuration"), image(server)):
            assert (refused.status_code, refused.headers["Retry-After"]) == (429, "2")
        time.sleep(1)
        assert image(server).status_code == 200
        for _ in range(250):
            assert ask(server, "/configuration").status_code == 200
        assert server.requests["throttle"] == 2


def test_the_log_tells_every_request(tmp_path, cache):
    log = tmp_path / "log.jsonl"
    with TmdbServer(films=3, log=log, cache=cache, faults={"5xx": 0.5}) as server:
        while ask(server, "/configuration", {}, api_key="secret").status_code != 200:
            pass
        while image(server).status_code != 200:
            pass
        ask(server, "/nowhere")
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        assert len(lines) == sum(server.requests[name] for name in ("configuration", "image")) + 1
    assert {tuple(line) for line in lines} == {("time", "method", "path", "status", "fault")}
    assert abs(lines[0]["time"] - time.time()) < 60
    assert "secret" not in log.read_text()
    assert {line["fault"] for line in lines if line["status"] == 200} == {None}
    assert {line["fault"] for line in lines if line["status"] >= 500} <= {"5xx"}
    assert lines[0]["path"] == "/3/configuration?api_key=..."
    fetched = [line["path"] for line in lines if line["path"].startswith("/t/p/")]
    assert set(fetched) == {f"/t/p/w92{films.posters(FIRST)[0].path}"}


IMDB_TO_TMDB = {"Sci-Fi": "Science Fiction", "Musical": "Music"}


def test_imdbs_file_agrees_on_most_films(server):
    data = requests.get(server.titles_url, timeout=60).content
    text = gzip.decompress(data).decode()
    rows = list(csv.DictReader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE))
    assert list(rows[0]) == [
        "tconst", "titleType", "primaryTitle", "originalTitle", "isAdult", "startYear", "endYear",
        "runtimeMinutes", "genres",
    ]  # fmt: skip
    assert [row["tconst"] for row in rows] == sorted({row["tconst"] for row in rows})
    assert len(rows) == FILMS
    disagreeing, spellings = 0, set()
    for row in rows:
        film = films.film(films.number_of_imdb(row["tconst"]))
        assert (row["primaryTitle"], row["startYear"]) == (film.title, str(film.release_date.year))
        genres = row["genres"].split(",")
        spellings |= set(genres)
        assert 1 <= len(genres) <= 3
        there = {IMDB_TO_TMDB.get(genre, genre) for genre in genres} & set(VISUAL_GENRES)
        disagreeing += there != set(film.genres)
    assert 0.10 <= disagreeing / FILMS <= 0.15
    assert {"Sci-Fi", "Musical", "Music", "Biography"} <= spellings
    assert "Science Fiction" not in spellings


def test_posters_are_prepared_and_drawn_only_once(tmp_path):
    with TmdbServer(films=12, cache=tmp_path, prepare="w92") as server:
        files = sorted((tmp_path / "w92").iterdir())
        assert len(files) == 12
        drawn_at = [file.stat().st_mtime_ns for file in files]
        assert image(server).content == (tmp_path / "w92" / f"{FIRST.tmdb_id}v0.jpg").read_bytes()
    with TmdbServer(films=12, cache=tmp_path, prepare="w92") as server:
        assert image(server).status_code == 200
    assert [file.stat().st_mtime_ns for file in files] == drawn_at


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"films": 0}, "cannot serve 0 films"),
        ({"films": 1_000_001}, "cannot serve 1000001 films"),
        ({"rate_limit": 0}, "the rate limit is 0"),
        ({"throttle_seconds": -1}, "the spell is -1 s"),
        ({"prepare": "w93"}, "no poster size 'w93'"),
        ({"faults": {"4xx": 0.1}}, "unknown fault '4xx'"),
        ({"faults": {"5xx": 1.1}}, "share 1.1 of the fault 5xx"),
        ({"faults": {"5xx": -0.1}}, "share -0.1 of the fault 5xx"),
        ({"faults": {"5xx": 0.5, "type": 0.5}}, "sum to 1, above 0.9"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_options_out_of_range(options, message):
    with pytest.raises(UsageError, match=message) as refused:
        TmdbServer(**options)
    assert refused.value.remedy


def test_a_port_in_use(server):
    port = int(server.base_url.split(":")[2].split("/")[0])
    with pytest.raises(InfrastructureError, match=f"port {port}") as refused, TmdbServer(port=port):
        pass
    assert "--port" in refused.value.remedy


def command(*arguments):
    return [sys.executable, "-m", "marquee", "tmdb-server", *map(str, arguments)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot read the fault ''"),
        ("5xx", "cannot read the fault '5xx'"),
        ("5xx=.1;type=.1", "cannot read the fault '5xx=.1;type=.1'"),
        ("4xx=.1", "unknown fault '4xx'"),
        ("5xx=nan", "share nan of the fault 5xx"),
        ("5xx=.5,type=.5", "sum to 1, above 0.9"),
    ],
)
def test_faults_that_cannot_be_meant(text, message):
    with pytest.raises(UsageError, match=re.escape(message)) as refused:
        parse_shares(text)
    assert refused.value.remedy


def test_shares_of_faults():
    assert parse_shares("5xx=.05, timeout=.02") == {"5xx": 0.05, "timeout": 0.02}
    assert spread(0.2) == dict.fromkeys(KINDS, 0.05)
    with pytest.raises(UsageError, match=r"sum to 0\.95, above 0\.9"):
        spread(0.95)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--faults", "5xx=.1", "--fault-rate", ".1"], "exclude each other"),
        (["--faults", "4xx=.1"], "unknown fault '4xx'"),
    ],
    ids=["both", "unknown"],
)
def test_the_command_refuses_with_a_remedy(arguments, message):
    result = subprocess.run(command(*arguments), capture_output=True, text=True)
    assert result.returncode == 2
    assert message in result.stderr
    assert "try:" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.fixture
def started(tmp_path):
    """The command in a session of its own, with its first lines read."""
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        command("--films", 30, "--port", 0, "--fault-rate", 0),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    ) as process:
        lines = [process.stdout.readline() for _ in range(5)]
        yield process, lines
        process.kill()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_the_command_says_where_it_is_and_stops_cleanly(started, tmp_path, sent):
    process, lines = started
    assert lines[0] == "ready: 30 drawn films\n"
    root = lines[1].split()[1].removesuffix("/3")
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", root)
    assert lines[2].split() == ["images", f"{root}/t/p"]
    assert lines[3].split() == ["IMDb", f"{root}/title.basics.tsv.gz"]
    assert lines[4].split(maxsplit=1)[1] == (
        f"TMDB_READ_ACCESS_TOKEN=any marquee ingest --source tmdb --base-url {root}/3"
        f" --image-base-url {root}/t/p --out CATALOG\n"
    )
    assert requests.get(f"{root}/3/configuration", headers=TOKEN, timeout=30).status_code == 200
    with ThreadPoolExecutor() as threads:
        path = films.posters(FIRST)[0].path
        asked = threads.submit(requests.get, f"{root}/t/p/original{path}", timeout=30)
        while len(family(process.pid)) < 2 and not asked.done():
            time.sleep(0.01)
        os.killpg(process.pid, sent)
        stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stdout, stderr) == (0, "", "")
    assert not list(tmp_path.glob("marquee-tmdb-*"))


def test_no_process_outlives_a_server_that_was_killed(started):
    process, lines = started
    path = films.posters(FIRST)[0].path
    root = lines[1].split()[1].removesuffix("/3")
    assert requests.get(f"{root}/t/p/w92{path}", timeout=30).status_code == 200
    below = family(process.pid)[1:]
    assert below
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while any(family(pid) for pid in below):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_drawing_process_that_dies_costs_one_answer(started):
    process, lines = started
    root = lines[1].split()[1].removesuffix("/3")
    paths = [films.posters(films.film(number))[0].path for number in range(3)]

    def get(path):
        return requests.get(f"{root}/t/p/w92{path}", timeout=30).status_code

    assert get(paths[0]) == 200
    for pid in family(process.pid)[1:]:
        if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text():
            os.kill(pid, signal.SIGKILL)
    time.sleep(0.1)
    assert [get(path) for path in (paths[1], paths[1], paths[2])] == [503, 200, 200]
