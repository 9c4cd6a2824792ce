import dataclasses
import json
import shutil
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import OLD

from components.balance.balance import balance
from components.evaluate.evaluate import evaluate
from components.evaluate.predict import predict_posters
from marquee.bundle import load
from marquee.catalog import SCHEMA, Catalog
from marquee.decision import decide
from marquee.engine import Engine
from marquee.errors import DataError, DataGateFailed
from marquee.genres import label_columns, label_matrix
from marquee.images import decode
from marquee.metrics import score
from marquee.registry.files import FileRegistry
from marquee.settings import BalanceSettings
from marquee.split import SplitPlan


@pytest.fixture(scope="module")
def predicted(make_bundle, drawn_catalog, wide_split):
    """The test posters' labels, probabilities and choices, found without the step."""
    plan, bundle, catalog = SplitPlan.read(wide_split), load(make_bundle()), Catalog(drawn_catalog)
    frame = catalog.frame(["shard_offset", "size", "sha256", *label_columns(plan.genres)])
    frame = frame[frame["poster_id"].isin(plan.ids("test"))]
    probabilities = predict_posters(Engine(bundle), catalog, frame)
    chosen, _ = decide(probabilities, bundle.info.thresholds)
    return label_matrix(frame, plan.genres), probabilities, chosen.astype(np.int8), plan.genres


def test_metrics_have_their_stable_names_and_stand_beside_the_baselines(evaluation):
    names = {
        "test/macro_map",
        "test/macro_f1",
        "test/micro_f1",
        "test/top1",
        "test/top3",
        "test/exact_match",
        "test/per_label_accuracy",
        "test/ece",
        "test/coverage_at_85",
        "test/ap/Comedy",
        "test/ap/Horror",
    }
    assert names <= set(evaluation.metrics)
    for values in evaluation.baselines.values():
        assert set(values) == set(evaluation.metrics)
    assert all(0 <= value <= 1 for value in evaluation.metrics.values())


def test_metrics_are_those_of_what_the_engine_says(evaluation, predicted):
    expected = {f"test/{name}": value for name, value in score(*predicted).items()}
    assert evaluation.metrics == pytest.approx(expected)


def test_intervals_enclose_what_was_measured(evaluation):
    assert set(evaluation.intervals) == set(evaluation.metrics) - {"test/ece"}
    for name, (low, high) in evaluation.intervals.items():
        assert low <= evaluation.metrics[name] <= high
    low, high = evaluation.intervals["test/macro_map"]
    assert high - low > 0.05  # there are few posters


def test_slices_cover_the_test_split(evaluation, wide_split):
    posters = len(SplitPlan.read(wide_split).ids("test"))
    assert evaluation.posters == evaluation.films == posters
    assert sum(row["posters"] for row in evaluation.per_era) == posters
    assert sum(row["posters"] for row in evaluation.per_source) == posters
    for counts in evaluation.confusion_per_genre.values():
        assert sum(counts.values()) == posters


def test_a_slice_of_everything_scores_like_everything(evaluation):
    (source,) = evaluation.per_source
    for name in ("macro_map", "macro_f1", "micro_f1", "top1"):
        assert source[name] == evaluation.metrics[f"test/{name}"]
        assert source["intervals"][name] == evaluation.intervals[f"test/{name}"]
        others = (values[f"test/{name}"] for values in evaluation.baselines.values())
        assert source["baselines"][name] == max(others)


def test_a_slice_of_few_posters_is_counted_and_not_scored(evaluation):
    for row in evaluation.per_era:
        assert ("macro_map" in row) == (row["posters"] >= 10)
    assert any(row["posters"] < 10 for row in evaluation.per_era)


def test_the_primary_confusion_counts_every_poster_once(evaluation, predicted):
    _, probabilities, _, genres = predicted
    counts = np.array(evaluation.primary_confusion)
    assert counts.sum() == evaluation.posters
    assert np.trace(counts) == pytest.approx(evaluation.metrics["test/top1"] * evaluation.posters)
    said = probabilities.argmax(axis=1)
    assert counts.sum(axis=0).tolist() == np.bincount(said, minlength=len(genres)).tolist()


