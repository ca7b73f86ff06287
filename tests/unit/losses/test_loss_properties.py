"""What every loss keeps: choices within groups, order that does not matter, weights that are shares, and smoothing."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from naruto_vision.losses.contrastive import (
    cosines,
    grouped_contrastive,
    inverse_frequency,
    multi_positive_contrastive,
    prototype_cross_entropy,
    sigmoid_contrastive,
    starting_bias,
    supervised_contrastive,
)
from naruto_vision.losses.segmentation import dice_loss, focal_loss

SCALE = torch.tensor(6.0)
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def _unit(seed: int, rows: int, dim: int = 5) -> Tensor:
    return normalize(torch.from_numpy(np.random.default_rng(seed).normal(size=(rows, dim))).float(), dim=1)


def _log_softmax(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = rows - rows.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def _rows_of(logits: NDArray[np.float64], wanted: NDArray[np.bool_]) -> float:
    """Mean cross-entropy of the rows that have a positive, spread evenly over their positives."""
    logs = _log_softmax(logits)
    parts = [-logs[row][wanted[row]].mean() for row in range(len(wanted)) if wanted[row].any()]
    return float(np.mean(parts)) if parts else 0.0


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(1, 5),
    groups=st.lists(st.integers(0, 3), min_size=1, max_size=8),
)
def test_each_group_has_a_softmax_of_its_own(seed: int, rows: int, groups: list[int]) -> None:
    images, texts = _unit(seed, rows), _unit(seed + 1, len(groups))
    wanted = np.random.default_rng(seed).random((rows, len(groups))) < 0.5
    found = grouped_contrastive(images, texts, torch.from_numpy(wanted), torch.tensor(groups), SCALE)
    logits = 6.0 * images.double().numpy() @ texts.double().numpy().T
    columns = [np.flatnonzero(np.array(groups) == group) for group in set(groups)]
    forward = np.mean([_rows_of(logits[:, own], wanted[:, own]) for own in columns])
    assert found.item() == pytest.approx((forward + _rows_of(logits.T, wanted.T)) / 2, abs=1e-4)


def test_one_group_of_all_texts_is_the_loss_without_groups() -> None:
    images, texts = _unit(1, 4), _unit(2, 6)
    positives = torch.from_numpy(np.random.default_rng(0).random((4, 6)) < 0.5)
    grouped = grouped_contrastive(images, texts, positives, torch.full((6,), 9), SCALE)
    assert grouped.item() == pytest.approx(multi_positive_contrastive(images, texts, positives, SCALE).item(), abs=1e-6)


def test_texts_of_other_groups_are_no_rivals_of_a_image() -> None:
    """A hair colour is not held against a hat: a second group with a sure answer adds nothing to the first one's."""
    image = torch.tensor([[1.0, 0.0]])
    hair, hats = torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    first = torch.tensor([[True, False]])
    both = torch.tensor([[True, False, True, False]])
    strong = torch.tensor(50.0)
    alone = grouped_contrastive(image, hair, first, torch.tensor([0, 0]), strong)
    together = grouped_contrastive(image, torch.cat([hair, hats]), both, torch.tensor([0, 0, 1, 1]), strong)
    against = grouped_contrastive(image, torch.cat([hair, hats]), both, torch.tensor([0, 0, 0, 0]), strong)
    assert alone.item() == pytest.approx(0.0, abs=1e-6)
    assert together.item() == pytest.approx(0.0, abs=1e-6)
    assert against.item() == pytest.approx(np.log(2) / 2, abs=1e-5)  # half of a choice between two right ones


def _multi(images: Tensor, texts: Tensor, positives: Tensor) -> Tensor:
    return multi_positive_contrastive(images, texts, positives, SCALE)


def _sigmoid(images: Tensor, texts: Tensor, positives: Tensor) -> Tensor:
    return sigmoid_contrastive(images, texts, positives, SCALE, torch.tensor(-1.0))


def _grouped(images: Tensor, texts: Tensor, positives: Tensor) -> Tensor:
    return grouped_contrastive(images, texts, positives, torch.zeros(len(texts), dtype=torch.int64), SCALE)


LOSSES = [_multi, _sigmoid, _grouped]


