import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from segment_anything.utils.amg import mask_to_rle_pytorch

from naruto_vision.geometry import column_runs, encode_cut, encode_rle, xyxy_from_mask
from naruto_vision.records import Box


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
    assert column_runs(cut, box, height, width).tolist() == stock["counts"]
    assert encode_cut(cut, box, height, width) == encode_rle(mask)


@pytest.mark.parametrize("box", [(0, 0, 89, 119), (3, 0, 80, 119), (5, 7, 88, 119), (5, 0, 88, 110), (0, 9, 89, 100)])
@pytest.mark.parametrize("period", [1, 2, 3, 8, 64, 1000])
def test_edges_close_together_and_far_apart(box: Box, period: int) -> None:
    x1, y1, x2, y2 = box
    mask = np.zeros((120, 90), dtype=bool)
    rows, columns = np.mgrid[y1 : y2 + 1, x1 : x2 + 1]
    mask[y1 : y2 + 1, x1 : x2 + 1] = (rows + columns) // period % 2 == 0
    assert encode_cut(mask[y1 : y2 + 1, x1 : x2 + 1], box, 120, 90) == encode_rle(mask)
    (stock,) = mask_to_rle_pytorch(torch.from_numpy(mask)[None])
    assert column_runs(mask[y1 : y2 + 1, x1 : x2 + 1], box, 120, 90).tolist() == stock["counts"]


def test_a_mask_of_all_and_columns_that_run_into_each_other() -> None:
    whole = np.ones((4, 3), dtype=bool)
    assert column_runs(whole, (0, 0, 2, 3), 4, 3).tolist() == [0, 12]
    assert column_runs(whole[:, :2], (1, 0, 2, 3), 4, 3).tolist() == [4, 8]
    assert column_runs(whole[:2, :2], (0, 1, 1, 2), 4, 3).tolist() == [1, 2, 2, 2, 5]
