"""The head that every architecture ends in: it keeps the evidence for each genre exact.

Average and maximum of the last feature map are normalised, projected to the embedding, and from
there to one logit a genre. At inference all of that is one linear map, so each logit is a bias
plus a sum over places: the evidence maps.
"""

import torch
from torch import Tensor, nn

from marquee.bundle import EMBEDDING_SIZE


class EvidenceHead(nn.Module):
    """Turns a feature map into logits, an embedding and evidence maps.

    Args:
        channels: Channels C of the feature map.
        genres: Number of genres G.
        dropout: Share of pooled features dropped in training.
    """

    def __init__(self, channels: int, genres: int, dropout: float) -> None:
        super().__init__()
        self.normalise = nn.BatchNorm1d(2 * channels)
        self.dropout = nn.Dropout(dropout)
        self.embed = nn.Linear(2 * channels, EMBEDDING_SIZE)
        self.classify = nn.Linear(EMBEDDING_SIZE, genres)

    @staticmethod
    def pool(features: Tensor) -> Tensor:
        """Average and maximum over the places of a feature map.

        Args:
            features: [N, C, h, w].

        Returns:
            [N, 2C].
        """
        return torch.cat([features.mean(dim=(2, 3)), features.amax(dim=(2, 3))], dim=1)

    def embedding(self, pooled: Tensor) -> Tensor:
        """Project pooled features [N, 2C] to the embedding [N, 64]."""
        embedded: Tensor = self.embed(self.dropout(self.normalise(pooled)))
        return embedded

    def forward(self, pooled: Tensor) -> Tensor:
        """Give the logits [N, G] of pooled features [N, 2C]."""
        logits: Tensor = self.classify(self.embedding(pooled))
        return logits

    def maps(self, features: Tensor) -> Tensor:
        """Tell how much each place adds to each genre's logit, at inference.

        The average spreads its weight evenly; the maximum gives it to the place where it is
        reached (in equal parts where several places tie).

        Args:
            features: [N, C, h, w].

        Returns:
            [N, G, h, w]; summed over places, plus `bias`, these are the logits.
        """
        weight = self._weight()
        average, maximum = weight.chunk(2, dim=1)
        places = features.shape[2] * features.shape[3]
        peaks = (features == features.amax(dim=(2, 3), keepdim=True)).to(features.dtype)
        peaks = peaks / peaks.sum(dim=(2, 3), keepdim=True)
        evidence = torch.einsum("nchw,gc->nghw", features, average / places)
        return evidence + torch.einsum("nchw,gc->nghw", features * peaks, maximum)

    def bias(self) -> Tensor:
        """Give what of the logits comes from no place: [G]."""
        norm = self.normalise
        assert norm.running_mean is not None
        constant = norm.bias - norm.running_mean * self._scale()
        return self.classify.bias + self.classify.weight @ (
            self.embed.bias + self.embed.weight @ constant
        )

    def _scale(self) -> Tensor:
        norm = self.normalise
        assert norm.running_var is not None
        return norm.weight / torch.sqrt(norm.running_var + norm.eps)

    def _weight(self) -> Tensor:
        """Fold normalisation and both projections into one matrix [G, 2C]."""
        return (self.classify.weight @ self.embed.weight) * self._scale()
