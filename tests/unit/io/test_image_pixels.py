"""The image door: right pixels, or one line that names the file."""

import io
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from naruto_vision.io.images import read_image, rgb_from_image
from naruto_vision.records import ImageArray

HEIGHT, WIDTH = 24, 40


@pytest.fixture
def image() -> ImageArray:
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    ramp = np.stack([columns * 6, rows * 10, (rows + columns) * 3], axis=-1).astype(np.uint8)
    ramp[:8, :8] = (255, 0, 0)  # a corner mark, so that every turn shows
    return ramp


def stored(image: ImageArray, orientation: int) -> Image.Image:
    """Turn an upright image into what a camera with that orientation tag stores."""
    turned = {
        1: lambda p: p,
        2: lambda p: p[:, ::-1],
        3: lambda p: p[::-1, ::-1],
        4: lambda p: p[::-1],
        5: lambda p: p.transpose(1, 0, 2),
        6: lambda p: np.rot90(p, 1),
        7: lambda p: p[::-1, ::-1].transpose(1, 0, 2),
        8: lambda p: np.rot90(p, -1),
    }[orientation](image)
    return Image.fromarray(np.ascontiguousarray(turned))


def psnr(first: ImageArray, second: ImageArray) -> float:
    error = float(np.mean((first.astype(float) - second.astype(float)) ** 2))
    return 99.0 if error == 0 else 10 * float(np.log10(255**2 / error))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_orientation_is_applied_once(tmp_path: Path, image: ImageArray, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / f"turned.{suffix}"
    options: dict[str, object] = {"jpg": {"quality": 100, "subsampling": 0}, "webp": {"lossless": True}}.get(suffix, {})
    stored(image, orientation).save(path, exif=exif, **options)
    found = read_image(path)
    assert found.shape == image.shape
    assert psnr(found, image) >= (40 if suffix == "jpg" else 99)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_changes_nothing(tmp_path: Path, image: ImageArray, value: int) -> None:
    exif = Image.Exif()
    exif[274] = value
    Image.fromarray(image).save(tmp_path / "odd.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "odd.png"), image)


@pytest.mark.parametrize(
    "garbage",
    [
        b"Exif\0\0",
        b"Exif\0\0II*\0\x08\0\0\0",
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01\x12\0\x03\xff\xff\xff\xff\0\0\0\0" * 3,
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x05\0\0\0\xff\xff\xff\xff\x08\0\0\0",
        b"Exif\0\0" + bytes(range(256)),
        b"Exif\0\0II*\0\xff\xff\xff\xff",
    ],
)
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_garbage_in_exif_costs_nothing(tmp_path: Path, image: ImageArray, garbage: bytes, suffix: str) -> None:
    path = tmp_path / f"garbage.{suffix}"
    Image.fromarray(image).save(path, exif=garbage, **({"lossless": True} if suffix == "webp" else {"quality": 95}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read_image(path)
    assert psnr(found, image) > 25


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 256 * 16).astype(np.uint16).reshape(16, 256)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    found = read_image(tmp_path / "deep.png")
    assert len(np.unique(found)) >= 250
    assert np.abs(found[..., 0].astype(float) - ramp / 257.0).max() <= 0.51
    assert np.array_equal(found[..., 0], found[..., 2])


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_deep_single_channels_fill_the_range(mode: str) -> None:
    values = np.linspace(0, 65535, 1024).reshape(32, 32)
    kind = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
    image = Image.fromarray(values.astype(kind))
    assert image.mode == mode
    found = rgb_from_image(image)
    assert found.min() == 0
    assert found.max() == 255
    assert len(np.unique(found)) >= 250


def test_floats_that_are_no_numbers_do_not_crash() -> None:
    values = np.array([[np.nan, np.inf], [-np.inf, 1.0]], dtype=np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert rgb_from_image(Image.fromarray(values)).shape == (2, 2, 3)


def test_cmyk_reads_as_pillow_converts_it(tmp_path: Path, image: ImageArray) -> None:
    cmyk = Image.fromarray(image).convert("CMYK")
    cmyk.save(tmp_path / "adobe.jpg", quality=100, subsampling=0)
    found = read_image(tmp_path / "adobe.jpg").astype(float)
    assert np.abs(found - np.asarray(cmyk.convert("RGB"), dtype=float)).mean() <= 2
    assert np.abs(found - image).mean() <= 3


def without_adobe_marker(data: bytes) -> bytes:
    start = data.index(b"\xff\xee")
    return data[:start] + data[start + 2 + int.from_bytes(data[start + 2 : start + 4], "big") :]


def test_cmyk_without_adobe_marker_follows_the_same_convention(tmp_path: Path, image: ImageArray) -> None:
    buffer = io.BytesIO()
    Image.fromarray(image).convert("CMYK").save(buffer, "JPEG", quality=100, subsampling=0)
    (tmp_path / "plain.jpg").write_bytes(without_adobe_marker(buffer.getvalue()))
    assert np.abs(read_image(tmp_path / "plain.jpg").astype(float) - image).mean() <= 3


def test_ycck_reads_as_pillow_does(tmp_path: Path, image: ImageArray) -> None:
    buffer = io.BytesIO()
    Image.fromarray(image).convert("CMYK").save(buffer, "JPEG", quality=100, subsampling=0)
    data = bytearray(buffer.getvalue())
    data[data.index(b"Adobe") + 11] = 2  # the transform flag: YCCK
    (tmp_path / "ycck.jpg").write_bytes(bytes(data))
    expected = np.asarray(Image.open(io.BytesIO(bytes(data))).convert("RGB"), dtype=float)
    assert np.abs(read_image(tmp_path / "ycck.jpg") - expected).mean() <= 2


def palette_with_transparency(image: ImageArray) -> Image.Image:
    image = Image.fromarray(image).quantize(16)
    image.info["transparency"] = bytes([0] * 4 + [255] * 12)
    return image


def over_white(image: Image.Image) -> NDArray[np.float64]:
    rgba = np.asarray(image.convert("RGBA"), dtype=np.float64)
    alpha = rgba[..., 3:] / 255
    return rgba[..., :3] * alpha + 255 * (1 - alpha)


def with_alpha(image: ImageArray, mode: str) -> Image.Image:
    image = Image.fromarray(image).convert(mode)
    image.putalpha(Image.linear_gradient("L").resize((WIDTH, HEIGHT)))
    return image


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("rgba", lambda p: with_alpha(p, "RGB")),
        ("la", lambda p: with_alpha(p, "L")),
        ("palette", lambda p: Image.fromarray(p).quantize(16)),
        ("palette_alpha", palette_with_transparency),
        ("one_bit", lambda p: Image.fromarray(p).convert("1")),
        ("grey", lambda p: Image.fromarray(p).convert("L")),
    ],
)
def test_other_modes_are_laid_over_white(
    tmp_path: Path, image: ImageArray, name: str, make: Callable[[ImageArray], Image.Image]
) -> None:
    image = make(image)
    image.save(tmp_path / f"{name}.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read_image(tmp_path / f"{name}.png")
    assert np.abs(found - over_white(Image.open(tmp_path / f"{name}.png"))).max() <= 1


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_of_an_animation_the_first_frame_is_read(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (16, 12), colour) for colour in ("red", "green", "blue")]
    frames[0].save(tmp_path / f"moving.{suffix}", save_all=True, append_images=frames[1:])
    found = read_image(tmp_path / f"moving.{suffix}")
    assert found.shape == (12, 16, 3)
    assert np.abs(found.astype(int) - (255, 0, 0)).max() <= 4


def test_threads_read_the_same_and_leave_the_warnings_as_they_were(tmp_path: Path, image: ImageArray) -> None:
    exif = Image.Exif()
    exif[274] = 6
    for number in range(6):
        stored(image, 6).save(tmp_path / f"{number}.png", exif=exif)
    before = list(warnings.filters)
    good = []

    def work() -> None:
        for _ in range(5):
            good.extend(np.array_equal(read_image(tmp_path / f"{n}.png"), image) for n in range(6))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert good == [True] * 120
    assert list(warnings.filters) == before
