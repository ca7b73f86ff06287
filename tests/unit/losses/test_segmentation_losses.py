import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from naruto_vision.losses.segmentation import dice_loss, focal_loss, iou_head_loss


def _case(seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    return rng.normal(0, 4, (3, 2, 5, 4)), (rng.random((3, 1, 5, 4)) < 0.4).astype(np.float64)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), alpha=st.floats(0, 1), gamma=st.floats(0, 4))
def test_focal_loss_is_its_definition(seed: int, alpha: float, gamma: float) -> None:
    logits, targets = _case(seed)
    right = 1 / (1 + np.exp(-np.where(targets == 1, logits, -logits)))
    weight = np.where(targets == 1, alpha, 1 - alpha)
    expected = (-weight * (1 - right) ** gamma * np.log(right)).mean(axis=(2, 3))
    found = focal_loss(torch.from_numpy(logits), torch.from_numpy(targets), alpha=alpha, gamma=gamma)
    assert found.shape == (3, 2)
    assert np.allclose(found.numpy(), expected, atol=1e-9)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_dice_loss_is_its_definition(seed: int) -> None:
    logits, targets = _case(seed)
    masks = 1 / (1 + np.exp(-logits))
    shared, total = (masks * targets).sum(axis=(2, 3)), masks.sum(axis=(2, 3)) + targets.sum(axis=(2, 3))
    found = dice_loss(torch.from_numpy(logits), torch.from_numpy(targets))
    assert np.allclose(found.numpy(), 1 - (2 * shared + 1) / (total + 1), atol=1e-9)


def test_a_perfect_mask_costs_nothing_and_an_empty_target_is_defined() -> None:
    targets = torch.zeros(1, 4, 4)
    for loss in (focal_loss, dice_loss):
        assert loss(torch.full((1, 4, 4), -50.0), targets).item() == pytest.approx(0, abs=1e-6)
    assert dice_loss(torch.full((1, 4, 4), 50.0), targets).item() > 0.9


def test_extreme_logits_stay_finite_and_have_gradients() -> None:
    logits = torch.tensor([[[200.0, -200.0], [0.0, 3.0]]], requires_grad=True)
    loss = focal_loss(logits, torch.tensor([[[0.0, 1.0], [1.0, 1.0]]])).sum()
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_the_iou_head_is_taught_and_the_masks_are_not() -> None:
    predicted, actual = torch.tensor([[0.5, 0.0]], requires_grad=True), torch.tensor([[1.0, 0.0]], requires_grad=True)
    loss = iou_head_loss(predicted, actual)
    loss.backward()
    assert loss.item() == pytest.approx(0.125)
    assert actual.grad is None
    assert predicted.grad is not None
    assert predicted.grad.tolist() == [[-0.5, 0.0]]
