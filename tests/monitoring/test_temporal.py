"""The temporal analysis: what was planted is found, and nothing else."""

import dataclasses
import json

import numpy as np
import pytest
from bundles import tiny_bundle
from films_over_time import COUNTS, RED, write_films
from sklearn.metrics import average_precision_score, roc_auc_score

from marquee.catalog import Catalog
from marquee.errors import DataError, UsageError
from marquee.licences import TMDB
from marquee.settings import LicenceSettings
from marquee.split import SCHEMA, SplitPlan
from monitoring.temporal.bundle import Candidate
from monitoring.temporal.films import read_films
from monitoring.temporal.look import look
from monitoring.temporal.ranking import rank
from monitoring.temporal.temporal import Order, temporal
from monitoring.temporal.trends import judge, mean_hue, share, trend

NOTHING = np.empty((400, 0))


@pytest.fixture(scope="module")
def changing(tmp_path_factory):
    return write_films(tmp_path_factory.mktemp("changing") / "catalog")


@pytest.fixture(scope="module")
def told(changing, tmp_path_factory):
    """The report on the catalog whose eras change, its JSON and its page."""
    out = tmp_path_factory.mktemp("told")
    report = temporal(Order(catalog=changing, out=str(out)))
    document = json.loads((out / "temporal.json").read_text())
    return report, document, (out / "temporal.html").read_text(encoding="utf-8")


def named(trends, name):
    return next(trend for trend in trends if trend.name == name)


def era(report, name):
    return next(period for period in report.eras if period.name == name)


# What posters look like.


def test_falling_brightness_is_found_with_its_size(told):
    report, document, _ = told
    found = named(report.trends, "brightness")
    assert found.direction == "falls"
    before, after = (era(report, name) for name in ("golden_age", "painted_blockbuster"))
    (bright, *_), (dark, low, high) = (p.attributes["brightness"] for p in (before, after))
    assert low < dark < high < bright
    assert dark - bright < -0.1
    frame = Catalog(report.catalog).frame(("year", "brightness"))
    line = np.polyfit(frame["year"].astype(float) / 10, frame["brightness"], 1)
    assert found.slope[0] == pytest.approx(line[0], rel=1e-4)
    assert found.slope[1] < found.slope[0] < found.slope[2] < 0
    assert -1 < found.rank[0] < -0.5
    assert found.holds
    assert "darker" in report.sentence()
    assert document["sentence"] == report.sentence()


def test_a_rising_genre_is_found_and_a_steady_one_is_not(told):
    report, _, _ = told
    horror, drama = (named(report.genre_trends, name) for name in ("Horror", "Drama"))
    assert horror.direction == "rises"
    # From 1945 to 1982, half of the films.
    assert horror.slope[0] == pytest.approx(0.5 / 3.7, rel=0.35)
    assert drama.direction == "unclear"
    assert "Horror became more frequent" in report.sentence()
    first, second, third = (period.genres["Horror"] for period in report.eras[:3])
    assert first[0] < second[0] < third[0]
    assert third[1] <= 0.7 <= third[2]


def test_a_colour_that_came_is_in_the_palette_of_its_era_alone(told):
    report, _, _ = told

    def nearest(name):
        colours = [
            (np.abs([int(colour[at : at + 2], 16) for at in (1, 3, 5)] - np.array(RED)).max(), part)
            for colour, part in report.looks[name].palette
        ]
        return min(colours)

    distance, part = nearest("painted_blockbuster")
    assert distance <= 16
    assert part == pytest.approx(1 / 3, abs=0.03)
    assert nearest("golden_age")[0] > 60
    assert sum(part for _, part in report.looks["golden_age"].palette) == pytest.approx(1)


def test_a_bright_top_third_is_seen_where_it_is(told):
    report, _, _ = told
    light = report.looks["new_hollywood"].light
    assert light[:8].mean() - light[8:].mean() > 0.2
    assert abs(report.looks["golden_age"].light[:8].mean() - 0.7) < 0.1
    top = era(report, "new_hollywood").figures["light_top"]
    assert top[0] == pytest.approx(90 / 255, abs=0.03)
    assert named(report.trends, "light_top").direction == "rises"


