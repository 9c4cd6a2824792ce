"""The network: bytes in, evidence out. Normalisation is part of it, so nothing can be skewed."""

import torch
from torch import Tensor, nn

from components.train.head import EvidenceHead, StudyHead


class PosterModel(nn.Module):
    """A backbone of stages in a row, and a head.

    Args:
        backbone: Turns normalised images [N, 3, H, W] into a feature map [N, C, h, w].
        head: Turns that into logits.
        mean: Of each colour (0..255), subtracted.
        std: Of each colour (0..255), divided by.
    """

    def __init__(
        self,
        backbone: nn.Sequential,
        head: EvidenceHead | StudyHead,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
    ) -> None:
        super().__init__()
        self.normalise = Normalise(mean, std)
        self.backbone = backbone
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        """Give the logits [N, G] of images [N, H, W, 3] of bytes; those of eras stand beside."""
        logits: Tensor = self.head(self.head.pool(self.features(images)))
        return logits

    def features(self, images: Tensor) -> Tensor:
        """Give the feature map [N, C, h, w] of images [N, H, W, 3] of bytes."""
        features: Tensor = self.backbone(self.normalise(images))
        return features

    def frozen_part(self, first: int, last: int) -> nn.Sequential:
        """Give some stages of the backbone; with the last one comes pooling.

        Args:
            first: The first stage; 0 begins with images of bytes.
            last: The stage after them.
        """
        begin = [self.normalise] if first == 0 else []
        end = [self.head.pool] if last == len(self.backbone) else []
        return nn.Sequential(*begin, *self.backbone[first:last], *end)

    def trained_part(self, first: int) -> nn.Sequential:
        """Give all from a stage of the backbone on, the head included.

        Args:
            first: The stage; after the last one, this is the head alone, on pooled features.
        """
        if first == len(self.backbone):
            return nn.Sequential(self.head)
        return nn.Sequential(*self.frozen_part(first, len(self.backbone)), self.head)


class Normalise(nn.Module):
    """Turns images of bytes [N, H, W, 3] into normalised ones [N, 3, H, W].

    Args:
        mean: Of each colour (0..255), subtracted.
        std: Of each colour (0..255), divided by.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, float, float], std: tuple[float, float, float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Normalise images."""
        pixels = images.permute(0, 3, 1, 2).to(self.mean.dtype)
        return (pixels - self.mean) / self.std


class ExportedModel(nn.Module):
    """What a bundle's `model.onnx` computes.

    Args:
        model: A trained model.
    """

    def __init__(self, model: PosterModel) -> None:
        super().__init__()
        self.model = model
        self.outputs: tuple[str, ...] = ("logits", "embedding")
        if isinstance(model.head, EvidenceHead):
            self.outputs += ("maps",)
        if model.head.era is not None:
            self.outputs += ("era",)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Give the values of `outputs` for images of bytes [N, H, W, 3].

        Returns:
            logits [N, G], embedding [N, 64], maps [N, G, h, w] if the head has them, and the
            logits of eras [N, E] if it predicts them.
        """
        head = self.model.head
        features = self.model.features(images)
        hidden = head.hidden(head.pool(features))
        values = [head.classify(hidden), head.embedding(hidden)]
        if isinstance(head, EvidenceHead):
            values.append(head.maps(features))
        if head.era is not None:
            values.append(head.era(hidden))
        return tuple(values)
