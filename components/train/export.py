"""Export: a trained network becomes the files of a bundle, and they agree with it."""

import logging
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from safetensors.torch import save_file

from components.train.head import EvidenceHead
from components.train.model import ExportedModel, PosterModel
from marquee.bundle import MODEL_FILE, WEIGHTS_FILE
from marquee.errors import InfrastructureError
from marquee.images import Preprocessing

PARITY = 1e-3
"""Largest difference between the exported model's logits and PyTorch's, in fp32."""


def export(model: PosterModel, preprocessing: Preprocessing, folder: Path) -> None:
    """Write `model.onnx` and `weights.safetensors`, and check that they agree with PyTorch.

    Args:
        model: A trained model, on any device.
        preprocessing: Its input.
        folder: Where to.

    Raises:
        InfrastructureError: The exported model disagrees with PyTorch.
    """
    model = model.cpu().float().eval()
    save_file(
        {name: tensor.contiguous() for name, tensor in model.state_dict().items()},
        folder / WEIGHTS_FILE,
    )
    random = np.random.default_rng(0)
    shape = (3, preprocessing.height, preprocessing.width, 3)
    images = torch.from_numpy(random.integers(0, 256, shape, dtype=np.uint8))
    exported = ExportedModel(model).eval()
    _write_onnx(exported, images[:1], folder / MODEL_FILE)
    _check_parity(exported, images, folder / MODEL_FILE)


def _write_onnx(exported: ExportedModel, example: torch.Tensor, path: Path) -> None:
    dynamic = {0: "posters"}
    exporter_log = logging.getLogger("torch.onnx")
    level = exporter_log.level
    exporter_log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            # The tracing exporter: quantisation does not read what the newer one writes.
            torch.onnx.export(
                exported,
                (example,),
                str(path),
                input_names=["image"],
                output_names=list(exported.outputs),
                dynamic_axes=dict.fromkeys(("image", *exported.outputs), dynamic),
                opset_version=17,
                dynamo=False,
            )
    finally:
        exporter_log.setLevel(level)


def _check_parity(exported: ExportedModel, images: torch.Tensor, path: Path) -> None:
    """Compare what is exported with PyTorch, and the evidence maps with the logits they explain.

    Maps are not compared with PyTorch's place by place: where two places reach a channel's maximum
    to the last bit, rounding decides which one gets the credit.
    """
    names = list(exported.outputs)
    with torch.no_grad():
        wanted = dict(zip(names, (value.numpy() for value in exported(images)), strict=True))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = dict(zip(names, session.run(names, {"image": images.numpy()}), strict=True))
    if isinstance(exported.model.head, EvidenceHead):
        bias = exported.model.head.bias().detach().numpy()
        wanted["maps"] = wanted["logits"]
        found["maps"] = found["maps"].sum(axis=(2, 3)) + bias
    differences = {name: np.abs(found[name] - wanted[name]).max() for name in names}
    for name, difference in differences.items():
        if not difference <= PARITY:
            raise InfrastructureError(
                f"the exported model's {name} are off PyTorch's by {difference:.2g}, more than "
                f"{PARITY}",
                remedy="report this with the versions of torch and onnxruntime",
            )
