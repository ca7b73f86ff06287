"""Regions: run lengths inside, pixels outside."""

import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco

from naruto_vision.geometry import rle_from_mask
from naruto_vision.records import Mask, Prompt, Region


def _mask(height: int, width: int, seed: int = 0) -> Mask:
    return np.random.default_rng(seed).random((height, width)) < 0.4


@given(st.integers(1, 19), st.integers(1, 19), st.integers(0, 5), st.integers(0, 5))
def test_run_lengths_hold_every_pixel(height: int, width: int, left: int, top: int) -> None:
    mask = _mask(height, width)
    region = Region((left, top, left + width - 1, top + height - 1), mask, 0.5, 0.25, "point 1,2")
    assert region.mask.dtype == np.bool_
    assert np.array_equal(region.mask, mask)
    assert region.area == mask.sum()
    assert coco.area({"size": [height, width], "counts": region.counts}) == mask.sum()
    whole = region.full_mask(top + height + 2, left + width + 1)
    assert region.rle(*whole.shape) == rle_from_mask(whole)
    assert np.array_equal(whole[top : top + height, left : left + width], mask)
    assert whole.sum() == mask.sum()
    assert (region.predicted_iou, region.stability, region.prompt) == (0.5, 0.25, Prompt("point 1,2"))


def test_a_view_and_a_mask_in_columns_are_taken_as_they_look() -> None:
    large = _mask(30, 40)
    assert np.array_equal(Region((0, 0, 9, 4), large[3:8, 20:30]).mask, large[3:8, 20:30])
    assert np.array_equal(Region((0, 0, 29, 39), large.T).mask, large.T)


def test_a_region_cannot_be_changed_through_its_mask() -> None:
    mask = _mask(4, 5)
    region = Region((0, 0, 4, 3), mask)
    before = mask.copy()
    mask[:] = True
    region.mask[:] = False
    assert np.array_equal(region.mask, before)
    for name in ("prompt", "counts", "mask"):
        with pytest.raises(AttributeError):
            setattr(region, name, "other")


def test_equal_regions_are_equal() -> None:
    one, same, other = (Region((0, 0, 4, 3), _mask(4, 5, seed)) for seed in (0, 0, 1))
    assert one == same
    assert one != other
    assert len({one, same, other}) == 2
    assert copy.deepcopy(one) == one


@pytest.mark.parametrize(
    ("box", "mask", "told"),
    [
        ((0, 0, 4, 3), np.ones((5, 4), dtype=bool), r"expected bool \(4, 5\), found bool \(5, 4\)"),
        ((0, 0, 4, 3), np.ones((4, 5), dtype=np.uint8), "found uint8"),
        ((5, 0, 4, 3), np.ones((4, 5), dtype=bool), "expected 0 <= x1 <= x2"),
        ((-1, 0, 3, 3), np.ones((4, 5), dtype=bool), "expected 0 <= x1 <= x2"),
    ],
)
def test_a_mask_that_does_not_fit_its_box_is_refused(
    box: tuple[int, int, int, int], mask: np.ndarray, told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        Region(box, mask)


def test_a_region_takes_less_than_an_eighth_of_a_byte_a_pixel() -> None:
    rows, columns = np.mgrid[:400, :1000]
    mask = (rows - 200) ** 2 + (columns - 500) ** 2 < 190**2
    assert len(Region((0, 0, 999, 399), mask).counts) < mask.size // 8 // 20


def test_prompts_of_two_regions_are_added() -> None:
    point, box = Prompt("point 1,2", ((1.0, 2.0, True),)), Prompt("box 0,0,3,3", box=(0.0, 0.0, 3.0, 3.0))
    assert point + box == Prompt("point 1,2 + box 0,0,3,3", point.points, box.box)
    assert box + box == Prompt("box 0,0,3,3 + box 0,0,3,3")
    assert (Prompt() + point).name == "point 1,2"
