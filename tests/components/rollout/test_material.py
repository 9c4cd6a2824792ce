"""Which posters a dark launch replays."""

import dataclasses
from datetime import UTC, datetime

import pytest
from bundles import tiny_bundle
from records import record

from components.rollout.material import GOLDEN, Sources, material
from components.rollout.state import Model, World
from marquee.catalog import Catalog
from marquee.records import to_table, write_records
from marquee.samples import keep_sample


@pytest.fixture(scope="module")
def films(drawn_catalog):
    return Catalog(drawn_catalog).frame(["film_id"])


@pytest.fixture
def world(tmp_path, films):
    """Two models, trained on the first and on the second third of the catalog."""
    third = len(films) // 3
    made = [
        tiny_bundle(
            tmp_path / str(n), seed=n, trained_on=list(films["film_id"][n * third :][:third])
        )
        for n in range(2)
    ]
    stable, canary = (Model(version=b.version, uri=str(b.folder)) for b in made)
    return World(stable=stable, canary=canary)


def test_golden_posters_trained_neither_model(world, drawn_catalog, films):
    chosen = material(world, Sources(catalog=drawn_catalog))
    third = len(films) // 3
    assert 0 < len(chosen) <= GOLDEN
    assert {poster.poster_id for poster in chosen} <= set(films["poster_id"][2 * third :])
    assert all(poster.genres for poster in chosen)
    assert {poster.data[:2] for poster in chosen} == {b"\xff\xd8"}


def test_they_are_the_same_each_time(world, drawn_catalog):
    first, second = (material(world, Sources(catalog=drawn_catalog)) for _ in range(2))
    assert first == second


def test_films_that_users_asked_about_are_replayed_too(world, drawn_catalog, films, tmp_path):
    golden = {p.poster_id for p in material(world, Sources(catalog=drawn_catalog))}
    asked = next(row for row in films.itertuples() if row.poster_id not in golden)
    row = dataclasses.replace(record(1), film_id=asked.film_id, time=datetime.now(UTC))
    write_records(str(tmp_path / "records"), "w", 0, to_table([row]))
    chosen = material(world, Sources(catalog=drawn_catalog, records=str(tmp_path / "records")))
    assert {p.poster_id for p in chosen} == golden | {asked.poster_id}


def test_so_is_what_they_sent(world, tmp_path):
    keep_sample(str(tmp_path / "samples"), b"sent", datetime.now(UTC), 1)
    (poster,) = material(world, Sources(samples=str(tmp_path / "samples")))
    assert (poster.data, poster.genres) == (b"sent", None)


def test_with_neither_there_is_nothing(world):
    assert material(world, Sources()) == []


def test_a_first_model_has_nothing_to_be_compared_with(world, drawn_catalog):
    assert material(World(stable=None, canary=world.canary), Sources(catalog=drawn_catalog)) == []