@pytest.mark.parametrize("loss", LOSSES)
def test_the_order_of_images_and_texts_changes_nothing(loss: Loss) -> None:
    images, texts = _unit(3, 5), _unit(4, 4)
    positives = torch.from_numpy(np.random.default_rng(5).random((5, 4)) < 0.5)
    rows, columns = torch.tensor([4, 2, 0, 1, 3]), torch.tensor([3, 0, 2, 1])
    mixed = loss(images[rows], texts[columns], positives[rows][:, columns])
    assert mixed.item() == pytest.approx(loss(images, texts, positives).item(), abs=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_step_down_the_gradient_makes_a_loss_smaller(loss: Loss) -> None:
    images, texts = _unit(6, 4).requires_grad_(), _unit(7, 3)
    positives = torch.tensor([[True, False, False], [False, True, False], [False, False, True], [True, False, False]])
    before = loss(images, texts, positives)
    before.backward()
    assert images.grad is not None
    assert loss(normalize(images.detach() - 0.01 * images.grad, dim=1), texts, positives).item() < before.item()


@pytest.mark.parametrize("loss", LOSSES)
def test_right_pairs_cost_less_than_wrong_ones(loss: Loss) -> None:
    vectors = torch.eye(4)
    right, wrong = torch.eye(4, dtype=torch.bool), torch.eye(4, dtype=torch.bool).roll(1, dims=0)
    assert loss(vectors, vectors, right).item() < loss(vectors, vectors, wrong).item() - 1.0


@pytest.mark.parametrize("loss", LOSSES)
def test_numbers_of_half_precision_are_multiplied_in_full(loss: Loss) -> None:
    images, texts = _unit(8, 3).bfloat16(), _unit(9, 3).bfloat16()
    positives = torch.eye(3, dtype=torch.bool)
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(images, texts, positives)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(loss(images.float(), texts.float(), positives).item(), abs=1e-5)


def test_cosines_are_plain_products_of_every_two_rows() -> None:
    left, right = _unit(10, 3), _unit(11, 2)
    expected = [[float(np.dot(a, b)) for b in right.numpy()] for a in left.numpy()]
    assert cosines(left, right).shape == (3, 2)
    assert np.allclose(cosines(left, right).numpy(), expected, atol=1e-6)
    assert torch.allclose(cosines(left, left).diagonal(), torch.ones(3), atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), factor=st.floats(0.1, 20))
def test_only_the_proportions_of_weights_count(seed: int, factor: float) -> None:
    images, texts = _unit(seed, 4), _unit(seed + 1, 3)
    labels = torch.tensor([0, 1, 2, 1])
    positives = labels.unsqueeze(1) == torch.arange(3)
    weights = torch.from_numpy(np.random.default_rng(seed).uniform(0.2, 3, 4)).float()
    columns = torch.from_numpy(np.random.default_rng(seed + 2).uniform(0.2, 3, 3)).float()
    contrastive = [
        multi_positive_contrastive(images, texts, positives, SCALE, weights=(weights * k, columns * k)).item()
        for k in (1.0, factor)
    ]
    classes = [
        prototype_cross_entropy(images, texts, labels, SCALE, class_weights=columns * k).item() for k in (1.0, factor)
    ]
    sigmoid = [
        sigmoid_contrastive(images, texts, positives, SCALE, torch.tensor(0.0), row_weights=weights * k).item()
        for k in (1.0, factor)
    ]
    for plain, scaled in (contrastive, classes, sigmoid):
        assert scaled == pytest.approx(plain, rel=1e-4)


def test_images_of_weight_zero_are_as_good_as_absent() -> None:
    images, texts = _unit(12, 3), _unit(13, 2)
    positives = torch.tensor([[True, False], [False, True], [True, False]])
    weights = torch.tensor([1.0, 1.0, 0.0])
    bias = torch.tensor(0.5)
    found = sigmoid_contrastive(images, texts, positives, SCALE, bias, row_weights=weights)
    assert found.item() == pytest.approx(
        sigmoid_contrastive(images[:2], texts, positives[:2], SCALE, bias).item(), abs=1e-5
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.4])
def test_a_smoothed_pair_is_asked_for_a_little_less_than_all(smoothing: float) -> None:
    """The loss of one right pair is least where its probability is one minus half of the smoothing."""
    image = torch.tensor([[1.0, 0.0]])
    biases = torch.linspace(-8, 8, 1601)
    losses = [
        sigmoid_contrastive(image, image, torch.tensor([[True]]), torch.tensor(1e-6), bias, smoothing=smoothing).item()
        for bias in biases[::10]
    ]
    best = float(torch.sigmoid(biases[::10][int(np.argmin(losses))]))
    assert best == pytest.approx(1 - smoothing / 2 if smoothing else 1.0, abs=0.03)


