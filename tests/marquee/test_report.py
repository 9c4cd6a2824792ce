"""Blocks of a page: where a chart's points lie, and what the page says."""

import base64
import dataclasses
import io
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from marquee.report import (
    Band,
    Bands,
    Banner,
    Bars,
    Card,
    Cards,
    Curves,
    Dumbbell,
    Gallery,
    Heatmap,
    Intervals,
    Panel,
    StackedBars,
    Table,
    render,
)
from marquee.report.charts import WIDTH, number_text, ticks
from marquee.report.multiples import map_image

STACKED = StackedBars(
    title="Films by year",
    x_label="year",
    x=(1999, 2001, 2002),
    series={"train": (3, 1, 0), "test": (1, 1, 4)},
    mark=2001.5,
    mark_label="the cut",
)
DUMBBELL = Dumbbell(
    title="Before and after",
    rows=("Drama", "War"),
    points={"before": (0.4, 0.02), "after": (0.3, None)},
)
BARS = Bars(
    title="Strategies",
    rows=("Drama", "War"),
    panels={"none": (0.4, 0.1), "sampler": (0.2, None)},
    strong="sampler",
    reference=(0.4, 0.1),
    reference_name="in the catalog",
)


def svg(page):
    (found,) = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    return ElementTree.fromstring(found)


def test_bars_stand_on_each_other_and_measure_their_values():
    placed = STACKED.place()
    bars = {
        (name, at): (y, height)
        for name, found in placed["bars"].items()
        for _, y, _, height, at, _ in found
    }
    assert ("train", 2002) not in bars  # nothing is drawn for nothing
    train, test = bars["train", 1999], bars["test", 1999]
    assert train[0] + train[1] == pytest.approx(placed["floor"], abs=0.02)
    assert test[0] + test[1] == pytest.approx(train[0], abs=0.02)
    assert train[1] == pytest.approx(3 * test[1], abs=0.05)
    assert bars["test", 2002][1] == pytest.approx(4 * test[1], abs=0.05)


def test_a_year_without_films_leaves_a_gap_and_the_mark_falls_between_years():
    placed = STACKED.place()
    left = {at: x for found in placed["bars"].values() for x, _, _, _, at, _ in found}
    assert left[2001] - left[1999] == pytest.approx(2 * (left[2002] - left[2001]), abs=0.02)
    (width,) = {width for found in placed["bars"].values() for _, _, width, _, _, _ in found}
    middle = (left[2001] + left[2002] + width) / 2
    assert placed["mark"] == pytest.approx(middle, abs=0.1)


def test_dots_lie_on_one_scale_and_a_missing_value_has_none():
    drama, war = DUMBBELL.place()["rows"]
    labels = {text: x for x, text in DUMBBELL.place()["x_ticks"]}
    assert drama["dots"] == [labels["40%"], labels["30%"]]
    assert drama["span"] == (labels["30%"], labels["40%"])
    assert war["dots"][1] is None
    assert (drama["change"], war["change"]) == ("40% → 30%", "2.0% → 2.0%")


def test_panels_share_a_scale_and_mark_the_reference():
    none, sampler = BARS.place()["panels"]
    assert none["bars"][0]["width"] == pytest.approx(2 * sampler["bars"][0]["width"], abs=0.1)
    assert sampler["bars"][1] is None
    assert (none["strong"], sampler["strong"]) == (False, True)
    for panel in (none, sampler):
        marks = [x - panel["left"] for _, x in panel["marks"]]
        assert marks == pytest.approx([bar["width"] for bar in none["bars"]], abs=0.15)
    # The tick of 0.4 stands right of the bar of 0.2: its words stand right of both.
    assert sampler["bars"][0]["text_x"] > sampler["marks"][0][1]


@pytest.mark.parametrize("block", [STACKED, DUMBBELL, BARS], ids=lambda block: block.kind)
def test_a_chart_is_sound_svg_inside_its_box(block):
    drawing = svg(render("Page", "", [block]))
    _, _, width, height = map(float, drawing.get("viewBox").split())
    assert width == WIDTH
    for node in drawing.iter():
        for name, limit in (("x", width), ("cx", width), ("y", height), ("cy", height)):
            assert 0 <= float(node.get(name, 0)) <= limit
        if node.tag == "rect":
            assert float(node.get("x")) + float(node.get("width")) <= width
    assert drawing.get("aria-label") == block.title


