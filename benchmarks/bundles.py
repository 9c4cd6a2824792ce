"""Bundles to measure on: given ones in each precision, or one made from drawn posters."""

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path

from marquee.bundle import Bundle, load, seal
from marquee.settings import BalanceSettings, Settings

ARCHITECTURES = ("vgg16", "custom_cnn")
_FILMS = 120
_SHORT = {"epochs": 1, "fine_tune_epochs": 0, "default_precision": "int8"}


def bundles(given: Sequence[str], scratch: Path) -> list[Bundle]:
    """Open the bundles that were given, or make one of each architecture.

    Those made have the default sizes and hardly learn: they cost what trained ones cost.

    Args:
        given: Folders or URIs; may be empty.
        scratch: A folder for what is made.
    """
    return [load(uri) for uri in given] or [make(name, scratch) for name in ARCHITECTURES]


def make(architecture: str, scratch: Path) -> Bundle:
    """Train a bundle for some seconds on drawn posters, from random weights."""
    # Here, because torch takes seconds to load, and a gigabyte.
    from components.balance.balance import balance
    from components.ingest.ingest import ingest
    from components.ingest.sources.drawn import DrawnSource
    from components.train.train import Order, train

    catalog, split = str(scratch / "catalog"), str(scratch / "split")
    if not Path(catalog).exists():
        ingest(DrawnSource(_FILMS), catalog)
        balance(catalog, "all18", BalanceSettings()).write(split)
    order = Order(
        catalog_uri=catalog,
        split_uri=split,
        architecture=architecture,
        weights="random",
        bundle_uri=str(scratch / architecture),
    )
    return load(train(order, Settings(train=dict(_SHORT))).bundle_uri)


def in_precision(bundle: Bundle, precision: str, scratch: Path) -> Bundle:
    """Give the bundle, or a copy of it, that runs in a precision by default."""
    if bundle.info.precision == precision:
        return bundle
    folder = scratch / f"{bundle.info.architecture}-{precision}"
    shutil.copytree(bundle.folder, folder)
    seal(folder, dataclasses.replace(bundle.info, precision=precision))
    return load(str(folder))
