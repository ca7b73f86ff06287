import cv2
import numpy as np
import pytest

from naruto_vision.errors import InputError
from naruto_vision.io.bundles import config_path
from naruto_vision.prompting.contours import ContourPrompter
from naruto_vision.records import ImageArray
from naruto_vision.synthetic.attributes import read_cast
from naruto_vision.synthetic.scene import draw_scene

NO_GRID = (0, 0)


def _squares(height: int, width: int, *boxes: tuple[int, int, int, int]) -> ImageArray:
    image = np.zeros((height, width, 3), np.uint8)
    for x1, y1, x2, y2 in boxes:
        image[y1:y2, x1:x2] = 255
    return image


def test_contours_are_those_of_canny_on_the_blurred_grey_image_by_falling_area() -> None:
    image = draw_scene(3, read_cast(config_path("cast.yaml")), size=160).image
    edges = cv2.Canny(cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (5, 5), 0), 100, 200)
    outlines, _ = cv2.findContours(edges, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    expected: list[list[int]] = []
    for outline in sorted(outlines, key=cv2.contourArea, reverse=True):
        moments = cv2.moments(outline)
        if moments["m00"]:
            x, y = int(moments["m10"] / moments["m00"]), int(moments["m01"] / moments["m00"])
            point = [min(max(x, 0), 159), min(max(y, 0), 159)]
            expected += [] if point in expected else [point]
    found = ContourPrompter(grid=NO_GRID).find(image)
    assert len(expected) > 5
    assert found.points.tolist() == expected
    assert found.centroids == [tuple(point) for point in expected]


def test_the_largest_contour_comes_first_and_their_number_is_limited() -> None:
    image = _squares(60, 80, (5, 5, 15, 15), (30, 10, 70, 50))
    assert ContourPrompter(grid=NO_GRID)(image).names == ("contour 49,29", "contour 9,9")
    assert ContourPrompter(grid=NO_GRID, max_contours=1)(image).names == ("contour 49,29",)


def test_the_grid_has_14_columns_and_12_rows_asked_column_by_column() -> None:
    points = ContourPrompter()(np.zeros((120, 140, 3), np.uint8)).points[:, 0]
    assert points.tolist() == [[x * 10 + 5, y * 10 + 5] for x in range(14) for y in range(12)]


def test_contours_come_before_the_grid_and_keep_the_points_that_both_have() -> None:
    image = _squares(40, 60, (5, 10, 25, 30))
    (x, y), *_ = ContourPrompter(grid=NO_GRID).find(image).points.tolist()
    found = ContourPrompter(grid=(60, 40)).find(image)  # the grid has every pixel
    assert found.sources[:2] == ("contour", "grid")
    assert len(found.points) == 60 * 40
    assert found.points.tolist().count([x, y]) == 1


def test_a_larger_image_is_reduced_in_its_shape_and_its_points_are_its_own_pixels() -> None:
    image = _squares(720, 960, (100, 200, 300, 500))
    found = ContourPrompter().find(image)
    assert found.size == (480, 640)
    assert np.abs(found.points[0] - (200, 350)).max() <= 2
    assert ContourPrompter(max_size=(320, 320)).reduce(image).shape == (240, 320, 3)
    assert ContourPrompter(max_size=(9999, 9999)).reduce(image) is image


@pytest.mark.parametrize(
    "settings", [{"grid": (-1, 3)}, {"max_contours": -1}, {"max_size": (0, 480)}], ids=["grid", "contours", "size"]
)
def test_wrong_settings_are_told(settings: dict[str, tuple[int, int]]) -> None:
    with pytest.raises(InputError, match="contour prompter: expected"):
        ContourPrompter(**settings)
