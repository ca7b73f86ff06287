"""Masks as tensors: stability, overlap, and eight pixels a byte."""

import numpy as np
import pytest
import torch

from naruto_vision.segmentation.postprocess import mask_iou, packed_rows, stability_score


def test_stability_is_the_share_that_a_stricter_threshold_keeps() -> None:
    logits = torch.tensor([[[3.0, 0.5, -0.5, -3.0]], [[-9.0, -9.0, -9.0, -9.0]], [[9.0, 9.0, -9.0, -9.0]]])
    assert stability_score(logits, 1.0).tolist() == pytest.approx([1 / 3, 0.0, 1.0])
    assert stability_score(logits, 0.4).tolist() == pytest.approx([1.0, 0.0, 1.0])


def test_mask_iou_pairs_and_broadcasts() -> None:
    masks = torch.tensor([[[1, 1, 0, 0]], [[0, 0, 0, 0]]]).bool()
    truth = torch.tensor([[1, 0, 0, 0]]).bool()
    assert mask_iou(masks, truth).tolist() == [0.5, 0.0]
    assert mask_iou(masks[1], masks[1]).item() == 0.0


@pytest.mark.parametrize("width", [1, 7, 8, 9, 50])
@pytest.mark.parametrize("count", [0, 3])
def test_packed_rows_are_numpy_s(width: int, count: int) -> None:
    masks = torch.rand(count, 5, width) > 0.5
    packed = packed_rows(masks)
    assert packed.dtype == torch.uint8
    assert np.array_equal(packed.numpy(), np.packbits(masks.numpy(), axis=2))
