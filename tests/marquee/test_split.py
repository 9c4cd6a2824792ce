"""The split plan on disk: older versions are read, newer ones refused; what its digests see."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from marquee.errors import DataError
from marquee.split import SplitPlan

VERSION_1 = pa.schema(
    [
        ("poster_id", pa.string()),
        ("group_id", pa.string()),
        ("split", pa.string()),
        ("weight", pa.float32()),
        ("label_mask", pa.list_(pa.bool_())),
    ]
)


@pytest.fixture
def version_1(tmp_path):
    """A plan as Marquee 0.1 wrote it."""
    rows = [
        ("a", "g0", "train", 1.5, [True, True, False, True]),
        ("b", "g1", "train", 0.5, [True] * 4),
        ("c", "g2", "validation", 1.2, [True] * 4),
        ("d", "g3", "test", 0.7, [True] * 4),
    ]
    frame = pd.DataFrame(rows, columns=VERSION_1.names)
    pq.write_table(pa.Table.from_pandas(frame, VERSION_1), tmp_path / "split.parquet")
    balance = {"schema_version": 1, "label_set": "study4", "catalog_digest": "c" * 64}
    (tmp_path / "balance.json").write_text(json.dumps(balance))
    return str(tmp_path)


def test_a_plan_of_version_1_is_read(version_1):
    plan = SplitPlan.read(version_1)
    assert np.stack(plan.frame["label_weights"])[0].tolist() == [1, 1, 0, 1]
    assert plan.frame["repeats"].tolist() == [1, 1, 1, 1]
    assert plan.frame["weight"].tolist() == [1.5, 0.5, 1, 1]
    assert (plan.strategy, plan.class_weights) == ("class_weights", None)
    assert plan.ids("train") == ["a", "b"]
    assert plan.genres == ("Comedy", "Horror", "Action", "Romance")


def test_a_plan_of_version_1_is_written_as_one_of_today(version_1, tmp_path):
    old = SplitPlan.read(version_1)
    old.write(str(tmp_path / "new"))
    new = SplitPlan.read(str(tmp_path / "new"))
    assert json.loads((tmp_path / "new/balance.json").read_text())["schema_version"] == 3
    assert new.digest == old.digest
    assert new.training_digest == old.training_digest


def test_a_newer_plan_is_refused(version_1, tmp_path):
    (tmp_path / "balance.json").write_text(json.dumps({"schema_version": 4}))
    with pytest.raises(DataError, match=r"schema_version 4.*upgrade Marquee"):
        SplitPlan.read(version_1)


def test_a_missing_plan_is_named(tmp_path):
    with pytest.raises(DataError, match=r"no split plan at .*marquee balance"):
        SplitPlan.read(str(tmp_path / "nowhere"))


def test_a_plan_of_version_2_has_all_labels_of_its_set(version_1, tmp_path):
    """Version 2 is today's but for the labels: a label set was always learnt as a whole."""
    SplitPlan.read(version_1).write(str(tmp_path))
    balance = json.loads((tmp_path / "balance.json").read_text())
    digest = SplitPlan.read(str(tmp_path)).digest
    del balance["labels"], balance["labels_left_out"]
    (tmp_path / "balance.json").write_text(json.dumps(balance | {"schema_version": 2}))
    plan = SplitPlan.read(str(tmp_path))
    assert plan.genres == ("Comedy", "Horror", "Action", "Romance")
    assert plan.digest == digest


def test_labels_that_were_left_out_make_another_task(version_1):
    plan = SplitPlan.read(version_1)
    fewer = plan.balance | {"labels": ["Comedy", "Horror"], "labels_left_out": {"Action": 3}}
    changed = dataclasses.replace(plan, balance=fewer)
    assert changed.genres == ("Comedy", "Horror")
    assert changed.digest != plan.digest


def _weight(frame, facts):
    frame.loc[0, "weight"] = 3.0


def _repeats(frame, facts):
    frame.loc[0, "repeats"] = 2


def _label_weight(frame, facts):
    frame.at[0, "label_weights"] = np.array([1, 0.5, 1, 1], np.float32)


def _strategy(frame, facts):
    facts["strategy"] = "sampler"


def _catalog(frame, facts):
    facts["catalog_digest"] = "d" * 64


@pytest.mark.parametrize("change", [_weight, _repeats, _label_weight, _strategy, _catalog])
def test_what_trains_changes_the_training_digest_alone(change, version_1):
    plan = SplitPlan.read(version_1)
    frame, facts = plan.frame.copy(), dict(plan.balance)
    change(frame, facts)
    changed = dataclasses.replace(plan, frame=frame, balance=facts)
    assert changed.digest == plan.digest
    assert changed.training_digest != plan.training_digest


def test_moving_a_poster_changes_both_digests_and_the_order_of_rows_neither(version_1):
    plan = SplitPlan.read(version_1)
    turned = dataclasses.replace(plan, frame=plan.frame.iloc[::-1])
    assert (turned.digest, turned.training_digest) == (plan.digest, plan.training_digest)
    frame = plan.frame.copy()
    frame.loc[0, "split"] = "test"
    moved = dataclasses.replace(plan, frame=frame)
    assert moved.digest != plan.digest
    assert moved.training_digest != plan.training_digest


def test_some_columns_tell_the_same_digest(version_1, tmp_path):
    SplitPlan.read(version_1).write(str(tmp_path / "new"))
    for uri, columns in ((version_1, None), (str(tmp_path / "new"), ["poster_id", "split"])):
        plan = SplitPlan.read(uri, ("poster_id", "split"))
        assert plan.digest == SplitPlan.read(uri).digest
        assert columns is None or list(plan.frame) == columns
        assert plan.ids("train") == ["a", "b"]
