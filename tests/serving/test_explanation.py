"""Explanations: exact evidence, overlays that show it and nothing else, and similar posters."""

import base64
import io
import json
import subprocess
import sys

import numpy as np
import pytest
from bundles import CELLS, INDEXED, indexed_poster, reference, tiny_bundle
from helpers import noise_poster
from PIL import Image

from marquee.engine import Engine
from marquee.errors import DataError
from marquee.images import resize
from marquee.neighbours import Neighbours
from serving.explanation import LONG_SIDE, Explainer, paint


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return tiny_bundle(tmp_path_factory.mktemp("explanation") / "bundle")


@pytest.fixture(scope="module")
def blind_bundle(tmp_path_factory):
    """The same model, of which it is said that it has no maps."""
    return tiny_bundle(tmp_path_factory.mktemp("blind") / "bundle", explanation="occlusion")


@pytest.fixture(scope="module")
def pixels(bundle):
    return resize(np.asarray(noise_poster(3)), bundle.info.preprocessing)


@pytest.fixture(scope="module")
def explainer(bundle):
    return Explainer(Engine(bundle), Neighbours.read(str(bundle.folder)))


def pixels_of(overlay):
    """An overlay as [H, W, 4]."""
    return np.asarray(Image.open(io.BytesIO(overlay)).convert("RGBA"))


def test_the_prediction_is_the_engines(bundle, explainer, pixels):
    found, expected = explainer.explain(pixels).prediction, Engine(bundle).predict(pixels[None])[0]
    assert found.genres == expected.genres
    assert found.probabilities == pytest.approx(expected.probabilities)
    np.testing.assert_allclose(found.embedding, expected.embedding, atol=1e-6)


def test_grids_are_the_models_evidence(bundle, explainer, pixels):
    maps = reference(bundle, pixels[None])["maps"][0]
    for genre, heatmap in zip(
        bundle.info.genres, explainer.explain(pixels, bundle.info.genres).heatmaps, strict=True
    ):
        assert heatmap.genre == genre
        np.testing.assert_allclose(heatmap.grid, maps[bundle.info.genres.index(genre)], atol=1e-5)


ASKED = {
    "those that are asked for, in their order": ["Romance", "Comedy"],
    "a genre asked for twice comes once": ["Horror", "Horror"],
}


@pytest.mark.parametrize("name", ASKED)
def test_which_genres_are_explained(name, explainer, pixels):
    heatmaps = explainer.explain(pixels, ASKED[name]).heatmaps
    assert [heatmap.genre for heatmap in heatmaps] == list(dict.fromkeys(ASKED[name]))


def test_without_a_wish_the_chosen_genres_are_explained(explainer, bundle):
    for seed in range(6):
        poster = resize(np.asarray(noise_poster(seed)), bundle.info.preprocessing)
        explanation = explainer.explain(poster)
        shown = [heatmap.genre for heatmap in explanation.heatmaps]
        assert shown == explanation.prediction.genres


def test_an_unknown_genre_is_refused(explainer, pixels):
    with pytest.raises(DataError, match="no genre 'Noir'") as refusal:
        explainer.explain(pixels, ["Comedy", "Noir"])
    assert "Romance" in refusal.value.remedy


def test_the_documents_are_the_contracts(explainer, pixels):
    documents = json.loads(json.dumps(explainer.explain(pixels, ["Comedy"]).documents()))
    assert [list(document) for document in documents] == [["genre", "grid", "overlay_png_b64"]]
    assert np.shape(documents[0]["grid"]) == CELLS
    assert base64.b64decode(documents[0]["overlay_png_b64"]).startswith(b"\x89PNG")


SIZES = {
    "a poster": ((500, 750), (256, 384)),
    "a wide one": ((1500, 1000), (384, 256)),
    "a small one": ((20, 30), (256, 384)),
    "a strip": ((16, 60_000), (1, 384)),
}


@pytest.mark.parametrize("name", SIZES)
def test_overlays_have_the_posters_proportions(name, explainer, pixels):
    size, expected = SIZES[name]
    overlay = explainer.explain(pixels, ["Comedy"], size).heatmaps[0].overlay
    assert Image.open(io.BytesIO(overlay)).size == expected


