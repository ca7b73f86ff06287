from collections.abc import Callable

import numpy as np
import pytest

from naruto_vision.data.augmentation import (
    GROUNDS,
    augment,
    change_light,
    cut_out,
    occlude,
    random_crop,
    soften,
    spotlight,
)
from naruto_vision.records import ImageArray, Mask

CHANGES = (augment, random_crop, change_light, soften, occlude, spotlight)


def _image(height: int = 48, width: int = 32) -> ImageArray:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _mask() -> Mask:
    mask = np.zeros((48, 32), dtype=np.bool_)
    mask[10:40, 8:20] = True
    return mask


@pytest.mark.parametrize("change", CHANGES)
def test_equal_generators_give_equal_images_and_the_input_stays(
    change: Callable[[ImageArray, np.random.Generator], ImageArray],
) -> None:
    for seed in range(20):
        image = _image()
        first = change(image, np.random.default_rng(seed))
        again = change(image, np.random.default_rng(seed))
        assert np.array_equal(first, again)
        assert first.dtype == np.uint8
        assert first.shape[2] == 3
        assert min(first.shape[:2]) >= 1
        assert np.array_equal(image, _image())


@pytest.mark.parametrize("change", CHANGES)
def test_different_generators_give_different_images(
    change: Callable[[ImageArray, np.random.Generator], ImageArray],
) -> None:
    results = {change(_image(), np.random.default_rng(seed)).tobytes() for seed in range(12)}
    assert len(results) > 6


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 2)])
def test_the_smallest_images_survive(size: tuple[int, int]) -> None:
    for seed in range(30):
        assert augment(_image(*size), np.random.default_rng(seed)).size > 0


def test_light_keeps_the_order_of_the_channels() -> None:
    red = np.full((4, 4, 3), (200, 60, 40), dtype=np.uint8)
    for seed in range(50):
        r, g, b = change_light(red, np.random.default_rng(seed))[0, 0].astype(int)
        assert r > g + 40
        assert g > b - 12


def test_a_cut_out_stands_on_one_flat_ground() -> None:
    image, mask = _image(), _mask()
    image[...] = np.clip(image, 1, 254)  # no pixel of its own is black or white
    grounds = set()
    for seed in range(30):
        cut = cut_out(image, mask, np.random.default_rng(seed), flat=1.0)
        assert cut.shape[0] <= 48
        assert 20 <= cut.shape[0] <= 44
        assert 8 <= cut.shape[1] <= 20
        corner = {tuple(cut[y, x].tolist()) for y in (0, -1) for x in (0, -1)}
        grounds |= {values[0] for values in corner if len(set(values)) == 1 and values[0] in GROUNDS}
    assert grounds == set(GROUNDS)


def test_a_crop_alone_keeps_the_background() -> None:
    cut = cut_out(_image(), _mask(), np.random.default_rng(0), flat=0.0)
    assert cut.tobytes() in {
        _image()[top : top + cut.shape[0], left : left + cut.shape[1]].tobytes()
        for top in range(48)
        for left in range(32)
    }


def test_an_empty_mask_leaves_the_image_alone() -> None:
    assert np.array_equal(cut_out(_image(), np.zeros((48, 32), dtype=np.bool_), np.random.default_rng(0)), _image())


def test_left_stays_left_where_mirroring_is_off() -> None:
    ramp = np.broadcast_to(np.linspace(0, 255, 48, dtype=np.uint8)[None, :, None], (32, 48, 3))

    def rises(seed: int, *, mirrored: bool) -> bool:
        changed = augment(ramp, np.random.default_rng(seed), mirrored=mirrored)
        return bool(np.median(np.sign(np.diff(changed.astype(int), axis=1))) > 0)

    assert all(rises(seed, mirrored=False) for seed in range(40))
    assert 8 < sum(rises(seed, mirrored=True) for seed in range(40)) < 32
