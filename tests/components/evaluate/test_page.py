"""What the evaluation's page says, and to whom it says it."""

import dataclasses
import re

import pytest

from components.evaluate.page import evaluation_page, without_looking
from components.evaluate.pictures import _typical_colours, _words


@pytest.fixture(scope="module")
def page(evaluation):
    return evaluation_page(evaluation)


def text_of(page):
    return " ".join(re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL).split())


def test_what_matters_most_comes_first_in_plain_words(evaluation, page):
    sentence = page.partition('class="banner')[2].partition("</section>")[0]
    assert f"is right for {evaluation.metrics['test/top1']:.0%} of the posters" in sentence
    assert f"without looking at them, {without_looking(evaluation, 'top1'):.0%}" in sentence


@pytest.mark.parametrize(
    "title",
    [
        "How good is it?",
        "How much of it is luck?",
        "Which genres does it know?",
        "Can its probabilities be trusted?",
        "What does each genre look like?",
        "How do posters of a genre differ from the others?",
        "Is it steady?",
        "Where was it sure, and wrong?",
        "What did it overlook?",
        "By era",
        "By source",
        "Beside the baselines",
        "Which genre is taken for which?",
        "By genre",
        "Confusion matrix of each genre",
        "Precision and recall at every threshold",
        "Learning curve: validation macro mAP",
        "What the figures mean",
    ],
)
def test_the_page_has_each_part(page, title):
    assert f"<h2>{title}</h2>" in page


def test_figures_stand_beside_the_baselines(evaluation, page):
    text = text_of(page)
    for name in ("test/macro_f1", "test/macro_map", "test/top3", "test/ece"):
        assert f"{evaluation.metrics[name]:.3f}" in text
        for values in evaluation.baselines.values():
            assert f"{values[name]:.3f}" in text
    low, high = evaluation.intervals["test/macro_map"]
    assert f"{low:.3f} to {high:.3f}" in text


def test_it_fits_the_frame_of_the_kubeflow_ui(page):
    assert len(page.encode()) < 2**20
    for forbidden in ("http:", "https:", "<script", "@import", "url(", 'src="/'):
        assert forbidden not in page


def test_posters_are_named_and_not_shown(evaluation, page):
    assert evaluation.errors[0]["poster_id"] in page
    images = re.findall(r'<img class="([^"]*)" src="data:image/png;base64,([^"]*)"', page)
    assert [kind for kind, _ in images] == ["map"] * 4
    assert all(len(data) < 1000 for _, data in images)


def test_a_failing_behaviour_is_said_at_the_top(evaluation):
    checks = [{**check, "outcome": "passed"} for check in evaluation.checks]
    fine = text_of(evaluation_page(dataclasses.replace(evaluation, checks=checks)))
    assert "Of the behavioural tests, all pass." in fine
    checks[0] |= {"outcome": "failed", "remedy": "augment"}
    broken = text_of(evaluation_page(dataclasses.replace(evaluation, checks=checks)))
    assert "Of the behavioural tests, 1 of 4 fails." in broken


def test_without_maps_the_page_says_so(evaluation):
    patterns = {**evaluation.patterns, "evidence": None}
    page = evaluation_page(dataclasses.replace(evaluation, patterns=patterns))
    assert "This architecture has no evidence maps." in page
    assert "<img" not in page


def test_a_temporal_split_is_named(evaluation, page):
    later = dataclasses.replace(evaluation, test_split="temporal", temporal_year=1999)
    assert "temporal split (tested on films after 1999)" in evaluation_page(later)
    assert "random split" in page


def test_without_learning_curves_there_is_no_chart_of_them(evaluation):
    page = evaluation_page(dataclasses.replace(evaluation, history=[]))
    assert "Learning curve" not in page


def test_folds_stand_beside_the_test_figure(evaluation, page):
    text = text_of(page)
    assert f"top-1 {evaluation.metrics['test/top1']:.3f} 0.600 0.100" in text
    assert "mean of 3 folds" in text
    without = evaluation_page(dataclasses.replace(evaluation, cross_validation={}))
    assert "luck" not in without and "folds" not in text_of(without)


def test_sources_are_credited(evaluation):
    credited = dataclasses.replace(evaluation, attributions=["This product uses the API."])
    assert "<p>This product uses the API.</p>" in evaluation_page(credited)


def test_a_genre_without_posters_does_not_stop_the_page(evaluation):
    per_genre = [dict(row) for row in evaluation.per_genre]
    per_genre[0] |= {"posters": 0, "average_precision": None, "interval": None, "precision": None}
    page = evaluation_page(dataclasses.replace(evaluation, per_genre=per_genre))
    assert "n/a" in page


@pytest.mark.parametrize(
    ("effects", "words"),
    [
        ({"brightness": [-0.9, -1.1, -0.7], "warmth": [0.3, 0.1, 0.5]}, "Much darker, warmer"),
        ({"brightness": [0.15, 0.1, 0.2]}, ""),
        ({"brightness": [0.5, -0.1, 1.1]}, ""),
        ({"contrast": None, "saturation": [-0.25, -0.3, -0.2]}, "Paler"),
    ],
)
def test_only_clear_differences_are_put_in_words(effects, words):
    assert _words(effects) == words


def test_only_colours_that_a_genre_has_more_of_are_named():
    colours = ("#000000", "#ff0000", "#00ff00", "#ffffff")
    found = _typical_colours(colours, (0.5, 0.2, 0.015, 0.285), (0.49, 0.1, 0.005, 0.405))
    assert found == [("#ff0000", "2.0 times")]
