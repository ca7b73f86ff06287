"""Dense features: patches of images of any size, and regions as means over one forward pass."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

import naruto_vision as nv
from naruto_vision.encoders.base import Encoder
from naruto_vision.encoders.dense import averages, dense_vectors, mask_coverage, whole_patches, window_map
from naruto_vision.encoders.tiny import TinySizes
from naruto_vision.errors import InputError
from naruto_vision.records import ImageArray

SMALL = TinySizes(image_size=24, patch_size=12, vision_width=32, vision_layers=2, text_width=32, text_layers=1)
CONV, VIT = "test_efficientnet.r160_in1k", "test_vit.r160_in1k"


def clip() -> nv.ClipEncoder:
    torch.manual_seed(0)
    return nv.ClipEncoder("tiny-clip", "random", sizes=SMALL).eval()


def timm(name: str = CONV, pooling: str = "model") -> nv.TimmEncoder:
    torch.manual_seed(0)
    return nv.TimmEncoder(name, "random", image_size=64, pooling=pooling).eval()  # type: ignore[arg-type]  # one of its


def noise(height: int = 40, width: int = 80) -> ImageArray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def halves() -> ImageArray:
    image = np.zeros((64, 128, 3), np.uint8)
    image[:, 64:] = np.random.default_rng(1).integers(0, 256, (64, 64, 3))
    return image


def box(x1: int, y1: int, x2: int, y2: int) -> nv.Region:
    return nv.Region((x1, y1, x2, y2), np.ones((y2 - y1 + 1, x2 - x1 + 1), np.bool_))


@pytest.mark.parametrize(
    ("open_one", "dim"),
    [
        (clip, 192),
        (timm, None),
        (lambda: timm(VIT), 64),
        (lambda: timm("test_convnext.r160_in1k"), None),
        (lambda: nv.EnsembleEncoder([clip(), timm(VIT)]), 192 + 64),
    ],
    ids=["clip", "convolutions", "transformer", "convnext", "ensemble"],
)
def test_the_map_has_unit_vectors_in_the_proportions_of_the_image(
    open_one: Callable[[], Encoder], dim: int | None
) -> None:
    found = nv.dense_map(open_one(), noise(40, 80))
    assert torch.allclose(found.norm(dim=-1), torch.ones(found.shape[:2]), atol=1e-5)
    assert 1.5 <= found.shape[1] / found.shape[0] <= 2.5
    assert dim in {None, found.shape[2]}


@pytest.mark.parametrize("open_one", [clip, timm, lambda: timm(VIT)], ids=["clip", "convolutions", "transformer"])
@pytest.mark.parametrize("side", [0, 1])
def test_the_map_changes_most_where_the_image_does(open_one: Callable[[], Encoder], side: int) -> None:
    encoder, image = open_one(), noise(64, 128)
    other = image.copy()
    other[:, 64 * side : 64 * side + 64] = 40
    moved = (nv.dense_map(encoder, image) - nv.dense_map(encoder, other)).norm(dim=-1).mean(dim=0)
    half = len(moved) // 2
    changed, same = (moved[:half], moved[half:])[:: 1 - 2 * side]
    assert changed.mean() > 1.5 * same.mean()


def test_a_long_strip_is_one_patch_high() -> None:
    assert whole_patches(timm(), noise(1, 4000), 64).shape == (1, 3, 32, 128)


def test_clip_patches_of_its_own_size_take_its_own_positions() -> None:
    encoder = clip()
    pixels = encoder.preprocess(noise(24, 24))[None]
    with torch.no_grad():
        own = encoder.dense(pixels)
        larger = encoder.dense(torch.zeros(1, 3, 36, 48))
    assert (own.shape, larger.shape) == ((1, 192, 2, 2), (1, 192, 3, 4))


def test_encoders_without_patch_features_say_so() -> None:
    class Colours(Encoder):
        dim = 3

        def preprocess(self, image: ImageArray) -> torch.Tensor:
            return torch.from_numpy(image).permute(2, 0, 1).float()

        def encode_images(self, pixels: torch.Tensor) -> torch.Tensor:
            return normalize(pixels.mean(dim=(2, 3)), dim=-1)

        def describe(self) -> Mapping[str, Any]:
            return {}

    with pytest.raises(InputError, match=r"Colours: .*patch features"):
        nv.dense_map(Colours(), noise())
    with pytest.raises(InputError, match="Colours has no patch features"):
        Colours().dense(torch.zeros(1, 3, 4, 4))


def test_windows_are_the_encoder_s_vectors_of_parts_of_the_image() -> None:
    encoder, image = clip(), noise(48, 96)
    found = window_map(encoder, image, 0.5)
    assert found.shape == (3, 6, 192)
    first = nv.embed_images(encoder, [image[:32, :32]])  # centre 8, 8, half a side 24
    assert torch.allclose(found[0, 0], first[0], atol=1e-5)


@pytest.mark.parametrize(
    ("encoder", "expected"),
    [
        (timm(), True),
        (timm("test_convnext.r160_in1k"), True),
        (timm(VIT, "mean"), True),
        (timm(VIT, "cls"), False),
        (clip(), False),
    ],
    ids=["convolutions", "convnext", "mean of tokens", "class token", "clip"],
)
def test_encoders_that_pool_by_the_mean_are_found(encoder: Encoder, expected: bool) -> None:
    assert averages(encoder) is expected


@pytest.mark.parametrize("name", [CONV, "test_convnext.r160_in1k"])
def test_the_whole_image_as_a_region_has_the_encoder_s_own_vector(name: str) -> None:
    encoder, image = timm(name), noise(64, 64)
    steps = encoder.preparation
    pixels = steps.normalise(torch.from_numpy(image).permute(2, 0, 1)[None])
    with torch.no_grad():
        own = encoder.encode_images(pixels)
    found = dense_vectors(encoder, image, [box(0, 0, 63, 63)], enlarged=1.0)
    assert torch.allclose(found, own, atol=1e-4)


def test_a_region_has_the_features_under_its_mask() -> None:
    encoder, image = timm(), halves()
    left, right = dense_vectors(encoder, image, [box(0, 0, 40, 63), box(88, 0, 127, 63)])
    swapped = dense_vectors(encoder, np.ascontiguousarray(image[:, ::-1]), [box(0, 0, 39, 63), box(87, 0, 127, 63)])
    assert torch.dot(left, swapped[1]) > torch.dot(left, swapped[0])
    assert torch.dot(right, swapped[0]) > torch.dot(right, swapped[1])


def test_mirrored_passes_are_averaged_with_their_regions_in_place() -> None:
    encoder, image = timm(), halves()
    (plain,), (flipped,) = (
        dense_vectors(encoder, one, [where])
        for one, where in ((image, box(64, 0, 127, 63)), (np.ascontiguousarray(image[:, ::-1]), box(0, 0, 63, 63)))
    )
    (both,) = dense_vectors(encoder, image, [box(64, 0, 127, 63)], mirror=True, renormalise=False)
    assert torch.allclose(both, (plain + flipped) / 2, atol=1e-4)
    (unit,) = dense_vectors(encoder, image, [box(64, 0, 127, 63)], mirror=True)
    assert torch.allclose(unit, normalize(both, dim=-1), atol=1e-5)


def test_coverage_is_the_fraction_of_each_patch() -> None:
    found = mask_coverage(box(5, 0, 14, 9), (10, 20), (1, 2))
    assert torch.allclose(found, torch.tensor([[0.5, 0.5]]))
    odd = mask_coverage(nv.Region((2, 1, 4, 3), np.eye(3, dtype=np.bool_)), (7, 11), (3, 4))
    assert float(odd.sum()) == pytest.approx(3 * (3 / 7) * (4 / 11), abs=1e-5)  # pixels times patches per pixel
