import logging

import numpy as np
import pytest
import torch

from naruto_vision.prompting.contours import ContourPrompter
from naruto_vision.prompting.sweep import SweepSegmenter
from naruto_vision.prompting.sweep_mode import SweepMode
from naruto_vision.records import ImageArray, Region
from naruto_vision.segmentation.sam import SamModel
from naruto_vision.viz.overlay import label_colours
from naruto_vision.viz.sweep import draw_sweep

REPORT = "texts/{stem}_analysis_report.txt"
PANELS = "images/{stem}_visualization.png"
CONTOURS = "images/{stem}_contours_debug.png"


@pytest.fixture(scope="module")
def segmenter() -> SweepSegmenter:
    torch.manual_seed(3)
    return SweepSegmenter(SamModel("tiny-sam").eval(), ContourPrompter(grid=(4, 3)))


def _image() -> ImageArray:
    image = np.full((96, 128, 3), 200, np.uint8)
    image[20:70, 30:80] = (20, 40, 160)
    return image


def test_every_region_has_its_row(segmenter: SweepSegmenter) -> None:
    found = SweepMode(segmenter)(_image(), "a/b.png")
    swept = segmenter.sweep(_image())
    assert len(found.regions) > 0
    assert {PANELS, CONTOURS} == found.images.keys()
    assert [row["name"] for row in found.region_facts] == [f"D{n}" for n in range(1, len(found.regions) + 1)]
    for row, region, point, source in zip(found.region_facts, found.regions, swept.points, swept.sources, strict=True):
        assert row.keys() == {"name", "point", "source", "mask_sum", "description"}
        assert (row["mask_sum"], row["point"], row["source"]) == (region.area, list(point), source)


def test_the_report_lists_the_regions(segmenter: SweepSegmenter) -> None:
    found = SweepMode(segmenter, model="sam_vit_b")(_image(), "a/b.png")
    title, models, rule, _, *items = found.texts[REPORT].splitlines()
    assert "a/b.png" in title
    assert "sam_vit_b" in models
    assert set(rule) == {"="}
    assert sum(line.startswith("--- Item ") for line in items) == len(found.regions)
    x1, y1, x2, y2 = found.regions[0].box
    assert f"[{x1}, {y1}, {x2}, {y2}]" in items[2]


def test_points_of_contours_are_magenta_and_those_of_the_grid_red() -> None:
    points, sources = [(20, 80), (60, 80), (100, 80)], ["contour", "grid", "user"]
    regions = [Region((x - 15, 40, x + 15, 90), np.ones((51, 31), np.bool_)) for x, _ in points]
    drawn = draw_sweep(_image(), regions, points, sources)
    assert drawn.shape == _image().shape
    assert [tuple(drawn[y, x].tolist()) for x, y in points] == [(255, 0, 255), (255, 0, 0), (0, 200, 255)]


def test_labels_of_equal_boxes_do_not_cover_each_other() -> None:
    regions = [Region((30, 30, 100, 90), np.ones((61, 71), np.bool_))] * 3
    drawn = draw_sweep(_image(), regions, [], [])
    for colour in label_colours(["D1", "D2", "D3"]).values():
        assert (drawn == colour).all(axis=-1).sum() > 100  # the ground of its tag


def test_contours_have_six_colours_in_turn_and_green_centroids(segmenter: SweepSegmenter) -> None:
    image = np.zeros((96, 128, 3), np.uint8)
    for k in range(7):
        image[5:25, 4 + 17 * k : 14 + 17 * k - k] = 255  # each smaller than the one before
    drawn = SweepMode(segmenter)(image).images[CONTOURS]
    colours = {tuple(colour) for colour in drawn.reshape(-1, 3).tolist()}
    assert {(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255), (0, 255, 255)} <= colours
    for x, y in segmenter.points.find(image).centroids:
        assert tuple(drawn[y, x].tolist()) == (0, 255, 0)


def test_what_is_covered_and_skipped_is_recorded_and_the_time_of_a_point_logged(
    segmenter: SweepSegmenter, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        found = SweepMode(segmenter, orders=2)(_image(), "b.png")
    facts = found.facts["sweep"]
    assert facts["asked"] + facts["skipped"].get("covered", 0) == facts["points"]
    assert 0 < facts["covered_percent"] <= 100
    assert facts["order_stability"]["orders"] == 2
    assert "ms a point, on cpu" in caplog.text
    assert found.milliseconds.keys() == {"segment", "embed", "masks", "point"}


def test_nothing_found_says_what_to_change() -> None:
    nothing = SweepSegmenter(SamModel("tiny-sam").eval(), ContourPrompter(grid=(0, 0)))
    found = SweepMode(nothing)(np.zeros((32, 40, 3), np.uint8), "b.png")
    assert "--min-area" in found.note
    assert found.texts[REPORT].splitlines()[-1].startswith("No significant objects")


def test_points_and_orders_are_part_of_what_is_resumed(segmenter: SweepSegmenter) -> None:
    modes = [SweepMode(segmenter), SweepMode(segmenter, orders=1), SweepMode(segmenter, points=[(1, 2)])]
    assert len({str(mode.identity) for mode in modes}) == 3
