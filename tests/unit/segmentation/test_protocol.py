"""A promptable model of another structure than SAM 1: three levels of features, and every kind of prompt."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate, max_pool2d

from naruto_vision.records import ImageArray, Prompt
from naruto_vision.segmentation.generator import CropLayers, RegionFilter, Segmenter
from naruto_vision.segmentation.postprocess import dense_masks
from naruto_vision.segmentation.prompts import BoxPrompter, GridPrompter, PointPrompter
from naruto_vision.segmentation.protocol import (
    FullMask,
    MaskPredictions,
    MaskThresholds,
    Prompter,
    Prompts,
    SceneEmbedding,
    embed_scenes,
)

ALL = RegionFilter(min_area=1, max_masks=None)
THRESHOLDS = MaskThresholds(predicted_iou=0.5, stability=0.5)


class ThreeLevels:
    """Segments pixels of equal brightness; its features are a dict of three levels, one of them in a list."""

    thresholds = THRESHOLDS
    fingerprint = "three levels"

    def __init__(self) -> None:
        self.seen: list[Prompts] = []

    def embed(self, image: ImageArray) -> SceneEmbedding:
        whole = torch.from_numpy(np.ascontiguousarray(image[..., 0])).float()[None, None]
        features = {"fine": [whole], "middle": max_pool2d(whole, 2), "coarse": max_pool2d(whole, 4)}
        return SceneEmbedding(features, image.shape[:2], image.shape[:2])

    def predict_masks(
        self, embedding: SceneEmbedding, prompts: Prompts, above: float, batch: int | None = None
    ) -> Iterator[MaskPredictions]:
        assert batch is None
        self.seen.append(prompts)
        for row in range(len(prompts.points)):
            logits = torch.cat([self._level(level, prompts, row) for level in self._levels(embedding)])
            ious = torch.tensor([0.9, 0.6, 0.4])
            if not prompts.multimask:
                logits, ious = logits[:1], ious[:1]
            wanted = ious > above
            yield MaskPredictions(torch.full((int(wanted.sum()),), row), logits[wanted], ious[wanted])

    @staticmethod
    def _levels(embedding: SceneEmbedding) -> list[Tensor]:
        found = embedding.features
        size = embedding.original_size
        return [interpolate(each, size)[0, 0] for each in (*found["fine"], found["middle"], found["coarse"])]

    @staticmethod
    def _level(level: Tensor, prompts: Prompts, row: int) -> Tensor:
        mask = torch.zeros_like(level, dtype=torch.bool)
        if prompts.boxes is not None:
            x1, y1, x2, y2 = map(int, prompts.boxes[row])
            mask[y1 : y2 + 1, x1 : x2 + 1] = level[y1 : y2 + 1, x1 : x2 + 1] > 0
        if prompts.masks is not None:
            mask |= torch.from_numpy(prompts.masks[row]) > 0
        for label in (1, 0):
            for x, y in prompts.points[row][prompts.labels[row] == label]:
                same = level == level[int(y), int(x)]
                mask = mask | same if label else mask & ~same
        return torch.where(mask, 9.0, -9.0)[None]

    def full_masks(
        self, logits: Tensor, embedding: SceneEmbedding, stability: float, offset: float
    ) -> Iterator[FullMask]:
        height, width = embedding.original_size
        return dense_masks(logits, torch.clone, height * width, stability, offset)


@pytest.fixture
def image() -> ImageArray:
    """Two bright squares on black, of 8 and 12 pixels."""
    image = np.zeros((40, 48, 3), np.uint8)
    image[4:12, 4:12], image[20:32, 24:36] = 100, 200
    return image


@pytest.mark.parametrize("prompter", [GridPrompter(8), PointPrompter([(6, 6), (30, 25)])])
def test_points_segment_it(prompter: Prompter, image: ImageArray) -> None:
    regions = Segmenter(prompter, ThreeLevels(), keep=RegionFilter(min_area=1, max_box_ratio=0.5))(image)
    assert [region.box for region in regions] == [(24, 20, 35, 31), (4, 4, 11, 11)]
    assert [region.predicted_iou for region in regions] == pytest.approx([0.9, 0.9])


def test_boxes_segment_it_and_regions_say_where_they_were_asked_from(image: ImageArray) -> None:
    (region,) = Segmenter(BoxPrompter([(20, 16, 40, 36)]), ThreeLevels(), keep=ALL)(image)
    assert region.box == (24, 20, 35, 31)
    assert region.prompt == Prompt("box 20,16,40,36", (), (20.0, 16.0, 40.0, 36.0))


def test_one_object_may_have_several_points_and_an_earlier_mask(image: ImageArray) -> None:
    earlier = np.full((1, 40, 48), -9.0, np.float32)
    earlier[0, 4:12, 4:12] = earlier[0, 20:32, 24:36] = 9.0
    points = np.array([[[30, 25], [6, 6], [0, 0]]], np.float32)
    labels = np.array([[1, 0, -1]])  # on the object, off it, and one that only fills the row

    def prompter(_image: ImageArray) -> Prompts:
        return Prompts(points, labels, names=("user",), masks=earlier, multimask=False)

    model = ThreeLevels()
    (region,) = Segmenter(prompter, model, keep=ALL)(image)
    assert region.box == (24, 20, 35, 31)
    assert region.prompt == Prompt("user", ((30.0, 25.0, True), (6.0, 6.0, False)))
    assert model.seen[0].masks is earlier


def test_windows_of_an_image_are_embedded_in_its_structure_too(image: ImageArray) -> None:
    keep = RegionFilter(min_area=1, max_box_ratio=0.5)
    regions = Segmenter(GridPrompter(8), ThreeLevels(), keep=keep, crops=CropLayers())(image)
    assert {(24, 20, 35, 31), (4, 4, 11, 11)} <= {region.box for region in regions}


class AtOnce(ThreeLevels):
    """The same, for several images at once."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def embed_all(self, images: list[ImageArray]) -> list[SceneEmbedding]:
        self.batches.append(len(images))
        return [self.embed(image) for image in images]


@pytest.mark.parametrize("model", [ThreeLevels(), AtOnce()], ids=lambda model: type(model).__name__)
def test_scenes_are_embedded_at_once_only_where_the_model_can(model: ThreeLevels) -> None:
    images = [np.zeros((height, 4, 3), np.uint8) for height in (4, 8)]
    assert [one.original_size for one in embed_scenes(model, images)] == [(4, 4), (8, 4)]
    assert getattr(model, "batches", [2]) == [2]
