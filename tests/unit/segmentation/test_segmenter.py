from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from packaged_models import tiny_sam
from segment_anything import SamAutomaticMaskGenerator
from torch import Tensor

from naruto_vision.geometry import mask_from_rle
from naruto_vision.io.bundles import config_path
from naruto_vision.records import ImageArray, Prompt, Region
from naruto_vision.segmentation.generator import RegionFilter, Segmenter
from naruto_vision.segmentation.postprocess import dense_masks
from naruto_vision.segmentation.prompts import GridPrompter, PointPrompter
from naruto_vision.segmentation.protocol import FullMask, MaskPredictions, MaskThresholds, Prompts, SceneEmbedding
from naruto_vision.segmentation.sam import SamModel
from naruto_vision.synthetic.attributes import read_cast
from naruto_vision.synthetic.scene import draw_scene

ALL = RegionFilter(min_area=0, max_masks=None)


def _random_model(seed: int) -> SamModel:
    """A model whose answers differ from prompt to prompt, as those of small random weights hardly do."""
    torch.manual_seed(seed)
    model = SamModel("tiny-sam")
    with torch.no_grad():
        for parameter in model.sam.mask_decoder.parameters():
            if parameter.dim() > 1:
                parameter.mul_(6.0)
        model.sam.mask_decoder.output_upscaling[3].bias.normal_(0, 2)
        model.sam.mask_decoder.iou_prediction_head.layers[-1].bias.add_(50)  # the stock generator ignores bars <= 0
    return model


def _image(height: int, width: int, seed: int = 0) -> ImageArray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(("seed", "height", "width"), [(6, 48, 64), (6, 64, 64), (7, 61, 37)])
def test_the_masks_are_those_of_the_stock_generator(seed: int, height: int, width: int) -> None:
    model, image = _random_model(seed), _image(height, width, seed)
    bar = float(model.predict_all(model.embed(image), GridPrompter(6)(image)).ious.quantile(0.2))
    stock = SamAutomaticMaskGenerator(
        model.sam,
        points_per_side=6,
        pred_iou_thresh=bar,
        stability_score_thresh=0.5,
        stability_score_offset=0.05,
        box_nms_thresh=0.95,
    )
    expected = stock.generate(image)
    segmenter = Segmenter(
        GridPrompter(6),
        model,
        predicted_iou=bar,
        stability=0.5,
        stability_offset=0.05,
        box_nms=0.95,
        keep=ALL,
        prompts_per_batch=7,
    )
    found = segmenter(image)
    assert len(found) == len(expected) > 1
    for record in expected:
        best = max(_iou(record["segmentation"], region.full_mask(height, width)) for region in found)
        assert best >= 0.99


def _iou(first: np.ndarray, second: np.ndarray) -> float:
    return float((first & second).sum() / (first | second).sum())


class FakeModel:
    """MaskPredictions every prompt with the masks that it was given, at full size."""

    thresholds = MaskThresholds(predicted_iou=0.5, stability=0.8, stability_offset=1.0, box_nms=0.7)

    def __init__(self, masks: Sequence[Tensor], ious: Sequence[float]) -> None:
        self.masks, self.ious = torch.stack(list(masks)), torch.tensor(ious)
        self.upscaled = 0

    def embed(self, image: ImageArray) -> SceneEmbedding:
        return SceneEmbedding(torch.zeros(1, 1, 1, 1), image.shape[:2], image.shape[:2])

    def predict_masks(
        self, _embedding: SceneEmbedding, prompts: Prompts, above: float, batch: int | None = None
    ) -> Iterator[MaskPredictions]:
        count = len(prompts.points)
        for start in range(0, count, batch or count):
            ious = self.ious.expand(min(batch or count, count - start), -1)
            prompt, answer = (ious > above).nonzero(as_tuple=True)
            yield MaskPredictions(prompt + start, self.masks[answer], ious[prompt, answer])

    def full_masks(
        self, logits: Tensor, embedding: SceneEmbedding, stability: float, offset: float
    ) -> Iterator[FullMask]:
        self.upscaled += len(logits)
        height, width = embedding.original_size
        return dense_masks(logits, torch.clone, height * width, stability, offset)


def _logits(box: tuple[int, int, int, int], value: float = 9.0) -> Tensor:
    logits = torch.full((40, 50), -9.0)
    x1, y1, x2, y2 = box
    logits[y1 : y2 + 1, x1 : x2 + 1] = value
    return logits


def _boxes(model: FakeModel, keep: RegionFilter = ALL) -> list[tuple[int, int, int, int]]:
    segmenter = Segmenter(PointPrompter([(1, 1)]), model, keep=keep)
    return [region.box for region in segmenter(_image(40, 50))]


def test_a_low_estimate_goes_before_anything_is_brought_to_full_size() -> None:
    model = FakeModel([_logits((0, 0, 9, 9)), _logits((20, 0, 29, 9))], [0.4, 0.6])
    assert _boxes(model) == [(20, 0, 29, 9)]
    assert model.upscaled == 1


def test_unstable_and_empty_masks_go() -> None:
    model = FakeModel([_logits((0, 0, 9, 9), value=0.5), _logits((0, 0, 5, 5), value=-9.0)], [0.9, 0.9])
    assert _boxes(model) == []


