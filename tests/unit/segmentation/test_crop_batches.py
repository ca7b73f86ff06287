from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, normalize

from naruto_vision.encoders.base import Encoder, embed_images
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.records import ImageArray, Region
from naruto_vision.segmentation.crops import CropConfig, crop_region, crop_tensor, embed_regions

WAYS = (
    CropConfig(),
    CropConfig(background=128),
    CropConfig(background=None),
    CropConfig(background=255, tight=False, expand=0.4),
    CropConfig(pad=0.3, pad_min=0),
)


class ToyEncoder(Encoder):
    """Embeds by a fixed projection of an 8 x 8 thumbnail, and keeps what it was given."""

    def __init__(self, dim: int = 5) -> None:
        super().__init__()
        self.dim = dim
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(3 * 64, dim, generator=generator))
        self.batches: list[int] = []

    def preprocess(self, image: ImageArray) -> Tensor:
        pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).float()[None]
        return nn.functional.interpolate(pixels, (8, 8), mode="area")[0] / 255.0

    def encode_images(self, pixels: Tensor) -> Tensor:
        self.batches.append(len(pixels))
        return normalize(pixels.flatten(1) @ self.weight, dim=-1)

    def describe(self) -> Mapping[str, Any]:
        return {"toy": self.dim}


@pytest.fixture
def image() -> ImageArray:
    generator = np.random.default_rng(3)
    coarse = generator.integers(0, 256, (10, 14, 3), dtype=np.uint8)
    return np.ascontiguousarray(np.kron(coarse, np.ones((8, 8, 1), np.uint8)))  # 80 x 112


@pytest.fixture
def regions() -> list[Region]:
    generator = np.random.default_rng(4)
    found = []
    for x1, y1, x2, y2 in [(0, 0, 111, 79), (5, 7, 40, 60), (90, 60, 111, 79), (30, 2, 33, 70), (50, 50, 50, 50)]:
        mask = generator.random((y2 - y1 + 1, x2 - x1 + 1)) < 0.7
        mask[0, 0] = mask[-1, -1] = True
        found.append(Region((x1, y1, x2, y2), mask))
    return found


def _embed(
    encoder: Encoder, image: ImageArray, regions: list[Region], crops: Sequence[CropConfig], **options: Any
) -> Tensor:
    return embed_regions(encoder, [(image, regions)], crops, **options)[0]


@pytest.mark.parametrize("settings", WAYS, ids=str)
def test_the_device_cuts_the_same_levels(image: ImageArray, regions: list[Region], settings: CropConfig) -> None:
    for region in regions:
        ours = crop_tensor(torch.from_numpy(image), region, settings).permute(1, 2, 0).numpy()
        assert np.array_equal(ours, crop_region(image, region, settings))


def test_cutting_leaves_the_image_as_it_was(image: ImageArray, regions: list[Region]) -> None:
    whole = torch.from_numpy(image.copy())
    for settings in WAYS:
        crop_tensor(whole, regions[1], settings)
    assert np.array_equal(whole.numpy(), image)


@pytest.mark.parametrize("mirror", [False, True])
def test_vectors_are_those_of_images_cut_one_by_one(image: ImageArray, regions: list[Region], mirror: bool) -> None:
    encoder = ClipEncoder("tiny-clip").eval()
    ours = _embed(encoder, image, regions, WAYS, mirror=mirror)
    crops = [crop_region(image, region, way) for way in WAYS for region in regions]
    theirs = embed_images(encoder, crops, mirror=mirror).view(len(WAYS), len(regions), -1)
    assert ours.shape == theirs.shape
    assert float(cosine_similarity(ours, theirs, dim=-1).min()) >= 0.999


def test_an_encoder_without_a_preparation_is_given_its_crops(image: ImageArray, regions: list[Region]) -> None:
    encoder = ToyEncoder()
    ours = _embed(encoder, image, regions, WAYS[:2], mirror=True)
    crops = [crop_region(image, region, way) for way in WAYS[:2] for region in regions]
    assert torch.allclose(ours.flatten(0, 1), embed_images(encoder, crops, mirror=True), atol=1e-6)


def test_batches_are_of_one_size_across_the_ways_to_crop(image: ImageArray, regions: list[Region]) -> None:
    encoder = ToyEncoder()
    few = _embed(encoder, image, regions, WAYS[:3], batch_size=4)
    assert encoder.batches == [4, 4, 4, 3]  # 5 regions, 3 ways
    assert torch.allclose(few, _embed(encoder, image, regions, WAYS[:3]), atol=1e-6)
    assert encoder.batches[4:] == [15]  # the default on a CPU is 16


