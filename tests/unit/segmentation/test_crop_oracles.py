"""Boxes, windows, crops and prompts against plain loops over pixels."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from naruto_vision.errors import InputError
from naruto_vision.geometry import area_xyxy, expand_xyxy
from naruto_vision.records import Box, ImageArray, Mask, Region
from naruto_vision.segmentation.crops import CropConfig, crop_layout, crop_region
from naruto_vision.segmentation.postprocess import nms_xyxy
from naruto_vision.segmentation.prompts import BoxPrompter, GridPrompter, PointPrompter, point_names
from naruto_vision.segmentation.protocol import MaskThresholds, Prompts

HEIGHT, WIDTH = 24, 36


@st.composite
def _boxes(draw: st.DrawFn) -> Box:
    x1, y1 = draw(st.integers(0, WIDTH - 1)), draw(st.integers(0, HEIGHT - 1))
    return x1, y1, draw(st.integers(x1, WIDTH - 1)), draw(st.integers(y1, HEIGHT - 1))


def _image(seed: int) -> ImageArray:
    return np.random.default_rng(seed).integers(1, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def _region(box: Box, seed: int) -> Region:
    mask: Mask = np.random.default_rng(seed).random((box[3] - box[1] + 1, box[2] - box[0] + 1)) < 0.6
    return Region(box, mask)


@settings(max_examples=60, deadline=None)
@given(_boxes())
def test_the_area_is_the_number_of_pixels(box: Box) -> None:
    canvas = np.zeros((HEIGHT, WIDTH), dtype=bool)
    canvas[box[1] : box[3] + 1, box[0] : box[2] + 1] = True
    assert area_xyxy(box) == canvas.sum()


@settings(max_examples=80, deadline=None)
@given(_boxes(), st.floats(0, 3))
def test_a_grown_box_holds_the_old_one_stays_in_the_image_and_grows_alike(box: Box, ratio: float) -> None:
    x1, y1, x2, y2 = expand_xyxy(box, ratio, WIDTH, HEIGHT)
    assert 0 <= x1 <= box[0] <= box[2] <= x2 < WIDTH
    assert 0 <= y1 <= box[1] <= box[3] <= y2 < HEIGHT
    free = expand_xyxy((box[0] + 500, box[1] + 500, box[2] + 500, box[3] + 500), ratio, 5000, 5000)
    left, right = box[0] + 500 - free[0], free[2] - box[2] - 500
    up, down = box[1] + 500 - free[1], free[3] - box[3] - 500
    assert (left, up) == (right, down)
    assert left == pytest.approx((box[2] - box[0] + 1) * ratio / 2, abs=0.5)
    assert up == pytest.approx((box[3] - box[1] + 1) * ratio / 2, abs=0.5)
    assert (x1, y1) == (max(0, box[0] - left), max(0, box[1] - up))


def _plain_nms(boxes: list[Box], scores: list[float], threshold: float) -> list[int]:
    """Take the best box that is left, drop what overlaps it, again and again."""
    left, kept = sorted(range(len(boxes)), key=lambda place: -scores[place]), []
    while left:
        best = left.pop(0)
        kept.append(best)
        left = [place for place in left if _open_iou(boxes[best], boxes[place]) <= threshold]
    return kept


def _open_iou(first: Box, second: Box) -> float:
    wide = max(0, min(first[2], second[2]) - max(first[0], second[0]))
    high = max(0, min(first[3], second[3]) - max(first[1], second[1]))
    sides = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    union = sum(sides) - wide * high
    return wide * high / union if union else 0.0


@settings(max_examples=60, deadline=None)
@given(st.lists(_boxes(), max_size=12), st.sampled_from([0.3, 0.55, 0.7]), st.integers(0, 1000))
def test_boxes_that_stay_are_those_of_the_plain_loop(boxes: list[Box], threshold: float, seed: int) -> None:
    scores = np.random.default_rng(seed).permutation(len(boxes)).astype(float).tolist()  # no ties
    found = nms_xyxy(torch.tensor(boxes).reshape(-1, 4), torch.tensor(scores), threshold).tolist()
    assert found == _plain_nms(boxes, scores, threshold)


@settings(max_examples=60, deadline=None)
@given(
    _boxes(),
    st.integers(0, 1000),
    st.sampled_from([0, 7, 255]),
    st.booleans(),
    st.sampled_from([0.0, 0.18, 0.5]),
    st.sampled_from([0.0, 0.1, 0.4]),
    st.sampled_from([0, 3]),
)
def test_a_cut_out_is_the_image_where_the_mask_is_and_grey_elsewhere(
    box: Box, seed: int, grey: int, tight: bool, expand: float, pad: float, least: int
) -> None:
    image, region = _image(seed), _region(box, seed)
    settings_ = CropConfig(expand=expand, tight=tight, pad=pad, pad_min=least, background=grey)
    window = box if tight else expand_xyxy(box, expand, WIDTH, HEIGHT)
    wide, high = window[2] - window[0] + 1, window[3] - window[1] + 1
    border = max(least, round(pad * min(wide, high)))
    expected = np.full((high + 2 * border, wide + 2 * border, 3), grey, dtype=np.uint8)
    whole = region.full_mask(HEIGHT, WIDTH)
    for y in range(window[1], window[3] + 1):
        for x in range(window[0], window[2] + 1):
            if whole[y, x]:
                expected[y - window[1] + border, x - window[0] + border] = image[y, x]
    found = crop_region(image, region, settings_)
    assert found.dtype == np.uint8
    assert np.array_equal(found, expected)
    assert crop_layout(region, settings_, WIDTH, HEIGHT) == (window, border)


@settings(max_examples=40, deadline=None)
@given(_boxes(), st.integers(0, 1000), st.sampled_from([0.0, 0.18, 0.7]))
def test_without_a_background_the_window_of_the_image_comes_back(box: Box, seed: int, expand: float) -> None:
    image, region = _image(seed), _region(box, seed)
    x1, y1, x2, y2 = expand_xyxy(box, expand, WIDTH, HEIGHT)
    for tight in (True, False):
        found = crop_region(image, region, CropConfig(expand=expand, tight=tight, background=None))
        assert np.array_equal(found, image[y1 : y2 + 1, x1 : x2 + 1])
        assert found.flags.c_contiguous


def test_a_region_of_the_whole_image_and_one_of_a_pixel_are_cropped() -> None:
    image = _image(1)
    whole = Region((0, 0, WIDTH - 1, HEIGHT - 1), np.ones((HEIGHT, WIDTH), dtype=bool))
    plain = CropConfig(pad=0, pad_min=0)
    assert np.array_equal(crop_region(image, whole, plain), image)
    dot = Region((5, 6, 5, 6), np.ones((1, 1), dtype=bool))
    assert np.array_equal(crop_region(image, dot, plain), image[6:7, 5:6])
    assert crop_region(image, dot).shape == (17, 17, 3)


def test_a_half_of_the_border_s_share_is_rounded() -> None:
    region = Region((0, 0, 24, 34), np.ones((35, 25), dtype=bool))
    borders = [crop_layout(region, CropConfig(pad=pad, pad_min=0), 100, 100)[1] for pad in (0.1, 0.13, 0.14)]
    assert borders == [2, 3, 4]  # 2.5 goes to the even number, 3.25 and 3.5 to the nearest


@pytest.mark.parametrize("background", [0, 255, None])
def test_the_ends_of_the_range_of_greys_pass(background: int | None) -> None:
    assert CropConfig(background=background).background == background


@pytest.mark.parametrize("background", [-1, 256])
def test_a_background_that_is_no_level_is_named(background: int) -> None:
    with pytest.raises(ValueError, match=f"background from 0 to 255, found {background}"):
        CropConfig(background=background)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(1, 40), st.integers(1, 40))
def test_every_cell_of_the_grid_has_its_point_in_the_middle(side: int, height: int, width: int) -> None:
    prompts = GridPrompter(side)(np.zeros((height, width, 3), np.uint8))
    points = prompts.points[:, 0]
    expected = [((x + 0.5) * width / side, (y + 0.5) * height / side) for y in range(side) for x in range(side)]
    assert np.allclose(points, expected, atol=1e-4)
    assert prompts.points.dtype == np.float32
    assert prompts.labels.dtype == np.int64
    assert prompts.boxes is None


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 12), st.integers(-3, 9)), max_size=8))
def test_points_inside_stay_in_their_order(points: list[tuple[int, int]]) -> None:
    prompts = PointPrompter(points)(np.zeros((6, 9, 3), np.uint8))
    inside = [(x, y) for x, y in points if 0 <= x < 9 and 0 <= y < 6]
    assert [tuple(point) for point in prompts.points[:, 0].tolist()] == inside
    assert prompts.names == tuple(f"point {x},{y}" for x, y in inside)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(*[st.integers(-4, 14)] * 4).filter(lambda b: b[0] <= b[2] and b[1] <= b[3]), max_size=6))
def test_boxes_that_share_a_pixel_with_the_image_stay(boxes: list[tuple[int, int, int, int]]) -> None:
    prompts = BoxPrompter(boxes)(np.zeros((6, 9, 3), np.uint8))
    expected = []
    for x1, y1, x2, y2 in boxes:
        xs = [x for x in range(x1, x2 + 1) if 0 <= x < 9]
        ys = [y for y in range(y1, y2 + 1) if 0 <= y < 6]
        if xs and ys:
            expected.append([xs[0], ys[0], xs[-1], ys[-1]])
    assert prompts.boxes is not None
    assert prompts.boxes.tolist() == expected
    assert prompts.names == tuple("box " + ",".join(map(str, box)) for box in expected)
    assert prompts.points.shape == (len(expected), 0, 2)


def test_points_are_named_to_the_nearest_pixel() -> None:
    assert point_names([(1.4, 2.6), (0.0, 119.9)]) == ("point 1,3", "point 0,120")
    assert point_names(np.zeros((0, 2), np.float32)) == ()


@pytest.mark.parametrize(
    ("points", "labels", "boxes"),
    [((2, 1, 2), (2, 2), None), ((2, 1, 2), (1, 1), None), ((2, 1, 2), (2, 1), 3), ((0, 1, 2), (0, 1), 1)],
)
def test_prompts_hold_as_many_points_as_labels_and_boxes(
    points: tuple[int, ...], labels: tuple[int, ...], boxes: int | None
) -> None:
    told = None if boxes is None else np.zeros((boxes, 4), np.float32)
    with pytest.raises(ValueError, match="do not match"):
        Prompts(np.zeros(points, np.float32), np.zeros(labels, np.int64), told)


def test_thresholds_are_overridden_one_by_one_and_come_back_from_json() -> None:
    changed = MaskThresholds().override(stability=0.5, predicted_iou=None, box_nms=0.0)
    assert (changed.stability, changed.predicted_iou, changed.box_nms) == (0.5, 0.88, 0.0)
    assert MaskThresholds.from_json(asdict(changed), Path("x.json")) == changed
    assert MaskThresholds.from_json({}, Path("x.json")) == MaskThresholds()
    assert MaskThresholds.from_json({"stability": 1}, Path("x.json")).stability == 1.0


@pytest.mark.parametrize(
    "values", [{"stability": 1.1}, {"stability": -0.1}, {"box_nms": 2.0}, {"stability_offset": -1}]
)
def test_thresholds_out_of_range_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(InputError, match=r"mask thresholds: expected stability and box_nms in \[0, 1\]"):
        MaskThresholds(**values)


@pytest.mark.parametrize("record", [{"stability": "0.5"}, {"stabilty": 0.5}, {"stability": None}])
def test_thresholds_of_another_name_or_kind_are_refused_by_file(record: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"^b/model\.json: expected (in )?thresholds"):
        MaskThresholds.from_json(record, Path("b/model.json"))
