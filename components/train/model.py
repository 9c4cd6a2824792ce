"""The network: bytes in, evidence out. Normalisation is part of it, so nothing can be skewed."""

import torch
from torch import Tensor, nn

from components.train.head import EvidenceHead


class PosterModel(nn.Module):
    """A backbone and the head that every architecture shares.

    Args:
        backbone: Turns normalised images [N, 3, H, W] into a feature map [N, C, h, w].
        channels: C.
        genres: Number of genres G.
        dropout: Share of pooled features dropped in training.
        mean: Of each colour (0..255), subtracted.
        std: Of each colour (0..255), divided by.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        channels: int,
        genres: int,
        dropout: float,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = EvidenceHead(channels, genres, dropout)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def features(self, images: Tensor) -> Tensor:
        """Give the feature map [N, C, h, w] of images [N, H, W, 3] of bytes."""
        pixels = images.permute(0, 3, 1, 2).to(self.mean.dtype)
        features: Tensor = self.backbone((pixels - self.mean) / self.std)
        return features

    def pooled(self, images: Tensor) -> Tensor:
        """Give the pooled features [N, 2C] of images [N, H, W, 3] of bytes."""
        return self.head.pool(self.features(images))

    def forward(self, images: Tensor) -> Tensor:
        """Give the logits [N, G] of images [N, H, W, 3] of bytes."""
        logits: Tensor = self.head(self.pooled(images))
        return logits


class ExportedModel(nn.Module):
    """What a bundle's `model.onnx` computes.

    Args:
        model: A trained model.
    """

    def __init__(self, model: PosterModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Give logits [N, G], embedding [N, 64] and maps [N, G, h, w] of images of bytes."""
        features = self.model.features(images)
        head = self.model.head
        embedding = head.embedding(head.pool(features))
        return head.classify(embedding), embedding, head.maps(features)
