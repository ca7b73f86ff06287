"""Prompts about masks: where points and boxes may lie, and how many of them there are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naruto_vision.data.masks import MaskedImage, all_prompts, box_around, collate, point_in, sample_prompts, to_square
from naruto_vision.records import Mask

_QUICK = settings(max_examples=40, deadline=None, derandomize=True)
_SEED = st.integers(0, 10_000)
_SIDE = st.integers(1, 40)


def _mask(box: tuple[int, int, int, int], height: int, width: int) -> Mask:
    mask = np.zeros((height, width), dtype=np.bool_)
    mask[box[1] : box[3] + 1, box[0] : box[2] + 1] = True
    return mask


@_QUICK
@given(_SIDE, _SIDE, st.integers(4, 32))
def test_squares_hold_the_whole_scene_at_one_scale(height: int, width: int, side: int) -> None:
    image = np.full((height, width, 3), 200, np.uint8)
    square = to_square(MaskedImage(image, np.ones((1, height, width), dtype=np.bool_)), side)
    lit = square.image[..., 0] == 200
    assert (lit.any(axis=0).sum(), lit.any(axis=1).sum())[height > width] == side
    assert np.array_equal(square.masks[0], lit)
    short, long = sorted((height, width))
    assert min(lit.any(axis=0).sum(), lit.any(axis=1).sum()) == max(1, int(short * side / long + 0.5))


@_QUICK
@given(st.integers(2, 20), st.integers(2, 20), _SEED, st.floats(0, 0.5))
def test_boxes_stay_inside_the_image_and_near_the_mask(height: int, width: int, seed: int, jitter: float) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((height, width)) < 0.2
    mask[int(rng.integers(height)), int(rng.integers(width))] = True
    x1, y1, x2, y2 = box_around(mask, rng, jitter).tolist()
    assert 0 <= x1 <= width - 1
    assert 0 <= y2 <= height - 1
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    reach = jitter * (columns[-1] - columns[0] + 1) + 1e-4
    assert abs(x1 - columns[0]) <= reach
    assert abs(x2 - columns[-1]) <= reach
    assert abs(y1 - rows[0]) <= jitter * (rows[-1] - rows[0] + 1) + 1e-4
    x, y = point_in(mask, rng).astype(int)
    assert mask[y, x]


def test_an_edge_never_moves_by_more_than_twenty_pixels() -> None:
    mask = _mask((100, 100, 899, 899), 1000, 1000)
    boxes = np.array([box_around(mask, np.random.default_rng(seed), 0.5) for seed in range(100)])
    moved = np.abs(boxes - [100, 100, 899, 899])
    assert moved.max() <= 20
    assert moved.max() > 15


@pytest.mark.parametrize("boxes", [0.0, 1.0])
@pytest.mark.parametrize(("figures", "asked"), [(0, 0), (1, 1), (2, 2), (9, 2)])
def test_as_many_figures_are_asked_for_as_wanted_and_there(boxes: float, figures: int, asked: int) -> None:
    masks = np.stack([_mask((0, 0, 3, 3), 20, 20), _mask((10, 10, 15, 15), 20, 20)])
    scene = MaskedImage(np.zeros((20, 20, 3), np.uint8), masks)
    found = sample_prompts(scene, np.random.default_rng(0), figures=figures, off_figure=2, boxes=boxes)
    assert len(found.boxes) == (asked if boxes else 0)
    assert len(found.points) == 2 + (0 if boxes else asked)
    assert len(found.point_masks) == len(found.points)
    assert len(found.box_masks) == len(found.boxes)
    assert found.points.dtype == found.boxes.dtype == np.dtype(np.float32)


def test_validation_asks_with_the_exact_box_of_every_figure() -> None:
    masks = np.stack([_mask((0, 1, 3, 4), 20, 20), _mask((10, 11, 15, 19), 20, 20)])
    asked = all_prompts(MaskedImage(np.zeros((20, 20, 3), np.uint8), masks), np.random.default_rng(0))
    assert asked.boxes.tolist() == [[0, 1, 3, 4], [10, 11, 15, 19]]
    assert np.array_equal(asked.point_masks, masks)
    assert all(mask[int(y), int(x)] for mask, (x, y) in zip(masks, asked.points, strict=True))


def test_a_batch_of_one_image_without_prompts() -> None:
    asked = all_prompts(
        MaskedImage(np.zeros((8, 8, 3), np.uint8), np.zeros((0, 8, 8), np.bool_)), np.random.default_rng(0)
    )
    batch = collate([asked])
    assert tuple(batch.pixels.shape) == (1, 3, 8, 8)
    assert tuple(batch.points.shape) == (0, 2)
    assert tuple(batch.boxes.shape) == (0, 4)
    assert tuple(batch.masks.shape) == (0, 8, 8)
    assert batch.image.tolist() == []
