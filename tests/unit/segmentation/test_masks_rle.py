from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from naruto_vision.segmentation.masks import decode_rle, encode_rle, mask_iou, packed_rows, stability_score


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10_000), height=st.integers(1, 40), width=st.integers(1, 40), share=st.floats(0, 1))
def test_run_lengths_come_back_as_the_same_mask(seed: int, height: int, width: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < share
    record = encode_rle(mask)
    assert (decode_rle(record) == mask).all()
    assert (coco.decode(record).astype(bool) == mask).all()
    plain = {"size": [height, width], "counts": _plain_runs(mask)}
    assert (decode_rle(plain) == mask).all()


def _plain_runs(mask: np.ndarray) -> list[int]:
    runs, value = [0], False
    for pixel in mask.T.ravel():
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return runs


def test_long_runs_survive() -> None:
    mask = np.zeros((700, 900), dtype=bool)
    mask[3:500, 5:880] = True
    assert (decode_rle(encode_rle(mask)) == mask).all()


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"size": [4, 4], "counts": "\x00\xff"},
        {"size": [4, 4], "counts": "P"},
        {"size": [4, 4], "counts": [1, 2]},
        {"size": [4, 4], "counts": [20, -4]},
        {"size": [4, 4], "counts": 16},
        {"size": [-4, -4], "counts": [16]},
        {"size": [4], "counts": [4]},
        {"size": "44", "counts": [16]},
        {"size": [4, 4], "counts": ["16"]},
    ],
)
def test_bad_run_lengths_are_refused_before_any_c_code(record: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="run-length mask"):
        decode_rle(record)


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
