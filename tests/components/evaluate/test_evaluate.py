import shutil
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.balance.balance import balance
from components.evaluate.evaluate import evaluate
from components.evaluate.page import evaluation_page
from marquee.catalog import SCHEMA
from marquee.errors import DataError, DataGateFailed
from marquee.settings import BalanceSettings
from marquee.split import SplitPlan


@pytest.fixture(scope="module")
def evaluation(drawn_bundles, drawn_catalog, drawn_split):
    return evaluate(drawn_bundles["custom_cnn"], drawn_catalog, drawn_split)


def test_metrics_have_their_stable_names_and_stand_beside_the_baselines(evaluation):
    names = {
        "test/macro_map",
        "test/macro_f1",
        "test/micro_f1",
        "test/top1",
        "test/per_label_accuracy",
        "test/ap/Comedy",
        "test/ap/Horror",
    }
    assert names <= set(evaluation.metrics)
    for values in evaluation.baselines.values():
        assert set(values) == set(evaluation.metrics)
    assert all(0 <= value <= 1 for value in evaluation.metrics.values())


def test_slices_cover_the_test_split(evaluation, drawn_split):
    posters = len(SplitPlan.read(drawn_split).ids("test"))
    assert evaluation.posters == posters
    assert sum(row["posters"] for row in evaluation.per_era) == posters
    assert sum(row["posters"] for row in evaluation.per_source) == posters
    for counts in evaluation.confusion_per_genre.values():
        assert sum(counts.values()) == posters


def test_the_page_shows_what_was_measured(evaluation):
    page = evaluation_page(evaluation)
    for words in ("Beside the baselines", "By genre", "By era", "predict every genre", "Horror"):
        assert words in page
    assert f"{evaluation.metrics['test/macro_f1']:.3f}" in page
    assert "http" not in page.replace("http://www.w3.org", "")


def _other_plan(drawn_split, tmp_path, **changes):
    plan = SplitPlan.read(drawn_split)
    SplitPlan(plan.frame, plan.balance | changes).write(str(tmp_path))
    return str(tmp_path)


def test_a_bundle_of_other_posters_is_refused(drawn_bundles, drawn_catalog, drawn_split, tmp_path):
    plan = _other_plan(drawn_split, tmp_path, catalog_digest="0" * 64)
    with pytest.raises(DataError, match="another catalog or split plan"):
        evaluate(drawn_bundles["custom_cnn"], drawn_catalog, plan)


def test_a_bundle_is_not_tested_on_what_it_was_trained_on(drawn_bundles, drawn_catalog, tmp_path):
    balance(drawn_catalog, "study4", BalanceSettings(seed=1)).write(str(tmp_path))
    with pytest.raises(DataError, match="trained on the posters that would test it"):
        evaluate(drawn_bundles["custom_cnn"], drawn_catalog, str(tmp_path))


def test_a_bundle_for_other_genres_is_refused(drawn_bundles, drawn_catalog, drawn_split, tmp_path):
    plan = _other_plan(drawn_split, tmp_path, label_set="all18")
    with pytest.raises(DataError, match="the split plan is for all18"):
        evaluate(drawn_bundles["custom_cnn"], drawn_catalog, plan)


def test_posters_that_expired_since_are_not_tested_on(
    drawn_bundles, drawn_catalog, drawn_split, tmp_path
):
    catalog = shutil.copytree(drawn_catalog, tmp_path / "catalog")
    for part in catalog.glob("parts/*/posters.parquet"):
        table, column = pq.read_table(part), SCHEMA.get_field_index("expires_at")
        past = pa.array([datetime(2020, 1, 1, tzinfo=UTC)] * len(table), SCHEMA.field(column).type)
        pq.write_table(table.set_column(column, SCHEMA.field(column), past), part)
    with pytest.raises(DataGateFailed, match="have expired"):
        evaluate(drawn_bundles["custom_cnn"], str(catalog), drawn_split)
