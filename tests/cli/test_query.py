"""`marquee query` against a real server, and against answers that only bad days bring."""

import base64
import json
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from bundles import tiny_bundle
from helpers import encode, noise_poster
from PIL import Image
from servers import start_server
from typer.testing import CliRunner

from marquee.cli import app
from marquee.cli.predict import predict_files
from marquee.client import Client
from marquee.engine import Engine
from marquee.errors import InfrastructureError, UsageError
from marquee.processes import free_port

GOOD = encode(noise_poster(1, 60, 90))
BAD = b"<html>not found</html>"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    (folder / "tokens").write_text("# new\nsecond\n\nfirst\n")
    bundle = tiny_bundle(folder / "bundle")
    server = start_server(bundle, folder / "log", "--token-file", folder / "tokens")
    yield server
    server.process.kill()
    server.process.wait()


@pytest.fixture
def posters(tmp_path):
    """Ten sound posters and some that are none, more than a request has."""
    folder = tmp_path / "posters"
    folder.mkdir()
    for number in range(10):
        image = noise_poster(number, 60 + number, 90)
        (folder / f"{number}.jpg").write_bytes(encode(image))
    (folder / "3b.jpg").write_bytes(BAD)
    (folder / "5b.jpg").write_bytes(b"")
    (folder / "notes.txt").write_text("see posters.csv")
    return folder


def query(*arguments):
    """Run the command; give its result and what it printed as JSON lines."""
    result = CliRunner().invoke(app, ["query", *map(str, arguments)])
    lines = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    return result, lines


def token_of(server):
    return ("--token-file", server.bundle.folder.parent / "tokens")


def test_a_server_says_what_predict_says(server, posters):
    result, answers = query(server.url, posters, posters / "gone.jpg", *token_of(server), "--json")
    assert result.exit_code == 0, result.output
    files = [*sorted(posters.iterdir()), posters / "gone.jpg"]
    expected = list(predict_files(Engine(server.bundle), iter(files)))
    assert [answer["file"] for answer in answers] == [answer["file"] for answer in expected]
    for answer, other in zip(answers, expected, strict=True):
        assert answer.get("error", "").startswith(other.get("error", "")), answer
        assert answer.get("genres") == other.get("genres")
        assert answer.get("probabilities") == pytest.approx(other.get("probabilities"), abs=1e-5)
    assert sum("error" in answer for answer in answers) == 4


def test_the_table_is_that_of_predict(server, posters):
    ours = CliRunner().invoke(app, ["predict", str(server.bundle.folder), str(posters)])
    result, _ = query(server.url, posters, *token_of(server))
    assert "%" in result.stdout
    assert _genres(result.stdout) == _genres(ours.stdout)


def _genres(text):
    return [line.split("│")[2].strip() for line in text.splitlines() if "%" in line]


def test_heat_layers_are_laid_beside_the_posters_or_apart(server, posters, tmp_path):
    (posters / "more").mkdir()
    (posters / "more/0.jpg").write_bytes(GOOD)
    asked = (server.url, posters, *token_of(server), "--explain", "--json", "--genres", "Horror")
    apart = query(*asked, "--out", tmp_path / "layers")[1]
    assert not list(posters.rglob("*.png"))
    beside = query(*asked)[1]
    # Layers are no posters: the same command again does not ask about them.
    assert len(query(*asked)[1]) == len(beside) == len(apart) == 14
    for answers, folder in ((apart, tmp_path / "layers"), (beside, posters)):
        layers = [item["layer"] for answer in answers for item in answer.get("explanations", ())]
        assert len(layers) == len(set(layers)) == 11
        assert f"{folder}/more/0.jpg.horror.heat.png" in layers
        with Image.open(folder / "9.jpg.horror.heat.png") as layer:
            assert layer.width / layer.height == pytest.approx(69 / 90, rel=0.02)
            assert layer.has_transparency_data


