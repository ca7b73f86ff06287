import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy, normalize

from naruto_vision.losses.contrastive import multi_positive_contrastive, supervised_contrastive


def _unit(rng: np.random.Generator, rows: int, dim: int = 5) -> torch.Tensor:
    return normalize(torch.from_numpy(rng.normal(size=(rows, dim))).float(), dim=1)


def _oracle_rows(logits: NDArray[np.float64], positives: NDArray[np.bool_], smoothing: float) -> float:
    losses = []
    for row, wanted in zip(logits, positives, strict=True):
        if not wanted.any():
            continue
        logs = row - np.log(np.sum(np.exp(row - row.max()))) - row.max()
        sharp = np.mean(logs[wanted])
        losses.append(-((1 - smoothing) * sharp + smoothing * np.mean(logs)))
    return float(np.mean(losses)) if losses else 0.0


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000), rows=st.integers(1, 6), columns=st.integers(1, 7), smoothing=st.sampled_from([0, 0.1])
)
def test_multi_positive_equals_the_numpy_oracle(seed: int, rows: int, columns: int, smoothing: float) -> None:
    rng = np.random.default_rng(seed)
    images, texts = _unit(rng, rows), _unit(rng, columns)
    positives = rng.random((rows, columns)) < 0.4
    found = multi_positive_contrastive(
        images, texts, torch.from_numpy(positives), torch.tensor(7.0), smoothing=smoothing
    )
    logits = 7.0 * images.double().numpy() @ texts.double().numpy().T
    expected = (_oracle_rows(logits, positives, smoothing) + _oracle_rows(logits.T, positives.T, smoothing)) / 2
    assert found.item() == pytest.approx(expected, abs=1e-5)


def test_one_positive_on_the_diagonal_is_the_loss_of_clip() -> None:
    rng = np.random.default_rng(1)
    images, texts = _unit(rng, 6), _unit(rng, 6)
    logits = 14.3 * images @ texts.T
    target = torch.arange(6)
    expected = (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2
    found = multi_positive_contrastive(images, texts, torch.eye(6, dtype=torch.bool), torch.tensor(14.3))
    assert torch.allclose(found, expected, atol=1e-6)


def test_nothing_in_common_costs_nothing_and_gives_finite_gradients() -> None:
    images = _unit(np.random.default_rng(2), 3).requires_grad_()
    none = torch.zeros(3, 3, dtype=torch.bool)
    loss = multi_positive_contrastive(images, images, none, torch.tensor(1.0))
    loss.backward()
    assert loss.item() == 0.0
    assert images.grad is not None
    assert bool(torch.isfinite(images.grad).all())


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), rows=st.integers(2, 8))
def test_supervised_contrastive_equals_the_numpy_oracle(seed: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = _unit(rng, rows)
    labels = rng.integers(0, 3, rows)
    logits = vectors.double().numpy() @ vectors.double().numpy().T / 0.2
    losses = []
    for row in range(rows):
        others = np.arange(rows) != row
        same = others & (labels == labels[row])
        if same.any():
            logs = logits[row] - np.log(np.sum(np.exp(logits[row][others])))
            losses.append(-np.mean(logs[same]))
    expected = float(np.mean(losses)) if losses else 0.0
    found = supervised_contrastive(vectors, torch.from_numpy(labels), temperature=0.2)
    assert found.item() == pytest.approx(expected, abs=1e-5)


def test_equal_labels_are_pulled_together() -> None:
    vectors = _unit(np.random.default_rng(3), 4).requires_grad_()
    labels = torch.tensor([0, 0, 1, 1])
    before = supervised_contrastive(vectors, labels)
    before.backward()
    assert vectors.grad is not None
    after = supervised_contrastive(normalize(vectors.detach() - 0.05 * vectors.grad, dim=1), labels)
    assert after.item() < before.item()
