"""What is checked of a bundle before anything of it is deployed."""

from collections.abc import Callable

import numpy as np

from components.rollout.state import Model, World
from marquee.bundle import Bundle, load
from marquee.engine import Engine
from marquee.errors import DataError, InfrastructureError, Stopped, explain
from marquee.verdict import Check, Outcome, Verdict


def validate(world: World) -> Verdict:
    """Check a canary's bundle: sums, signature, genres, and whether it computes.

    Args:
        world: The canary, and the stable model if there is one.
    """
    canary = world.canary
    assert canary, "a rollout has a canary"
    found: list[Bundle] = []
    checks = [_check("sums", lambda: found.append(load(canary.uri, canary.version)))]
    if found:
        bundle = found[0]
        checks.append(_check("signature", lambda: canary.check_signature(bundle)))
        checks.append(_check("genres", lambda: _same_genres(bundle, world.stable)))
        checks.append(_check("computes", lambda: _compute(bundle)))
    return Verdict(gate="canary", subject=canary.version[:12], checks=tuple(checks))


def _check(name: str, attempt: Callable[[], object]) -> Check:
    """Turn what an attempt raises into a check that fails; what waiting may mend is raised."""
    try:
        attempt()
    except (InfrastructureError, Stopped, OSError):
        raise
    except Exception as error:  # runtimes raise what they like on a model that they cannot read
        known = explain(error) or DataError(
            f"{type(error).__name__}: {error}", remedy="train or export it again"
        )
        return Check(
            name=name,
            outcome=Outcome.FAILED,
            measured=known.message,
            bound="a sound bundle",
            remedy=known.remedy,
        )
    return Check(name=name, outcome=Outcome.PASSED, measured="as it should be", bound="sound")


def _same_genres(bundle: Bundle, stable: Model | None) -> None:
    if stable is None:
        return
    served = stable.open().info
    if (served.label_set, set(served.genres)) != (bundle.info.label_set, set(bundle.info.genres)):
        raise DataError(
            f"it predicts {bundle.info.label_set}, what is served predicts {served.label_set}",
            remedy="roll it out beside a model of its own label set",
        )


def _compute(bundle: Bundle) -> None:
    size = bundle.info.preprocessing
    grey = np.full((1, size.height, size.width, 3), 128, dtype=np.uint8)
    probabilities = Engine(bundle).probabilities(grey)
    if not np.isfinite(probabilities).all():
        raise DataError("it gives no numbers for a grey poster", remedy="train again")