def test_errors_are_the_surest_ones(evaluation, predicted):
    labels, probabilities, _, _ = predicted
    said = probabilities.argmax(axis=1)
    rows = np.arange(len(said))
    wrong = np.sort(probabilities[rows, said][labels[rows, said] == 0])[::-1]
    listed = [entry["probability"] for entry in evaluation.errors]
    assert listed == pytest.approx(wrong[: len(listed)].tolist(), abs=1e-5)
    for entry in evaluation.errors:
        assert entry["genre"] not in entry["genres"]
        assert entry["title"]
    for entry in evaluation.overlooked:
        assert entry["genre"] in entry["genres"]


def test_typical_posters_are_those_with_the_highest_probability(evaluation, predicted, wide_split):
    labels, probabilities, _, genres = predicted
    ids = SplitPlan.read(wide_split).ids("test")
    for g, genre in enumerate(genres):
        order = np.argsort(-probabilities[:, g])[:5]
        typical = evaluation.typical[genre]
        assert [entry["poster_id"] for entry in typical] == [ids[row] for row in order]
        assert [entry["has_genre"] for entry in typical] == [bool(labels[row, g]) for row in order]


def test_curves_end_where_everything_is_taken(evaluation):
    for genre, points in evaluation.precision_recall.items():
        (row,) = (row for row in evaluation.per_genre if row["genre"] == genre)
        recalls = [recall for recall, _ in points]
        assert recalls == sorted(recalls)
        assert recalls[-1] == 1
        assert points[-1][1] >= row["frequency"] - 1e-4
    share, precision = evaluation.coverage[-1]
    assert (share, precision) == pytest.approx((1, evaluation.metrics["test/top1"]), abs=1e-4)
    assert sum(row["count"] for row in evaluation.reliability) == evaluation.posters * 4


def test_evidence_maps_add_up_to_the_logits(make_bundle, evaluation, predicted):
    labels, probabilities, _, genres = predicted
    logits = np.log(probabilities / (1 - probabilities))
    calibration = load(make_bundle()).info.calibration
    logits = (logits - calibration.shift) / calibration.scale
    for g, genre in enumerate(genres):
        having, everyone = (
            np.sum(evaluation.patterns["evidence"][genre][name]) for name in ("with", "all")
        )
        # But for a constant, which the difference does not have.
        expected = logits[labels[:, g] == 1, g].mean() - logits[:, g].mean()
        assert having - everyone == pytest.approx(expected, abs=2e-3)


def test_a_bundle_without_maps_is_evaluated_all_the_same(make_bundle, drawn_catalog, wide_split):
    found = evaluate(make_bundle(explanation="occlusion"), drawn_catalog, wide_split)
    assert found.patterns["evidence"] is None
    assert found.patterns["palette"]["genres"]["Comedy"]


def test_a_bundle_without_folds_has_no_figures_of_them(make_bundle, drawn_catalog, wide_split):
    found = evaluate(make_bundle(), drawn_catalog, wide_split)
    assert found.cross_validation == {}
    assert not [name for name in found.scalars() if name.startswith("cv/")]


def test_a_genre_that_no_test_poster_has_has_no_f1(evaluation):
    per_genre = [dict(row) for row in evaluation.per_genre]
    per_genre[0]["posters"] = 0
    scalars = dataclasses.replace(evaluation, per_genre=per_genre).scalars()
    listed = [name for name in scalars if name.startswith("test/f1/")]
    assert listed == [f"test/f1/{row['genre']}" for row in per_genre[1:]]


def test_everything_is_in_the_json(evaluation, tmp_path):
    evaluation.write(str(tmp_path / "evaluation.json"))
    document = json.loads((tmp_path / "evaluation.json").read_text())
    assert document["schema_version"] == 2
    assert document["metrics"] == evaluation.metrics
    assert document["intervals"]["test/top1"] == list(evaluation.intervals["test/top1"])
    assert [check["outcome"] for check in document["checks"]] == [
        check["outcome"] for check in evaluation.checks
    ]
    assert set(document["patterns"]) == {"evidence", "palette", "attributes"}
    assert document["history"][1]["loss"] == 0.7
    assert document["cross_validation"]["top1"]["folds"] == [0.6, 0.5, 0.7]


