"""Sizes, padding, cutting and normalising of many images at once, against plain arithmetic on single pixels."""

from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from naruto_vision.encoders.preprocess import Preparation

Fit = Literal["shortest", "longest", "squash"]
ZERO, ONE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


def _preparation(size: int, fit: Fit, resize_to: int | None = None, fill: int = 0) -> Preparation:
    return Preparation(size, fit, resize_to or size, mean=ZERO, std=ONE, fill=fill)


def _noise(height: int, width: int, seed: int = 0) -> Tensor:
    values = np.random.default_rng(seed).integers(10, 256, (3, height, width), dtype=np.uint8)
    return torch.from_numpy(values)


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 64))
def test_the_side_that_is_asked_for_is_met_and_the_shape_is_kept(height: int, width: int, side: int) -> None:
    short = _preparation(side, "shortest").resized(height, width)
    long = _preparation(side, "longest").resized(height, width)
    assert _preparation(side, "squash").resized(height, width) == (side, side)
    assert min(short) == side
    assert max(long) == side
    assert min(long) >= 1
    assert (short[0] <= short[1]) == (height <= width) or short[0] == short[1]
    assert abs(short[0] * width - short[1] * height) <= max(height, width)  # by less than a pixel of the longer side
    if min(long) > 1:
        assert abs(long[0] * width - long[1] * height) <= max(height, width) * 0.51


@pytest.mark.parametrize(
    ("height", "width", "short", "long"),
    [
        (100, 150, (10, 15), (7, 10)),  # 6.67 is cut to 15 above and rounded to 7 below
        (150, 100, (15, 10), (10, 7)),
        (3, 5, (10, 16), (6, 10)),  # 16.67 is cut, 6.0 is exact
        (7, 7, (10, 10), (10, 10)),
        (1, 40, (10, 400), (1, 10)),  # 0.25 would be nothing
    ],
)
def test_fractions_are_cut_for_the_short_side_and_rounded_for_the_long(
    height: int, width: int, short: tuple[int, int], long: tuple[int, int]
) -> None:
    assert _preparation(10, "shortest").resized(height, width) == short
    assert _preparation(10, "longest").resized(height, width) == long


@pytest.mark.parametrize("fit", ["shortest", "longest", "squash"])
def test_a_image_of_the_right_size_passes_unchanged(fit: Fit) -> None:
    image = _noise(12, 12)
    assert torch.equal(_preparation(12, fit).levels([image])[0], image)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 9))
def test_padding_puts_the_image_in_the_middle_with_the_odd_pixel_after_it(height: int, width: int, fill: int) -> None:
    image, side = _noise(height, width), max(height, width)
    found = _preparation(side, "longest", fill=fill).levels([image])[0]
    down, right = side - height, side - width
    expected = torch.full((3, side, side), fill, dtype=torch.uint8)
    expected[:, down // 2 : down // 2 + height, right // 2 : right // 2 + width] = image
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("height", "width", "top", "left"), [(8, 13, 0, 2), (8, 12, 0, 2), (15, 8, 4, 0), (9, 8, 0, 0)]
)
def test_the_middle_is_cut_out_of_the_long_side(height: int, width: int, top: int, left: int) -> None:
    """A half goes to the even number, as torchvision's own cut does: 2.5 to 2, 3.5 to 4."""
    image = _noise(height, width)
    found = _preparation(8, "shortest").levels([image])[0]
    assert torch.equal(found, image[:, top : top + 8, left : left + 8])


def test_what_is_resized_larger_than_the_input_is_cut_from_all_sides() -> None:
    image = _noise(12, 12)
    found = _preparation(8, "squash", resize_to=12).levels([image])[0]
    assert torch.equal(found, image[:, 2:10, 2:10])
    padded = _preparation(12, "squash", resize_to=8, fill=5).levels([_noise(8, 8)])[0]
    assert torch.equal(padded[:, 2:10, 2:10], _noise(8, 8))
    assert set(padded[:, :2].flatten().tolist()) == set(padded[:, :, 10:].flatten().tolist()) == {5}


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 255), st.integers(1, 40), st.integers(1, 40), st.sampled_from(["shortest", "longest", "squash"]))
def test_an_even_image_stays_even_whatever_the_size(level: int, height: int, width: int, fit: Fit) -> None:
    image = torch.full((3, height, width), level, dtype=torch.uint8)
    found = _preparation(16, fit, fill=level).levels([image])
    assert found.dtype == torch.uint8
    assert set(found.flatten().tolist()) == {level}


def test_images_of_different_sizes_come_out_in_their_order() -> None:
    preparation = _preparation(8, "squash")
    images = [_noise(5, 9, 1), _noise(8, 8, 2), _noise(30, 7, 3)]
    together = preparation.levels(images)
    assert together.shape == (3, 3, 8, 8)
    for number, image in enumerate(images):
        assert torch.equal(together[number], preparation.levels([image])[0])


@settings(max_examples=30, deadline=None)
@given(
    st.tuples(*[st.floats(0, 1)] * 3),
    st.tuples(*[st.floats(0.1, 2)] * 3),
    st.integers(0, 1000),
)
def test_normalised_levels_are_shares_of_white_less_the_mean_over_the_deviation(
    mean: tuple[float, float, float], std: tuple[float, float, float], seed: int
) -> None:
    preparation = Preparation(4, "squash", 4, mean=mean, std=std)
    levels = _noise(4, 4, seed)[None]
    found = preparation.normalise(levels)
    plain = (levels.double().numpy() / 255.0 - np.reshape(mean, (1, 3, 1, 1))) / np.reshape(std, (1, 3, 1, 1))
    assert found.dtype == torch.float32
    assert np.allclose(found.numpy(), plain, atol=1e-5)


def test_normalising_leaves_the_levels_as_they_are() -> None:
    preparation = _preparation(4, "squash")
    levels = _noise(4, 4)[None]
    before = levels.clone()
    preparation.normalise(levels)
    assert torch.equal(levels, before)


@pytest.mark.parametrize("size", [(5, 9), (40, 3), (16, 16)])
@pytest.mark.parametrize("name", ["bicubic", "bilinear"])
def test_floats_stay_within_the_levels(size: tuple[int, int], name: Literal["bicubic", "bilinear"]) -> None:
    """A bicubic filter swings beyond hard edges; what would be below black or above white is cut."""
    image = torch.zeros(3, *size, dtype=torch.uint8)
    image[:, :, size[1] // 2 :] = 255
    preparation = Preparation(24, "squash", 24, mean=ZERO, std=ONE, filter=name)
    found = preparation.filter_in_floats(image)
    assert found.dtype == torch.uint8
    assert found.shape == (3, 24, 24)
    assert int(found[:, :, 0].max()) == 0
    assert int(found[:, :, -1].min()) == 255


@pytest.mark.parametrize("wrong", [{"size": -1}, {"resize_to": -4}, {"std": (0.0, 1.0, 1.0)}])
def test_the_message_shows_what_was_asked_for(wrong: dict[str, object]) -> None:
    told: dict[str, Any] = {"size": 8, "fit": "squash", "resize_to": 8, "mean": ZERO, "std": ONE}
    with pytest.raises(ValueError, match=f"found Preparation.*{next(iter(wrong))}="):
        Preparation(**{**told, **wrong})