def test_eras_of_too_few_films_are_said_to_be_so(told):
    report, document, page = told
    current = era(report, "current")
    assert current.films == COUNTS["current"]
    assert set(current.attributes.values()) == set(current.genres.values()) == {None}
    assert current.hue is report.looks["current"] is None
    assert document["looks"]["current"] is None
    assert "too few (under 50)" in page
    assert "2020" not in [period.name for period in report.decades if period.attributes["contrast"]]


def test_where_nothing_changed_nothing_is_claimed(tmp_path):
    catalog = write_films(tmp_path / "catalog", changing=False, seed=1)
    report = temporal(Order(catalog=catalog, out=str(tmp_path / "out")))
    for found in (*report.trends, *report.genre_trends):
        assert found.direction == "unclear", found
    _, low, high = named(report.trends, "brightness").slope
    assert low < 0 < high
    assert report.sentence() == (
        "Posters show no clear trend. No genre clearly became more frequent or rarer."
    )


def test_the_page_stands_alone_and_shows_no_single_poster(told):
    report, _, page = told
    assert "http" not in page.replace("http://www.w3.org", "")
    # Three pictures each of three eras.
    assert page.count("<img") == 9
    assert "A film" not in page
    mean = report.looks["painted_blockbuster"].poster
    assert mean.shape == (96, 64, 3)
    assert np.abs(mean[80:, 20:40].mean(axis=(0, 1)) - RED).max() < 3


def test_the_sample_is_bounded_and_the_same_again(changing, tmp_path):
    order = Order(catalog=changing, out=str(tmp_path), sample=60, seed=3)
    first, second = temporal(order), temporal(order)
    assert first.sampled == 3 * 60 + COUNTS["current"]
    assert first.to_json() == second.to_json()


def test_a_poster_that_was_used_again_is_drawn_once_as_the_earliest(changing):
    films = read_films(Catalog(changing), LicenceSettings())
    years = films.frame["year"].to_numpy()
    old, new = int(years.argmin()), int(years.argmax())
    hashes = films.frame["perceptual_hash"].to_list()
    hashes[new] = f"{int(hashes[old], 16) ^ 1:016x}"
    films = dataclasses.replace(films, frame=films.frame.assign(perceptual_hash=hashes))
    drawn = films.sample(1000, 0)
    assert len(drawn) == len(films.frame) - 1
    assert old in drawn
    assert new not in drawn


# Trends and means.


def line(slope, seed=0, count=400):
    random = np.random.default_rng(seed)
    years = random.integers(1930, 2020, count)
    return 0.5 + slope * (years - 1970) / 10 + random.normal(0, 0.05, count), years


@pytest.mark.parametrize(
    ("slope", "direction"), [(0.02, "rises"), (-0.02, "falls"), (0.0, "unclear")]
)
def test_a_slope_is_a_change_a_decade(slope, direction):
    (found,) = judge([trend("brightness", *line(slope), NOTHING)])
    assert found.direction == direction
    assert found.slope[1] < slope < found.slope[2]


def test_intervals_hold_what_is_true_as_often_as_they_say():
    found = [trend("x", *line(0.01, seed), NOTHING) for seed in range(300)]
    held = [one.slope[1] < 0.01 < one.slope[2] for one in found]
    assert np.mean(held) == pytest.approx(0.95, abs=0.04)


def test_of_many_steady_things_hardly_one_is_called_a_trend():
    found = [
        judge([trend("x", *line(0, 20 * n + k), NOTHING) for k in range(20)]) for n in range(20)
    ]
    claimed = [any(one.direction != "unclear" for one in family) for family in found]
    assert np.mean(claimed) <= 0.15


def test_a_trend_that_is_sure_but_small_is_called_so():
    values, years = line(0.0, count=200_000)
    values = values + 0.0005 * (years - 1970) / 10
    (found,) = judge([trend("x", values, years, np.empty((len(years), 0)))])
    assert found.direction == "hardly"


