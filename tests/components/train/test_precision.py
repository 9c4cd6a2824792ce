"""Reduced precision: what the variants keep of the full model, and that a bad one is left out."""

import dataclasses
import logging
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from components.train.architectures import architecture
from components.train.export import export
from components.train.precision import (
    LARGEST_GAP,
    LARGEST_LOSS,
    VARIANTS,
    reduce_precision,
)
from marquee.catalog import Catalog
from marquee.decision import Calibration
from marquee.images import Preprocessing, preprocess

PREPROCESSING = Preprocessing(height=48, width=32)
GENRES = 4
INT8, BF16 = "model.int8.onnx", "model.bf16.onnx"


@dataclasses.dataclass
class Exported:
    """An exported model, posters, and what it says of them."""

    folder: Path
    training: np.ndarray
    validation: np.ndarray

    def __post_init__(self):
        self.full = self.run("model.onnx")
        # What it finds more likely than usual is true, so it is perfect.
        logits = self.full["logits"]
        self.labels = (logits > np.median(logits, axis=0)).astype(np.float32)

    def run(self, file):
        session = onnxruntime.InferenceSession(str(self.folder / file))
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, {"image": self.validation}), strict=True))

    def reduce(self, *wanted, training=None):
        middle = len(self.validation) // 2
        return reduce_precision(
            self.folder,
            wanted,
            training or [self.training],
            lambda: [self.validation[:middle], self.validation[middle:]],
            self.labels,
            self.full["logits"],
            Calibration(scale=(1.0,) * GENRES, shift=(0.0,) * GENRES),
        )


@pytest.fixture(scope="module")
def posters(drawn_catalog):
    catalog = Catalog(drawn_catalog)
    frame = catalog.frame(["shard_offset", "size"]).head(110)
    return np.stack([preprocess(data, PREPROCESSING) for _, data in catalog.stream_images(frame)])


@pytest.fixture
def exported(posters, tmp_path):
    def make(name="custom_cnn", **changes):
        torch.manual_seed(0)
        chosen = architecture(name)
        size = dataclasses.asdict(PREPROCESSING)
        settings = dataclasses.replace(chosen.defaults, **size, **changes)
        model = chosen.build(GENRES, settings, "random")
        with torch.no_grad():
            for weight in model.parameters():
                # The exporter merges biases that are all 0; those of a trained network are not.
                weight += 0.01 * torch.randn_like(weight)
        export(model, PREPROCESSING, tmp_path)
        return Exported(tmp_path, posters[:30], posters[30:])

    return make


