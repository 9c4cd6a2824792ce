"""IMDb's labels: read from its file, refused where it is unsound, joined to facts."""

import gzip
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pytest

from components.ingest import imdb
from components.ingest.imdb import ImdbLabels, with_agreement, with_imdb
from marquee import licences, storage
from marquee.catalog import Facts
from marquee.errors import DataError, InfrastructureError, UsageError

HEADER = (
    "tconst\ttitleType\tprimaryTitle\toriginalTitle\tisAdult\tstartYear\tendYear"
    "\truntimeMinutes\tgenres\n"
)


def line(imdb_id: str, genres: str, kind: str = "movie", title: str = "A Title") -> str:
    return f"{imdb_id}\t{kind}\t{title}\t{title}\t0\t1999\t\\N\t90\t{genres}\n"


def document(*lines: str) -> bytes:
    return (HEADER + "".join(lines)).encode()


def load(tmp_path: Path, *lines: str, pack: bool = True) -> ImdbLabels:
    path = tmp_path / "title.basics.tsv.gz"
    path.write_bytes(gzip.compress(document(*lines)) if pack else document(*lines))
    return ImdbLabels.load(str(path))


GENRES = {
    "the same names": ("Drama,Horror,War", ("Drama", "Horror", "War"), True),
    "one": ("Western", ("Western",), False),
    "other names": ("Musical,Sci-Fi", ("Music", "Science Fiction"), False),
    "two names of one genre": ("Music,Musical", ("Music",), False),
    "names without a target": ("Biography,Drama,Film-Noir", ("Drama",), True),
    "dropped names": ("Adult,Comedy,Short", ("Comedy",), True),
    "no name with a target": ("Game-Show,Short,Talk-Show", None, False),
    "null": ("\\N", None, False),
    "empty": ("", None, False),
    "unheard of": ("Anime,Drama", ("Drama",), False),
}


@pytest.mark.parametrize("name", GENRES)
def test_genres_in_tmdbs_spelling(name, tmp_path):
    cell, genres, full = GENRES[name]
    labels = load(tmp_path, line("tt0000007", cell), line("tt0000008", "Action"))
    assert labels.genres("tt0000007") == genres
    assert labels.is_full("tt0000007") == full
    assert labels.genres("tt0000008") == ("Action",)


def test_a_genre_that_is_new_to_us_is_named_once(tmp_path, caplog):
    imdb._warn_of.cache_clear()
    with caplog.at_level(logging.WARNING):
        load(tmp_path, line("tt1", "Manga,Drama"), line("tt2", "Manga"))
    assert [record.getMessage().count("'Manga'") for record in caplog.records] == [1]


IDS = {
    "as in the file": ("tt0133093", True),
    "without zeros": ("tt133093", True),
    "a number": ("133093", True),
    "unknown": ("tt0133094", False),
    "before all": ("tt0000001", False),
    "after all": ("tt99999999", False),
    "a person": ("nm0133093", False),
    "nothing": ("", False),
    "none": (None, False),
    "endless": ("tt" + "9" * 30, False),
}


@pytest.mark.parametrize("name", IDS)
def test_ids(name, tmp_path):
    imdb_id, known = IDS[name]
    # IMDb's file is in the order of text: ids of eight digits stand among those of seven.
    labels = load(
        tmp_path, line("tt0100000", "War"), line("tt10872600", "War"), line("tt0133093", "Drama")
    )
    assert labels.genres(imdb_id) == (("Drama",) if known else None)
    assert labels.genres("tt10872600") == ("War",)
    assert len(labels) == 3


def test_episodes_are_left_out_and_other_titles_are_not(tmp_path):
    kinds = ("tvEpisode", "movie", "tvMovie", "short", "tvSeries")
    labels = load(tmp_path, *(line(f"tt{n}", "Drama", kind) for n, kind in enumerate(kinds)))
    assert [labels.genres(f"tt{n}") is None for n in range(5)] == [True, *[False] * 4]


