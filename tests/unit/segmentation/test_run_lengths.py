from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from segment_anything.utils.amg import mask_to_rle_pytorch

from naruto_vision.geometry import counts_from_mask, rle_from_mask, rle_of_cut, runs_of_cut, xyxy_from_mask
from naruto_vision.records import Box, Mask


def _runs(cut: Mask, box: Box, height: int, width: int) -> list[int]:
    return runs_of_cut(counts_from_mask(cut), box, height, width)


def _rle(cut: Mask, box: Box, height: int, width: int) -> dict[str, Any]:
    return rle_of_cut(counts_from_mask(cut), box, height, width)


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    height=st.integers(1, 30),
    width=st.integers(1, 30),
    share=st.sampled_from([0.02, 0.5, 0.98, 1.0]),
)
def test_runs_of_a_cut_mask_are_the_stock_runs_of_the_whole(seed: int, height: int, width: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < share
    box = xyxy_from_mask(mask)
    if box is None:
        return
    cut = mask[box[1] : box[3] + 1, box[0] : box[2] + 1]
    (stock,) = mask_to_rle_pytorch(torch.from_numpy(mask)[None])
    assert _runs(cut, box, height, width) == stock["counts"]
    assert _rle(cut, box, height, width) == rle_from_mask(mask)


@pytest.mark.parametrize("box", [(0, 0, 89, 119), (3, 0, 80, 119), (5, 7, 88, 119), (5, 0, 88, 110), (0, 9, 89, 100)])
@pytest.mark.parametrize("period", [1, 2, 3, 8, 64, 1000])
def test_edges_close_together_and_far_apart(box: Box, period: int) -> None:
    x1, y1, x2, y2 = box
    mask = np.zeros((120, 90), dtype=bool)
    rows, columns = np.mgrid[y1 : y2 + 1, x1 : x2 + 1]
    mask[y1 : y2 + 1, x1 : x2 + 1] = (rows + columns) // period % 2 == 0
    assert _rle(mask[y1 : y2 + 1, x1 : x2 + 1], box, 120, 90) == rle_from_mask(mask)
    (stock,) = mask_to_rle_pytorch(torch.from_numpy(mask)[None])
    assert _runs(mask[y1 : y2 + 1, x1 : x2 + 1], box, 120, 90) == stock["counts"]


def test_a_mask_of_all_and_columns_that_run_into_each_other() -> None:
    whole = np.ones((4, 3), dtype=bool)
    assert _runs(whole, (0, 0, 2, 3), 4, 3) == [0, 12]
    assert _runs(whole[:, :2], (1, 0, 2, 3), 4, 3) == [4, 8]
    assert _runs(whole[:2, :2], (0, 1, 1, 2), 4, 3) == [1, 2, 2, 2, 5]
