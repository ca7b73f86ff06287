"""What random changes of an image may and may not do, and names for messages."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naruto_vision.data.augmentation import (
    GROUNDS,
    augment,
    chance,
    change_light,
    cut_out,
    occlude,
    random_crop,
    soften,
    spotlight,
)
from naruto_vision.data.tables import warn_ignored_images
from naruto_vision.io.text import abbreviate
from naruto_vision.records import ImageArray, Mask

_QUICK = settings(max_examples=40, deadline=None, derandomize=True)
_SEED = st.integers(0, 10_000)
_SIDE = st.integers(1, 40)


def _image(height: int = 40, width: int = 30, seed: int = 0) -> ImageArray:
    return np.random.default_rng(seed).integers(1, 255, (height, width, 3), dtype=np.uint8)


def test_chance_is_never_at_nought_and_always_at_one() -> None:
    rng = np.random.default_rng(0)
    assert not any(chance(rng, 0.0) for _ in range(100))
    assert all(chance(rng, 1.0) for _ in range(100))
    assert 20 < sum(chance(rng, 0.4) for _ in range(100)) < 60
    one, other = np.random.default_rng(1), np.random.default_rng(1)
    chance(one, 0.5)
    other.random()
    assert one.random() == other.random()  # one draw, whatever comes of it


@_QUICK
@given(_SIDE, _SIDE, _SEED, st.floats(0.05, 1.0))
def test_a_crop_is_a_window_of_at_least_the_smallest_part(height: int, width: int, seed: int, smallest: float) -> None:
    image = np.arange(height * width * 3, dtype=np.uint32).reshape(height, width, 3)
    crop = random_crop(image.astype(np.uint8), np.random.default_rng(seed), smallest=smallest)
    assert max(1, round(height * smallest)) - 1 <= crop.shape[0] <= height
    assert max(1, round(width * smallest)) - 1 <= crop.shape[1] <= width
    again = random_crop(image, np.random.default_rng(seed), smallest=smallest)  # type: ignore[arg-type]  # numbered
    top, left = divmod(int(again[0, 0, 0]) // 3, width)
    assert np.array_equal(again, image[top : top + crop.shape[0], left : left + crop.shape[1]])


def test_a_crop_of_everything_is_everything() -> None:
    assert np.array_equal(random_crop(_image(), np.random.default_rng(3), smallest=1.0), _image())


@_QUICK
@given(_SEED)
def test_light_keeps_darker_values_darker_in_every_channel(seed: int) -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    lit = change_light(ramp, np.random.default_rng(seed))[0].astype(int)
    assert (np.diff(lit, axis=0) >= 0).all()
    assert lit[255].min() > 180
    assert lit[0].max() <= 12
    assert np.abs(lit[:, 0] - lit[:, 1]).max() < 40  # grey stays nearly grey


@_QUICK
@given(_SIDE, _SIDE, _SEED)
def test_softening_keeps_size_and_flat_colours(height: int, width: int, seed: int) -> None:
    flat = np.full((height, width, 3), (10, 200, 90), np.uint8)
    assert np.array_equal(soften(flat, np.random.default_rng(seed)), flat)


def test_softening_takes_detail_away() -> None:
    for seed in range(5):
        assert soften(_image(), np.random.default_rng(seed)).std() < _image().std()


@_QUICK
@given(_SEED)
def test_an_occlusion_is_one_flat_colour_over_a_small_part(seed: int) -> None:
    image = _image(60, 60)
    covered = occlude(image, np.random.default_rng(seed))
    changed = (covered != image).any(axis=2)
    assert changed.mean() <= 0.3
    colours = np.unique(covered[changed], axis=0)
    assert len(colours) <= 1
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    if len(rows):
        assert rows[-1] - rows[0] <= 31
        assert columns[-1] - columns[0] <= 31


@_QUICK
@given(_SEED)
def test_a_spotlight_keeps_the_middle_and_lays_the_rest_on_a_ground(seed: int) -> None:
    image = _image(50, 50)
    lit = spotlight(image, np.random.default_rng(seed))
    assert np.array_equal(lit[20:30, 20:30], image[20:30, 20:30])
    changed = (lit != image).any(axis=2)
    assert {int(value) for value in np.unique(lit[changed])} <= set(GROUNDS)
    assert len(np.unique(lit[changed])) <= 1


def _mask(box: tuple[int, int, int, int], height: int = 40, width: int = 30) -> Mask:
    mask = np.zeros((height, width), dtype=np.bool_)
    mask[box[1] : box[3] + 1, box[0] : box[2] + 1] = True
    return mask


@_QUICK
@given(_SEED)
def test_a_cut_out_keeps_most_of_the_figure_and_little_else(seed: int) -> None:
    mask = _mask((5, 5, 24, 34))
    cut = cut_out(_image(), mask, np.random.default_rng(seed), flat=0.0)
    assert 27 <= cut.shape[0] <= 40
    assert 17 <= cut.shape[1] <= 27


@_QUICK
@given(_SEED, st.tuples(st.integers(0, 29), st.integers(0, 39)))
def test_a_figure_of_one_pixel_is_cut_out_too(seed: int, place: tuple[int, int]) -> None:
    x, y = place
    cut = cut_out(_image(), _mask((x, y, x, y)), np.random.default_rng(seed))
    assert min(cut.shape[:2]) >= 1


@pytest.mark.parametrize("mirrored", [True, False])
def test_mirroring_changes_no_other_draw(mirrored: bool) -> None:
    symmetric = np.concatenate([_image(30, 20), _image(30, 20)[:, ::-1]], axis=1)
    for seed in range(30):
        one = augment(symmetric, np.random.default_rng(seed), mirrored=mirrored)
        other = augment(symmetric, np.random.default_rng(seed), mirrored=not mirrored)
        assert one.shape == other.shape
        assert one.flags["C_CONTIGUOUS"]


@pytest.mark.parametrize(
    ("names", "most", "text"),
    [
        ([], 3, ""),
        (["a"], 3, "a"),
        (["a", "b", "c"], 3, "a, b, c"),
        (["a", "b", "c", "d"], 3, "a, b, c and 1 more"),
        (["a", "b", "c"], 1, "a and 2 more"),
    ],
)
def test_a_few_of_many_names(names: list[str], most: int, text: str) -> None:
    assert abbreviate(names, most) == text


def test_only_images_beside_the_searched_folder_are_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "deeper").mkdir()
    for name in ("notes.txt", "deeper/x.png", "images/y.png"):
        (tmp_path / name).write_bytes(b"")
    warn_ignored_images(tmp_path, "images")
    assert caplog.text == ""
    (tmp_path / "b.PNG").write_bytes(b"")
    warn_ignored_images(tmp_path, "images")
    assert f"1 images beside images/ are not searched (b.PNG); move them into {tmp_path / 'images'}" in caplog.text