CASES = {
    "custom_cnn": ("custom_cnn", {}),
    "era beside the genres": ("custom_cnn", {"era_weight": 0.5}),
    "no maps": ("custom_cnn", {"preset": "study"}),
    "vgg16": ("vgg16", {}),
    "no ReLU": ("convnext_tiny", {}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_variant_says_what_the_full_model_says(case, exported):
    name, changes = CASES[case]
    model = exported(name, **changes)
    for precision, write in VARIANTS.items():
        write(model.folder / "model.onnx", model.folder / f"{precision}.onnx", [model.training])
        found = model.run(f"{precision}.onnx")
        assert {key: value.shape for key, value in found.items()} == {
            key: value.shape for key, value in model.full.items()
        }
        for genre in range(GENRES):
            pair = found["logits"][:, genre], model.full["logits"][:, genre]
            assert np.corrcoef(*pair)[0, 1] > 0.97


def test_maps_still_add_up_to_the_logits(exported):
    model = exported()
    model.reduce("int8", "bf16")
    bias = model.full["logits"] - model.full["maps"].sum(axis=(2, 3))
    for file in (INT8, BF16):
        found = model.run(file)
        evidence = found["maps"].sum(axis=(2, 3)) + bias.mean(axis=0)
        assert np.abs(evidence - found["logits"]).max() < 0.01
        assert np.ptp(evidence - found["logits"], axis=0).max() < LARGEST_GAP


def test_what_is_kept_is_what_the_bundle_offers(exported):
    model = exported()
    reduced = model.reduce("int8", "bf16")
    assert reduced.variants == {"fp32": "model.onnx", "int8": INT8, "bf16": BF16}
    assert [reduced.default(asked) for asked in ("fp32", "int8")] == ["fp32", "int8"]
    full = (model.folder / "model.onnx").stat().st_size
    for attempt, file, share in zip(reduced.attempts, (INT8, BF16), (0.35, 0.55), strict=True):
        assert (model.folder / file).stat().st_size / full == attempt.size < share
        assert attempt.kept
        assert 0 < attempt.difference < 0.01
        assert attempt.speed > 0.2


def test_int8_computes_in_integers_but_for_the_head(exported):
    model = exported()
    model.reduce("int8")
    nodes = onnx.load(model.folder / INT8).graph.node
    made_by = {output: node for node in nodes for output in node.output}
    kernels = [node for node in nodes if node.op_type == "Conv"]
    assert len(kernels) == 5
    inputs = [made_by[name].op_type for node in kernels for name in node.input]
    assert set(inputs) == {"DequantizeLinear"}
    head = [node for node in nodes if node.op_type in ("Gemm", "Einsum")]
    assert len(head) == 4
    matrices = [made_by[node.input[1]].op_type for node in head if node.input[1] in made_by]
    assert "DequantizeLinear" not in matrices


def test_int8_weights_cannot_overflow_where_products_are_added_in_16_bits(exported):
    model = exported()
    model.reduce("int8")
    stored = [
        onnx.numpy_helper.to_array(t) for t in onnx.load(model.folder / INT8).graph.initializer
    ]
    kernels = [values for values in stored if values.dtype == np.int8 and values.ndim == 4]
    assert len(kernels) == 5
    assert max(np.abs(values.astype(int)).max() for values in kernels) <= 64


def test_bf16_stores_each_matrix_in_half_the_space(exported):
    model = exported()
    model.reduce("bf16")
    wide = {t.name: t for t in onnx.load(model.folder / "model.onnx").graph.initializer}
    narrow = {t.name: t for t in onnx.load(model.folder / BF16).graph.initializer}
    halved = [name for name in narrow if narrow[name].data_type == onnx.TensorProto.BFLOAT16]
    assert len(halved) == 7
    for name in halved:
        before = onnx.numpy_helper.to_array(wide[name.removesuffix(".bf16")])
        after = onnx.numpy_helper.to_array(narrow[name]).astype(np.float32)
        assert np.abs(after - before).max() <= np.abs(before).max() / 256


def test_a_variant_that_loses_too_much_is_left_out(exported, caplog):
    model = exported()
    with caplog.at_level(logging.INFO):
        # Black posters show nothing of what real ones make of the feature maps.
        reduced = model.reduce("bf16", "int8", training=[np.zeros_like(model.training)])
        assert reduced.default("int8") == "fp32"
    assert reduced.variants == {"fp32": "model.onnx", "bf16": BF16}
    assert reduced.attempts[1].loss > LARGEST_LOSS
    assert not (model.folder / INT8).exists()
    assert "int8 left out: macro mAP -0." in caplog.text
    assert "the bundle runs in fp32: int8 was not kept" in caplog.text


def test_a_variant_whose_maps_explain_another_model_is_left_out(exported, monkeypatch):
    def write(full, reduced, posters):
        graph = (model := onnx.load(full)).graph
        (maps,) = (node for node in graph.node if "maps" in node.output)
        maps.output[0] = "true_maps"
        graph.node.append(onnx.helper.make_node("Add", ["true_maps", "true_maps"], ["maps"]))
        onnx.save(model, reduced)

    monkeypatch.setitem(VARIANTS, "doubled", write)
    (attempt,) = exported().reduce("doubled").attempts
    assert attempt.loss == 0
    assert attempt.gap > LARGEST_GAP
    assert not attempt.kept


def test_the_same_posters_give_the_same_bytes_in_batches_of_any_size(exported):
    model = exported()
    files = []
    for size in (30, 7):
        batches = [model.training[start : start + size] for start in range(0, 30, size)]
        model.reduce("int8", "bf16", training=batches)
        files.append([(model.folder / file).read_bytes() for file in (INT8, BF16)])
    assert files[0] == files[1]
