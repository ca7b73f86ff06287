import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from naruto_vision.geometry import area_xyxy, expand_xyxy, xyxy_from_mask
from naruto_vision.segmentation.postprocess import nms_xyxy, xyxy_from_masks


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), height=st.integers(1, 12), width=st.integers(1, 12), share=st.floats(0, 0.4))
def test_boxes_of_masks_agree_with_a_search_for_the_outermost_pixels(
    seed: int, height: int, width: int, share: float
) -> None:
    masks = np.random.default_rng(seed).random((3, height, width)) < share
    found = xyxy_from_masks(torch.from_numpy(masks)).tolist()
    for mask, box in zip(masks, found, strict=True):
        ys, xs = np.nonzero(mask)
        expected = (xs.min(), ys.min(), xs.max(), ys.max()) if len(ys) else None
        assert xyxy_from_mask(mask) == expected
        assert tuple(box) == (expected or (0, 0, 0, 0))


def test_boxes_of_no_masks_are_none() -> None:
    assert xyxy_from_masks(torch.zeros(0, 4, 5, dtype=torch.bool)).shape == (0, 4)


def test_area_counts_both_corners() -> None:
    assert area_xyxy((2, 3, 2, 3)) == 1
    assert area_xyxy((0, 0, 3, 1)) == 8


def test_expansion_is_half_on_each_side_and_clipped() -> None:
    assert expand_xyxy((100, 100, 199, 149), 0.18, 640, 640) == (91, 96, 208, 153)
    assert expand_xyxy((0, 2, 99, 51), 0.2, 100, 60) == (0, 0, 99, 56)
    assert expand_xyxy((5, 5, 9, 9), 0.0, 20, 20) == (5, 5, 9, 9)
    with pytest.raises(ValueError, match="-1"):
        expand_xyxy((0, 0, 1, 1), -1, 4, 4)


def test_the_better_of_two_overlapping_boxes_stays_and_ties_go_to_the_first() -> None:
    boxes = torch.tensor([[0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30], [20, 20, 30, 30]])
    assert nms_xyxy(boxes, torch.tensor([0.5, 0.9, 0.7, 0.7]), 0.7).tolist() == [1, 2]
    assert nms_xyxy(boxes, torch.tensor([0.5, 0.9, 0.7, 0.7]), 0.95).tolist() == [1, 2, 0]
