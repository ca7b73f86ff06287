"""The image door: right pixels, or one line that names the file."""

import hashlib
import io
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from naruto_vision.errors import BadImageError, InputError, MissingPathError
from naruto_vision.files.images import list_pictures, read_image, rgb_from_image, write_image
from naruto_vision.records import Picture

HEIGHT, WIDTH = 24, 40


@pytest.fixture
def picture() -> Picture:
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    ramp = np.stack([columns * 6, rows * 10, (rows + columns) * 3], axis=-1).astype(np.uint8)
    ramp[:8, :8] = (255, 0, 0)  # a corner mark, so that every turn shows
    return ramp


def noise(height: int, width: int) -> Picture:
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)


def stored(picture: Picture, orientation: int) -> Image.Image:
    """Turn an upright picture into what a camera with that orientation tag stores."""
    turned = {
        1: lambda p: p,
        2: lambda p: p[:, ::-1],
        3: lambda p: p[::-1, ::-1],
        4: lambda p: p[::-1],
        5: lambda p: p.transpose(1, 0, 2),
        6: lambda p: np.rot90(p, 1),
        7: lambda p: p[::-1, ::-1].transpose(1, 0, 2),
        8: lambda p: np.rot90(p, -1),
    }[orientation](picture)
    return Image.fromarray(np.ascontiguousarray(turned))


