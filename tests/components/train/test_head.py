"""The head's evidence maps are exact, whatever its weights."""

import pytest
import torch

from components.train.head import EvidenceHead


@pytest.fixture
def head():
    torch.manual_seed(3)
    head = EvidenceHead(channels=6, genres=4, dropout=0.5)
    with torch.no_grad():
        head.normalise.weight.uniform_(0.5, 2)
        head.normalise.bias.normal_()
        head.normalise.running_mean.normal_()
        head.normalise.running_var.uniform_(0.1, 3)
    return head.eval()


@torch.no_grad()
def test_maps_and_bias_add_up_to_the_logits(head):
    features = torch.randn(5, 6, 7, 4).relu()
    logits = head(head.pool(features))
    explained = head.maps(features).sum(dim=(2, 3)) + head.bias()
    assert torch.allclose(explained, logits, atol=1e-5)


def test_once_started_it_normalises_by_what_it_was_given(head):
    pooled = torch.randn(5, 12)
    mean, variance = torch.randn(12), torch.rand(12) + 0.5
    head.start(mean, variance)
    head.train()
    expected = (pooled - mean) / torch.sqrt(variance + head.normalise.eps)
    found = (head.normalise(pooled) - head.normalise.bias) / head.normalise.weight
    assert head.dropout.training
    assert torch.allclose(found, expected, atol=1e-5)
    assert torch.equal(head.normalise.running_mean, mean)


@torch.no_grad()
def test_ties_share_the_credit(head):
    features = torch.ones(1, 6, 2, 2)
    maps = head.maps(features)
    assert torch.allclose(maps, maps[:, :, :1, :1].expand_as(maps), atol=1e-6)


@torch.no_grad()
def test_evidence_lies_where_the_feature_is(head):
    features = torch.zeros(1, 6, 5, 3)
    features[0, 2, 4, 1] = 9.0
    maps = head.maps(features)[0].abs().sum(dim=0)
    # Channels without any feature tie everywhere at zero and add nothing.
    assert maps.flatten().argmax().item() == 4 * 3 + 1
    assert torch.count_nonzero(maps) == 1