def test_of_two_alike_the_better_stays_and_regions_come_largest_first() -> None:
    boxes = [(0, 0, 9, 9), (0, 0, 9, 10), (20, 10, 45, 35)]
    model = FakeModel([_logits(box) for box in boxes], [0.9, 0.8, 0.6])
    assert _boxes(model) == [(20, 10, 45, 35), (0, 0, 9, 9)]


def test_thresholds_come_from_the_model_unless_given() -> None:
    model = FakeModel([_logits((0, 0, 9, 9))], [0.4])
    assert Segmenter(PointPrompter([(1, 1)]), model)(_image(40, 50)) == []
    region = Segmenter(PointPrompter([(1, 1)]), model, predicted_iou=0.3, keep=ALL)(_image(40, 50))[0]
    assert region.prompt == Prompt("point 1,1", ((1.0, 1.0, True),))
    assert region.predicted_iou == pytest.approx(0.4)
    assert region.stability == 1.0


def _region(box: tuple[int, int, int, int], stability: float = 1.0) -> Region:
    x1, y1, x2, y2 = box
    return Region(box, np.ones((y2 - y1 + 1, x2 - x1 + 1), dtype=bool), stability=stability)


def test_the_filter_of_areas_and_box_ratios() -> None:
    tiny, middle, large = _region((0, 0, 1, 1)), _region((0, 0, 9, 9)), _region((0, 0, 19, 19))
    regions = [tiny, middle, large]
    assert RegionFilter(min_area=4)(regions, 20, 20) == [large, middle, tiny]
    assert RegionFilter(min_area=5)(regions, 20, 20) == [large, middle]
    assert RegionFilter(min_area=0, min_box_ratio=0.25)(regions, 20, 20) == [large, middle]
    assert RegionFilter(min_area=0, max_box_ratio=0.25)(regions, 20, 20) == [middle, tiny]
    assert RegionFilter(min_area=0, max_masks=1)(regions, 20, 20) == [large]


def test_too_many_masks_are_cut_by_area_or_by_stability() -> None:
    small, large = _region((0, 0, 9, 9), 0.99), _region((0, 0, 19, 19), 0.9)
    assert RegionFilter(max_masks=1, min_area=0)([small, large], 20, 20) == [large]
    assert RegionFilter(max_masks=1, min_area=0, sort_by="stability")([small, large], 20, 20) == [small]
    assert RegionFilter(max_masks=2, min_area=0, sort_by="stability")([small, large], 20, 20) == [large, small]


def test_an_impossible_filter_is_refused() -> None:
    with pytest.raises(ValueError, match="min_box_ratio"):
        RegionFilter(min_box_ratio=0.5, max_box_ratio=0.4)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 600), (600, 1), (7, 5)])
@pytest.mark.parametrize("value", [0, 255])
def test_strange_images_give_a_list(height: int, width: int, value: int) -> None:
    segmenter = Segmenter(
        GridPrompter(2), _random_model(0), predicted_iou=-9.0, stability=0.0, stability_offset=0.0, keep=ALL
    )
    regions = segmenter(np.full((height, width, 3), value, dtype=np.uint8))
    assert all(region.box[2] < width and region.box[3] < height for region in regions)


def test_many_large_answers_are_brought_to_full_size_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = [(10 * i, 0, 10 * i + 8, 8) for i in range(5)]
    model = FakeModel([_logits(box) for box in boxes], [0.9] * 5)
    whole = _boxes(model)
    monkeypatch.setattr("naruto_vision.segmentation.postprocess._DENSE_BYTES", 2 * 4 * 40 * 50)
    assert _boxes(model) == whole
    assert len(whole) == 5


def test_the_packaged_weights_find_drawn_figures_as_the_stock_generator_does() -> None:
    scene = draw_scene(11, read_cast(config_path("cast.yaml")), size=192, difficulty="easy")
    model = tiny_sam()
    found = Segmenter(GridPrompter(8), model, keep=ALL)(scene.image)
    bars = model.thresholds
    stock = SamAutomaticMaskGenerator(
        model.sam,
        points_per_side=8,
        pred_iou_thresh=bars.predicted_iou,
        stability_score_thresh=bars.stability,
        stability_score_offset=bars.stability_offset,
        box_nms_thresh=bars.box_nms,
    )
    expected = stock.generate(scene.image)
    assert len(found) == len(expected) > 0
    for record in expected:
        assert max(_iou(record["segmentation"], region.full_mask(192, 192)) for region in found) >= 0.99
    for figure in scene.objects:
        assert max(_iou(figure.mask, region.full_mask(192, 192)) for region in found) > 0.6


def test_no_mask_takes_a_byte_a_pixel_until_somebody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    model, image = _random_model(6), _image(48, 64, 6)
    bars = {"predicted_iou": -1e9, "stability": 0.0, "box_nms": 1.0}
    unpacked = []
    monkeypatch.setattr("naruto_vision.records.mask_from_rle", lambda rle: unpacked.append(1) or mask_from_rle(rle))
    everything = Segmenter(GridPrompter(6), model, keep=ALL, **bars)(image)
    kept = Segmenter(GridPrompter(6), model, keep=RegionFilter(min_area=0, max_masks=3), **bars)(image)
    assert not unpacked
    assert len(everything) > len(kept) == 3
    for ours, other in zip(kept, everything, strict=False):
        assert ours.box == other.box
        assert np.array_equal(ours.mask, other.mask)
    assert len(unpacked) == 6
