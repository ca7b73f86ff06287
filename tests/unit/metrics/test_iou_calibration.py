"""The calibration of predicted IoUs, on estimates with a known fault."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from naruto_vision.metrics.classification import iou_calibration


def test_a_perfect_model_has_no_error() -> None:
    values = torch.rand(50, generator=torch.Generator().manual_seed(0))
    found = iou_calibration(values, values)
    assert found.calibration_error == found.absolute_error == found.bias == 0.0
    assert sum(one.count for one in found.bins) == found.count == 50


def test_a_boastful_model_is_off_by_its_boast() -> None:
    actual = torch.tensor([0.12, 0.34, 0.58, 0.95])
    found = iou_calibration(actual + 0.1, actual)
    assert (found.calibration_error, found.absolute_error, found.bias) == pytest.approx((0.1, 0.1, 0.1), abs=1e-6)
    assert found.bins[-1].predicted == pytest.approx(1.05)  # not clipped: the last bin takes what is above 1


def test_estimates_below_zero_go_to_the_first_bin() -> None:
    found = iou_calibration(torch.tensor([-0.5, 0.05]), torch.tensor([0.0, 0.0]))
    assert [(one.low, one.count) for one in found.bins] == [(0.0, 2)]
    assert found.bias == pytest.approx(-0.225)


def test_even_spread_is_calibrated_but_not_sharp() -> None:
    actual = torch.tensor([0.4, 0.6, 0.4, 0.6])
    found = iou_calibration(torch.full((4,), 0.5), actual)
    assert found.calibration_error == pytest.approx(0.0, abs=1e-7)
    assert found.absolute_error == pytest.approx(0.1)


def test_equals_a_plain_loop() -> None:
    rng = np.random.default_rng(3)
    guess, truth = rng.uniform(-0.1, 1.2, 300), rng.uniform(0, 1, 300)
    edges = np.linspace(0, 1, 11)
    expected = 0.0
    for low, high in pairwise(edges):
        clipped = np.clip(guess, 0, 1)
        inside = (clipped >= low) & ((clipped < high) | (high == 1.0))
        if inside.any():
            expected += inside.sum() * abs(guess[inside].mean() - truth[inside].mean()) / 300
    found = iou_calibration(torch.from_numpy(guess), torch.from_numpy(truth))
    assert found.calibration_error == pytest.approx(expected, abs=1e-12)


def test_no_masks_have_no_figures() -> None:
    found = iou_calibration(torch.zeros(0), torch.zeros(0))
    assert (found.count, found.calibration_error, found.bins) == (0, None, ())


@pytest.mark.parametrize(
    ("guess", "truth", "bins"),
    [
        (torch.zeros(2), torch.zeros(3), 10),
        (torch.tensor([float("nan")]), torch.zeros(1), 10),
        (torch.zeros(1), torch.zeros(1), 0),
    ],
)
def test_senseless_input_is_refused(guess: torch.Tensor, truth: torch.Tensor, bins: int) -> None:
    with pytest.raises(ValueError, match="iou_calibration"):
        iou_calibration(guess, truth, bins)
