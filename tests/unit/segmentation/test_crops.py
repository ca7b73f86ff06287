import numpy as np
import pytest

from naruto_vision.records import ImageArray, Region
from naruto_vision.segmentation.crops import CropConfig, crop_region


def _scene() -> tuple[ImageArray, Region]:
    image = np.random.default_rng(0).integers(1, 255, (60, 80, 3), dtype=np.uint8)
    mask = np.ones((20, 10), dtype=bool)
    mask[0, 0] = False
    return image, Region((30, 20, 39, 39), mask)


def test_a_cut_out_has_the_mask_s_pixels_a_border_and_the_background() -> None:
    image, region = _scene()
    crop = crop_region(image, region, CropConfig(background=128))
    assert crop.shape == (36, 26, 3)  # 8 pixels on each side: 10 % of the short side is less
    assert (crop[9:28, 8:18] == image[21:40, 30:40]).all()
    assert (crop[8, 8] == 128).all()
    assert (crop[:8] == 128).all()
    assert (crop[:, 18:] == 128).all()


def test_the_border_grows_with_the_short_side() -> None:
    image = np.zeros((300, 300, 3), dtype=np.uint8)
    region = Region((10, 10, 209, 129), np.ones((120, 200), dtype=bool))
    assert crop_region(image, region).shape == (120 + 24, 200 + 24, 3)


def test_without_background_the_expanded_box_keeps_the_image() -> None:
    image, region = _scene()
    crop = crop_region(image, region, CropConfig(background=None, expand=0.2))
    assert (crop == image[18:42, 29:41]).all()


def test_a_loose_cut_out_shows_the_expanded_window() -> None:
    image, region = _scene()
    crop = crop_region(image, region, CropConfig(background=0, expand=0.2, tight=False, pad_min=0, pad=0))
    assert crop.shape == (24, 12, 3)
    assert (crop[:2] == 0).all()
    assert (crop[3:22, 1:11] == image[21:40, 30:40]).all()


def test_an_expanded_box_at_the_frame_stays_aligned() -> None:
    image = np.random.default_rng(1).integers(1, 255, (30, 30, 3), dtype=np.uint8)
    region = Region((0, 25, 9, 29), np.ones((5, 10), dtype=bool))
    crop = crop_region(image, region, CropConfig(expand=0.4, tight=False, pad=0, pad_min=0))
    assert crop.shape == (6, 12, 3)
    assert (crop[1:, :10] == image[25:, :10]).all()
    assert not crop[0].any()
    assert not crop[:, 10:].any()


def test_the_image_is_never_written_to() -> None:
    image, region = _scene()
    before = image.copy()
    for background in (None, 0):
        crop_region(image, region, CropConfig(background=background))[:] = 0
    assert (image == before).all()


@pytest.mark.parametrize("values", [{"expand": -0.1}, {"pad": -1}, {"pad_min": -1}, {"background": 256}])
def test_impossible_settings_are_refused(values: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="crop: expected"):
        CropConfig(**values)
