"""``read_image`` of what is in memory: Pillow images of any mode, arrays, and the reasons for what it refuses."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from naruto_vision.errors import BadImageError, InputError, MissingPathError
from naruto_vision.io.images import MAX_SIDE, read_image

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)
RGB = Image.fromarray(PIXELS)


def test_an_array_is_returned_as_it_is() -> None:
    assert read_image(PIXELS) is not None
    assert np.shares_memory(read_image(PIXELS), PIXELS)
    reversed_channels = read_image(PIXELS[..., ::-1])
    torch.from_numpy(reversed_channels)  # which negative strides would stop
    assert np.array_equal(reversed_channels, PIXELS[..., ::-1])


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "RGBA", "LA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "I;16"])
def test_every_mode_is_read_as_its_file_would_be(mode: str, tmp_path: Path) -> None:
    grey = RGB.convert("L")
    image = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257) if mode == "I;16" else None
    image = image or (grey.convert(mode) if mode in {"I", "F"} else RGB.convert(mode))
    array = read_image(image)
    assert (array.shape, array.dtype) == ((6, 8, 3), np.uint8)
    if mode in {"RGB", "L", "1", "P", "RGBA", "LA", "I;16"}:
        image.save(tmp_path / "same.png")
        assert np.array_equal(array, read_image(tmp_path / "same.png"))


def test_a_pillow_image_is_turned_upright_and_left_as_it_was(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    RGB.save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as image:
        assert np.array_equal(read_image(image), read_image(tmp_path / "turned.png"))
        assert read_image(image).shape == (8, 6, 3)
        assert image.size == (8, 6)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (PIXELS[..., 0], r"\(6, 8\), uint8; give grey and transparent ones as PIL"),
        (PIXELS[..., :1], r"\(6, 8, 1\), uint8$"),
        (PIXELS.transpose(2, 0, 1), r"\(3, 6, 8\), uint8; move the channels to the end"),
        (np.zeros((6, 8, 4), np.uint8), r"\(6, 8, 4\), uint8; give grey and transparent ones as PIL"),
        (PIXELS[None], r"\(1, 6, 8, 3\), uint8; give one image"),
        (PIXELS[:0], r"\(0, 8, 3\)"),
        (PIXELS / 255, r"\(6, 8, 3\), float64; scale 0 to 1 to bytes"),
        (PIXELS.astype(np.uint16), r"\(6, 8, 3\), uint16$"),
        (PIXELS.astype(bool), r"\(6, 8, 3\), bool$"),
        (PIXELS.transpose(2, 0, 1).astype(np.float32), r"move the channels .*; scale 0 to 1"),
        (torch.zeros(3, 6, 8), r"\(3, 6, 8\), torch\.float32; convert it to NumPy: .*; move the channels .*; scale"),
        (torch.from_numpy(PIXELS), r"\(6, 8, 3\), torch\.uint8; convert it to NumPy: x\.detach"),
        (b"bytes", "expected a path, a Pillow image or an array .* found bytes"),
        (None, "found NoneType"),
        ([[0, 0, 0]], "found list"),
    ],
)
def test_other_kinds_are_refused_by_name_with_the_conversion(image: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_image(image)  # type: ignore[arg-type]  # what people try


def test_broken_and_missing_ones_are_the_errors_of_files(tmp_path: Path) -> None:
    RGB.save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:60])
    with pytest.raises(BadImageError, match=r"cut\.png: cannot be decoded"), Image.open(tmp_path / "cut.png") as image:
        read_image(image)
    with pytest.raises(BadImageError, match=f"at most .* {MAX_SIDE} a side"):
        read_image(Image.new("1", (MAX_SIDE + 1, 1)))
    with pytest.raises(MissingPathError):
        read_image("no.png")
