"""Decode, orient, bound and write images; every image is read here.

Formats are allow-listed and recognised by content, not by extension; size is checked from the header before anything
is decoded; EXIF orientation is applied once; 16-bit images are scaled, not clipped; transparency is laid over white;
colour profiles are ignored; CMYK JPEGs are taken to be inverted, as nearly all of them are; of an animation the first
frame is read. Source files are never written to.
"""

import io
import os
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from naruto_vision.errors import BadImageError, InputError, MissingPathError
from naruto_vision.geometry import Box, shape_of_xyxy
from naruto_vision.io.atomic import write_bytes
from naruto_vision.records import ImageArray

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")  # MPO, a JPEG with more images behind it, opens as JPEG
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif"})
MAX_PIXELS = 50_000_000
MAX_SIDE = 20_000

_DECODER_ERRORS = (OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, AttributeError)
_FAILURES = (*_DECODER_ERRORS, NotImplementedError, ArithmeticError, MemoryError, struct.error, zlib.error)
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_CROP = re.compile(r"(.+)#xywh=(\d{1,5}),(\d{1,5}),([1-9]\d{0,4}),([1-9]\d{0,4})", re.DOTALL)
_SILENCE = threading.Lock()  # silencing warnings changes the whole process, so one thread does it at a time


def _check_header(path: Path, image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        reason = (
            f"{width}x{height} is {width * height / 1e6:.0f} megapixels; "
            f"at most {MAX_PIXELS // 1_000_000} megapixels and {MAX_SIDE} a side are read: scale it down"
        )
        raise BadImageError(path, reason)


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 where the metadata cannot be read."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except _FAILURES:
        return 1
    return value if isinstance(value, int) else 1


def _from_16_bit(image: Image.Image) -> Image.Image:
    """Scale a 16-bit or 32-bit single-channel image to 8 bits over the range its kind has."""
    values = np.nan_to_num(np.asarray(image, dtype=np.float64), posinf=0.0, neginf=0.0)
    top = 65535.0 if image.mode.startswith("I") else max(float(values.max(initial=0.0)), 1.0)
    return Image.fromarray(np.clip(values * (255.0 / top), 0, 255).round().astype(np.uint8))


def rgb_from_image(image: Image.Image) -> ImageArray:
    """Convert a decoded Pillow image of any mode to RGB (H, W, 3), without applying its orientation."""
    if image.mode in {"I", "F"} or image.mode.startswith("I;16"):
        image = _from_16_bit(image)
    if image.mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in image.info:
        front = image.convert("RGBA")
        image = Image.new("RGBA", front.size, "white")
        image.alpha_composite(front)
    return np.array(image.convert("RGB"), dtype=np.uint8)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Pillow's warnings: our size limit is lower than its own, and odd metadata does not matter."""
    with _SILENCE, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _decode(path: Path, handle: BinaryIO) -> ImageArray:
    with _quiet():
        image = Image.open(handle, formats=FORMATS)
    _check_header(path, image)
    image.load()
    with _quiet():
        turn = _TURNS.get(_orientation(image))
    return rgb_from_image(image if turn is None else image.transpose(turn))


@contextmanager
def _own_errors(path: Path) -> Iterator[None]:
    """Convert a decoder's exceptions to an error that names the image."""
    try:
        yield
    except UnidentifiedImageError:
        raise BadImageError(path, f"not an image of a format that is read ({', '.join(FORMATS)})") from None
    except PermissionError:
        raise BadImageError(path, "may not be read; change its permissions") from None
    except (Image.DecompressionBombError, *_FAILURES) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise BadImageError(path, f"cannot be decoded ({reason}); it is truncated or corrupt") from None


def crop_path(path: str, box: Box) -> str:
    """Name a crop: its image's path with a media fragment (W3C), ``#xywh=x,y,width,height`` of the upright image.

    Example:
        >>> crop_path("a.jpg", (4, 5, 13, 24)), split_crop("a.jpg#xywh=4,5,10,20")
        ('a.jpg#xywh=4,5,10,20', ('a.jpg', (4, 5, 13, 24)))
    """
    height, width = shape_of_xyxy(box)
    return f"{path}#xywh={box[0]},{box[1]},{width},{height}"


def split_crop(path: str | Path) -> tuple[str, Box | None]:
    """Return the image's path and the box of a crop's name; the path itself and None for a whole image."""
    found = _CROP.fullmatch(str(path))
    if found is None:
        return str(path), None
    x, y, width, height = map(int, found.groups()[1:])
    return found[1], (x, y, x + width - 1, y + height - 1)


def image_size(path: str | Path) -> tuple[int, int]:
    """Read width and height of the upright image from its header."""
    path = Path(path)
    with _own_errors(path), _quiet(), Image.open(path, formats=FORMATS) as image:
        width, height = image.size
        return (height, width) if _orientation(image) >= 5 else (width, height)


def decode_image(data: bytes, name: str | Path) -> ImageArray:
    """Decode an image file that is in memory to (H, W, 3), uint8, RGB, upright; errors call it ``name``."""
    path = Path(name)
    with _own_errors(path):
        return _decode(path, io.BytesIO(data))


def read_image(path: str | Path) -> ImageArray:
    """Decode one image.

    Args:
        path: A JPEG, PNG, WebP, BMP or GIF file (of an animation, the first frame), or such a path with the
            fragment of ``crop_path``.

    Returns:
        Shape (H, W, 3), uint8, RGB, upright.

    Raises:
        MissingPathError: If there is no such file.
        BadImageError: If the file is empty, truncated, too large, may not be read, or is no image of an
            allowed format, or a crop leaves it.
    """
    path = Path(path)
    file, box = split_crop(path)
    if box is not None and not path.is_file():
        return _cut(path, read_image(file), box)
    with _own_errors(path):
        if not path.is_file():
            raise MissingPathError(path, "image")
        if path.stat().st_size == 0:
            raise BadImageError(path, "the file is empty (0 bytes)")
        with path.open("rb") as handle:
            return _decode(path, handle)


def _cut(path: Path, image: ImageArray, box: Box) -> ImageArray:
    height, width = image.shape[:2]
    if box[2] >= width or box[3] >= height:
        raise BadImageError(path, f"the crop leaves the image of {width}x{height} pixels")
    return image[box[1] : box[3] + 1, box[0] : box[2] + 1].copy()


def image_or_none(path: str | Path) -> ImageArray | None:
    """Read an image, or return None if it is missing or broken."""
    try:
        return read_image(path)
    except (BadImageError, MissingPathError):
        return None


def write_image(path: str | Path, image: ImageArray, *, quality: int = 92) -> None:
    """Encode one image atomically; the suffix chooses the format: image (H, W, 3)."""
    write_bytes(path, encode_image(image, Path(path).suffix.lower(), quality))


def encode_image(image: ImageArray, suffix: str, quality: int = 92) -> bytes:
    """Return the bytes of an image file of a suffix (".jpg"); InputError if images are not written as such."""
    code = cv2.COLOR_RGBA2BGRA if image.shape[2] == 4 else cv2.COLOR_RGB2BGR
    options = {".jpg": [cv2.IMWRITE_JPEG_QUALITY, quality], ".webp": [cv2.IMWRITE_WEBP_QUALITY, quality], ".png": []}
    if suffix not in options:
        msg = f"image file: expected a name ending in {', '.join(sorted(options))}, found {suffix or 'no suffix'!r}"
        raise InputError(msg)
    return bytes(cv2.imencode(suffix, cv2.cvtColor(image, code), options[suffix])[1].tobytes())


def is_image(path: str | Path) -> bool:
    """Return whether a file is an image by its name, and not hidden."""
    path = Path(path)
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and (path.is_file() or path.is_symlink())


def list_images(folder: str | Path) -> Sequence[str]:
    """List the images under a folder, recursively, by extension."""
    root = Path(folder)
    if not root.is_dir():
        raise MissingPathError(root, "folder of images")
    found: list[str] = []
    for parent, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        prefix = "" if parent == str(root) else f"{Path(parent).relative_to(root).as_posix()}/"
        found += [
            prefix + name
            for name in files
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES  # noqa: PTH122 - many names
        ]
    return sorted(found)
