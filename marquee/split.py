"""The split plan: which poster trains, validates or tests a model."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from marquee import storage
from marquee.contract import check_schema_version, parse_json
from marquee.errors import DataError
from marquee.genres import label_set as genres_of

SCHEMA_VERSION = 1
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
        ("label_mask", pa.list_(pa.bool_())),
    ]
)
"""Columns of split.parquet: `group_id` keeps a film, its near-duplicates and its collection
together; `weight` is how much a poster counts in training; `label_mask` [G] says which of its
labels count in the loss."""


@dataclass(frozen=True)
class SplitPlan:
    """A split plan and what is known of it."""

    frame: pd.DataFrame
    """One row a poster with the columns of `SCHEMA`."""
    balance: dict[str, Any]
    """The content of balance.json: label set, catalog digest, distributions before and after."""

    @property
    def label_set(self) -> str:
        """Name of the label set that the plan was made for."""
        return str(self.balance["label_set"])

    @property
    def genres(self) -> tuple[str, ...]:
        """The G genres of the label set."""
        return genres_of(self.label_set)

    @property
    def digest(self) -> str:
        """The sha256 (64 hex digits) over which poster is in which split."""
        pairs = sorted(zip(self.frame["poster_id"], self.frame["split"], strict=True))
        text = f"{self.label_set}\n" + "".join(f"{poster}\0{split}\n" for poster, split in pairs)
        return hashlib.sha256(text.encode()).hexdigest()

    def ids(self, split: str) -> list[str]:
        """Give the poster ids of a split, sorted."""
        return sorted(self.frame.loc[self.frame["split"] == split, "poster_id"])

    def write(self, uri: str) -> None:
        """Write `split.parquet` and `balance.json` below a URI."""
        table = pa.Table.from_pandas(self.frame, schema=SCHEMA, preserve_index=False)
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        storage.write_bytes(storage.join(uri, SPLIT_FILE), sink.getvalue().to_pybytes())
        document = {"schema_version": SCHEMA_VERSION, **self.balance}
        storage.write_text(storage.join(uri, BALANCE_FILE), json.dumps(document, indent=2) + "\n")

    @classmethod
    def read(cls, uri: str) -> "SplitPlan":
        """Read a plan.

        Args:
            uri: Where `write` put it.

        Raises:
            DataError: There is none, or it is newer than this code.
        """
        where = storage.join(uri, BALANCE_FILE)
        try:
            balance = parse_json(storage.read_text(where), where)
            check_schema_version(balance, SCHEMA_VERSION, where)
            with storage.open_binary(storage.join(uri, SPLIT_FILE)) as stream:
                frame = pq.read_table(stream).to_pandas()
        except FileNotFoundError as error:
            raise DataError(
                f"no split plan at {uri} ({error})", remedy="make one with `marquee balance`"
            ) from None
        return cls(frame, balance)