def test_scalars_have_stable_names(evaluation):
    scalars = evaluation.scalars()
    assert evaluation.metrics.items() <= scalars.items()
    assert scalars["test/macro_map/low"] == evaluation.intervals["test/macro_map"][0]
    assert scalars["test/top1/high"] == evaluation.intervals["test/top1"][1]
    assert 0 <= scalars["test/change/horizontal_flip"] <= 1
    era = next(row for row in evaluation.per_era if "top1" in row)
    assert scalars[f"test/era/{era['slice']}/top1"] == era["top1"]
    (source,) = evaluation.per_source
    assert scalars["test/source/drawn/macro_map"] == source["macro_map"]
    horror = next(row for row in evaluation.per_genre if row["genre"] == "Horror")
    assert scalars["test/f1/Horror"] == horror["f1"]
    f1 = [value for name, value in scalars.items() if name.startswith("test/f1/")]
    assert np.mean(f1) == pytest.approx(scalars["test/macro_f1"])
    folds = {name: value for name, value in scalars.items() if name.startswith("cv/")}
    assert folds == pytest.approx(
        {
            "cv/macro_map/mean": 0.5,
            "cv/macro_map/std": 0.1,
            "cv/top1/mean": 0.6,
            "cv/top1/std": 0.1,
        }
    )
    assert all(isinstance(value, float) for value in scalars.values())


@pytest.mark.parametrize("version", [1, 2])
def test_the_registry_keeps_evaluations_of_both_versions(
    version, evaluation, make_bundle, tmp_path
):
    if version == 1:
        document = json.loads((OLD / "evaluation-v1.json").read_text())
    else:
        evaluation.write(str(tmp_path / "evaluation.json"))
        document = json.loads((tmp_path / "evaluation.json").read_text())
    assert document["schema_version"] == version
    # What pipelines/summary.py reads.
    assert {"version", "label_set", "posters", "metrics", "baselines"} <= set(document)
    bundle = make_bundle()
    document["version"] = load(bundle).version
    entry = FileRegistry(str(tmp_path / "registry")).register(bundle, document)
    assert entry.metrics["test/macro_f1"] == document["metrics"]["test/macro_f1"]


def test_predictions_come_in_the_order_of_the_rows(make_bundle, drawn_catalog):
    engine, catalog = Engine(load(make_bundle())), Catalog(drawn_catalog)
    frame = catalog.frame(["shard_offset", "size", "sha256"])
    mixed = np.random.default_rng(0).permutation(len(frame))
    seen = []
    found = predict_posters(engine, catalog, frame.iloc[mixed], lambda some: seen.extend(some.rows))
    assert found == pytest.approx(predict_posters(engine, catalog, frame)[mixed])
    assert sorted(seen) == list(range(len(frame)))


def _alter(shard, place):
    """Change a poster's quantisation table: it still decodes, to other pixels."""
    data = bytearray(shard.read_bytes())
    own = slice(place.shard_offset, place.shard_offset + place.size)
    before = bytes(data[own])
    data[place.shard_offset + before.index(b"\xff\xdb") + 10] ^= 8
    assert (decode(bytes(data[own])) != decode(before)).any()
    shard.write_bytes(data)


def _cut(shard, place):
    with shard.open("r+b") as stream:
        stream.truncate(place.shard_offset + place.size // 2)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        pytest.param(_alter, "is damaged: the bytes of the poster", id="altered"),
        pytest.param(_cut, "is damaged: the bytes of the poster", id="cut"),
        pytest.param(lambda shard, _: shard.unlink(), "which holds the poster", id="removed"),
    ],
)
def test_posters_that_are_not_those_stored_are_not_scored(
    damage, says, make_bundle, drawn_catalog, wide_split, tmp_path
):
    folder = shutil.copytree(drawn_catalog, tmp_path / "catalog")
    frame = Catalog(str(folder)).frame(["shard_offset", "size"])
    tested = frame[frame["poster_id"].isin(SplitPlan.read(wide_split).ids("test"))]
    place = next(tested.sort_values(["part", "shard_offset"]).itertuples())
    shard = folder / "parts" / place.part / "shard.tar"
    damage(shard, place)
    with pytest.raises(DataError, match=says) as caught:
        evaluate(make_bundle(), str(folder), wide_split)
    assert str(shard) in caught.value.message
    assert place.poster_id in caught.value.message
    assert "ingest again" in caught.value.remedy


