"""The stock generator behind our own options: every setting reaches it, and what it does not know is refused."""

from typing import Any

import numpy as np
import pytest
import torch

from naruto_vision.errors import InputError
from naruto_vision.segmentation import stock
from naruto_vision.segmentation.generator import CropLayers, RegionFilter
from naruto_vision.segmentation.prompts import GridPrompter, PointPrompter
from naruto_vision.segmentation.protocol import SceneEmbedding, embed_scenes
from naruto_vision.segmentation.sam import SamModel
from naruto_vision.segmentation.stock import StockSegmenter

IMAGE = np.zeros((6, 9, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model() -> SamModel:
    torch.manual_seed(0)
    return SamModel("tiny-sam")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the stock generator was built with; it finds the masks of ``records``."""
    told: dict[str, Any] = {"records": []}

    class Generator:
        def __init__(self, sam: object, **options: Any) -> None:
            told.update(options, sam=sam)

        def generate(self, image: np.ndarray) -> list[dict[str, Any]]:
            told["image"] = image
            return list(told["records"])

    monkeypatch.setattr(stock, "SamAutomaticMaskGenerator", Generator)
    return told


def _record(mask: np.ndarray, point: tuple[float, float], iou: float = 0.9) -> dict[str, Any]:
    return {"segmentation": mask, "point_coords": [list(point)], "predicted_iou": iou, "stability_score": 0.8}


def test_every_threshold_reaches_the_generator(model: SamModel, asked: dict[str, Any]) -> None:
    segmenter = StockSegmenter(
        GridPrompter(7), model, predicted_iou=0.5, stability=0.6, stability_offset=0.25, box_nms=0.65
    )
    segmenter.generator()
    assert asked["sam"] is model.sam
    names = ("points_per_side", "pred_iou_thresh", "stability_score_thresh", "stability_score_offset", "box_nms_thresh")
    assert [asked[name] for name in names] == [7, 0.5, 0.6, 0.25, 0.65]
    assert asked["crop_n_layers"] == 0
    assert asked["points_per_batch"] == 64


def test_layers_of_crops_and_prompts_at_once_reach_it_too(model: SamModel, asked: dict[str, Any]) -> None:
    crops = CropLayers(layers=2, box_nms=0.6, overlap=0.2, points_divisor=2)
    StockSegmenter(GridPrompter(4), model, crops=crops, prompts_per_batch=9).generator()
    names = ("crop_n_layers", "crop_nms_thresh", "crop_overlap_ratio", "crop_n_points_downscale_factor")
    assert [asked[name] for name in names] == [2, 0.6, 0.2, 2]
    assert asked["points_per_batch"] == 9


def test_its_masks_become_regions_the_largest_first(model: SamModel, asked: dict[str, Any]) -> None:
    small, large = np.zeros((6, 9), dtype=bool), np.zeros((6, 9), dtype=bool)
    small[2, 3:5] = True
    large[1:5, 2:8] = True
    large[1, 2] = False
    asked["records"] = [_record(small, (3.4, 2.2), 0.7), _record(large, (5, 3)), _record(small & False, (0, 0))]
    segmenter = StockSegmenter(GridPrompter(2), model, keep=RegionFilter(min_area=0, max_masks=None))
    regions = segmenter(IMAGE)
    assert asked["image"] is IMAGE
    assert [region.box for region in regions] == [(2, 1, 7, 4), (3, 2, 4, 2)]  # the empty mask is none
    assert [region.prompt.name for region in regions] == ["point 5,3", "point 3,2"]
    assert [region.predicted_iou for region in regions] == [0.9, 0.7]
    assert all(region.stability == 0.8 for region in regions)
    for region, mask in zip(regions, (large, small), strict=True):
        assert np.array_equal(region.full_mask(6, 9), mask)


@pytest.mark.usefixtures("asked")
def test_regions_are_left_out_as_everywhere(model: SamModel, asked: dict[str, Any]) -> None:
    masks = [np.zeros((6, 9), dtype=bool) for _ in range(3)]
    for number, mask in enumerate(masks):
        mask[number, : number + 2] = True
    asked["records"] = [_record(mask, (0, 0)) for mask in masks]
    kept = StockSegmenter(GridPrompter(2), model, keep=RegionFilter(min_area=0, max_masks=2))(IMAGE)
    assert [region.area for region in kept] == [4, 3]


@pytest.mark.usefixtures("asked")
def test_nothing_found_is_no_region(model: SamModel) -> None:
    assert StockSegmenter(GridPrompter(2), model)(IMAGE) == []


def test_it_embeds_nothing_and_takes_no_embedding(model: SamModel, asked: dict[str, Any]) -> None:
    segmenter = StockSegmenter(GridPrompter(2), model)
    assert list(segmenter.embed_all([IMAGE, IMAGE])) == [None, None]
    with pytest.raises(InputError, match="stock segmenter: expected no embedding, found one"):
        segmenter(IMAGE, SceneEmbedding(torch.zeros(1, 1, 1, 1), (6, 9), (6, 9)))
    assert "image" not in asked


def test_prompts_that_are_no_grid_are_refused(model: SamModel) -> None:
    with pytest.raises(InputError, match="expected a GridPrompter and a SamModel, found PointPrompter and SamModel"):
        StockSegmenter(PointPrompter([(1, 1)]), model)(IMAGE)


class _OneByOne:
    """A model that embeds one image at a time, and counts."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def embed(self, image: np.ndarray) -> SceneEmbedding:
        self.seen.append(len(image))
        return SceneEmbedding(torch.zeros(1, 1, 1, 1), image.shape[:2], image.shape[:2])


class _AtOnce(_OneByOne):
    """A model that can embed several at once."""

    def embed_all(self, images: list[np.ndarray]) -> list[SceneEmbedding]:
        self.seen.append(-len(images))
        return [_OneByOne().embed(image) for image in images]


@pytest.mark.parametrize(("kind", "seen"), [(_OneByOne, [3, 5]), (_AtOnce, [-2])])
def test_scenes_are_embedded_at_once_only_where_the_model_can(kind: type[_OneByOne], seen: list[int]) -> None:
    model: Any = kind()
    images = [np.zeros((height, 4, 3), np.uint8) for height in (3, 5)]
    assert [one.original_size for one in embed_scenes(model, images)] == [(3, 4), (5, 4)]
    assert model.seen == seen