def test_layers_of_posters_from_anywhere_stay_below_their_folder(scripted, tmp_path, monkeypatch):
    explanation = {"genre": "../../Sci & Fi", "grid": [[0.0]], "overlay_png_b64": "AAAA"}
    scripted.replies = [found(explanations=[explanation])]
    for name in ("here/a.jpg", "there/a.jpg"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(GOOD)
    monkeypatch.chdir(tmp_path / "here")
    query(scripted.url, "a.jpg", "../there/a.jpg", "--explain", "--out", "layers")
    layers = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png")}
    assert layers == {f"here/layers/{place}/a.jpg.-sci-fi.heat.png" for place in ("here", "there")}
    assert scripted.posters() == [1, 1]


def test_an_unknown_genre_is_said_once(server, posters):
    result, _ = query(server.url, posters, *token_of(server), "--explain", "--genres", "Horor")
    assert isinstance(result.exception, UsageError)
    assert "unknown genre 'Horor': use Comedy, Horror" in str(result.exception)


@pytest.mark.parametrize("token", [None, "wrong"])
def test_nobody_gets_in_without_a_token(server, posters, tmp_path, token):
    (tmp_path / "token").write_text(token or "")
    options = ("--token-file", tmp_path / "token") if token else ()
    result, _ = query(server.url, posters, *options)
    assert isinstance(result.exception, UsageError)
    assert "without a valid token (HTTP 401)" in str(result.exception)
    assert "--token-file" in result.exception.remedy


def reply(status=200, body=b"", **headers):
    return status, body, {name.replace("_", "-"): value for name, value in headers.items()}


def found(count=1, **more):
    prediction = {"genres": ["Horror"], "probabilities": {"Horror": 0.9}, "unsure": False}
    prediction |= {"model_version": "0" * 64, **more}
    return reply(200, json.dumps({"predictions": [prediction] * count}).encode())


def refusal(reason, status=400):
    return reply(status, json.dumps({"error": reason}).encode())


@dataclass
class Scripted:
    """A server that gives the answers it was given, the last one for ever."""

    replies: list = field(default_factory=list)
    seen: list = field(default_factory=list)
    url: str = ""

    def posters(self):
        """How many posters each request had."""
        return [len(json.loads(body)["instances"]) for _, _, body in self.seen]


@pytest.fixture
def scripted():
    script = Scripted()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            script.seen.append((self.path, dict(self.headers), body))
            last = len(script.replies) == 1
            status, content, headers = script.replies[0] if last else script.replies.pop(0)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    script.url = f"http://127.0.0.1:{server.server_port}"
    yield script
    server.shutdown()
    server.server_close()


def test_an_ingress_gets_path_host_and_token(scripted, tmp_path):
    scripted.replies = [found()]
    (tmp_path / "a.jpg").write_bytes(GOOD)
    (tmp_path / "token").write_text("\n# rotated in May\n  s3cret \nolder\n")
    host = "poster-genre.films.example.com"
    options = ("--token-file", tmp_path / "token", "--host-header", host)
    result, _ = query(f"{scripted.url}/serving/films/", tmp_path / "a.jpg", *options)
    assert result.exit_code == 0
    assert "Horror 90%" in result.stdout
    ((path, headers, body),) = scripted.seen
    assert path == "/serving/films/v1/models/poster-genre:predict"
    assert (headers["Host"], headers["Authorization"]) == (host, "Bearer s3cret")
    image = {"b64": base64.b64encode(GOOD).decode()}
    assert json.loads(body) == {"instances": [{"image": image}]}


def test_without_a_token_none_is_sent(scripted, tmp_path, monkeypatch):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login someone password else")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    scripted.replies = [found()]
    Client(scripted.url).ask([GOOD])
    assert "Authorization" not in scripted.seen[0][1]


def test_similar_films_are_listed(scripted, tmp_path):
    similar = {"poster_id": "p", "film_id": "f", "title": "Alien [cut]", "year": 1979}
    similar |= {"genres": ["Horror", "Science Fiction"], "licence": "CC0-1.0", "score": 0.934}
    scripted.replies = [found(similar=[similar])]
    (tmp_path / "a.jpg").write_bytes(GOOD)
    result, _ = query(scripted.url, tmp_path / "a.jpg", "--explain")
    for words in ("Alien [cut]", "1979", "0.93", "CC0-1.0"):
        assert words in result.stdout


SPLITS = {
    "one is named": ([refusal("instance 1: no image: send one"), found(2)], "0-2", [3, 2]),
    "the last one is named": ([refusal("instance 2: no image"), found(2)], "01-", [3, 2]),
    "two in turn": (
        [refusal("instance 0: a"), refusal("instance 1: b"), found()],
        "-1-",
        [3, 2, 1],
    ),
    "all": ([refusal("instance 0: a")], "---", [3, 2, 1]),
    "too large, nobody is named": (
        [refusal("too large", 413), found(), refusal("too large", 413), found(), found()],
        "012",
        [3, 1, 2, 1, 1],
    ),
    "a proxy finds it too large": (
        [reply(413, b"<html>"), reply(413, b"<html>"), found(2)],
        "-12",
        [3, 1, 2],
    ),
    "too many posters": (
        [refusal("3 posters: send at most 2"), found(), found(2)],
        "012",
        [3, 1, 2],
    ),
    "an index that nobody has": (
        [refusal("instance 7: what?"), found(), found(2)],
        "012",
        [3, 1, 2],
    ),
}


@pytest.mark.parametrize("name", SPLITS)
def test_who_is_not_to_blame_is_answered(scripted, name):
    scripted.replies, answered, requests = SPLITS[name]
    answers = Client(scripted.url).ask([GOOD, BAD, GOOD])
    assert ["error" in answer for answer in answers] == [mark == "-" for mark in answered]
    assert scripted.posters() == requests
    assert all(answer["error"] for answer in answers if "error" in answer)


def busy(after=None, status=503):
    headers = {} if after is None else {"Retry_After": after}
    return reply(status, b'{"error": "the server is busy"}', **headers)


def _date(seconds):
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    "replies",
    [[busy("0"), busy("0"), found()], [busy(_date(-5)), found()], [busy("0", 429), found()]],
    ids=["seconds", "a date", "too many requests"],
)
def test_a_busy_server_is_asked_again(scripted, replies):
    scripted.replies = list(replies)
    assert Client(scripted.url).ask([GOOD])[0]["genres"] == ["Horror"]
    assert len(scripted.seen) == len(replies)


