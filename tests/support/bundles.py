"""A small model bundle, sealed like a trained one, made without torch in milliseconds."""

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

from marquee.bundle import EMBEDDING_SIZE, MODEL_FILE, WEIGHTS_FILE, Bundle, BundleInfo, load, seal
from marquee.decision import Calibration
from marquee.genres import label_set as genres_of
from marquee.images import Preprocessing
from marquee.lineage import write_training_posters
from marquee.neighbours import FACTS, write_neighbours

CELLS = (6, 4)
"""Height and width of the evidence maps."""

INDEXED = tuple(f"p{number:02d}" for number in range(12))
"""The posters in a tiny bundle's index; `indexed_poster` makes them."""


def tiny_bundle(
    folder: Path,
    *,
    genres: tuple[str, ...] | None = None,
    label_set: str = "study4",
    height: int = 24,
    width: int = 16,
    seed: int = 0,
    head: NDArray[np.float32] | None = None,
    trained_on: Sequence[str] | None = None,
    indexed: Sequence[str] = INDEXED,
    **info: Any,
) -> Bundle:
    """Write a bundle whose model weighs the colours of a poster's 6 x 4 cells.

    Args:
        folder: Where to; it is made.
        genres: The genres; those of the label set without it.
        label_set: What the bundle says of them.
        height: Input height in px, a multiple of 6.
        width: Input width in px, a multiple of 4.
        seed: Chooses the weights: another seed is another model.
        head: What each genre gives for each cell's colour [G, 3, 6, 4], instead.
        trained_on: The ids of the posters that trained it; without them the bundle is like one
            of before such lists were sealed.
        indexed: The ids of the posters in its index; without any it has none.
        info: What `bundle.json` shall say instead.

    Returns:
        The sealed bundle.
    """
    folder.mkdir(parents=True, exist_ok=True)
    genres = genres or genres_of(label_set)
    weights = _weights(len(genres), seed)
    if head is not None:
        weights["head.weight"] = head
    onnx.save(_model(weights, height, width), folder / MODEL_FILE)
    save_file(weights, folder / WEIGHTS_FILE)
    if trained_on is not None:
        facts = {"source": "test", "licence": "CC0-1.0", "split": "train"}
        rows = [{"poster_id": name, "film_id": name, **facts} for name in trained_on]
        write_training_posters(folder, pd.DataFrame(rows))
    content = dataclasses.replace(_info(genres, label_set, height, width, seed), **info)
    if indexed:
        _write_index(Bundle(folder, content), indexed)
    seal(folder, content)
    return Bundle(folder, content)


def changed(bundle: Bundle, folder: Path, **changes: Any) -> Bundle:
    """Seal a copy of a bundle whose `bundle.json` says something else."""
    shutil.copytree(bundle.folder, folder)
    seal(folder, dataclasses.replace(bundle.info, **changes))
    return load(str(folder))


def always_first(bundle: Bundle, folder: Path) -> Bundle:
    """Seal a copy of a bundle that says its first genre, whatever the poster."""
    genres = bundle.info.genres
    calibration = dataclasses.replace(
        bundle.info.calibration,
        scale=(0.0,) * len(genres),
        shift=tuple(3.0 if genre == genres[0] else -3.0 for genre in genres),
    )
    return changed(bundle, folder, calibration=calibration)