def test_titles_mean_nothing_whatever_is_in_them(tmp_path):
    titles = (
        '"Stray',
        'He said "no"',
        "it's",
        "a, b",
        "\\N",
        "",
        "\\",
        "# no comment",
        "\u00e9\u4e2d",
    )
    lines = [line(f"tt{n}", "Comedy", title=title) for n, title in enumerate(titles)]
    assert len(load(tmp_path, *lines)) == len(titles)


@pytest.mark.parametrize("pack", [True, False])
def test_many_blocks(pack, tmp_path, monkeypatch):
    monkeypatch.setattr(imdb, "_BLOCK_BYTES", 4096)
    cells = ("Drama", "Horror,War", "\\N", "Sci-Fi")
    expected = (("Drama",), ("Horror", "War"), None, ("Science Fiction",))
    labels = load(tmp_path, *(line(f"tt{n}", cells[n % 4]) for n in range(2000)), pack=pack)
    assert [labels.genres(f"tt{n}") for n in range(2000)] == [expected[n % 4] for n in range(2000)]


def test_memory_does_not_grow_with_the_file(tmp_path, monkeypatch):
    held = []

    @contextmanager
    def watch(description: str, total: int | None) -> Iterator[Callable[[int], None]]:
        yield lambda rows: held.append(pa.total_allocated_bytes())

    monkeypatch.setattr(imdb, "progress", watch)
    path = tmp_path / "basics.tsv"
    path.write_bytes(document(*[line(f"tt{n:07d}", "Drama", "tvEpisode") for n in range(600_000)]))
    before = pa.total_allocated_bytes()
    ImdbLabels.load(str(path))
    assert len(held) > 15
    assert max(held) - before < path.stat().st_size / 3


