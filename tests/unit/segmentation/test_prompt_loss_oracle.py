"""The loss of a batch of prompts and the quality of its answers, worked out mask by mask in NumPy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from naruto_vision.segmentation import training
from naruto_vision.segmentation.sam import DecodedMasks, SamModel
from naruto_vision.segmentation.training import FOCAL_WEIGHT, PromptBatch, PromptLosses, prompt_losses, prompt_quality

SIDE = 8
Numbers = NDArray[np.float64]


def _answer(seed: int, prompts: int) -> DecodedMasks:
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(0, 3, (prompts, 3, SIDE, SIDE))).float()
    return DecodedMasks(logits, torch.from_numpy(rng.uniform(0, 1, (prompts, 3))).float())


def _masks(seed: int, figures: list[bool]) -> torch.Tensor:
    masks = np.random.default_rng(seed).random((len(figures), SIDE, SIDE)) < 0.4
    masks[:, 0, 0] = True
    masks[[not figure for figure in figures]] = False
    return torch.from_numpy(masks)


def _batch(masks: torch.Tensor, points: int) -> PromptBatch:
    count = len(masks)
    return PromptBatch(
        torch.zeros(1, 3, SIDE, SIDE, dtype=torch.uint8),
        torch.zeros(count, dtype=torch.int64),
        torch.zeros(points, 2),
        torch.zeros(count - points, 4),
        masks,
    )


def _focal(logits: Numbers, target: Numbers) -> float:
    right = 1 / (1 + np.exp(-np.where(target == 1, logits, -logits)))
    weight = np.where(target == 1, 0.25, 0.75)
    return float((-weight * (1 - right) ** 2 * np.log(right)).mean())


def _dice(logits: Numbers, target: Numbers) -> float:
    mask = 1 / (1 + np.exp(-logits))
    return float(1 - (2 * (mask * target).sum() + 1) / (mask.sum() + target.sum() + 1))


def _iou(mask: NDArray[np.bool_], target: NDArray[np.bool_]) -> float:
    union = (mask | target).sum()
    return float((mask & target).sum() / union) if union else 0.0


def _losses(monkeypatch: pytest.MonkeyPatch, answer: DecodedMasks, masks: torch.Tensor) -> PromptLosses:
    monkeypatch.setattr(training, "predict_batch", lambda _model, _batch: answer)
    model: SamModel = object.__new__(SamModel)  # never asked: its answers are given
    return prompt_losses(model, _batch(masks, len(masks)), resolution=SIDE)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), figures=st.lists(st.booleans(), min_size=1, max_size=5))
def test_only_the_best_of_three_masks_learns_and_points_on_nothing_teach_the_head_alone(
    seed: int, figures: list[bool]
) -> None:
    answer, masks = _answer(seed, len(figures)), _masks(seed, figures)
    with pytest.MonkeyPatch.context() as monkeypatch:
        found = _losses(monkeypatch, answer, masks)
    logits, targets = answer.logits.double().numpy(), masks.numpy()
    focal, dice = [], []
    for row in np.flatnonzero(figures):
        target = targets[row].astype(np.float64)
        pairs = [(_focal(one, target), _dice(one, target)) for one in logits[row]]
        best = min(pairs, key=lambda pair: FOCAL_WEIGHT * pair[0] + pair[1])
        focal.append(best[0])
        dice.append(best[1])
    ious = [[_iou(one > 0, targets[row]) for one in logits[row]] for row in range(len(figures))]
    head = float(np.mean((answer.ious.double().numpy() - np.array(ious)) ** 2))
    expected = (float(np.mean(focal)) if focal else 0.0, float(np.mean(dice)) if dice else 0.0, head)
    assert [found.focal.item(), found.dice.item(), found.iou_head.item()] == pytest.approx(expected, abs=1e-4)
    assert found.total.item() == pytest.approx(FOCAL_WEIGHT * expected[0] + expected[1] + head, abs=1e-3)


def test_the_focal_loss_weighs_twenty_times_in_the_choice_of_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    """One mask has the smaller dice loss, the other the smaller focal loss: the weights decide between them."""
    assert FOCAL_WEIGHT == 20.0
    masks = torch.zeros(1, SIDE, SIDE, dtype=torch.bool)
    masks[0, 0, 0] = True
    sure = torch.full((SIDE, SIDE), -9.0)
    misses, faint, none = sure.clone(), torch.full((SIDE, SIDE), -2.5), torch.full((SIDE, SIDE), 9.0)
    faint[0, 0] = 2.5  # finds the pixel, but is nowhere sure
    answer = DecodedMasks(torch.stack([misses, faint, none])[None], torch.zeros(1, 3))
    target = masks[0].double().numpy()
    pairs = [(_focal(one, target), _dice(one, target)) for one in answer.logits[0].double().numpy()]
    found = _losses(monkeypatch, answer, masks)
    totals = [20 * focal + dice for focal, dice in pairs]
    assert (found.focal.item(), found.dice.item()) == pytest.approx(pairs[int(np.argmin(totals))], abs=1e-5)


def test_no_figure_at_all_costs_only_the_head_and_gradients_stay_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = _answer(1, 2).logits.requires_grad_()
    ious = torch.full((2, 3), 0.5, requires_grad=True)
    found = _losses(monkeypatch, DecodedMasks(logits, ious), _masks(1, [False, False]))
    assert (found.focal.item(), found.dice.item()) == (0.0, 0.0)
    assert found.total.item() == pytest.approx(0.25)  # asked for 0, estimated one half
    found.total.backward()
    assert ious.grad is not None
    assert bool((ious.grad > 0).all())
    assert logits.grad is None or bool(torch.isfinite(logits.grad).all())


def test_masks_are_compared_at_the_resolution_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answer, masks = _answer(2, 1), _masks(2, [True])
    monkeypatch.setattr(training, "predict_batch", lambda _model, _batch: answer)
    model: SamModel = object.__new__(SamModel)
    whole = prompt_losses(model, _batch(masks, 1), resolution=SIDE)
    halved = prompt_losses(model, _batch(masks, 1), resolution=SIDE // 2)
    blocks = masks[0].double().numpy().reshape(4, 2, 4, 2).mean(axis=(1, 3))
    target = np.round(blocks)  # a block is figure where most of it is
    logits = answer.logits[0].double().numpy().reshape(3, 4, 2, 4, 2).mean(axis=(2, 4))
    totals = [20 * _focal(one, target) + _dice(one, target) for one in logits]
    found = 20 * halved.focal.item() + halved.dice.item()
    assert found == pytest.approx(min(totals), abs=1e-3)
    assert found != pytest.approx(20 * whole.focal.item() + whole.dice.item(), abs=1e-3)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 5), points=st.integers(0, 5))
def test_quality_is_that_of_the_best_mask_and_of_the_one_that_the_model_chose(
    seed: int, count: int, points: int
) -> None:
    points = min(points, count)
    answer, masks = _answer(seed, count), _masks(seed + 1, [True] * count)
    model: SamModel = object.__new__(SamModel)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(training, "predict_batch", lambda _model, _batch: answer)
        found = prompt_quality(model, _batch(masks, points))
    ious = [[_iou(one > 0, masks[row].numpy()) for one in answer.logits[row].numpy()] for row in range(count)]
    chosen = answer.ious.numpy().argmax(axis=1)
    assert found.best.tolist() == pytest.approx([max(row) for row in ious], abs=1e-6)
    assert found.chosen.tolist() == pytest.approx(
        [row[place] for row, place in zip(ious, chosen, strict=True)], abs=1e-6
    )
    assert found.estimated.tolist() == pytest.approx(answer.ious.numpy().max(axis=1).tolist(), abs=1e-6)
    assert found.is_box.tolist() == [row >= points for row in range(count)]