def test_the_overlay_shows_the_evidence_where_it_is():
    grid = -np.ones((6, 4))
    grid[4, 1] = 5.0
    opacity = pixels_of(paint(grid, (400, 600)))[..., 3].astype(float)
    height, width = opacity.shape
    assert max(height, width) == LONG_SIDE
    rows, columns = np.nonzero(opacity)
    assert np.average(rows, weights=opacity[rows, columns]) / height == pytest.approx(
        4.5 / 6, abs=0.02
    )
    assert np.average(columns, weights=opacity[rows, columns]) / width == pytest.approx(
        1.5 / 4, abs=0.02
    )
    assert opacity[: height // 2].max() == 0, "evidence against the genre must be transparent"


BLANK = {
    "all against": -np.ones((6, 4)),
    "nothing at all": np.zeros((6, 4)),
}


@pytest.mark.parametrize("name", BLANK)
def test_no_evidence_for_a_genre_leaves_the_overlay_empty(name):
    assert pixels_of(paint(BLANK[name], (400, 600)))[..., 3].max() == 0


def test_stronger_evidence_is_lighter_and_more_opaque():
    ramp = np.tile(np.linspace(0.02, 1, 40), (4, 1))
    layer = pixels_of(paint(ramp, (600, 60)))
    row = layer[len(layer) // 2].astype(float)
    lightness = row[:, :3] @ (0.2126, 0.7152, 0.0722)
    assert (np.diff(row[:, 3]) >= 0).all()
    # Rising lightness is what those see who do not see colours.
    assert (np.diff(lightness) >= -1).all()
    assert lightness[-1] > lightness[0] + 100


def test_occlusion_takes_a_cells_evidence_away(blind_bundle, pixels):
    """In a model that is linear in the cells, what a patch takes is the evidence under it.

    A cell lies in four patches of two by two: the mean over them counts it four times, its
    neighbours at the sides twice, and those at the corners once, all divided by four.
    """
    plain = np.zeros_like(pixels) + pixels.mean(axis=(0, 1)).round().astype(np.uint8)
    evidence = np.subtract(*reference(blind_bundle, np.stack([pixels, plain]))["maps"])
    around = np.pad(evidence, ((0, 0), (1, 1), (1, 1)))
    rows, columns = CELLS
    expected = sum(
        weight / 4 * around[:, down : down + rows, right : right + columns]
        for (down, right), weight in np.ndenumerate(np.outer([1, 2, 1], [1, 2, 1]))
    )
    genres = blind_bundle.info.genres
    found = Explainer(Engine(blind_bundle)).explain(pixels, genres).heatmaps
    np.testing.assert_allclose([heatmap.grid for heatmap in found], expected, atol=1e-4)


def test_occlusion_sees_nothing_in_a_plain_poster(blind_bundle):
    plain = np.full((24, 16, 3), 90, np.uint8)
    for heatmap in Explainer(Engine(blind_bundle)).explain(plain).heatmaps:
        np.testing.assert_allclose(heatmap.grid, 0, atol=1e-5)
        assert pixels_of(heatmap.overlay)[..., 3].max() == 0


def test_similar_posters(bundle, explainer):
    poster = indexed_poster(bundle, INDEXED[0])
    embedding = explainer.explain(poster).prediction.embedding
    found = explainer.similar(embedding, 3)
    assert len(found) == 3
    shown = ["poster_id", "film_id", "title", "year", "genres", "licence", "score"]
    assert all(list(item) == shown for item in found)
    assert INDEXED[0] not in {item["poster_id"] for item in found}
    first = found[0]
    others = explainer.similar(embedding, 3, hidden={first["poster_id"]})
    assert first not in others
    assert explainer.similar(embedding, 3, film_id=first["film_id"]) == others


def test_a_bundle_without_an_index_has_nothing_similar(bundle, pixels):
    explainer = Explainer(Engine(bundle))
    assert explainer.similar(explainer.explain(pixels).prediction.embedding) == []


def test_explaining_needs_neither_torch_nor_pandas():
    code = "import sys, serving.explanation; print(*sorted({'torch', 'pandas'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
