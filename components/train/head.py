"""The heads: what stands between a feature map and the logits.

The evidence head is every architecture's own: average and maximum of the feature map are
normalised, projected to the embedding, and from there to one logit a genre. At inference all of
that is one linear map, so each logit is a bias plus a sum over places: the evidence maps.
"""

from typing import Self

import torch
from torch import Tensor, nn

from marquee.bundle import EMBEDDING_SIZE
from marquee.eras import ERAS


class Pool(nn.Module):
    """Average and maximum over the places of a feature map."""

    def forward(self, features: Tensor) -> Tensor:
        """Pool features [N, C, h, w] to [N, 2C]."""
        return torch.cat([features.mean(dim=(2, 3)), features.amax(dim=(2, 3))], dim=1)


class EvidenceHead(nn.Module):
    """Turns a feature map into logits, an embedding and evidence maps.

    Args:
        channels: Channels C of the feature map.
        genres: Number of genres G.
        dropout: Share of pooled features dropped in training.
        predicts_era: Whether there is a second output, one logit an era.
    """

    def __init__(
        self, channels: int, genres: int, dropout: float, predicts_era: bool = False
    ) -> None:
        super().__init__()
        self._started = False
        self.pool = Pool()
        self.normalise = nn.BatchNorm1d(2 * channels)
        self.dropout = nn.Dropout(dropout)
        self.embed = nn.Linear(2 * channels, EMBEDDING_SIZE)
        self.classify = nn.Linear(EMBEDDING_SIZE, genres)
        self.era = nn.Linear(EMBEDDING_SIZE, len(ERAS)) if predicts_era else None

    def start(self, mean: Tensor, variance: Tensor) -> None:
        """Normalise by this mean and variance of pooled features [2C] from now on.

        Else each batch is normalised by its own in training.
        """
        assert self.normalise.running_mean is not None and self.normalise.running_var is not None
        self.normalise.running_mean.copy_(mean)
        self.normalise.running_var.copy_(variance)
        self._started = True

    def train(self, mode: bool = True) -> Self:
        """Set training mode."""
        super().train(mode)
        self.normalise.train(mode and not self._started)
        return self

    def hidden(self, pooled: Tensor) -> Tensor:
        """Project pooled features [N, 2C] to what the logits are made from: the embedding."""
        embedded: Tensor = self.embed(self.dropout(self.normalise(pooled)))
        return embedded

    def embedding(self, hidden: Tensor) -> Tensor:
        """Give the embedding [N, 64]."""
        return hidden

    def forward(self, pooled: Tensor) -> Tensor:
        """Give the logits [N, G] of pooled features [N, 2C]; those of eras stand beside."""
        return _logits(self, pooled)

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


class StudyHead(nn.Module):
    """The head of the study's custom CNN: two dense layers on the flattened feature map.

    Its logits are no sum over places, so it has no evidence maps.

    Args:
        inputs: Numbers in the flattened feature map.
        genres: Number of genres G.
        dropout: Share dropped before each dense layer.
        predicts_era: Whether there is a second output, one logit an era.
    """

    WIDTH = 512

    def __init__(
        self, inputs: int, genres: int, dropout: float, predicts_era: bool = False
    ) -> None:
        super().__init__()
        self.pool = nn.Flatten()
        self.dense = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(inputs, self.WIDTH),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(self.WIDTH, self.WIDTH),
            nn.ReLU(),
            nn.Dropout(dropout),
        )
        self.classify = nn.Linear(self.WIDTH, genres)
        self.era = nn.Linear(self.WIDTH, len(ERAS)) if predicts_era else None
        # Turned at random, 64 of 512 directions keep who is near to whom about as it was.
        self.turn = nn.Linear(self.WIDTH, EMBEDDING_SIZE, bias=False).requires_grad_(False)
        nn.init.orthogonal_(self.turn.weight)

    def hidden(self, pooled: Tensor) -> Tensor:
        """Give what the logits are made from [N, 512]."""
        hidden: Tensor = self.dense(pooled)
        return hidden

    def embedding(self, hidden: Tensor) -> Tensor:
        """Give the embedding [N, 64]."""
        embedded: Tensor = self.turn(hidden)
        return embedded

    def forward(self, pooled: Tensor) -> Tensor:
        """Give the logits [N, G] of flattened features; those of eras stand beside."""
        return _logits(self, pooled)


def _logits(head: EvidenceHead | StudyHead, pooled: Tensor) -> Tensor:
    hidden = head.hidden(pooled)
    logits: Tensor = head.classify(hidden)
    return logits if head.era is None else torch.cat([logits, head.era(hidden)], dim=1)