@pytest.mark.parametrize(
    ("after", "patience"),
    [("3600", 60), (_date(3600), 60), (None, 0.2), ("soon", 0.2)],
    ids=["for longer than we wait", "a far date", "no word of when", "no time at all"],
)
def test_a_server_that_stays_busy_is_given_up(scripted, after, patience):
    scripted.replies = [busy(after)]
    with pytest.raises(InfrastructureError, match="the server is busy") as caught:
        Client(scripted.url, patience=patience).ask([GOOD])
    assert "--patience" in caught.value.remedy
    assert len(scripted.seen) == 1


def test_waiting_ends_in_time(scripted):
    scripted.replies = [busy("0")]
    with pytest.raises(InfrastructureError, match=r"for longer than 0\.3 s"):
        Client(scripted.url, patience=0.3).ask([GOOD])
    assert len(scripted.seen) > 1


FAULTS = {
    "an HTML page": (reply(200, b"<html>Log in</html>"), 5, "no predictions but '<html>Log in"),
    "other JSON": (reply(200, b'{"models": []}'), 5, "no predictions"),
    "a list": (reply(200, b"[]"), 5, "no predictions"),
    "too few predictions": (found(0), 5, "no predictions"),
    "too many predictions": (found(2), 5, "no predictions"),
    "other predictions": (reply(200, b'{"predictions": [[0.1, 0.9]]}'), 5, "no predictions"),
    "not there": (refusal("no such model", 404), 2, "no model poster-genre"),
    "an ingress without the host": (reply(404, b"default backend"), 2, "no model poster-genre"),
    "no token": (reply(401), 2, "valid token (HTTP 401)"),
    "not allowed": (reply(403, b"RBAC: access denied"), 2, "valid token (HTTP 403)"),
    "to a page to log in": (reply(302, Location="/dex"), 2, "leads on to /dex"),
    "explains nothing": (refusal("no explainer", 501), 5, "HTTP 501 (no explainer)"),
    "a failure": (refusal("see the log", 500), 5, "HTTP 500 (see the log)"),
    "a proxy's 400": (reply(400, b"The plain HTTP request"), 5, "HTTP 400"),
    "a gateway": (reply(502, b"<html>"), 5, "HTTP 502"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_else_a_server_may_say(scripted, tmp_path, name):
    scripted.replies, code, message = [FAULTS[name][0]], *FAULTS[name][1:]
    (tmp_path / "a.jpg").write_bytes(GOOD)
    result, _ = query(scripted.url, tmp_path / "a.jpg")
    assert message in str(result.exception)
    assert (result.exception.exit_code, bool(result.exception.remedy)) == (code, True)
    assert len(scripted.seen) == 1


PLACES = {
    "nobody listens": ("http://127.0.0.1:{free}", 5, "Connection refused"),
    "no TLS there": ("https://127.0.0.1:{port}", 5, "no safe connection"),
    "no such name": ("http://nowhere.invalid", 5, "cannot reach http://nowhere.invalid"),
    "no scheme": ("127.0.0.1:{port}", 2, "is no address"),
    "another scheme": ("ftp://127.0.0.1", 2, "is no address"),
    "no port": ("http://127.0.0.1:99999", 2, "is no address"),
}


@pytest.mark.parametrize("name", PLACES)
def test_addresses_where_no_server_is(scripted, tmp_path, name):
    url, code, message = PLACES[name]
    (tmp_path / "a.jpg").write_bytes(GOOD)
    port = scripted.url.rpartition(":")[2]
    result, _ = query(url.format(free=free_port(), port=port), tmp_path / "a.jpg")
    assert message in str(result.exception)
    assert "object at" not in str(result.exception)
    assert (result.exception.exit_code, bool(result.exception.remedy)) == (code, True)


USAGE = {
    "no token file": (("--token-file", "nowhere"), "no token from nowhere"),
    "an empty token file": (("--token-file", "{empty}"), "holds no token"),
    "genres without explanations": (("--genres", "Horror"), "add --explain"),
    "layers without explanations": (("--out", "layers"), "add --explain"),
}


@pytest.mark.parametrize("name", USAGE)
def test_options_that_are_wrong(scripted, tmp_path, name):
    options, message = USAGE[name]
    (tmp_path / "empty").write_text("# none yet\n")
    options = [word.format(empty=tmp_path / "empty") for word in options]
    result, _ = query(scripted.url, tmp_path, *options)
    assert isinstance(result.exception, UsageError)
    assert message in str(result.exception)
    assert scripted.seen == []


def test_not_one_poster_is_an_error(scripted, tmp_path):
    scripted.replies = [refusal("instance 0: not an image")]
    for content in ([], ["a.jpg"]):
        for name in content:
            (tmp_path / name).write_bytes(BAD)
        result, _ = query(scripted.url, tmp_path)
        assert result.exception.exit_code == 2
        assert "not one file" in str(result.exception)


def test_what_was_answered_is_shown_before_a_failure(scripted, tmp_path):
    for number in range(9):
        (tmp_path / f"{number}.jpg").write_bytes(GOOD)
    scripted.replies = [found(8), reply(500)]
    result, _ = query(scripted.url, tmp_path)
    assert result.exception.exit_code == 5
    assert result.stdout.count("Horror 90%") == 8


def test_requests_have_a_bounded_size(scripted, tmp_path, monkeypatch):
    monkeypatch.setattr("marquee.cli.query._BATCH_BYTES", 250)
    for number, size in enumerate([100, 100, 100, 400, 100]):
        (tmp_path / f"{number}.jpg").write_bytes(bytes(size))
    scripted.replies = [found(2), found(1), found(1), found(1)]
    result, _ = query(scripted.url, tmp_path)
    assert result.exit_code == 0
    assert scripted.posters() == [2, 1, 1, 1]
