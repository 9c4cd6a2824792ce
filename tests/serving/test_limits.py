"""What a server is told to allow, and what it then refuses."""

import base64
import json

import pytest
import requests
from bundles import tiny_bundle
from helpers import encode, noise_poster
from servers import start_server

IMAGE = base64.b64encode(encode(noise_poster(1, 60, 90))).decode()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("limits")
    options = ("--max-request-mb", 1, "--max-posters", 2, "--url-host", "posters.example.org")
    server = start_server(tiny_bundle(folder / "bundle"), folder / "log", *options)
    yield server
    server.process.kill()
    server.process.wait()


def body(*images):
    return json.dumps({"instances": [{"image": image} for image in images]})


def test_a_body_that_says_it_is_too_large(server):
    response = server.predict(body({"b64": "A" * 1_000_001}))
    assert response.status_code == 413
    assert response.json() == {
        "error": "the request has more than 1 MB: send fewer or smaller posters a request"
    }
    assert response.headers["Connection"] == "close"


EVENT = {"ce-id": "1", "ce-source": "test", "ce-type": "test", "ce-specversion": "1.0"}


@pytest.mark.parametrize("headers", [{}, EVENT], ids=["our route", "KServe's route"])
def test_a_body_that_does_not_say_how_large_it_is(server, headers):
    url = server.url + "/v1/models/poster-genre:predict"
    parts = (b"x" * 100_000 for _ in range(11))
    response = requests.post(url, data=parts, headers=headers, timeout=30)
    assert response.status_code == 413


def test_the_number_of_posters(server):
    assert server.predict(body(*[{"b64": IMAGE}] * 2)).status_code == 200
    response = server.predict(body(*[{"b64": IMAGE}] * 3))
    assert response.status_code == 400
    assert "has 3 posters: send at most 2" in response.json()["error"]


def test_a_url_of_a_host_that_is_not_on_the_list(server):
    response = server.predict(body({"b64": IMAGE}, {"url": "https://metadata.example.org/p.jpg"}))
    assert response.status_code == 400
    assert response.json()["error"] == (
        "instance 1: the host metadata.example.org is not allowed: use posters.example.org"
    )
