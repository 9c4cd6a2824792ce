"""The data gate's page."""

import html
import re

import pytest
from frames import BOUNDS, SETTINGS, put, sound_frame

from components.validate.page import validation_page
from components.validate.validate import judge


def judged(corrupt, quarantined=0):
    return judge(corrupt(sound_frame()), SETTINGS, quarantined)


def text_of(page):
    bare = re.sub(r"<style.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(bare))


@pytest.fixture(scope="module")
def failed():
    return judged(lambda frame: put(30, mode="L")(put(12, year=1492)(put(30, width=150)(frame))), 7)


def test_the_page_says_what_is_wrong_where_and_what_to_do(failed):
    page = validation_page(failed, BOUNDS)
    text = text_of(page)
    assert failed.verdict.sentence() in text
    for words in (
        "critical implausible years 12 of 144 (8.3%): 1492 · asked: 1874 to",
        "correct the years at their source",
        "p0, p1, p2, p3, p4, p5, p6, p7 and 4 more",
        "warning low resolution",
        "note unusual pixel modes",
        "in quarantine 7",
    ):
        assert words in text
    assert text.index("critical implausible years") < text.index("warning low resolution")
    assert "outcome-failed" in page


def test_the_page_shows_the_data(failed):
    text = text_of(validation_page(failed, BOUNDS))
    for words in ("Posters by release year", "golden age", "Shorter side", "Genres by source"):
        assert words in text
    for finding in failed.findings:
        assert f"{finding.check.measured} {finding.check.bound}" in text


def test_a_page_of_one_source_compares_no_sources():
    page = validation_page(judged(lambda frame: frame.assign(source="one")), BOUNDS)
    assert "Genres by source" not in page


def test_hundreds_of_sources_do_not_swell_the_page():
    frame = sound_frame(720)
    many = judge(frame.assign(source=[f"site {n % 360}" for n in range(720)]), SETTINGS)
    page = validation_page(many, BOUNDS)
    assert "The 12 largest of 360" in page
    assert len(page) < 100_000


def test_a_catalog_of_wrong_columns_has_a_page_too():
    found = judge(sound_frame().drop(columns="year"), SETTINGS)
    text = text_of(validation_page(found, BOUNDS))
    assert "critical columns of the wrong type year missing" in text


def test_attributions_stand_at_the_foot():
    found = judged(put(licence="TMDB API Terms of Use"))
    assert "<footer>\n  <p>This product uses TMDB" in validation_page(found, BOUNDS)


def test_the_page_stands_alone(failed):
    page = validation_page(failed, BOUNDS)
    for forbidden in ("http:", "https:", "<script", "@import", "url("):
        assert forbidden not in page
