"""`:explain`: what the endpoint says of its answers."""

import base64
import io
import json

import numpy as np
import pytest
from bundles import INDEXED, indexed_poster, tiny_bundle
from helpers import encode, noise_poster
from PIL import Image

from marquee.engine import Engine
from marquee.images import preprocess
from marquee.registry.files import FileRegistry

POSTER = encode(noise_poster(1, 120, 180))


def body(*posters, **fields):
    images = [{"b64": base64.b64encode(poster).decode()} for poster in posters]
    return json.dumps({"instances": [{"image": image, **fields} for image in images]})


def explain(server, content):
    return server.post("/v1/models/poster-genre:explain", content)


def test_it_predicts_what_predict_predicts(server):
    (explained,) = explain(server, body(POSTER, year=1985)).json()["predictions"]
    (predicted,) = server.predict(body(POSTER, year=1985)).json()["predictions"]
    assert explained.keys() - predicted.keys() == {"explanations", "similar"}
    for name in ("model_version", "genres", "unsure", "era"):
        assert explained[name] == predicted[name]
    assert explained["probabilities"] == pytest.approx(predicted["probabilities"], abs=1e-6)


def test_the_maps_are_the_models_and_the_overlay_has_the_posters_shape(server):
    (explained,) = explain(server, body(POSTER)).json()["predictions"]
    assert [entry["genre"] for entry in explained["explanations"]] == explained["genres"]
    pixels = preprocess(POSTER, server.bundle.info.preprocessing)[None]
    maps = Engine(server.bundle).infer(pixels, ["maps"])["maps"][0]
    for entry in explained["explanations"]:
        expected = maps[server.bundle.info.genres.index(entry["genre"])]
        np.testing.assert_allclose(entry["grid"], expected, atol=1e-5)
        overlay = Image.open(io.BytesIO(base64.b64decode(entry["overlay_png_b64"])))
        assert overlay.width / overlay.height == pytest.approx(120 / 180, abs=0.01)
        assert overlay.convert("RGBA").getextrema()[3][0] == 0


def test_it_explains_the_genres_that_were_asked_for(server):
    (explained,) = explain(server, body(POSTER, genres=["Romance", "Horror"])).json()["predictions"]
    assert [entry["genre"] for entry in explained["explanations"]] == ["Romance", "Horror"]


def test_an_unknown_genre_is_refused(server):
    response = explain(server, body(POSTER, genres=["Noir"]))
    assert response.status_code == 400
    assert response.json()["error"].startswith("instance 0: unknown genre 'Noir': use Comedy, ")


def test_several_posters(server):
    posters = [POSTER, encode(noise_poster(2, 60, 90))]
    explained = explain(server, body(*posters)).json()["predictions"]
    assert len({entry["prediction_id"] for entry in explained}) == 2
    assert all(entry["explanations"] for entry in explained)


def test_one_bad_poster_refuses_the_request_and_is_named(server):
    response = explain(server, body(POSTER, b"nonsense"))
    assert response.status_code == 400
    assert response.json()["error"].startswith("instance 1: not an image")


def test_similar_posters_come_from_the_index_without_purged_ones(start, tmp_path):
    bundle = tiny_bundle(tmp_path / "bundle")
    registry = str(tmp_path / "registry")
    FileRegistry(registry).add_tombstones([INDEXED[1]])
    server = start(bundle, "--registry", registry)
    poster = encode(Image.fromarray(indexed_poster(bundle, INDEXED[0])), "PNG")
    (explained,) = explain(server, body(poster)).json()["predictions"]
    found = [entry["poster_id"] for entry in explained["similar"]]
    assert len(found) == 5
    assert set(found) <= set(INDEXED) - {INDEXED[1]}
    assert INDEXED[0] not in found, "a copy of the poster is no similar poster"
    scores = [entry["score"] for entry in explained["similar"]]
    assert scores == sorted(scores, reverse=True)


def test_a_bundle_without_maps_is_explained_by_occlusion(start, tmp_path):
    server = start(tiny_bundle(tmp_path / "bundle", explanation="occlusion", indexed=()))
    (explained,) = explain(server, body(POSTER, genres=["Horror"])).json()["predictions"]
    (entry,) = explained["explanations"]
    assert np.asarray(entry["grid"]).shape == (6, 4)
    assert explained["similar"] == []


def test_a_bundle_of_subgenres_is_served_like_any_other(start, tmp_path):
    server = start(tiny_bundle(tmp_path / "bundle", label_set="subgenres"))
    (predicted,) = server.predict(body(POSTER)).json()["predictions"]
    assert tuple(predicted["probabilities"]) == server.bundle.info.genres
    metadata = server.get("/v2/models/poster-genre").json()
    assert metadata["outputs"][0]["shape"] == [-1, len(server.bundle.info.genres)]
    response = explain(server, body(POSTER, genres=[server.bundle.info.genres[-1]]))
    assert response.status_code == 200
