"""Several images through the image encoder at once, and sizes between an image and the model's input."""

import numpy as np
import pytest
import torch
from packaged_models import tiny_sam
from segment_anything.utils.transforms import ResizeLongestSide

from naruto_vision.records import ImageArray, Region
from naruto_vision.segmentation import runtime
from naruto_vision.segmentation.generator import CropLayers, RegionFilter, Segmenter
from naruto_vision.segmentation.postprocess import resize_longest
from naruto_vision.segmentation.prompts import GridPrompter
from naruto_vision.segmentation.protocol import embed_scenes
from naruto_vision.segmentation.sam import SamModel

SIZES = [(48, 64), (64, 33), (7, 90), (64, 64), (30, 31)]


@pytest.fixture(scope="module")
def model() -> SamModel:
    return tiny_sam()


def _images() -> list[ImageArray]:
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES]


@pytest.mark.parametrize(("height", "width"), [(48, 64), (300, 20), (256, 256)])
def test_images_are_resized_as_the_stock_predictor_does(height: int, width: int) -> None:
    image = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    assert np.array_equal(resize_longest(image, 256), ResizeLongestSide(256).apply_image(image))


@pytest.mark.parametrize("at_once", [1, 2, 8])
def test_several_images_are_embedded_as_one_by_one(
    model: SamModel, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    apart = [model.embed(image) for image in _images()]
    monkeypatch.setitem(runtime.IMAGES_AT_ONCE, "cpu", at_once)
    sizes, encode = [], runtime.encode_image
    monkeypatch.setattr(runtime, "encode_image", lambda *one: sizes.append(len(one[1])) or encode(*one))
    together = embed_scenes(model, _images())
    assert sizes == {1: [1] * 5, 2: [2, 2, 1], 8: [5]}[at_once]
    for one, other in zip(apart, together, strict=True):
        assert (one.original_size, one.input_size) == (other.original_size, other.input_size)
        assert one.features.shape == other.features.shape == (1, 64, 16, 16)
        assert (one.features - other.features).abs().max() <= 1e-5
    assert not torch.allclose(together[0].features, together[1].features, atol=1e-2)
    assert model.embed_all([]) == []


def _same(ours: list[Region], others: list[Region]) -> bool:
    pairs = zip(ours, others, strict=True)
    return all(one.box == other.box and np.array_equal(one.mask, other.mask) for one, other in pairs)


@pytest.mark.parametrize("crops", [None, CropLayers(1)])
def test_an_embedding_made_before_is_used(
    model: SamModel, crops: CropLayers | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = RegionFilter(min_area=0, max_masks=None)
    segmenter = Segmenter(GridPrompter(3), model, predicted_iou=-9.0, stability=0.0, keep=keep, crops=crops)
    images = _images()[:2]
    expected = [segmenter(image) for image in images]
    embeddings = segmenter.embed_all(images)
    windows = []
    embed_all = model.embed_all
    monkeypatch.setattr(model, "embed_all", lambda some: windows.append(len(some)) or embed_all(some))
    found = [segmenter(*pair) for pair in zip(images, embeddings, strict=True)]
    assert windows == ([0, 0] if crops is None else [4, 4])
    assert all(_same(one, other) for one, other in zip(found, expected, strict=True))
    assert len(expected[0]) > 1
