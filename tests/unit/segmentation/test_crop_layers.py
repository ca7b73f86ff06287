from collections.abc import Iterator

import numpy as np
import pytest
import torch
from benchmarks.stock import stock_generator, stock_regions
from packaged_models import tiny_sam
from segment_anything.utils.amg import build_all_layer_point_grids, generate_crop_boxes, is_box_near_crop_edge
from torch import Tensor

from naruto_vision.errors import InputError
from naruto_vision.io.bundles import config_path
from naruto_vision.records import ImageArray, Region
from naruto_vision.segmentation.generator import CropLayers, RegionFilter, Segmenter, Window
from naruto_vision.segmentation.postprocess import dense_masks
from naruto_vision.segmentation.prompts import GridPrompter, PointPrompter
from naruto_vision.segmentation.protocol import FullMask, MaskPredictions, MaskThresholds, Prompts, SceneEmbedding
from naruto_vision.segmentation.sam import SamModel
from naruto_vision.synthetic.attributes import read_cast
from naruto_vision.synthetic.scene import draw_scene

ALL = RegionFilter(min_area=0, max_masks=None)


@pytest.fixture(scope="module")
def model() -> SamModel:
    return tiny_sam()


@pytest.fixture(scope="module")
def image() -> ImageArray:
    """Six small scenes in one, so that there is something in every window."""
    cast = read_cast(config_path("cast.yaml"))
    scenes = [draw_scene(seed, cast, size=64, difficulty="easy").image for seed in range(6)]
    return np.vstack([np.hstack(scenes[:3]), np.hstack(scenes[3:])])


@pytest.mark.parametrize(("height", "width"), [(100, 100), (683, 1024), (33, 7), (1, 1)])
@pytest.mark.parametrize("layers", [1, 2])
def test_windows_are_those_of_the_stock_generator(height: int, width: int, layers: int) -> None:
    boxes, layer_of = generate_crop_boxes((height, width), layers, 512 / 1500)
    windows = CropLayers(layers).windows(height, width)
    assert [[w.left, w.top, w.right, w.bottom] for w in windows] == boxes
    assert [w.layer for w in windows] == layer_of


def test_each_layer_has_a_coarser_grid_named_in_the_image(image: ImageArray) -> None:
    grids = build_all_layer_point_grids(8, 2, 2)
    for window in CropLayers(2).windows(*image.shape[:2]):
        prompts = CropLayers(2).prompts(GridPrompter(8), image, window)
        sides = window.right - window.left, window.bottom - window.top
        assert np.allclose(prompts.points[:, 0], grids[window.layer] * sides, atol=1e-4)
        x, y = prompts.points[-1, 0] + (window.left, window.top)
        assert prompts.names[-1] == f"point {x:.0f},{y:.0f}"


def test_a_mask_at_a_window_s_edge_goes_unless_the_image_ends_there() -> None:
    window, generator = Window(30, 0, 90, 60, 1), np.random.default_rng(0)
    sides = (window.left, window.top, window.right, window.bottom)
    verdicts = set()
    for _ in range(200):
        x, y = np.sort(generator.integers(30, 90, 2)), np.sort(generator.integers(0, 60, 2))
        box = int(x[0]), int(y[0]), int(x[1]), int(y[1])
        inside = torch.tensor([[box[0] - 30, box[1], box[2] - 30, box[3]]])
        expected = bool(is_box_near_crop_edge(inside, list(sides), [0, 0, 100, 100])[0])
        assert window.cuts(box, 100, 100) == expected
        verdicts.add(expected)
    assert verdicts == {True, False}
    assert not Window(0, 0, 100, 100).cuts((0, 0, 99, 99), 100, 100)


def _same(ours: list[Region], stock: list[Region], height: int, width: int) -> bool:
    masks = [region.full_mask(height, width) for region in ours]
    for region in stock:
        mask = region.full_mask(height, width)
        if max((np.sum(mask & other) / np.sum(mask | other) for other in masks), default=0.0) < 0.99:
            return False
    return len(ours) == len(stock)