@pytest.mark.parametrize(
    ("block", "count"),
    [
        (StackedBars(title="x", x_label="", x=(2000,), series={"a": (0,)}), 0),
        (Dumbbell(title="x", rows=("a",), points={"p": (None,)}), 0),
        (Bars(title="x", rows=("a",), panels={"p": (0.0,)}), 1),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_a_chart_of_nothing_is_drawn_all_the_same(block, count):
    drawing = svg(render("Page", "", [block]))
    shapes = [node for node in drawing.iter() if node.tag in ("rect", "circle")]
    assert len(shapes) == count


def test_a_heatmap_of_shares_leaves_empty_cells_blank():
    page = render(
        "Page",
        "",
        [
            Heatmap(
                title="Matrix",
                rows=("a",),
                columns=("b", "c", "d"),
                values=((0.5, 0.031, 0.0),),
                shades=((1.0, 0.5, 0.0),),
                totals=(1.0,),
                percent=True,
            )
        ],
    )
    cells = re.findall(r"heat\), ([\d.]+)\)\">(.*?)</td>", page)
    assert cells == [("0.74", "50%"), ("0.39", "3%"), ("0.04", "")]


def test_the_foot_names_whom_the_data_is_from():
    note = Banner(outcome="note", sentence="x")
    page = render("Page", "", [note], footer=["From <TMDB>."])
    assert "<footer>\n  <p>From &lt;TMDB&gt;.</p>" in page
    assert "<footer>" not in render("Page", "", [note])


@pytest.mark.parametrize(
    ("value", "percent", "text"),
    [
        (0.123, True, "12%"),
        (0.0312, True, "3.1%"),
        (0.0, True, "0%"),
        (0.0997, True, "10%"),
        (1234.4, False, "1,234"),
        (12.0, False, "12"),
        (0.456, False, "0.46"),
    ],
)
def test_numbers_are_written_short(value, percent, text):
    assert number_text(value, percent) == text


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.013, 0.47), (1894, 2017), (5, 5), (0, 0)])
def test_ticks_are_round_and_enclose_the_range(low, high):
    found = ticks(low, high)
    assert found[0] <= low
    assert high <= found[-1]
    assert 2 <= len(found) <= 9


@pytest.mark.parametrize("high", [0.9, 1, 2.1, 4.9, 5.1, 99])
def test_few_ticks_are_enough_for_a_small_chart(high):
    found = ticks(0, high, most=2)
    assert 2 <= len(found) <= 4
    assert high <= found[-1]


def test_a_cell_without_a_number_has_no_bar():
    table = Table(title="t", columns=("a", "b"), rows=[("x", 0.5), ("y", float("nan"))], bars=(1,))
    page = render("page", "", [table])
    assert page.count('class="bar"') == 1
    assert "nan%" not in page


def test_bars_of_which_none_is_known_are_drawn():
    bars = Bars(title="t", rows=("a",), panels={"p": (None,)})
    assert "<svg" in render("page", "", [bars])


INTERVALS = Intervals(
    title="Scores",
    rows=("Drama", "War"),
    panels={"mAP": ((0.5, 0.4, 0.6), None), "F1": ((0.3, 0.1, 0.5), (0.2, 0.1, 0.25))},
    reference={"mAP": (0.3, 0.1), "F1": (0.2, 0.3)},
    reference_name="by chance",
)


def test_intervals_share_a_scale_and_mark_the_reference():
    (_, (drama_map, drama_f1)), (_, (war_map, war_f1)) = INTERVALS.place()["rows"]
    # The scale goes from 0 to .6, the highest end.
    assert (drama_map["at"], drama_map["low"], drama_map["width"]) == pytest.approx(
        (100 * 0.5 / 0.6, 100 * 0.4 / 0.6, 100 * 0.2 / 0.6), abs=0.02
    )
    assert drama_map["mark"] == pytest.approx(50, abs=0.02)
    assert war_map["text"] == ""
    assert war_f1["mark"] == drama_map["mark"]
    assert [cell["open"] for cell in (drama_map, drama_f1, war_f1)] == [False, True, False]


def test_a_scale_has_zero_even_if_all_lies_on_one_side():
    chart = Intervals(
        title="Effects",
        rows=("War",),
        panels={"darker": ((-0.5, -0.7, -0.3),)},
        reference={"darker": (0.0,)},
        reference_name="as the others",
    )
    placed = chart.place()
    ((_, (cell,)),) = placed["rows"]
    assert cell["mark"] == 100
    assert 0 <= cell["low"] < cell["at"] < 100
    assert placed["labels"][-1] == (100, "0")


def test_narrow_panels_label_the_ends_of_the_scale_and_zero_alone():
    assert [text for _, text in INTERVALS.place()["labels"]] == ["0", "0.6"]
    alone = dataclasses.replace(INTERVALS, panels={"F1": INTERVALS.panels["F1"]})
    assert len(alone.place()["labels"]) == alone.place()["steps"] + 1 > 3