def _other_plan(wide_split, tmp_path, **changes):
    plan = SplitPlan.read(wide_split)
    SplitPlan(plan.frame, plan.balance | changes).write(str(tmp_path))
    return str(tmp_path)


def test_a_temporal_split_is_said_to_be_one(make_bundle, drawn_catalog, tmp_path):
    settings = BalanceSettings(split="temporal", temporal_year=1999)
    plan = balance(drawn_catalog, "study4", settings)
    plan.write(str(tmp_path))
    bundle = make_bundle(split_digest=plan.digest)
    found = evaluate(bundle, drawn_catalog, str(tmp_path))
    assert (found.test_split, found.temporal_year) == ("temporal", 1999)
    assert {row["slice"] for row in found.per_era} <= {"digital", "streaming", "current"}


@pytest.mark.parametrize(
    ("changes", "info", "says"),
    [
        pytest.param(
            {"catalog_digest": "0" * 64},
            {},
            "the catalog of the split plan {plan} is 000000000000, .* with {catalog_digest}",
            id="plan of another catalog",
        ),
        pytest.param(
            {},
            {"catalog_digest": "1" * 64},
            "the catalog {catalog} is {catalog_digest}, .* with 111111111111",
            id="other catalog",
        ),
        pytest.param(
            {},
            {"split_digest": "2" * 64},
            "the split plan {plan} is {split_digest}, .* with 222222222222",
            id="other split",
        ),
        pytest.param(
            {"label_set": "all18"},
            {},
            "the label set of the split plan {plan} is all18, .* with study4",
            id="other genres",
        ),
    ],
)
def test_a_bundle_of_another_training_is_refused(
    changes, info, says, make_bundle, drawn_catalog, wide_split, tmp_path
):
    made = SplitPlan.read(wide_split)
    plan, bundle = _other_plan(wide_split, tmp_path, **changes), make_bundle(**info)
    digests = {"catalog_digest": made.balance["catalog_digest"], "split_digest": made.digest}
    short = {name: digest[:12] for name, digest in digests.items()}
    expected = says.format(plan=plan, catalog=drawn_catalog, **short)
    with pytest.raises(DataError, match=expected) as caught:
        evaluate(bundle, drawn_catalog, plan)
    assert f"the bundle {bundle} was trained with" in caught.value.message
    assert "(run test), or train again" in caught.value.remedy


def test_a_bundle_is_not_tested_on_what_it_was_trained_on(make_bundle, drawn_catalog, tmp_path):
    balance(drawn_catalog, "study4", BalanceSettings(seed=1)).write(str(tmp_path))
    with pytest.raises(DataError, match="posters that would test it may have trained it"):
        evaluate(make_bundle(), drawn_catalog, str(tmp_path))


def test_without_test_posters_there_is_nothing_to_score(
    make_bundle, drawn_catalog, wide_split, tmp_path
):
    plan = SplitPlan.read(wide_split)
    plan.frame["split"] = plan.frame["split"].replace("test", "validation")
    plan.write(str(tmp_path))
    bundle = make_bundle(split_digest=plan.digest)
    with pytest.raises(DataGateFailed, match="no poster of the split test"):
        evaluate(bundle, drawn_catalog, str(tmp_path))


def test_posters_that_expired_since_are_not_tested_on(
    make_bundle, drawn_catalog, wide_split, tmp_path
):
    catalog = shutil.copytree(drawn_catalog, tmp_path / "catalog")
    for part in catalog.glob("parts/*/posters.parquet"):
        table, column = pq.read_table(part), SCHEMA.get_field_index("expires_at")
        past = pa.array([datetime(2020, 1, 1, tzinfo=UTC)] * len(table), SCHEMA.field(column).type)
        pq.write_table(table.set_column(column, SCHEMA.field(column), past), part)
    with pytest.raises(DataGateFailed, match="have expired"):
        evaluate(make_bundle(), str(catalog), wide_split)