@pytest.mark.parametrize("crops", [None, CropLayers(), CropLayers(2, overlap=0.2, box_nms=0.5)])
def test_crop_layers_give_the_stock_masks(model: SamModel, image: ImageArray, crops: CropLayers | None) -> None:
    options = {"predicted_iou": 0.2, "stability": 0.2, "box_nms": 0.7, "keep": ALL, "crops": crops}
    segmenter = Segmenter(GridPrompter(6), model, **options)
    ours, stock = segmenter(image), stock_regions(segmenter, image)
    assert len(stock) > 2
    assert _same(ours, stock, *image.shape[:2])
    assert {region.prompt.name for region in ours} == {region.prompt.name for region in stock}
    whole = Segmenter(GridPrompter(6), model, **{**options, "crops": None})(image)
    prompts = {region.prompt.name for region in whole}
    assert crops is None or any(region.prompt.name not in prompts for region in ours)


def test_the_reference_s_settings_are_all_options(model: SamModel) -> None:
    segmenter = Segmenter(
        GridPrompter(8), model, predicted_iou=0.7, stability=0.85, box_nms=0.7, crops=CropLayers(1, points_divisor=2)
    )
    stock = stock_generator(segmenter)
    assert segmenter.thresholds.predicted_iou == stock.pred_iou_thresh == 0.7
    assert segmenter.thresholds.stability == stock.stability_score_thresh == 0.85
    assert segmenter.thresholds.box_nms == stock.box_nms_thresh == stock.crop_nms_thresh == 0.7
    assert [len(grid) for grid in stock.point_grids] == [64, 16]


def test_layers_change_the_fingerprint_and_their_absence_does_not(model: SamModel) -> None:
    plain, layered = (Segmenter(GridPrompter(2), model, crops=crops) for crops in (None, CropLayers()))
    assert plain.fingerprint != layered.fingerprint
    assert Segmenter(GridPrompter(2), model, prompts_per_batch=3).fingerprint == plain.fingerprint


def test_crop_layers_need_a_grid(model: SamModel, image: ImageArray) -> None:
    with pytest.raises(InputError, match="PointPrompter"):
        Segmenter(PointPrompter([(1, 1)]), model, crops=CropLayers())(image)


class OneSquare:
    """Finds one square in the whole image and, with a lower estimate, in the first of its quarters."""

    thresholds = MaskThresholds(predicted_iou=0.5)
    fingerprint = ""

    def __init__(self) -> None:
        self.looks = 0

    def embed(self, image: ImageArray) -> SceneEmbedding:
        self.looks += 1
        return SceneEmbedding(torch.full((1, 1, 1, 1), self.looks), image.shape[:2], image.shape[:2])

    def predict_masks(
        self, embedding: SceneEmbedding, _prompts: Prompts, _above: float, _batch: int | None = None
    ) -> Iterator[MaskPredictions]:
        look = int(embedding.features)
        if look <= 2:
            logits = torch.full((1, *embedding.original_size), -9.0)
            logits[:, 40:80, 40:80] = 9.0
            yield MaskPredictions(torch.tensor([0]), logits, torch.tensor([0.9 if look == 1 else 0.6]))

    def full_masks(
        self, logits: Tensor, _embedding: SceneEmbedding, stability: float, offset: float
    ) -> Iterator[FullMask]:
        return dense_masks(logits, torch.clone, 1, stability, offset)


def test_of_two_masks_alike_the_one_of_the_smaller_window_stays() -> None:
    scene = np.zeros((200, 200, 3), np.uint8)
    (whole,) = Segmenter(GridPrompter(2), OneSquare())(scene)
    (closer,) = Segmenter(GridPrompter(2), OneSquare(), crops=CropLayers())(scene)
    assert (whole.predicted_iou, closer.predicted_iou) == pytest.approx((0.9, 0.6))


@pytest.mark.parametrize("wrong", [{"layers": 0}, {"points_divisor": 0}, {"overlap": 1.0}, {"box_nms": 1.5}])
def test_impossible_layers_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match="crop layers"):
        CropLayers(**wrong)