def test_curves_point_upwards():
    panel = Panel(name="Drama", points=((0.0, 1.0), (0.5, 0.25)), reference=((0, 0.4), (1, 0.4)))
    page = render("Page", "", [Curves(title="PR", panels=[panel])])
    drawing = svg(page)
    curve, dashed = (
        next(node for node in drawing.iter() if node.get("class") == kind).get("points").split()
        for kind in ("curve", "compare")
    )
    assert curve == ["0.0,0.0", "50.0,75.0"]
    assert dashed[0].endswith(",60.0")


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))))


def test_a_map_is_red_above_zero_blue_below_and_clear_at_zero():
    image = pixels(map_image([[1.0, -1.0], [0.0, 0.5]]))
    assert image.shape == (2, 2, 4)
    (red, blue), (clear, pale) = image
    assert red[0] > red[2]
    assert blue[2] > blue[0]
    assert (red[3], blue[3], clear[3]) == (255, 255, 0)
    assert 120 < pale[3] < 140
    assert pixels(map_image([[0.0]]))[0, 0, 3] == 0


def test_one_strong_cell_does_not_pale_the_others():
    values = np.full((10, 10), 0.5)
    values[0, 0] = 100
    assert (pixels(map_image(values.tolist()))[..., 3] == 255).all()


def test_a_card_has_strips_a_map_and_a_list():
    card = Card(
        name="Horror <1>",
        grid=[[1.0]],
        strips={"genre": (0.25, 0.75)},
        swatches=[("#000000", "2.0 times")],
        listed=[("Film & more", "90%", False)],
    )
    page = render("Page", "", [Cards(title="Looks", cards=[card], colours=("#000000", "#ffffff"))])
    assert "Horror &lt;1&gt;" in page
    assert "background: #ffffff; width: 75.0%" in page
    assert '<li class="wrong">Film &amp; more <small>90%</small></li>' in page
    assert "2.0 times" in page
    assert page.count("<img") == 1
    bare = dataclasses.replace(card, grid=None, swatches=())
    page = render("Page", "", [Cards(title="Looks", cards=[bare], colours=("#000000", "#ffffff"))])
    assert "<img" not in page


BAND = Band(
    name="Drama",
    points=((1930, 0.5, 0.4, 0.6), (1940, 0.3, 0.25, 0.35), (1950, 0.2, 0.1, 0.3)),
    caption="-15 points a decade",
    percent=True,
)


def test_a_band_encloses_its_line_on_a_scale_of_its_own():
    placed = BAND.place()
    xs, ys = zip(*placed["line"], strict=True)
    assert list(xs) == sorted(xs)
    assert list(ys) == sorted(ys), "a falling line goes down, where y grows"
    # The band goes along the low ends, and back along the high ones.
    lows, highs = placed["band"][:3], placed["band"][:2:-1]
    for (_, y), (_, low), (_, high) in zip(placed["line"], lows, highs, strict=True):
        assert high < y < low
    assert [text for _, text in placed["y_ticks"]] == ["0%", "20%", "40%", "60%"]
    assert [text for _, text in placed["x_ticks"]] == ["1930", "1940", "1950"]


@pytest.mark.parametrize(
    "points",
    [
        ((1930, 0.5, 0.4, 0.6),),
        ((1930, 0.0, 0.0, 0.0), (1940, 0.0, 0.0, 0.0)),
        ((1930, -0.2, -0.3, -0.1), (1940, 0.001, -0.1, 0.2)),
    ],
    ids=["one point", "nothing but zeros", "below zero"],
)
def test_any_band_is_drawn_inside_its_box(points):
    page = render(
        "Page", "", [Bands(title="Lines", panels=[dataclasses.replace(BAND, points=points)])]
    )
    for node in svg(page).iter():
        for point in (node.get("points") or "").split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= 260
            assert 0 <= y <= 114


def test_a_gallery_has_a_picture_a_column_and_says_where_there_is_none():
    picture = np.full((3, 2, 3), 7, np.uint8)
    block = Gallery(
        title="Eras",
        columns=[("silent <1>", "3 films"), ("digital", "70 films")],
        pictures={"mean": [None, picture]},
        palettes=[(), [("#102030", 0.25), ("#ffffff", 0.75)]],
        palettes_name="colours",
        missing="too few",
    )
    page = render("Page", "", [block])
    (encoded,) = re.findall(r"data:image/png;base64,([^\"]+)", page)
    assert (pixels(encoded) == picture).all()
    assert page.count("too few") == 2
    assert "background: #102030; height: 25.0%" in page
    assert "silent &lt;1&gt;" in page
