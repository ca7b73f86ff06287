"""COCO's run lengths give back the mask that they were made of, and broken ones are refused."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from naruto_vision.geometry import canonical_rle, mask_from_rle, rle_from_mask


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10_000), height=st.integers(1, 40), width=st.integers(1, 40), share=st.floats(0, 1))
def test_run_lengths_come_back_as_the_same_mask(seed: int, height: int, width: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < share
    record = rle_from_mask(mask)
    assert (mask_from_rle(record) == mask).all()
    assert (coco.decode(record).astype(bool) == mask).all()
    plain = {"size": [height, width], "counts": _plain_runs(mask)}
    assert (mask_from_rle(plain) == mask).all()
    split = [piece for run in plain["counts"] for piece in (run // 2, 0, run - run // 2)]  # the same runs in pieces
    for written in (record, plain, {**plain, "counts": split}):
        assert canonical_rle(written) == (record if mask.any() else None)


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
    assert (mask_from_rle(rle_from_mask(mask)) == mask).all()


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
        {"size": [10**9, 10**9], "counts": [10**18]},
        {"size": [10_000, 5_001], "counts": [50_010_000]},
    ],
)
def test_bad_run_lengths_are_refused_before_any_c_code(record: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="run-length mask"):
        mask_from_rle(record)
    with pytest.raises(ValueError, match="run-length mask"):
        canonical_rle(record)
