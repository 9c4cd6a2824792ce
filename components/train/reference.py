"""The bundle's reference profile: what its model, as it is served, says of validation posters."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.train.data import Subset
from marquee.bundle import Bundle, BundleInfo
from marquee.decision import decide
from marquee.engine import Engine
from marquee.log import progress
from marquee.profile import Profile, profile_of


def reference_profile(
    folder: Path, info: BundleInfo, subset: Subset, pixels: Iterable[NDArray[np.uint8]]
) -> Profile:
    """Count what a model says of posters that did not train it.

    Args:
        folder: The bundle's folder; the model of its default precision lies in it.
        info: What the bundle says of itself.
        subset: The N validation posters.
        pixels: They, preprocessed, some at a time [B, H, W, 3].

    Returns:
        The profile.
    """
    engine = Engine(Bundle(folder, info))
    batches = []
    with progress("reference profile", len(subset)) as advance:
        for images in pixels:
            batches.append(engine.infer(images, engine.prediction_outputs))
            advance(len(images))
    outputs = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    probabilities = info.calibration.probabilities(outputs["logits"])
    chosen, unsure = decide(probabilities, info.thresholds)
    return profile_of(
        info.genres,
        subset.frame,
        probabilities,
        chosen,
        unsure=unsure,
        labels=subset.labels,
        guessed=[info.eras[n] for n in outputs["era"].argmax(axis=1)] if info.eras else [],
        embeddings=outputs["embedding"],
    )
