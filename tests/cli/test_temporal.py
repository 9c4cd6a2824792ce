"""`marquee temporal`: what it says, writes and refuses."""

import json

import pytest
from command import marquee
from films_over_time import write_films
from helpers import REAL_POSTERS


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    counts = {"golden_age": 60, "new_hollywood": 60}
    return write_films(tmp_path_factory.mktemp("films") / "catalog", counts=counts)


def test_it_says_what_changed_and_where_the_page_is(catalog, tmp_path):
    said = marquee("temporal", "--catalog", catalog, "--out", tmp_path / "out")
    sentence, page = said.splitlines()
    assert "Posters grew" in sentence
    assert page == f"{tmp_path}/out/temporal.html"
    assert (tmp_path / "out/temporal.html").exists()


def test_it_prints_one_json_object(catalog, tmp_path):
    words = ("--catalog", catalog, "--out", tmp_path, "--sample", 50, "--json")
    document = json.loads(marquee("temporal", *words))
    assert document == json.loads((tmp_path / "temporal.json").read_text())
    assert (document["schema_version"], document["films"], document["sampled"]) == (1, 120, 100)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--catalog", "nowhere"), "no catalog at nowhere"),
        (("--sample", "10"), "sample of 10"),
        (("--bundle", "nowhere"), "no model bundle at nowhere"),
        (("--split", "nowhere"), "give --bundle"),
    ],
)
def test_what_makes_no_sense_is_refused(catalog, tmp_path, words, message):
    said = marquee("temporal", "--catalog", catalog, "--out", tmp_path, *words, code=2)
    assert message in said


@pytest.mark.slow
@pytest.mark.real_data
def test_real_posters_grew_darker_and_what_was_learnt_from_them_ages(tmp_path):
    catalog = tmp_path / "catalog"
    marquee("ingest", "--path", REAL_POSTERS, "--limit", 3000, "--out", catalog)
    words = ("--catalog", catalog, "--out", tmp_path / "out", "--sample", 300, "--json")
    document = json.loads(marquee("temporal", *words))
    trends = {trend["name"]: trend for trend in (*document["trends"], *document["genre_trends"])}
    assert trends["brightness"]["direction"] == trends["warmth"]["direction"] == "falls"
    assert trends["brightness"]["slope"][0] == pytest.approx(-0.0165, abs=0.005)
    assert trends["Thriller"]["direction"] == "rises"
    assert trends["War"]["direction"] == trends["Western"]["direction"] == "falls"
    # What was learnt from films long before is worse than what has seen the era.
    assert document["aging"]["old"][2] < 0
    for cell in document["aging"]["cells"]:
        assert cell["ranking"] is None or cell["ranking"]["area"][1] > 0.5