@pytest.mark.parametrize(("marked", "share"), [(0, 1e-4), (4, 1 - 1e-4)])
def test_the_starting_bias_is_finite_where_all_or_no_pairs_are_right(marked: int, share: float) -> None:
    vectors = torch.zeros(2, 2)
    positives = (torch.arange(4) < marked).reshape(2, 2)
    bias = starting_bias(vectors, vectors, positives, SCALE)
    assert bias.item() == pytest.approx(np.log(share / (1 - share)), rel=1e-3)


def test_the_starting_bias_takes_the_mean_cosine_away_and_has_no_gradient() -> None:
    images = torch.tensor([[1.0, 0.0], [1.0, 0.0]], requires_grad=True)
    positives = torch.tensor([[True], [False]])
    bias = starting_bias(images, torch.tensor([[1.0, 0.0]]), positives, SCALE)
    assert bias.item() == pytest.approx(-6.0, abs=1e-5)  # even odds, less the scaled cosine of 1
    assert not bias.requires_grad


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=8).filter(any))
def test_weighted_classes_weigh_the_same_in_all_and_the_mean_image_weighs_one(counts: list[int]) -> None:
    weights = inverse_frequency(counts).double()
    present = [(count, weight) for count, weight in zip(counts, weights.tolist(), strict=True) if count]
    sums = [count * weight for count, weight in present]
    assert sums == pytest.approx([sum(counts) / len(counts)] * len(sums), rel=1e-5)
    absent = [weight for count, weight in zip(counts, weights.tolist(), strict=True) if not count]
    assert absent == [1.0] * len(absent)


@pytest.mark.parametrize("labels", [[0], [0, 1, 2], [5, 3]])
def test_without_a_pair_of_one_label_nothing_is_pulled(labels: list[int]) -> None:
    vectors = _unit(14, len(labels)).requires_grad_()
    loss = supervised_contrastive(vectors, torch.tensor(labels, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0.0
    assert vectors.grad is not None
    assert not vectors.grad.any()


def test_a_low_temperature_is_a_hard_choice() -> None:
    vectors = normalize(torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]]), dim=1)
    labels = torch.tensor([0, 0, 1, 1])
    soft, hard = (supervised_contrastive(vectors, labels, temperature=value).item() for value in (1.0, 0.02))
    assert hard == pytest.approx(0.0, abs=1e-6)
    assert soft > 0.3


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, 5.0])
def test_pixels_that_are_right_count_less_the_larger_gamma(gamma: float) -> None:
    logits, target = torch.full((1, 1, 1), 2.0), torch.ones(1, 1, 1)
    wrong = 1 - torch.sigmoid(torch.tensor(2.0))
    plain = focal_loss(logits, target, alpha=1.0, gamma=0.0)
    assert focal_loss(logits, target, alpha=1.0, gamma=gamma).item() == pytest.approx(
        (plain * wrong**gamma).item(), rel=1e-5
    )


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), alpha=st.floats(0, 1))
def test_mask_and_ground_change_places_with_alpha(seed: int, alpha: float) -> None:
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(0, 3, (2, 4, 5)))
    targets = torch.from_numpy((rng.random((2, 4, 5)) < 0.5).astype(np.float64))
    there = focal_loss(logits, targets, alpha=alpha)
    back = focal_loss(-logits, 1 - targets, alpha=1 - alpha)
    assert np.allclose(there.numpy(), back.numpy(), atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000))
def test_dice_lies_between_0_and_1_and_grows_with_every_wrong_pixel(seed: int) -> None:
    rng = np.random.default_rng(seed)
    target = rng.random((4, 4)) < 0.5
    target[0, 0] = True
    masks = np.repeat(target[None], 5, axis=0)
    order = rng.permutation(16)[:4]
    for number, place in enumerate(order, start=1):
        masks[number:].reshape(5 - number, 16)[:, place] ^= True
    logits = torch.from_numpy(np.where(masks, 60.0, -60.0))
    losses = dice_loss(logits, torch.from_numpy(target.astype(np.float64))).tolist()
    assert losses[0] == pytest.approx(0.0, abs=1e-9)
    assert all(0.0 <= loss <= 1.0 for loss in losses)
    assert min(losses[1:]) > losses[0]
