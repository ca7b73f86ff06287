import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from naruto_vision.losses.contrastive import (
    inverse_frequency,
    multi_positive_contrastive,
    prototype_cross_entropy,
    sigmoid_contrastive,
    starting_bias,
)


def _unit(rng: np.random.Generator, rows: int, dim: int = 5) -> torch.Tensor:
    return normalize(torch.from_numpy(rng.normal(size=(rows, dim))).float(), dim=1)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), rows=st.integers(1, 6), smoothing=st.sampled_from([0.0, 0.1]))
def test_prototype_cross_entropy_equals_the_numpy_oracle(seed: int, rows: int, smoothing: float) -> None:
    rng = np.random.default_rng(seed)
    images, texts, labels = _unit(rng, rows), _unit(rng, 4), rng.integers(0, 4, rows)
    weights = rng.uniform(0.5, 2.0, 4)
    found = prototype_cross_entropy(
        images,
        texts,
        torch.from_numpy(labels),
        torch.tensor(9.0),
        smoothing=smoothing,
        class_weights=torch.from_numpy(weights).float(),
    )
    logits = 9.0 * images.double().numpy() @ texts.double().numpy().T
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    targets = np.eye(4)[labels] * (1 - smoothing) + smoothing / 4
    expected = -(targets * logs * weights).sum() / weights[labels].sum()
    assert found.item() == pytest.approx(expected, abs=1e-4)


def test_the_sigmoid_decides_each_pair_by_itself() -> None:
    rng = np.random.default_rng(3)
    images, texts = _unit(rng, 4), _unit(rng, 3)
    positives = torch.tensor(rng.random((4, 3)) < 0.5)
    found = sigmoid_contrastive(images, texts, positives, torch.tensor(10.0), torch.tensor(-2.0))
    logits = 10.0 * images.double().numpy() @ texts.double().numpy().T - 2.0
    signs = np.where(positives.numpy(), 1, -1)
    assert found.item() == pytest.approx(np.log1p(np.exp(-signs * logits)).sum(axis=1).mean(), abs=1e-4)
    more = sigmoid_contrastive(images, texts[:2], positives[:, :2], torch.tensor(10.0), torch.tensor(-2.0))
    assert more.item() < found.item()  # a text less is a decision less


def test_weights_of_rows_count_in_the_sigmoid() -> None:
    rng = np.random.default_rng(4)
    images, texts = _unit(rng, 2), _unit(rng, 3)
    positives = torch.zeros(2, 3, dtype=torch.bool)
    arguments = (texts, positives[:1], torch.tensor(5.0), torch.tensor(0.0))
    parts = [sigmoid_contrastive(images[row : row + 1], *arguments).item() for row in (0, 1)]
    both = sigmoid_contrastive(
        images, texts, positives, torch.tensor(5.0), torch.tensor(0.0), row_weights=torch.tensor([3.0, 1.0])
    )
    assert both.item() == pytest.approx((3 * parts[0] + parts[1]) / 4, abs=1e-5)


def test_the_starting_bias_calls_as_many_pairs_right_as_there_are() -> None:
    rng = np.random.default_rng(5)
    images, texts = _unit(rng, 64), _unit(rng, 4)
    positives = torch.arange(4) == torch.from_numpy(rng.integers(0, 4, 64)).unsqueeze(1)
    scale = torch.tensor(0.01)  # so small that only the bias speaks
    bias = starting_bias(images, texts, positives, scale)
    assert torch.sigmoid(scale * images @ texts.T + bias).mean().item() == pytest.approx(0.25, abs=1e-3)
    assert bias.item() == pytest.approx(math.log(0.25 / 0.75), abs=0.02)


def test_rare_classes_weigh_more_so_that_all_count_the_same() -> None:
    weights = inverse_frequency([30, 10, 0])
    assert weights.tolist() == pytest.approx([40 / 90, 40 / 30, 1.0])
    assert 30 * weights[0] == pytest.approx(10 * weights[1].item())


def test_weights_count_in_both_directions_of_the_contrastive_loss() -> None:
    rng = np.random.default_rng(6)
    images, texts = _unit(rng, 3), _unit(rng, 2)
    positives = torch.tensor([[True, False], [True, False], [False, True]])
    scale = torch.tensor(5.0)
    plain = multi_positive_contrastive(images, texts, positives, scale)
    ones = (torch.ones(3), torch.ones(2))
    assert multi_positive_contrastive(images, texts, positives, scale, weights=ones).item() == pytest.approx(
        plain.item()
    )
    first = (torch.tensor([1.0, 0.0, 0.0]), torch.tensor([1.0, 0.0]))
    logits = scale * images @ texts.T
    forward = -torch.log_softmax(logits, dim=1)[0, 0]
    backward = -torch.log_softmax(logits.T, dim=1)[0, :2].mean()
    found = multi_positive_contrastive(images, texts, positives, scale, weights=first)
    assert found.item() == pytest.approx(((forward + backward) / 2).item(), abs=1e-5)