def test_what_genres_explain_is_no_trend_among_films_of_the_same_genres():
    random = np.random.default_rng(0)
    years = random.integers(1930, 2020, 2000)
    horror = random.random(2000) < (years - 1930) / 90
    values = 0.6 - 0.3 * horror + random.normal(0, 0.05, 2000)
    (found,) = judge([trend("brightness", values, years, horror[:, np.newaxis].astype(float))])
    assert found.direction == "falls"
    assert found.held[1] < 0 < found.held[2]
    assert not found.holds


def test_sources_that_tell_the_year_leave_nothing_to_hold_fixed():
    values, years = line(-0.02)
    found = trend("brightness", values, years, (years[:, np.newaxis] - 1970) / 50)
    assert found.held is None
    assert not found.holds


@pytest.mark.parametrize(
    ("values", "years"),
    [
        (np.full(400, 0.5), np.arange(400) % 90 + 1930),
        (np.linspace(0, 1, 400), np.full(400, 1999)),
        (np.linspace(0, 1, 49), np.arange(49) + 1930),
    ],
    ids=["nothing varies", "one year", "too few films"],
)
def test_without_change_or_films_there_is_no_trend(values, years):
    assert trend("brightness", values, years, NOTHING[: len(years)]) is None


def test_hues_are_averaged_around_the_circle():
    hues = np.tile([350 / 360, 10 / 360], 50)
    found = mean_hue(hues, np.ones(100))
    assert min(found.degrees, 360 - found.degrees) == pytest.approx(0, abs=1e-6)
    assert 0 < found.half < 3
    assert found.agreement == pytest.approx(np.cos(np.radians(10)))


def test_grey_posters_do_not_turn_the_mean_hue():
    hues, weights = np.repeat([0.6, 0.1], 50), np.repeat([0.5, 0.0], 50)
    assert mean_hue(hues, weights).degrees == pytest.approx(216)


def test_hues_that_point_everywhere_have_no_direction():
    hues = np.random.default_rng(0).random(60)
    assert mean_hue(hues, np.ones(60)).half is None or mean_hue(hues, np.ones(60)).agreement < 0.25
    assert mean_hue(hues, np.zeros(60)) is None
    assert mean_hue(np.arange(60) / 60, np.ones(60)).half is None


def test_the_interval_of_a_share_is_wilsons():
    having = np.repeat([1, 0], [5, 45]).astype(np.int8)
    assert share(having) == pytest.approx((0.1, 0.0435, 0.2136), abs=1e-4)
    assert share(np.zeros(50, np.int8))[:2] == (0.0, 0.0)
    assert share(having[:49]) is None


def test_blue_is_counted_and_grey_is_not():
    image = np.full((96, 64, 3), 128, np.uint8)
    image[:24] = (40, 60, 200)
    image[24:48] = (200, 60, 40)
    names = ("blue", "busyness", "light_top", "busy_top", "light_centre", "symmetry")
    figures = dict(zip(names, look(image).figures, strict=True))
    assert figures["blue"] == pytest.approx(0.25)
    assert figures["symmetry"] == pytest.approx(1, abs=1e-3)
    flat = dict(zip(names, look(np.full((96, 64, 3), 90, np.uint8)).figures, strict=True))
    assert flat == {**dict.fromkeys(names, pytest.approx(0)), "symmetry": 1.0}


# How models age.


def test_what_changed_sides_costs_the_heads_that_learnt_before(told):
    report, document, page = told
    aging = report.aging
    assert aging.genres == ("Comedy", "Drama", "Horror")
    assert aging.cuts == ("new_hollywood", "painted_blockbuster", "current")
    assert aging.too_early == ()
    areas = {(cell.before, cell.era): cell.ranking for cell in aging.cells}
    assert areas["new_hollywood", "current"] is None
    # What told comedies from other films until 1980 tells the opposite since.
    costs = {(cost.before, cost.era): cost.area for cost in aging.costs}
    assert costs["painted_blockbuster", "painted_blockbuster"][2] < -0.05
    assert costs["new_hollywood", "new_hollywood"][0] > -0.05
    assert aging.old[2] < 0
    assert "Heads that stopped learning an era or more before rank posters worse" in page
    assert "Train before, test after" in page
    assert document["aging"]["trained"] == 260


