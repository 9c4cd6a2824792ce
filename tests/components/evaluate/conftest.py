"""A bundle that needs no training, and its evaluation on the drawn posters."""

import pytest
from bundles import tiny_bundle

from components.balance.balance import balance
from components.evaluate.evaluate import evaluate
from marquee.settings import BalanceSettings
from marquee.split import SplitPlan


@pytest.fixture(scope="package")
def wide_split(drawn_catalog, tmp_path_factory):
    """A split plan for study4 that tests more posters than it trains."""
    uri = str(tmp_path_factory.mktemp("wide"))
    balance(drawn_catalog, "study4", BalanceSettings(train=0.2, validation=0.2)).write(uri)
    return uri


@pytest.fixture(scope="package")
def make_bundle(wide_split, tmp_path_factory):
    """Seal a bundle as if it were trained by that plan."""
    plan = SplitPlan.read(wide_split)
    lineage = {"catalog_digest": plan.balance["catalog_digest"], "split_digest": plan.digest}

    def make(**info):
        folder = tmp_path_factory.mktemp("bundle") / "tiny"
        return str(tiny_bundle(folder, **lineage | info).folder)

    return make


@pytest.fixture(scope="package")
def evaluation(make_bundle, drawn_catalog, wide_split):
    history = [
        {"epoch": 1, "loss": 0.9, "validation_macro_map": 0.3, "learning_rate": 1e-3},
        {"epoch": 2, "loss": 0.7, "validation_macro_map": 0.4, "learning_rate": 1e-4},
    ]
    folds = {"macro_map": [0.4, 0.5, 0.6], "top1": [0.6, 0.5, 0.7]}
    bundle = make_bundle(history=history, cross_validation=folds)
    return evaluate(bundle, drawn_catalog, wide_split)
