"""Access tokens, and the gate they open."""

import base64
import json
import os
import re

import pytest
import requests
from bundles import tiny_bundle
from helpers import encode, noise_poster

from marquee.errors import UsageError
from serving.settings import ServingSettings
from serving.tokens import Tokens

BODY = json.dumps(
    {"instances": [{"image": {"b64": base64.b64encode(encode(noise_poster(1, 60, 90))).decode()}}]}
)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "tokens"
    path.write_text("# the web team\nfirst\n\n  second  \n  # the old one\n")
    return path


GIVEN = {
    "first": ("Bearer first", True),
    "second, with spaces around it in the file": ("Bearer second", True),
    "any case of the scheme": ("bearer first", True),
    "spaces": ("  Bearer   first ", True),
    "none": (None, False),
    "empty": ("", False),
    "no scheme": ("first", False),
    "another scheme": ("Basic first", False),
    "no token": ("Bearer ", False),
    "another token": ("Bearer third", False),
    "a token's beginning": ("Bearer firs", False),
    "more than a token": ("Bearer first second", False),
    "another case": ("Bearer First", False),
    "a comment": ("Bearer # the web team", False),
    "a comment after spaces": ("Bearer # the old one", False),
    "not ascii": ("Bearer f\xefrst", False),
}


@pytest.mark.parametrize("name", GIVEN)
def test_who_may_pass(file, name):
    authorization, expected = GIVEN[name]
    assert Tokens(file).allows(authorization) is expected


def test_tokens_rotate_as_kubernetes_mounts_them(tmp_path):
    """A mounted secret is a link to a link, which is replaced."""
    for number, token in enumerate(("old", "new")):
        (tmp_path / f"data{number}").mkdir()
        (tmp_path / f"data{number}" / "tokens").write_text(token)
    (tmp_path / "data").symlink_to(tmp_path / "data0")
    (tmp_path / "tokens").symlink_to(tmp_path / "data" / "tokens")
    tokens = Tokens(tmp_path / "tokens")
    assert tokens.allows("Bearer old")
    (tmp_path / "next").symlink_to(tmp_path / "data1")
    (tmp_path / "next").replace(tmp_path / "data")
    assert tokens.allows("Bearer new")
    assert not tokens.allows("Bearer old")


@pytest.mark.parametrize("change", ["remove", "empty", "another encoding"])
def test_a_file_that_fails_leaves_the_tokens_as_they_were(file, caplog, change):
    tokens = Tokens(file)
    file.unlink()
    if change != "remove":
        file.write_bytes({"empty": b"# none\n", "another encoding": b"f\xfcnf\n"}[change])
    assert tokens.allows("Bearer first")
    assert not tokens.allows("Bearer third")
    assert caplog.text.count("stay as they were") == 1


def test_no_file_is_no_server(tmp_path):
    with pytest.raises(UsageError, match="no access tokens from"):
        Tokens(tmp_path / "none")
    (tmp_path / "empty").write_text("\n# nothing\n")
    with pytest.raises(UsageError, match="it holds no token"):
        Tokens(tmp_path / "empty")


SETTINGS = {
    "loopback": ({}, True),
    "loopback by name": ({"host": "localhost"}, True),
    "loopback, version 6": ({"host": "::1"}, True),
    "all addresses": ({"host": "0.0.0.0"}, False),
    "all addresses, with tokens": ({"host": "0.0.0.0", "token_file": "tokens"}, True),
    "all addresses, when told so": ({"host": "0.0.0.0", "allow_anonymous": True}, True),
    "another host": ({"host": "example.org"}, False),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_server_that_others_reach_wants_tokens(name):
    settings, allowed = SETTINGS[name]
    if allowed:
        ServingSettings(**settings)
        return
    with pytest.raises(UsageError, match="--token-file, or say --allow-anonymous"):
        ServingSettings(**settings)


def test_the_server_asks_for_tokens_where_it_works_only(start, file, tmp_path):
    server = start(tiny_bundle(tmp_path / "bundle"), "--token-file", file)
    work = (
        "/v1/models/poster-genre:predict",
        "/v1/models/poster-genre:explain",
        "/v2/models/poster-genre/infer",
        "/v2/repository/models/poster-genre/unload",
        "/v1/models/poster%2Dgenre:predict",
    )
    for path in work:
        response = server.post(path, BODY)
        assert (path, response.status_code) == (path, 401)
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert response.headers["Connection"] == "close"  # its body was not read
        assert "Authorization: Bearer TOKEN" in response.json()["error"]
    for path in ("/", "/v2/health/ready", "/v1/models/poster-genre", "/metrics", "/openapi.json"):
        assert (path, server.get(path).status_code) == (path, 200)
    assert server.predict(BODY, Authorization="Bearer second").status_code == 200
    file.write_text("third\n")
    os.utime(file, ns=(1, 1))
    assert server.predict(BODY, Authorization="Bearer second").status_code == 401
    assert server.predict(BODY, Authorization="Bearer third").status_code == 200
    metrics = requests.get(server.url + "/metrics", timeout=10).text
    assert len(re.findall(r'outcome="unauthorized"} [1-9]', metrics)) == 3