def test_an_average_may_be_left_as_it_is(image: ImageArray, regions: list[Region]) -> None:
    encoder = ToyEncoder()
    averages = _embed(encoder, image, regions, WAYS[:1], mirror=True, renormalise=False)[0]
    pixels = torch.stack([encoder.preprocess(crop_region(image, region, WAYS[0])) for region in regions])
    expected = (encoder.encode_images(pixels) + encoder.encode_images(pixels.flip(-1))) / 2.0
    assert torch.allclose(averages, expected, atol=1e-6)
    assert float(averages.norm(dim=-1).min()) < 0.999


def test_no_region_has_no_vector(image: ImageArray) -> None:
    assert _embed(ToyEncoder(), image, [], WAYS).shape == (len(WAYS), 0, 5)
    assert _embed(ClipEncoder("tiny-clip"), image, [], WAYS[:1]).shape == (1, 0, 192)


def test_a_image_that_is_a_view_of_another_is_cut_too(image: ImageArray, regions: list[Region]) -> None:
    encoder = ClipEncoder("tiny-clip").eval()
    flipped = image[:, ::-1]
    ours = _embed(encoder, flipped, regions[:2], WAYS[:1])
    assert torch.equal(ours, _embed(encoder, np.ascontiguousarray(flipped), regions[:2], WAYS[:1]))


class Mixing(ToyEncoder):
    """Takes its batch's mean away from every vector, so that neighbours matter."""

    mixes = True

    def encode_images(self, pixels: Tensor) -> Tensor:
        vectors = super().encode_images(pixels)
        return vectors - vectors.mean(dim=0)


@pytest.mark.parametrize("encoder", [ToyEncoder(), Mixing(), ClipEncoder("tiny-clip")], ids=["toy", "mixing", "clip"])
@pytest.mark.parametrize("mirror", [False, True])
@torch.inference_mode()
def test_neighbouring_images_get_the_vectors_that_they_get_alone(
    image: ImageArray, regions: list[Region], encoder: Encoder, mirror: bool
) -> None:
    flipped = np.ascontiguousarray(image[:, ::-1])
    scenes = [(image, regions[:3]), (flipped, []), (flipped, regions), (image, regions[4:])]
    together = embed_regions(encoder, scenes, WAYS[:2], mirror=mirror, batch_size=4)
    assert [found.shape[:2] for found in together] == [(2, 3), (2, 0), (2, 5), (2, 1)]
    for found, scene in zip(together, scenes, strict=True):
        assert torch.allclose(found, _embed(encoder, *scene, WAYS[:2], mirror=mirror, batch_size=4), atol=1e-6)


def test_what_a_image_leaves_of_a_batch_is_filled_by_the_next(image: ImageArray, regions: list[Region]) -> None:
    encoder, apart = ToyEncoder(), Mixing()
    scenes = [(image, regions[:3]), (image, regions), (image, regions[:1])]
    embed_regions(encoder, scenes, WAYS[:2], batch_size=8)
    assert encoder.batches == [8, 8, 2]  # of 6, 10 and 2 crops
    embed_regions(apart, scenes, WAYS[:2], batch_size=8)
    assert apart.batches == [6, 8, 2, 2]
    assert embed_regions(encoder, [], WAYS) == []


def test_each_image_goes_to_the_device_once_and_not_before_its_turn(
    image: ImageArray, regions: list[Region], monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[int] = []
    whole = torch.from_numpy

    def from_numpy(array: np.ndarray[Any, Any]) -> Tensor:
        moved.extend([encoder_batches()] if array.ndim == 3 and array.dtype == np.uint8 else [])
        return whole(array)

    encoder = ClipEncoder("tiny-clip", "random").eval()
    done: list[int] = []
    forward = encoder.encode_images

    def encode_images(pixels: Tensor) -> Tensor:
        done.append(len(pixels))
        return forward(pixels)

    def encoder_batches() -> int:
        return len(done)

    monkeypatch.setattr(torch, "from_numpy", from_numpy)
    monkeypatch.setattr(encoder, "encode_images", encode_images)
    embed_regions(encoder, [(image, regions[:2])] * 3, WAYS[:2], batch_size=4)
    assert moved == [0, 1, 2]