def indexed_poster(bundle: Bundle, poster_id: str) -> NDArray[np.uint8]:
    """Make a poster of the index, preprocessed [H, W, 3]."""
    size, cells = bundle.info.preprocessing, np.random.default_rng(list(poster_id.encode()))
    blocks = cells.integers(0, 256, (*CELLS, 3), dtype=np.uint8)
    return blocks.repeat(size.height // CELLS[0], axis=0).repeat(size.width // CELLS[1], axis=1)


def _write_index(bundle: Bundle, indexed: Sequence[str]) -> None:
    images = np.stack([indexed_poster(bundle, poster_id) for poster_id in indexed])
    embeddings = reference(bundle, images)["embedding"]
    genres = bundle.info.genres
    rows = [
        {
            "poster_id": poster_id,
            "film_id": f"film of {poster_id}",
            "title": f"The {poster_id}",
            "year": 1950 + number,
            "genres": [genres[number % len(genres)]],
            "source": "test",
            "licence": "CC0-1.0",
            "expires_at": None,
        }
        for number, poster_id in enumerate(indexed)
    ]
    facts = pd.DataFrame(rows, columns=FACTS.names)
    write_neighbours(bundle.folder, facts, embeddings, ["Posters courtesy of the test."])


def reference(bundle: Bundle, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """What the model says of posters [N, H, W, 3], computed with numpy."""
    from safetensors.numpy import load_file

    weights = load_file(bundle.folder / WEIGHTS_FILE)
    cells = cells_of(images)
    maps = (cells[:, None] * weights["head.weight"][None]).sum(axis=2)
    return {
        "maps": maps,
        "logits": maps.sum(axis=(2, 3)) + weights["head.bias"],
        "embedding": cells.reshape(len(cells), -1) @ weights["embedding.weight"],
    }


def cells_of(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Give the mean colours of posters' cells [N, 3, 6, 4], -.5..+.5."""
    rows, columns = CELLS
    count, height, width, _ = images.shape
    blocks = images.reshape(count, rows, height // rows, columns, width // columns, 3)
    means: NDArray[np.float64] = blocks.mean(axis=(2, 4)).transpose(0, 3, 1, 2) / 255 - 0.5
    return means


def _weights(genres: int, seed: int) -> dict[str, NDArray[np.float32]]:
    random = np.random.default_rng(seed)
    rows, columns = CELLS
    shapes = {
        "head.weight": (genres, 3, rows, columns),
        "head.bias": (genres,),
        "embedding.weight": (3 * rows * columns, EMBEDDING_SIZE),
    }
    return {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def _model(weights: dict[str, NDArray[np.float32]], height: int, width: int) -> onnx.ModelProto:
    rows, columns = CELLS
    kernel = [height // rows, width // columns]
    genres = len(weights["head.bias"])
    constants = weights | {
        "scale": np.float32(255),
        "middle": np.float32(0.5),
        "flat": np.array([0, -1]),
        "channel axis": np.array([2]),
        "genre axis": np.array([1]),
        "cell axes": np.array([2, 3]),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["planes"], ["means"], kernel_shape=kernel, strides=kernel),
        helper.make_node("Div", ["means", "scale"], ["scaled"]),
        helper.make_node("Sub", ["scaled", "middle"], ["cells"]),
        helper.make_node("Unsqueeze", ["cells", "genre axis"], ["one"]),
        helper.make_node("Mul", ["one", "head.weight"], ["evidence"]),
        helper.make_node("ReduceSum", ["evidence", "channel axis"], ["maps"], keepdims=0),
        helper.make_node("ReduceSum", ["maps", "cell axes"], ["sums"], keepdims=0),
        helper.make_node("Add", ["sums", "head.bias"], ["logits"]),
        helper.make_node("Reshape", ["cells", "flat"], ["features"]),
        helper.make_node("MatMul", ["features", "embedding.weight"], ["embedding"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", height, width, 3])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", genres]),
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", EMBEDDING_SIZE]),
            helper.make_tensor_value_info("maps", TensorProto.FLOAT, ["N", genres, rows, columns]),
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def _info(
    genres: tuple[str, ...], label_set: str, height: int, width: int, seed: int
) -> BundleInfo:
    count = len(genres)
    return BundleInfo(
        architecture="tiny",
        label_set=label_set,
        genres=genres,
        thresholds=tuple(round(float(value), 3) for value in np.linspace(0.45, 0.6, count)),
        calibration=Calibration(
            scale=tuple(round(float(value), 3) for value in np.linspace(0.9, 1.2, count)),
            shift=tuple(round(float(value), 3) for value in np.linspace(-0.2, 0.1, count)),
        ),
        preprocessing=Preprocessing(height=height, width=width),
        explanation="maps",
        validation={"macro_f1": 0.5},
        reference_profile={},
        catalog_digest="0" * 64,
        split_digest="5" * 64,
        code_version="test",
        run="test",
        environment={"seed": str(seed)},
    )
