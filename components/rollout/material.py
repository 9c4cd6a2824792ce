"""The posters that a dark launch replays: labelled ones, and what users sent lately."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from components.rollout.replay import Poster
from components.rollout.state import World
from marquee.catalog import Catalog
from marquee.genres import label_columns, label_matrix
from marquee.lineage import read_training_posters
from marquee.records import REPLAY_CLIENT, RecordReader
from marquee.samples import recent_samples

GOLDEN, RECENT = 64, 64
"""How many posters are replayed at most: golden ones, and recent ones of either kind."""
_HOURS = 24
_COLUMNS = ("film_id", "shard_offset", "size")


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where posters to replay may come from; empty for nowhere."""

    catalog: str = ""
    """A catalog of labelled posters."""
    records: str = ""
    """Prediction records: they tell which films users asked about."""
    samples: str = ""
    """Posters that users sent."""


def material(world: World, sources: Sources) -> list[Poster]:
    """Choose the posters to replay.

    Golden ones are those of the catalog that trained neither model, the same each time. Recent ones
    are posters of films that users asked about in the last day, if the catalog has them, and what
    is kept of what they sent.

    Args:
        world: The canary and the stable model.
        sources: Where they come from.

    Returns:
        The posters; none if nothing is there, or nothing is served that could be compared.
    """
    if world.stable is None:
        return []
    of_catalog = _of_catalog(world, sources) if sources.catalog else []
    return [*of_catalog, *(_sampled(sources.samples) if sources.samples else ())]


def _sampled(uri: str) -> Iterator[Poster]:
    for name, image in recent_samples(uri, RECENT, datetime.now(UTC)):
        yield Poster(poster_id=f"sample {name[:12]}", data=image, genres=None)


def _of_catalog(world: World, sources: Sources) -> list[Poster]:
    assert world.stable
    catalog = Catalog(sources.catalog)
    genres = world.stable.open().info.genres
    frame = catalog.frame([*_COLUMNS, *label_columns(genres)])
    labelled = np.flatnonzero(label_matrix(frame, genres).any(axis=1))
    golden = _golden(frame.iloc[labelled], world)
    films = frozenset(frame["film_id"])
    asked = _asked_for(sources.records, films) if sources.records else frozenset()
    recent = frame[frame["film_id"].isin(asked)].head(RECENT)
    chosen = pd.concat([golden, recent]).drop_duplicates("poster_id")
    return list(_posters(catalog, chosen, genres))


def _golden(frame: pd.DataFrame, world: World) -> pd.DataFrame:
    unseen = frame
    for model in filter(None, (world.stable, world.canary)):
        known = read_training_posters(model.uri)
        if known is not None:
            unseen = unseen[~unseen["film_id"].isin(known["film_id"])]
    order = unseen["poster_id"].map(lambda name: hashlib.sha256(name.encode()).hexdigest())
    return unseen.loc[order.sort_values().index].head(GOLDEN)


def _asked_for(records_uri: str, films: frozenset[str]) -> frozenset[str]:
    """Give films that users asked about lately: the latest hours that have enough of them."""
    reader, now = RecordReader(records_uri), datetime.now(UTC)
    found: frozenset[str] = frozenset()
    for hours in range(_HOURS):
        until = now - timedelta(hours=hours)
        rows = reader.read(until - timedelta(hours=1), until, ("film_id", "client_id"))
        by_users = pc.fill_null(pc.not_equal(rows["client_id"], REPLAY_CLIENT), True)
        found |= films & set(rows.filter(by_users)["film_id"].drop_null().unique().to_pylist())
        if len(found) >= RECENT:
            break
    return found


def _posters(catalog: Catalog, frame: pd.DataFrame, genres: tuple[str, ...]) -> Iterator[Poster]:
    labels = dict(zip(frame["poster_id"], label_matrix(frame, genres), strict=True))
    for poster_id, data in catalog.stream_images(frame.sort_values(["part", "shard_offset"])):
        has = frozenset(g for g, owns in zip(genres, labels[poster_id], strict=True) if owns)
        yield Poster(poster_id=poster_id, data=data, genres=has or None)