SOUND = document(*(line(f"tt{n:07d}", "Drama") for n in range(3000)))
PACKED = gzip.compress(SOUND)
BAD_FILES = {
    "cut off": (PACKED[: len(PACKED) // 2], "ends before its end"),
    "cut off in the checksum": (PACKED[:-3], "ends before its end"),
    "cut off in the header": (PACKED[:15], "ends before its end"),
    "damaged": (PACKED[:-8] + b"\0\0\0\0" + PACKED[-4:], "is damaged"),
    "something behind": (PACKED + b"more", "is damaged"),
    "a web page": (b"<html>404</html>", "'<html>404</html>', lacks"),
    "a packed web page": (gzip.compress(b"<html>404</html>"), "lacks the column"),
    "another table": (b"tconst\taverageRating\tnumVotes\ntt1\t5\t3\n", "titleType, genres"),
    "a zip": (b"PK\3\4" + bytes(100), "is no title.basics"),
    "empty": (b"", "is no title.basics"),
    "no rows": (HEADER.encode(), "after 0 titles"),
    "a short row": (
        document(line("tt1", "Drama"), "tt2\tmovie\n"),
        "Expected 9 columns, got 2: tt2",
    ),
    "a long row": (document(line("tt1", "Drama\tmore")), "Expected 9 columns, got 10"),
    "a comma table": (SOUND.replace(b"\t", b","), "lacks the column"),
    "no id": (document(line("nm1", "Drama")), "'nm1' where an id"),
    "no text": (document(line("tt1", "Drama")).replace(b"Drama", b"\xff\xfe"), "invalid UTF8"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_refused_as_a_whole(name, tmp_path):
    data, message = BAD_FILES[name]
    path = tmp_path / "basics"
    path.write_bytes(data)
    with pytest.raises(DataError, match=message) as caught:
        ImdbLabels.load(str(path))
    assert str(path) in caught.value.message
    assert imdb.DATASET_URL in caught.value.remedy


@pytest.mark.parametrize("name", ["missing.tsv.gz", "."])
def test_a_file_that_is_not_there_is_a_usage_error(name, tmp_path):
    with pytest.raises(UsageError, match="there is no file") as caught:
        ImdbLabels.load(str(tmp_path / name))
    assert "--imdb" in caught.value.remedy


class _Handler(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path == "/broken":
            self.send_response(200)
            self.send_header("Content-Length", str(len(PACKED)))
            self.end_headers()
            self.wfile.write(PACKED[:1000])
        elif self.path == "/down":
            self.send_error(503)
        else:
            super().do_GET()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "packed").write_bytes(PACKED)
    (tmp_path / "plain").write_bytes(SOUND)
    (tmp_path / "cut").write_bytes(PACKED[:-3])
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("name", ["packed", "plain"])
def test_a_file_from_the_web(name, site):
    assert len(ImdbLabels.load(f"{site}/{name}")) == 3000


WEB_ERRORS = {
    "missing": (UsageError, "answers 404"),
    "down": (InfrastructureError, "answers 503"),
    "broken": (InfrastructureError, "the connection broke"),
    "cut": (DataError, "ends before its end"),
}


@pytest.mark.parametrize("name", WEB_ERRORS)
def test_what_goes_wrong_on_the_web(name, site):
    kind, message = WEB_ERRORS[name]
    with pytest.raises(kind, match=message) as caught:
        ImdbLabels.load(f"{site}/{name}")
    assert type(caught.value) is kind


def test_nobody_answers():
    with pytest.raises(InfrastructureError, match="does not answer"):
        ImdbLabels.load("http://127.0.0.1:9/title.basics.tsv.gz")


def test_a_file_in_a_bucket(bucket):
    storage.write_bytes(f"{bucket}/title.basics.tsv.gz", PACKED)
    assert ImdbLabels.load(f"{bucket}/title.basics.tsv.gz").genres("tt0000007") == ("Drama",)
    with pytest.raises(UsageError, match="there is no file"):
        ImdbLabels.load(f"{bucket}/elsewhere.tsv.gz")


def facts(imdb_id: str | None = "tt1", **sources: tuple[str, ...]) -> Facts:
    return Facts(
        poster_id="p",
        film_id="p",
        title="A Title",
        year=1999,
        genres=("Drama",),
        source="tmdb",
        licence="TMDB API Terms of Use",
        imdb_id=imdb_id,
        label_sources=dict(sources),
    )


JOINS = {
    "joined": (facts(tmdb=("Drama",)), ("Drama",), {"Drama": "agree"}),
    "a full list, two names dropped": (
        facts("tt2", tmdb=("Drama", "History")),
        ("Drama",),
        {"Drama": "agree", "History": "unknown"},
    ),
    "a list that is not full": (
        facts(tmdb=("War",)),
        ("Drama",),
        {"Drama": "imdb_only", "War": "tmdb_only"},
    ),
    "unknown to IMDb": (facts("tt9", tmdb=("War",)), None, {"War": "unknown"}),
    "no id": (facts(None, tmdb=("War",)), None, {"War": "unknown"}),
    "no genre with a target": (facts("tt3", tmdb=("War",)), None, {"War": "unknown"}),
    "no other source": (facts(), ("Drama",), {"Drama": "unknown"}),
}


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> ImdbLabels:
    folder = tmp_path_factory.mktemp("imdb")
    cells = {"tt1": "Drama", "tt2": "Biography,Drama,Sport", "tt3": "Short"}
    return load(folder, *(line(imdb_id, cell) for imdb_id, cell in cells.items()))


@pytest.mark.parametrize("name", JOINS)
def test_labels_are_joined_with_their_licence_and_compared(name, labels):
    before, genres, agreement = JOINS[name]
    joined = with_imdb(before, labels)
    assert joined.label_sources.get("imdb") == genres
    assert joined.label_licences == ({"imdb": licences.IMDB} if genres else {})
    assert with_agreement(joined, labels).agreement == agreement
    assert (joined.genres, joined.licence) == (before.genres, before.licence)


def test_a_folders_own_column_stays_and_keeps_its_own_licence(labels):
    own = facts("tt2", tmdb=("War",), imdb=("Horror",))
    assert with_imdb(own, labels) == own
    # The joined list of this title is full; the folder's own is not.
    assert with_agreement(with_imdb(own, labels), labels).agreement == {
        "Horror": "imdb_only",
        "War": "tmdb_only",
    }
    assert with_agreement(own).agreement == with_agreement(own, labels).agreement


def test_every_name_that_imdb_has_is_mapped_or_dropped_on_purpose():
    assert not set(imdb.TARGETS) & imdb.WITHOUT_TARGET
    assert len(set(imdb.TARGETS) | imdb.WITHOUT_TARGET) == 18 + 2 + 9