def test_figures_of_ranking_are_scikit_learns_and_hold_the_prior_fixed():
    random = np.random.default_rng(0)
    labels = (random.random((300, 2)) < 0.3).astype(np.int8)
    # Coarse, so that many tie.
    scores = np.round(labels + random.normal(0, 1, (300, 2)), 1)
    own = labels.mean(axis=0)
    found = rank(labels, scores, own, 0)
    areas = [roc_auc_score(labels[:, g], scores[:, g]) for g in range(2)]
    precisions = [average_precision_score(labels[:, g], scores[:, g]) for g in range(2)]
    assert found.area[0] == pytest.approx(np.mean(areas))
    assert found.precision[0] == pytest.approx(np.mean(precisions))
    assert found.fixed_precision[0] == pytest.approx(found.precision[0])
    assert found.area[1] < found.area[0] < found.area[2]
    # Without three of four that have no genre: precision rises, the rest stays about the same.
    kept = labels.any(axis=1) | (random.random(300) < 0.25)
    fewer = rank(labels[kept], scores[kept], own, 0)
    assert fewer.precision[0] > found.precision[0] + 0.1
    assert fewer.fixed_precision[0] == pytest.approx(found.fixed_precision[0], abs=0.1)


def test_posters_that_must_not_train_train_nothing(tmp_path):
    few = {"golden_age": 60, "new_hollywood": 60}
    catalog = write_films(tmp_path / "catalog", licence=TMDB, counts=few)
    report = temporal(Order(catalog=catalog, out=str(tmp_path / "out")))
    assert report.aging is None
    page = (tmp_path / "out/temporal.html").read_text(encoding="utf-8")
    assert "No head was trained" in page
    assert "machine-learning" in report.obstacle or "training" in report.obstacle
    assert "not endorsed, certified" in page


GENRES = ("Comedy", "Horror", "Drama")


@pytest.fixture(scope="module")
def bundle(changing, tmp_path_factory):
    """A bundle of the first era that looks for a mark on the left with little green in it."""
    head = np.zeros((3, 3, 6, 4), np.float32)
    head[0, 1, 2:4, 0] = -5
    ids = [f"golden_age-{number:03d}" for number in range(200)]
    folder = tmp_path_factory.mktemp("bundle")
    plan = _plan(changing, ids)
    made = tiny_bundle(
        folder / "bundle",
        genres=GENRES,
        label_set="all18",
        head=head,
        trained_on=ids,
        split_digest=plan.digest,
    )
    plan.write(str(folder / "split"))
    return made, str(folder / "split")


def _plan(catalog, trained):
    ids = Catalog(catalog).frame(("poster_id",))["poster_id"]
    rows = dict.fromkeys(SCHEMA.names, "x")
    frame = ids.to_frame().assign(**{**rows, "poster_id": ids})
    frame["split"] = np.where(ids.isin(trained), "train", "test")
    frame["weight"], frame["repeats"] = np.float32(1), np.uint8(1)
    frame["label_weights"] = [np.ones(3, np.float32)] * len(frame)
    return SplitPlan(frame, {"label_set": "all18", "labels": list(GENRES), "labels_left_out": {}})


def test_a_bundle_is_tested_on_what_it_cannot_know_era_by_era(changing, bundle, tmp_path):
    made, split = bundle
    order = Order(catalog=changing, out=str(tmp_path), bundle=str(made.folder), split=split)
    test = temporal(order).bundle
    golden, hollywood, painted, current = test.eras
    assert (golden.trained, hollywood.trained, painted.trained) == (200, 0, 0)
    # Of the other 60, films of none of the bundle's genres are left out.
    assert 30 < golden.unseen < 60
    assert hollywood.unseen > 80
    assert test.newest == 1959
    assert current.ranking is None
    assert hollywood.ranking.area[0] > painted.ranking.area[0] + 0.1
    page = (tmp_path / "temporal.html").read_text(encoding="utf-8")
    assert "it never saw this era" in page
    assert "The newest film that taught it is of 1959" in page


