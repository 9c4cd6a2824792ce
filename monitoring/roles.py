"""What a model was when it predicted, from the history that rollouts leave in the registry."""

import enum

import pyarrow as pa

from marquee.registry import ModelRegistry, Stage

ROLES_SCHEMA = pa.schema(
    [
        ("version", pa.string()),
        ("since", pa.timestamp("us", tz="UTC")),
        ("role", pa.string()),
    ]
)


class Role(enum.StrEnum):
    """What a model is while it answers users."""

    CANARY = "canary"
    """It is registered, and not the champion yet: only a rollout sends users to it."""
    STABLE = "stable"
    """It is the champion."""
    WITHDRAWN = "withdrawn"
    """It was replaced, or rolled back: what it still answers are stragglers."""
    UNREGISTERED = "unregistered"
    """The registry does not know it."""


_ROLES = {
    "registered": Role.CANARY,
    Stage.CANDIDATE: Role.CANARY,
    Stage.CHAMPION: Role.STABLE,
    Stage.RETIRED: Role.WITHDRAWN,
    Stage.QUARANTINED: Role.WITHDRAWN,
}


def roles(registry: ModelRegistry) -> pa.Table:
    """Tell which role each registered version had from when on.

    Args:
        registry: Where rollouts keep what became of versions.

    Returns:
        A row a change of role, of `ROLES_SCHEMA`.
    """
    rows = [
        {"version": event.version, "since": event.time, "role": _ROLES[event.what]}
        for event in registry.history()
        if event.what in _ROLES
    ]
    times = pa.array([row["since"] for row in rows], pa.string()).cast(ROLES_SCHEMA.field(1).type)
    columns = {name: [row[name] for row in rows] for name in ("version", "role")}
    return pa.table(columns | {"since": times}, schema=ROLES_SCHEMA)
