"""Images as they are written and told by name, deep ones as they are scaled, and the limits to the pixel."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from naruto_vision.errors import BadImageError, InputError
from naruto_vision.geometry import MAX_PIXELS
from naruto_vision.io.images import decode_image, is_image, read_image, rgb_from_image, write_image


@pytest.mark.parametrize("suffix", [".png", ".webp", ".PNG"])
def test_transparent_images_are_written_with_their_colours(tmp_path: Path, suffix: str) -> None:
    image = np.zeros((4, 5, 4), dtype=np.uint8)
    image[..., 0], image[..., 3] = 250, 255
    write_image(tmp_path / f"a{suffix}", image)
    with Image.open(tmp_path / f"a{suffix}") as image:
        assert image.mode in {"RGBA", "RGB"}
        red, green, blue = image.convert("RGB").getpixel((2, 2))
    assert red > 240
    assert max(green, blue) < 10


def test_red_stays_red_and_blue_blue(tmp_path: Path) -> None:
    image = np.zeros((2, 2, 3), dtype=np.uint8)
    image[0], image[1] = (255, 0, 0), (0, 0, 255)
    write_image(tmp_path / "a.png", image)
    assert np.array_equal(read_image(tmp_path / "a.png"), image)
    with Image.open(tmp_path / "a.png") as image:
        assert image.getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("suffix", [".xyz", ""])
def test_a_suffix_without_an_encoder_is_refused(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(InputError, match=r"expected a name ending in \.jpg, \.png, \.webp"):
        write_image(tmp_path / f"a{suffix}", np.zeros((2, 2, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_jpeg_quality_decides_the_size_of_the_file(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    for suffix in (".jpg", ".webp"):
        for quality in (20, 90):
            write_image(tmp_path / f"{quality}{suffix}", image, quality=quality)
        assert (tmp_path / f"20{suffix}").stat().st_size < (tmp_path / f"90{suffix}").stat().st_size


@pytest.mark.parametrize(
    ("values", "mode", "expected"),
    [
        ([[0, 257, 65535]], "I;16", [0, 1, 255]),
        ([[0, 32896, 65535]], "I;16", [0, 128, 255]),
        ([[0, 70000, -5]], "I", [0, 255, 0]),
        ([[0.0, 0.5, 1.0]], "F", [0, 128, 255]),
        ([[0.0, 2.0, 4.0]], "F", [0, 128, 255]),
        ([[float("nan"), float("inf"), 1.0]], "F", [0, 0, 255]),
    ],
)
def test_deep_images_are_scaled_over_the_range_of_their_kind(
    values: list[list[float]], mode: str, expected: list[int]
) -> None:
    kinds = {"I;16": np.uint16, "I": np.int32, "F": np.float32}
    image = Image.fromarray(np.array(values, dtype=kinds[mode]))
    assert image.mode == mode
    assert rgb_from_image(image)[0, :, 0].tolist() == expected


def test_fifty_megapixels_to_the_pixel(tmp_path: Path) -> None:
    wide = MAX_PIXELS // 5000
    for width, refused in ((wide, False), (wide + 1, True)):
        Image.new("1", (width, 5000)).save(tmp_path / "a.png")
        data = (tmp_path / "a.png").read_bytes()[:100]  # its header is whole, its pixels are not there
        with pytest.raises(BadImageError, match="megapixels" if refused else "truncated or corrupt"):
            decode_image(data, "a.png")


def test_a_image_that_may_not_be_read_says_what_to_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_image(tmp_path / "a.png", np.zeros((2, 2, 3), np.uint8))

    def deny(_path: Path, *_mode: object) -> None:
        raise PermissionError(13, "denied")

    monkeypatch.setattr(Path, "open", deny)
    with pytest.raises(BadImageError, match=r"a\.png: may not be read; change its permissions"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("name", "image"),
    [("a.png", True), ("a.JPEG", True), ("a.gif", True), (".a.png", False), ("a.txt", False), ("a", False)],
)
def test_images_are_told_by_their_names(tmp_path: Path, name: str, image: bool) -> None:
    (tmp_path / name).write_bytes(b"")
    assert is_image(tmp_path / name) is image
    assert is_image(str(tmp_path / name)) is image


def test_a_folder_is_no_image_and_a_dangling_link_is_one_to_tell_of(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "link.png").symlink_to(tmp_path / "gone.png")
    assert not is_image(tmp_path / "folder.png")
    assert is_image(tmp_path / "link.png")
    assert not is_image(tmp_path / "nothing.png")