def test_without_a_plan_the_bundles_own_list_tells_what_it_knows(changing, bundle, tmp_path):
    made, _ = bundle
    test = temporal(Order(catalog=changing, out=str(tmp_path), bundle=str(made.folder))).bundle
    assert "own list" in test.rule
    assert [era.trained for era in test.eras] == [200, 0, 0, 0]
    assert 30 < test.eras[0].unseen < 60
    assert test.eras[1].unseen > 80


def test_a_bundle_of_another_catalog_is_said_to_be_so(changing, tmp_path):
    foreign = tiny_bundle(
        tmp_path / "b", genres=GENRES, label_set="all18", trained_on=["elsewhere"]
    )
    test = temporal(Order(catalog=changing, out=str(tmp_path), bundle=str(foreign.folder))).bundle
    assert "none of what taught it is in this catalog" in test.rule
    assert test.newest is test.cost is None


def test_a_poster_that_looks_like_one_that_taught_is_not_unseen(changing, bundle):
    made, _ = bundle
    films = read_films(Catalog(changing), LicenceSettings())
    ids = films.frame["poster_id"].to_list()
    hashes = films.frame["perceptual_hash"].to_list()
    labelled = films.labels.any(axis=1) & (films.frame["era"] == "new_hollywood").to_numpy()
    hashes[int(labelled.argmax())] = hashes[ids.index("golden_age-000")]
    alike = dataclasses.replace(films, frame=films.frame.assign(perceptual_hash=hashes))
    rows = np.arange(len(ids))
    counts = [
        Candidate(str(made.folder), "", Catalog(changing), of, rows, 0)
        .result(["new_hollywood"], 0)
        .eras[0]
        .unseen
        for of in (films, alike)
    ]
    assert counts[0] - counts[1] == 1


def test_only_so_many_of_an_era_are_predicted_and_not_the_first_alone(
    changing, bundle, monkeypatch
):
    monkeypatch.setattr("monitoring.temporal.bundle.MOST", 50)
    made, _ = bundle
    films = read_films(Catalog(changing), LicenceSettings())
    rows = np.arange(len(films.frame))
    candidate = Candidate(str(made.folder), "", Catalog(changing), films, rows, 0)
    asked = []

    def infer(images):
        asked.extend(images)
        return {"logits": np.zeros((len(images), 3))}

    monkeypatch.setattr(candidate._engine, "infer", infer)
    for row in rows:
        candidate.watch(row, np.full((24, 16, 3), row % 256, np.uint8))
    result = candidate.result(films.eras(), 0)
    assert len(asked) == sum(min(era.unseen, 50) for era in result.eras)
    assert result.eras[1].ranking.films == 50 < result.eras[1].unseen
    # The posters say in grey which row they are of: those of the second era go on to its end.
    era = np.flatnonzero((films.frame["era"] == "new_hollywood").to_numpy())
    seen = {int(image[0, 0, 0]) for image in asked}
    assert any(int(row) % 256 in seen for row in era[-20:])


# What is refused.


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sample": 10}, "sample of 10"),
        ({"split": "somewhere"}, "give --bundle"),
    ],
)
def test_an_order_that_makes_no_sense_is_refused(changes, message):
    with pytest.raises(UsageError, match=message):
        Order(**{"catalog": "x", "out": "y", **changes})


def test_without_a_catalog_or_enough_films_it_says_so(tmp_path):
    with pytest.raises(DataError, match="no catalog at"):
        temporal(Order(catalog=str(tmp_path / "none"), out=str(tmp_path)))
    catalog = write_films(tmp_path / "catalog", counts={"golden_age": 30, "current": 10})
    with pytest.raises(DataError, match=r"no era has 50 films .* \(40 films in 2 eras\)"):
        temporal(Order(catalog=catalog, out=str(tmp_path)))


def test_a_bundle_that_cannot_be_judged_is_refused(changing, bundle, tmp_path):
    _, split = bundle
    silent = tiny_bundle(tmp_path / "silent")
    for given, message in (
        ({"bundle": str(tmp_path / "none")}, "no model bundle"),
        ({"bundle": str(silent.folder)}, "does not say which posters trained it"),
        ({"bundle": str(silent.folder), "split": split}, "is not the split plan"),
    ):
        with pytest.raises(DataError, match=message):
            temporal(Order(catalog=changing, out=str(tmp_path), **given))