def psnr(first: Picture, second: Picture) -> float:
    error = float(np.mean((first.astype(float) - second.astype(float)) ** 2))
    return 99.0 if error == 0 else 10 * float(np.log10(255**2 / error))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_orientation_is_applied_once(tmp_path: Path, picture: Picture, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / f"turned.{suffix}"
    options: dict[str, object] = {"jpg": {"quality": 100, "subsampling": 0}, "webp": {"lossless": True}}.get(suffix, {})
    stored(picture, orientation).save(path, exif=exif, **options)
    found = read_image(path)
    assert found.shape == picture.shape
    assert psnr(found, picture) >= (40 if suffix == "jpg" else 99)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_changes_nothing(tmp_path: Path, picture: Picture, value: int) -> None:
    exif = Image.Exif()
    exif[274] = value
    Image.fromarray(picture).save(tmp_path / "odd.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "odd.png"), picture)


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
def test_garbage_in_exif_costs_nothing(tmp_path: Path, picture: Picture, garbage: bytes, suffix: str) -> None:
    path = tmp_path / f"garbage.{suffix}"
    Image.fromarray(picture).save(path, exif=garbage, **({"lossless": True} if suffix == "webp" else {"quality": 95}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read_image(path)
    assert psnr(found, picture) > 25


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


def test_cmyk_reads_as_pillow_converts_it(tmp_path: Path, picture: Picture) -> None:
    image = Image.fromarray(picture).convert("CMYK")
    image.save(tmp_path / "adobe.jpg", quality=100, subsampling=0)
    found = read_image(tmp_path / "adobe.jpg").astype(float)
    assert np.abs(found - np.asarray(image.convert("RGB"), dtype=float)).mean() <= 2
    assert np.abs(found - picture).mean() <= 3


def without_adobe_marker(data: bytes) -> bytes:
    start = data.index(b"\xff\xee")
    return data[:start] + data[start + 2 + int.from_bytes(data[start + 2 : start + 4], "big") :]


def test_cmyk_without_adobe_marker_follows_the_same_convention(tmp_path: Path, picture: Picture) -> None:
    buffer = io.BytesIO()
    Image.fromarray(picture).convert("CMYK").save(buffer, "JPEG", quality=100, subsampling=0)
    (tmp_path / "plain.jpg").write_bytes(without_adobe_marker(buffer.getvalue()))
    assert np.abs(read_image(tmp_path / "plain.jpg").astype(float) - picture).mean() <= 3


def test_ycck_reads_as_pillow_does(tmp_path: Path, picture: Picture) -> None:
    buffer = io.BytesIO()
    Image.fromarray(picture).convert("CMYK").save(buffer, "JPEG", quality=100, subsampling=0)
    data = bytearray(buffer.getvalue())
    data[data.index(b"Adobe") + 11] = 2  # the transform flag: YCCK
    (tmp_path / "ycck.jpg").write_bytes(bytes(data))
    expected = np.asarray(Image.open(io.BytesIO(bytes(data))).convert("RGB"), dtype=float)
    assert np.abs(read_image(tmp_path / "ycck.jpg") - expected).mean() <= 2


def palette_with_transparency(picture: Picture) -> Image.Image:
    image = Image.fromarray(picture).quantize(16)
    image.info["transparency"] = bytes([0] * 4 + [255] * 12)
    return image


def over_white(image: Image.Image) -> NDArray[np.float64]:
    rgba = np.asarray(image.convert("RGBA"), dtype=np.float64)
    alpha = rgba[..., 3:] / 255
    return rgba[..., :3] * alpha + 255 * (1 - alpha)


def with_alpha(picture: Picture, mode: str) -> Image.Image:
    image = Image.fromarray(picture).convert(mode)
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
    tmp_path: Path, picture: Picture, name: str, make: Callable[[Picture], Image.Image]
) -> None:
    image = make(picture)
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


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(noise(64, 80))
    match kind:
        case "baseline":
            image.save(buffer, "JPEG", quality=90)
        case "progressive":
            image.save(buffer, "JPEG", quality=90, progressive=True)
        case "png":
            image.save(buffer, "PNG")
        case "webp":
            image.save(buffer, "WEBP", quality=90)
        case "gif":
            image.save(buffer, "GIF")
        case _:
            image.save(buffer, "BMP")
    return buffer.getvalue()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("kind", ["baseline", "progressive", "png", "webp", "gif", "bmp"])
def test_a_truncated_file_is_refused_by_name(tmp_path: Path, kind: str, share: float) -> None:
    data = encoded(kind)
    path = tmp_path / f"cut_{kind}.jpg"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(BadImageError) as caught:
        read_image(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"hello, I am text\n" * 9, "not a picture"),
        (b"\xff\xd8\xff", "not a picture"),
        (b"\0" * 64, "not"),
    ],
)
def test_what_is_no_picture_is_refused_by_name(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "no_picture.jpg"
    path.write_bytes(content)
    with pytest.raises(BadImageError, match=words) as caught:
        read_image(path)
    assert caught.value.path == str(path)


def test_formats_outside_the_list_are_refused(tmp_path: Path, picture: Picture) -> None:
    for form in ("TIFF", "PPM", "ICO"):
        Image.fromarray(picture).save(tmp_path / "other.png", form)
        with pytest.raises(BadImageError, match="JPEG, PNG, WEBP, BMP, GIF"):
            read_image(tmp_path / "other.png")


def one_bit_png(path: Path, width: int, height: int) -> Path:
    Image.new("1", (width, height)).save(path)
    return path


def test_sixty_megapixels_are_refused_from_the_header(tmp_path: Path) -> None:
    path = one_bit_png(tmp_path / "huge.png", 10_000, 6_000)
    path.write_bytes(path.read_bytes()[:200])  # what follows the header is never looked at
    with pytest.raises(BadImageError, match="10000x6000 is 60 megapixels"):
        read_image(path)


def test_a_decompression_bomb_is_one_quiet_line(tmp_path: Path) -> None:
    path = one_bit_png(tmp_path / "bomb.png", 10_000, 10_000)
    data = bytearray(path.read_bytes())
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    (tmp_path / "bigger.png").write_bytes(data)
    for name in ("bomb.png", "bigger.png"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(BadImageError, match=name):
                read_image(tmp_path / name)


def test_a_very_long_side_is_refused_and_a_long_one_read(tmp_path: Path) -> None:
    with pytest.raises(BadImageError, match="20000 a side"):
        read_image(one_bit_png(tmp_path / "long.png", 20_001, 1))
    assert read_image(one_bit_png(tmp_path / "long.png", 20_000, 1)).shape == (1, 20_000, 3)
    assert read_image(one_bit_png(tmp_path / "dot.png", 1, 1)).shape == (1, 1, 3)


def test_a_missing_picture_and_a_folder_are_missing(tmp_path: Path) -> None:
    for path in (tmp_path / "nobody.png", tmp_path):
        with pytest.raises(MissingPathError, match="no such picture"):
            read_image(path)


@pytest.mark.parametrize(
    "name", ["with blank.png", "ナルト.png", "-dash.png", "two\nlines.png", "😀.png", "x" * 251 + ".png"]
)
def test_unusual_names_work(tmp_path: Path, picture: Picture, name: str) -> None:
    Image.fromarray(picture).save(tmp_path / name)
    assert np.array_equal(read_image(tmp_path / name), picture)
    assert list(list_pictures(tmp_path)) == [name]


def test_a_name_that_cannot_exist_is_an_input_error(tmp_path: Path) -> None:
    for name in ("x" * 5000 + ".png", "nul\0.png"):
        with pytest.raises(InputError):
            read_image(tmp_path / name)


def test_reading_leaves_the_source_alone_and_gives_its_own_pixels(tmp_path: Path, picture: Picture) -> None:
    write_image(tmp_path / "own.png", picture)
    before = hashlib.sha256((tmp_path / "own.png").read_bytes()).hexdigest()
    found = read_image(tmp_path / "own.png")
    found[:] = 0
    assert np.array_equal(read_image(tmp_path / "own.png"), picture)
    assert hashlib.sha256((tmp_path / "own.png").read_bytes()).hexdigest() == before


def test_threads_read_the_same_and_leave_the_warnings_as_they_were(tmp_path: Path, picture: Picture) -> None:
    exif = Image.Exif()
    exif[274] = 6
    for number in range(6):
        stored(picture, 6).save(tmp_path / f"{number}.png", exif=exif)
    before = list(warnings.filters)
    good = []

    def work() -> None:
        for _ in range(5):
            good.extend(np.array_equal(read_image(tmp_path / f"{n}.png"), picture) for n in range(6))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert good == [True] * 120
    assert list(warnings.filters) == before


def test_mutated_files_never_escape_as_anything_but_a_bad_picture(tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    path = tmp_path / "mutant.jpg"
    for kind in ("baseline", "progressive", "png", "webp", "gif", "bmp"):
        clean = encoded(kind)
        for _ in range(60):
            data = bytearray(clean)
            for place in rng.integers(0, min(len(data), 700), size=4):
                data[place] = rng.integers(0, 256)
            path.write_bytes(data)
            try:
                found = read_image(path)
            except BadImageError as error:
                assert str(path) in str(error)
            else:
                assert found.dtype == np.uint8
                assert found.ndim == 3


def test_listing_is_sorted_recursive_and_ends_on_a_loop_of_links(tmp_path: Path, picture: Picture) -> None:
    for name in ("b/2.PNG", "b/1.jpg", "a.webp", ".hidden/x.png", "b/.tmp-x.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "b" / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert list(list_pictures(tmp_path)) == ["a.webp", "b/1.jpg", "b/2.PNG"]
    with pytest.raises(MissingPathError, match="no such folder of pictures"):
        list_pictures(tmp_path / "nowhere")
