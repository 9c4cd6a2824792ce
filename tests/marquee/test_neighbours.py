"""The index of similar posters: what is found, what is left out, and what it never holds."""

import dataclasses
import shutil
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from bundles import INDEXED, indexed_poster, tiny_bundle

from marquee.bundle import EMBEDDING_SIZE, SUMS_FILE
from marquee.engine import Engine
from marquee.errors import DataError
from marquee.neighbours import FACTS, NEIGHBOURS_FILE, Neighbours, write_neighbours

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def direction(*values):
    """An embedding whose first numbers are these."""
    return np.pad(np.array(values, np.float32), (0, EMBEDDING_SIZE - len(values)))


CATALOG = {
    "near": direction(1, 0.2),
    "nearer": direction(1, 0.15),
    "nearer, other poster": direction(1, -0.16),
    "far": direction(0.1, 1),
    "opposite": direction(-1, 0),
}
FILMS = {"nearer, other poster": "nearer"}


def index(folder, catalog=None, **columns):
    catalog = catalog or CATALOG
    facts = pd.DataFrame(
        {
            "poster_id": list(catalog),
            "film_id": [FILMS.get(name, name) for name in catalog],
            "title": [name.title() for name in catalog],
            "year": 1999,
            "genres": [["Comedy"]] * len(catalog),
            "source": "test",
            "licence": "CC0-1.0",
            "expires_at": None,
        }
        | columns
    )
    write_neighbours(folder, facts, np.stack(list(catalog.values())), ["Say thanks."])
    return Neighbours((folder / NEIGHBOURS_FILE).read_bytes())


ASKED = direction(3, 0)
SEARCHES = {
    "the most similar first, one of each film": ({}, ["nearer", "near", "far", "opposite"]),
    "as many as asked for": ({"count": 2}, ["nearer", "near"]),
    "not the film that is asked about": ({"film_id": "nearer"}, ["near", "far", "opposite"]),
    "not what is hidden": (
        {"hidden": {"nearer", "far"}},
        ["nearer, other poster", "near", "opposite"],
    ),
    "nothing where all is hidden": ({"hidden": set(CATALOG)}, []),
}


@pytest.mark.parametrize("name", SEARCHES)
def test_what_is_found(name, tmp_path):
    options, expected = SEARCHES[name]
    found = index(tmp_path).nearest(ASKED, **options)
    assert [item.poster_id for item in found] == expected
    scores = [item.score for item in found]
    assert scores == sorted(scores, reverse=True)


def test_scores_are_cosines(tmp_path):
    found = {item.poster_id: item.score for item in index(tmp_path).nearest(ASKED)}
    assert found["near"] == pytest.approx(1 / np.hypot(1, 0.2), abs=1e-3)
    assert found["far"] == pytest.approx(0.1 / np.hypot(0.1, 1), abs=1e-3)
    assert found["opposite"] == pytest.approx(-1, abs=1e-3)


def test_the_poster_itself_is_left_out(tmp_path):
    neighbours = index(tmp_path)
    for name, embedding in CATALOG.items():
        same = 7 * embedding + direction(0.01, 0.01)
        assert name not in {item.poster_id for item in neighbours.nearest(same)}


def test_posters_are_hidden_when_their_terms_end(tmp_path):
    ends = [NOW + timedelta(days=days) for days in (-1, 1, 1, 0)] + [None]
    neighbours = index(tmp_path, expires_at=ends)
    found = [item.poster_id for item in neighbours.nearest(ASKED, now=NOW)]
    assert found == ["nearer", "opposite"]


def test_what_is_known_of_a_poster(tmp_path):
    years = [1999, None, 1999, 1999, 1999]
    first = index(tmp_path, year=pd.array(years, "Int16")).nearest(ASKED)[0]
    assert dataclasses.asdict(first) == {
        "poster_id": "nearer",
        "film_id": "nearer",
        "title": "Nearer",
        "year": None,
        "genres": ["Comedy"],
        "licence": "CC0-1.0",
        "score": pytest.approx(1 / np.hypot(1, 0.15), abs=1e-3),
    }


def test_attributions_are_kept(tmp_path):
    assert index(tmp_path).attributions == ["Say thanks."]


def test_a_poster_without_features_is_like_nothing(tmp_path):
    neighbours = index(tmp_path, {"blank": direction(0), "near": direction(1, 0.2)})
    scores = {item.poster_id: item.score for item in neighbours.nearest(ASKED)}
    assert scores["blank"] == 0 < scores["near"]
    assert {item.score for item in neighbours.nearest(direction(0))} == {0}


def test_the_index_holds_no_images(tmp_path):
    index(tmp_path)
    schema = pq.read_schema(tmp_path / NEIGHBOURS_FILE)
    assert schema.names == [*FACTS.names, "embedding"]
    assert str(schema.field("embedding").type).endswith(f"[{EMBEDDING_SIZE}]")
    assert "halffloat" in str(schema.field("embedding").type)


def test_a_newer_index_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("marquee.neighbours.SCHEMA_VERSION", 2)
    index(tmp_path)
    monkeypatch.undo()
    with pytest.raises(DataError, match="schema_version 2"):
        Neighbours((tmp_path / NEIGHBOURS_FILE).read_bytes())


@pytest.fixture
def bundle(tmp_path):
    return tiny_bundle(tmp_path / "bundle")


def test_a_bundles_posters_find_each_other(bundle):
    neighbours = Neighbours.read(str(bundle.folder))
    assert len(neighbours) == len(INDEXED)
    engine = Engine(bundle)
    images = np.stack([indexed_poster(bundle, poster_id) for poster_id in INDEXED])
    embeddings = engine.infer(images)["embedding"]
    lengths = np.linalg.norm(embeddings, axis=1)
    cosines = embeddings @ embeddings.T / np.outer(lengths, lengths)
    np.fill_diagonal(cosines, -2)
    for embedding, row in zip(embeddings, cosines, strict=True):
        found = neighbours.nearest(embedding)
        expected = [row[INDEXED.index(item.poster_id)] for item in found]
        # Two that are as similar to four digits may come in either order.
        np.testing.assert_allclose(expected, np.sort(row)[:-6:-1], atol=1e-3)
        np.testing.assert_allclose(expected, [item.score for item in found], atol=1e-3)


def test_a_bundle_may_have_no_index(tmp_path):
    bundle = tiny_bundle(tmp_path / "bundle", indexed=())
    assert Neighbours.read(str(bundle.folder)) is None


def test_an_index_that_was_not_sealed_does_not_count(tmp_path, bundle):
    other = tiny_bundle(tmp_path / "other", indexed=())
    shutil.copy(bundle.folder / NEIGHBOURS_FILE, other.folder)
    assert NEIGHBOURS_FILE not in (other.folder / SUMS_FILE).read_text()
    assert Neighbours.read(str(other.folder)) is None


def test_a_changed_index_is_refused(bundle):
    with (bundle.folder / NEIGHBOURS_FILE).open("ab") as stream:
        stream.write(b"!")
    with pytest.raises(DataError, match=r"neighbours\.parquet was changed"):
        Neighbours.read(str(bundle.folder))
