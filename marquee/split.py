"""The split plan: which poster trains, validates or tests a model."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from marquee import storage
from marquee.contract import check_schema_version, parse_json
from marquee.errors import DataError
from marquee.genres import label_set as genres_of

SCHEMA_VERSION = 3
SPLIT_FILE = "split.parquet"
BALANCE_FILE = "balance.json"

TRAIN, VALIDATION, TEST = "train", "validation", "test"
SPLITS: tuple[str, ...] = (TRAIN, VALIDATION, TEST)

SCHEMA = pa.schema(
    [
        ("poster_id", pa.string()),
        ("group_id", pa.string()),
        ("split", pa.string()),
        ("weight", pa.float32()),
        ("repeats", pa.uint8()),
        ("label_weights", pa.list_(pa.float32())),
    ]
)
"""Columns of split.parquet: `group_id` keeps a film, its near-duplicates and its collection
together; `weight` is how much a poster counts in training, mean 1: in the loss or in the draw, as
the strategy says; `repeats` is how often an epoch shows it; `label_weights` [G] (0..1) is how much
each of its labels counts in the loss. Validation and test rows have 1 everywhere."""
_ROWS_AT_A_TIME = 4096


@dataclass(frozen=True)
class SplitPlan:
    """A split plan and what is known of it."""

    frame: pd.DataFrame
    """One row a poster with the columns of `SCHEMA`."""
    balance: dict[str, Any]
    """The content of balance.json: labels, catalog digest, strategy, and what the page shows."""

    @property
    def label_set(self) -> str:
        """Name of the label set that the plan was made for."""
        return str(self.balance["label_set"])

    @property
    def genres(self) -> tuple[str, ...]:
        """The G labels that models learn: those of the label set that enough films have."""
        return tuple(self.balance["labels"])

    @property
    def strategy(self) -> str:
        """How training uses the weights; see `BalanceSettings.strategy`."""
        return str(self.balance["strategy"])

    @property
    def class_weights(self) -> dict[str, float] | None:
        """What a positive label of each genre weighs in the loss, a negative one being 1.

        None in a plan of version 1: training then finds them from its labels.
        """
        return self.balance.get("class_weights")

    @property
    def digest(self) -> str:
        """The sha256 (64 hex digits) over which poster is in which split.

        Weights are left out: bundles trained by any strategy share a test set, and can be compared.
        Labels that were left out are in it: their lack makes another task of the label set.
        """
        task = "\0".join((self.label_set, *self.balance["labels_left_out"]))
        total = hashlib.sha256(f"{task}\n".encode())
        rows = self.frame[["poster_id", "split"]].sort_values("poster_id")
        for poster, split in zip(rows["poster_id"], rows["split"], strict=True):
            total.update(f"{poster}\0{split}\n".encode())
        return total.hexdigest()

    @property
    def training_digest(self) -> str:
        """The sha256 (64 hex digits) over all that training reads of the plan and the catalog.

        What caches a training goes by this: a label that was mended, or sources that no longer
        agree, can change weights without moving a poster to another split.
        """
        names = ("catalog_digest", "strategy", "class_weights")
        facts = [self.digest, *(self.balance.get(name) for name in names)]
        rows = self.frame.sort_values("poster_id")
        total = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
        total.update(rows["weight"].to_numpy(np.float32).tobytes())
        total.update(rows["repeats"].to_numpy(np.uint8).tobytes())
        for weights in rows["label_weights"]:
            total.update(np.asarray(weights, dtype=np.float32).tobytes())
        return total.hexdigest()

    def ids(self, split: str) -> list[str]:
        """Give the poster ids of a split, sorted."""
        return sorted(self.frame.loc[self.frame["split"] == split, "poster_id"])

    def write(self, uri: str) -> None:
        """Write `split.parquet` and `balance.json` below a URI."""
        sink = pa.BufferOutputStream()
        with pq.ParquetWriter(sink, SCHEMA) as writer:
            # Some rows at a time: as a table, the whole would be in memory once more.
            for start in range(0, len(self.frame), _ROWS_AT_A_TIME):
                rows = self.frame.iloc[start : start + _ROWS_AT_A_TIME]
                writer.write_table(pa.Table.from_pandas(rows, SCHEMA, preserve_index=False))
        storage.write_bytes(storage.join(uri, SPLIT_FILE), sink.getvalue().to_pybytes())
        document = {**self.balance, "schema_version": SCHEMA_VERSION}
        storage.write_text(storage.join(uri, BALANCE_FILE), json.dumps(document, indent=2) + "\n")

    @classmethod
    def read(cls, uri: str, columns: Sequence[str] | None = None) -> "SplitPlan":
        """Read a plan.

        Args:
            uri: Where `write` put it.
            columns: Those of `SCHEMA` that are needed; all without it, and of version 1 always.

        Raises:
            DataError: There is none, or it is newer than this code.
        """
        where = storage.join(uri, BALANCE_FILE)
        try:
            balance = parse_json(storage.read_text(where), where)
            check_schema_version(balance, SCHEMA_VERSION, where)
            with storage.open_binary(storage.join(uri, SPLIT_FILE)) as stream:
                chosen = None if balance["schema_version"] == 1 or columns is None else [*columns]
                frame = pq.read_table(stream, columns=chosen).to_pandas()
        except FileNotFoundError as error:
            raise DataError(
                f"no split plan at {uri} ({error})", remedy="make one with `marquee balance`"
            ) from None
        if balance["schema_version"] == 1:
            frame, balance = _from_version_1(frame, balance)
        if balance["schema_version"] <= 2:
            labels = list(genres_of(balance["label_set"]))
            balance = {**balance, "labels": labels, "labels_left_out": {}}
        return cls(frame, balance)


def _from_version_1(
    frame: pd.DataFrame, balance: dict[str, Any]
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Give a plan of version 1 as one of today: it knew one strategy, and masks of yes and no."""
    masks = frame.pop("label_mask")
    frame["repeats"] = np.uint8(1)
    frame["label_weights"] = masks.map(lambda mask: np.asarray(mask, dtype=np.float32))
    frame.loc[frame["split"] != TRAIN, "weight"] = np.float32(1)
    return frame, {**balance, "strategy": "class_weights"}
