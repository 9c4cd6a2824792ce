"""The bundle's index of similar posters: where its model, as it is served, places those it learnt.

The embeddings come from the file that will be served, not from the network in training or from its
cached features: only then is a poster's nearest neighbour the same for both sides of the search.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.train.data import Subset
from marquee.bundle import Bundle, BundleInfo
from marquee.engine import Engine
from marquee.licences import attributions
from marquee.log import progress
from marquee.neighbours import FACTS, write_neighbours


def index_posters(
    folder: Path,
    info: BundleInfo,
    subset: Subset,
    pixels: Iterable[NDArray[np.uint8]],
) -> None:
    """Write the index of the training posters into a bundle that is about to be sealed.

    Args:
        folder: The bundle's folder; the model of its default precision lies in it.
        info: What the bundle says of itself.
        subset: The N training posters.
        pixels: They, preprocessed, some at a time [B, H, W, 3].
    """
    engine = Engine(Bundle(folder, info))
    embeddings = []
    with progress("similar posters", len(subset)) as advance:
        for images in pixels:
            embeddings.append(engine.infer(images, ("embedding",))["embedding"])
            advance(len(images))
    names = {*FACTS.names, "label_licences"} - {"genres"}
    known = subset.catalog.frame(sorted(names))
    facts = subset.frame[["poster_id"]].merge(known, validate="one_to_one")
    facts["genres"] = [
        [genre for genre, has in zip(info.genres, row, strict=True) if has] for row in subset.labels
    ]
    write_neighbours(folder, facts, np.concatenate(embeddings), attributions(facts))
