"""The image door's refusals: one line that names the file, and nothing else disturbed."""

import contextlib
import hashlib
import io
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from naruto_vision.errors import BadImageError, InputError, MissingPathError
from naruto_vision.io.images import read_image, scan_folder, write_image
from naruto_vision.records import ImageArray


def noise(height: int, width: int) -> ImageArray:
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def image() -> ImageArray:
    return noise(24, 40)


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
        (b"hello, I am text\n" * 9, "not an image"),
        (b"\xff\xd8\xff", "not an image"),
        (b"\0" * 64, "not"),
    ],
)
def test_what_is_no_image_is_refused_by_name(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "no_image.jpg"
    path.write_bytes(content)
    with pytest.raises(BadImageError, match=words) as caught:
        read_image(path)
    assert caught.value.path == str(path)


def test_formats_outside_the_list_are_refused(tmp_path: Path, image: ImageArray) -> None:
    for form in ("TGA", "PPM", "ICO"):
        Image.fromarray(image).save(tmp_path / "other.png", form)
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


def test_a_file_of_more_bytes_than_pixels_can_take_is_refused(tmp_path: Path, image: ImageArray) -> None:
    write_image(tmp_path / "a.jpg", image)
    os.truncate(tmp_path / "a.jpg", 500_000_000)  # zeros behind the image, which take no disk
    with pytest.raises(BadImageError, match=r"a\.jpg: 500000000 bytes; at most 400000000 are read"):
        read_image(tmp_path / "a.jpg")


def test_a_very_long_side_is_refused_and_a_long_one_read(tmp_path: Path) -> None:
    with pytest.raises(BadImageError, match="20000 a side"):
        read_image(one_bit_png(tmp_path / "long.png", 20_001, 1))
    assert read_image(one_bit_png(tmp_path / "long.png", 20_000, 1)).shape == (1, 20_000, 3)
    assert read_image(one_bit_png(tmp_path / "dot.png", 1, 1)).shape == (1, 1, 3)


def test_a_missing_image_and_a_folder_are_missing(tmp_path: Path) -> None:
    for path in (tmp_path / "nobody.png", tmp_path):
        with pytest.raises(MissingPathError, match="no such image"):
            read_image(path)


@pytest.mark.parametrize(
    "name", ["with blank.png", "ナルト.png", "-dash.png", "two\nlines.png", "😀.png", "x" * 251 + ".png"]
)
def test_unusual_names_work(tmp_path: Path, image: ImageArray, name: str) -> None:
    Image.fromarray(image).save(tmp_path / name)
    assert np.array_equal(read_image(tmp_path / name), image)
    assert list(scan_folder(tmp_path).images) == [name]


def test_a_name_that_cannot_exist_is_an_input_error(tmp_path: Path) -> None:
    for name in ("x" * 5000 + ".png", "nul\0.png"):
        with pytest.raises(InputError):
            read_image(tmp_path / name)


def test_reading_leaves_the_source_alone_and_gives_its_own_pixels(tmp_path: Path, image: ImageArray) -> None:
    write_image(tmp_path / "own.png", image)
    before = hashlib.sha256((tmp_path / "own.png").read_bytes()).hexdigest()
    found = read_image(tmp_path / "own.png")
    found[:] = 0
    assert np.array_equal(read_image(tmp_path / "own.png"), image)
    assert hashlib.sha256((tmp_path / "own.png").read_bytes()).hexdigest() == before


def test_mutated_files_never_escape_as_anything_but_a_bad_image(tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    path = tmp_path / "mutant.jpg"
    for kind in ("baseline", "progressive", "png", "webp", "gif", "bmp"):
        clean = encoded(kind)
        for _ in range(60):
            data = bytearray(clean)
            for place in rng.integers(0, min(len(data), 700), size=4):
                data[place] = rng.integers(0, 256)
            path.write_bytes(data)
            with contextlib.suppress(BadImageError):
                found = read_image(path)
                assert found.dtype == np.uint8
                assert found.ndim == 3


def test_listing_is_sorted_recursive_and_ends_on_a_loop_of_links(tmp_path: Path) -> None:
    for name in ("b/2.PNG", "b/1.jpg", "a.webp", ".hidden/x.png", "b/.tmp-x.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "b" / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert list(scan_folder(tmp_path).images) == ["a.webp", "b/1.jpg", "b/2.PNG"]
    with pytest.raises(MissingPathError, match="no such folder of images"):
        scan_folder(tmp_path / "nowhere")
