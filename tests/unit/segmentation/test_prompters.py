import numpy as np
import pytest
from segment_anything.utils.amg import build_point_grid

from naruto_vision.segmentation.prompts import BoxPrompter, GridPrompter, PointPrompter
from naruto_vision.segmentation.protocol import Prompts

IMAGE = np.zeros((30, 70, 3), dtype=np.uint8)


@pytest.mark.parametrize("side", [1, 5, 16])
def test_the_grid_is_sam_s_own(side: int) -> None:
    prompts = GridPrompter(side)(IMAGE)
    expected = build_point_grid(side) * np.array([70, 30])
    assert np.allclose(prompts.points[:, 0], expected, atol=1e-5)
    assert prompts.labels.shape == (side * side, 1)
    assert (prompts.labels == 1).all()
    assert len(prompts.names) == side * side


def test_a_grid_needs_a_point() -> None:
    with pytest.raises(ValueError, match="points_per_side"):
        GridPrompter(0)


def test_points_outside_the_image_are_left_out() -> None:
    prompts = PointPrompter([(1, 2), (70, 2), (-1, 0), (69, 29)])(IMAGE)
    assert prompts.points.tolist() == [[[1, 2]], [[69, 29]]]
    assert prompts.names == ("point 1,2", "point 69,29")


def test_boxes_are_clipped_and_those_off_the_image_left_out() -> None:
    prompts = BoxPrompter([(-5, -5, 10, 12), (80, 0, 90, 9), (60, 20, 90, 40)])(IMAGE)
    assert prompts.boxes is not None
    assert prompts.boxes.tolist() == [[0, 0, 10, 12], [60, 20, 69, 29]]
    assert prompts.points.shape == (2, 0, 2)


def test_no_prompts_are_allowed() -> None:
    assert len(PointPrompter([])(IMAGE).points) == 0
    assert len(BoxPrompter([])(IMAGE).points) == 0


def test_prompts_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match="do not match"):
        Prompts(np.zeros((2, 1, 2), np.float32), np.ones((3, 1), np.int64))
