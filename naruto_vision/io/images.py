"""List, decode, orient, bound and write images; every image is found and read here.

Formats are allow-listed and recognised by content, not by extension; size is checked from the header before anything
is decoded; EXIF orientation is applied once; 16-bit images are scaled, not clipped; transparency is laid over white;
colour profiles are ignored; CMYK JPEGs are taken to be inverted, as nearly all of them are; of an animation the first
frame is read. Source files are never written to. What a listing passes over is counted with its reason.
"""

import io
import os
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import cv2
import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from naruto_vision.errors import BadImageError, InputError, MissingPathError, first_line
from naruto_vision.geometry import MAX_PIXELS, Box, shape_of_xyxy
from naruto_vision.io.atomic import write_bytes
from naruto_vision.io.tars import MAX_BYTES, read_member
from naruto_vision.records import ImageArray

ImageSource: TypeAlias = str | Path | Image.Image | ImageArray
"""An image file, a Pillow image of any mode, or an array (H, W, 3), uint8, RGB, upright."""

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF")  # MPO, a JPEG with more images in it, opens as JPEG
SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif"}  # others by content
)
_RAW = "dng|cr2|cr3|nef|arw|orf|rw2|raf|pef|srw"  # TIFF by its content, of which only a thumbnail would be read
_UNREAD = re.compile(rf"\.({_RAW}|heic|heif|hif|jp2|j2k|jxl|jxr|psd|svg|eps|ico|tga|pcx|p[pgb]m|exr|hdr|dds|qoi|xcf)")
_NOT_OPENED = re.compile(  # never opened to see whether they hold an image
    rf"\.({_RAW}|txt|json|jsonl|csv|tsv|xml|ya?ml|toml|md|html?|log|py|ipynb|np[yz]|zip|t?gz|tar|pth?|safetensors|"
    "pdf|mp4|db|ini)"
)
_MAGIC = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n|RIFF....WEBP|GIF8[79]a|II\*\0|MM\0\*|....ftypavi[fs]|BM.{12}[\x0c\x28\x6c\x7c]\0\0",
    re.DOTALL,
)
_HEIF = re.compile(rb"....ftyp(hei[cxms]|hev[cx]|mif1|msf1)", re.DOTALL)
_CONVERT = "convert it to JPEG or PNG (the package pillow-heif reads HEIC)"

_NO_DATA = re.compile(  # folders of programs, not of users
    r"__macosx|__pycache__|thumbs|@eadir|\$recycle\.bin|system volume information|lost\+found|lightning_logs|runs|"
    "wandb|mlruns",
    re.IGNORECASE,
)
_RESULTS = (  # files that mark a folder that this package has written
    {"run.json", "predictions.jsonl"},
    {"manifest.json", "embeddings.npy"},
    {"model.json", "model.safetensors"},
    {"shards.json"},
    {"audit.json"},
)
MAX_SIDE = 20_000

_DECODER_ERRORS = (OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, AttributeError)
_FAILURES = (*_DECODER_ERRORS, NotImplementedError, ArithmeticError, MemoryError, struct.error, zlib.error)
IMAGE_FAULTS = (ValueError, ArithmeticError, LookupError, RuntimeError, MemoryError, cv2.error)
"""What computing with one image may raise. Others are defects, or faults of the disk, and end the run."""

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
    if not width * height:
        raise BadImageError(path, f"{width}x{height} pixels: it is empty")
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
    values = np.array(image, dtype=np.float32)  # changed in place: the largest images take 200 MB
    np.nan_to_num(values, copy=False, posinf=0.0, neginf=0.0)
    top = 65535.0 if image.mode.startswith("I") else max(float(values.max(initial=0.0)), 1.0)
    values *= 255.0 / top
    return Image.fromarray(values.clip(0, 255, out=values).round(out=values).astype(np.uint8))


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
    return _upright(path, image)


def _upright(path: Path, image: Image.Image) -> ImageArray:
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
        if _HEIF.match(_first_bytes(path)):
            raise BadImageError(path, f"HEIC is not read; {_CONVERT}") from None
        raise BadImageError(path, f"not an image of a format that is read ({', '.join(FORMATS)})") from None
    except PermissionError:
        raise BadImageError(path, "may not be read; change its permissions") from None
    except (Image.DecompressionBombError, *_FAILURES) as error:
        raise BadImageError(path, f"cannot be decoded ({first_line(error)}); it is truncated or corrupt") from None


def crop_path(path: str, box: Box) -> str:
    """Name a crop: its image's path with a media fragment (W3C), ``#xywh=x,y,width,height`` of the upright image.

    Examples:
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
    if not path.is_file():  # a pipe may never end
        raise MissingPathError(path, "image")
    with _own_errors(path), _quiet(), Image.open(path, formats=FORMATS) as image:
        width, height = image.size
        return (height, width) if _orientation(image) >= 5 else (width, height)


def decode_image(data: bytes, name: str | Path) -> ImageArray:
    """Decode an image file that is in memory to (H, W, 3), uint8, RGB, upright; errors call it ``name``."""
    path = Path(name)
    with _own_errors(path):
        return _decode(path, io.BytesIO(data))


def read_image(image: ImageSource) -> ImageArray:
    """Decode one image, or convert one that is in memory.

    Args:
        image: A JPEG, PNG, WebP, BMP, GIF, TIFF or AVIF file (of several frames, the first); a Pillow image of any
            mode; or an array of shape (H, W, 3), uint8, RGB, which is returned as it is. A path may end with the
            fragment of ``crop_path``, and lead into an uncompressed tar file (``scenes.tar/key.jpg``).

    Returns:
        Shape (H, W, 3), uint8, RGB, upright.

    Raises:
        MissingPathError: If there is no such file.
        BadImageError: If the file is empty, truncated, too large, may not be read, or is no image of an
            allowed format, or a crop leaves it.
        InputError: If an array has another shape or dtype, or the image is of another kind.
    """
    if (
        isinstance(image, np.ndarray)
        and image.dtype == np.uint8
        and image.ndim == 3
        and image.shape[2] == 3
        and 0 < image.size <= 3 * MAX_PIXELS
        and max(image.shape) <= MAX_SIDE
    ):
        return np.ascontiguousarray(image)
    if isinstance(image, Image.Image):
        name = Path(getattr(image, "filename", "") or f"{image.mode} image")
        with _own_errors(name):
            return _upright(name, image)
    if not isinstance(image, (str, Path)):
        raise InputError(_unfit(image))
    path = Path(image)
    file, box = split_crop(path)
    if box is not None and not path.is_file():
        return _cut(path, read_image(file), box)
    with _own_errors(path):
        if not path.is_file():
            data = read_member(path)
            if data is None:
                raise MissingPathError(path, "image")
            return _decode(path, io.BytesIO(data))
        if not 0 < (size := path.stat().st_size) <= MAX_BYTES:
            raise BadImageError(
                path, f"{size} bytes; at most {MAX_BYTES} are read" if size else "the file is empty (0 bytes)"
            )
        with path.open("rb") as handle:
            return _decode(path, handle)


def _unfit(image: object) -> str:
    """Say what was expected of an image in memory, what was found, and how to convert it."""
    expected = "image: expected a path, a Pillow image or an array (H, W, 3), uint8, RGB, found"
    shape, dtype = getattr(image, "shape", None), str(getattr(image, "dtype", ""))
    if shape is None or not len(shape):
        return f"{expected} {type(image).__name__}"
    if dtype == "uint8" and len(shape) == 3 and shape[2] == 3:
        return f"{expected} {tuple(shape)}, of which at most {MAX_PIXELS} pixels and {MAX_SIDE} a side are read"
    hints = {
        "convert it to NumPy: x.detach().cpu().numpy()": not isinstance(image, np.ndarray),
        "move the channels to the end: x.transpose(1, 2, 0)": shape[-1] != 3
        and len(shape) == 3
        and shape[0] in {1, 3, 4},
        "give grey and transparent ones as PIL.Image.fromarray(x)": len(shape) == 2 or shape[2:] == (4,),
        "give one image at a time": len(shape) > 3,
        "scale 0 to 1 to bytes: (x * 255).round().astype(np.uint8)": "float" in dtype,
    }
    return "; ".join([f"{expected} {tuple(shape)}, {dtype}", *(hint for hint, fits in hints.items() if fits)])


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


def shrink(image: ImageArray, side: int) -> ImageArray:
    """Scale an image down so that its longer side fits; a smaller one stays as it is, as all do for side 0."""
    height, width = image.shape[:2]
    scale = side / max(height, width)
    if side == 0 or scale >= 1:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small: ImageArray = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return small


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


def is_image_name(name: str | Path) -> bool:
    """Return whether a name is that of an image, and not hidden."""
    return Path(name).suffix.lower() in SUFFIXES and not Path(name).name.startswith(".")


def is_image(path: str | Path) -> bool:
    """Return whether a file is an image by its name, and not hidden."""
    return is_image_name(path) and (Path(path).is_file() or Path(path).is_symlink())


def _first_bytes(path: str | Path) -> bytes:
    if not Path(path).is_file():  # reading a pipe would wait
        return b""
    try:
        with Path(path).open("rb") as handle:
            return handle.read(32)
    except (OSError, ValueError):  # ValueError: a NUL character
        return b""


LISTED = "link to a folder that is listed already"
"""Why a scan passes over a link to another folder of its own."""


@dataclass(frozen=True)
class Listing:
    """The images of a folder and its sub-folders, and everything else in it by the reason why it is passed over."""

    images: tuple[str, ...] = ()  # POSIX paths relative to the folder, sorted
    passed_over: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the number of files and folders of each reason, and the first one."""
        return {reason: {"count": len(names), "first": names[0]} for reason, names in self.passed_over.items()}

    def sentences(self) -> list[str]:
        """Return what was passed over in one line; no line if nothing was."""
        parts = [f"{reason}: {len(names)}" for reason, names in self.passed_over.items()]
        return [f"passed over: {', '.join(parts)}"] if parts else []

    def refuse_empty(self, folder: str | Path) -> None:
        """Raise an InputError that says what is in the folder if there are no images."""
        if not self.images:
            found = "; ".join([f"no images in it or its sub-folders ({', '.join(FORMATS)})", *self.sentences()])
            raise InputError(f"{folder}: {found}")


class _Scan:
    """Lists one folder; links are followed after everything else, and each folder is listed once."""

    def __init__(self, root: Path, used: Collection[str]) -> None:
        self._root, self._used = str(root), used
        self._seen: set[tuple[int, int]] = set()
        self._folders: list[str] = [""]
        self._links: list[str] = []
        self._images: list[str] = []
        self._passed: dict[str, list[str]] = {}

    def listing(self) -> Listing:
        while self._folders or self._links:
            self._links.sort(reverse=True)
            self._list((self._folders or self._links).pop())
        passed = {reason: tuple(sorted(names)) for reason, names in sorted(self._passed.items())}
        return Listing(tuple(sorted(self._images)), passed)

    def _pass(self, reason: str, name: str) -> None:
        self._passed.setdefault(reason, []).append(name)

    def _list(self, folder: str) -> None:
        path = f"{self._root}/{folder}" if folder else self._root
        try:
            state = os.stat(path)  # noqa: PTH116 - thousands of folders
            with os.scandir(path) as found:
                entries = list(found)
        except OSError as error:
            if not folder:
                raise
            self._pass(f"folder that cannot be listed ({error.strerror})", folder)
            return
        if folder and is_result({entry.name for entry in entries}):
            self._pass("folder of naruto-vision's own results", folder)
        elif (state.st_dev, state.st_ino) in self._seen:
            self._pass(LISTED, folder)
        else:
            self._seen.add((state.st_dev, state.st_ino))
            for entry in entries:
                self._take(entry, f"{folder}/{entry.name}" if folder else entry.name)

    def _take(self, entry: os.DirEntry[str], name: str) -> None:
        if entry.name.startswith("."):
            self._pass("hidden", name)
        elif entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and Path(entry.path).is_dir()):
            if _NO_DATA.fullmatch(entry.name):
                self._pass(f"folder named {entry.name}", name)
            else:
                (self._links if entry.is_symlink() else self._folders).append(name)
        elif name not in self._used:
            self._take_file(entry, name)

    def _take_file(self, entry: os.DirEntry[str], name: str) -> None:
        suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122 - many names
        if suffix in SUFFIXES or (not _NOT_OPENED.fullmatch(suffix) and _MAGIC.match(_first_bytes(entry.path))):
            self._images.append(name)
        elif not Path(entry.path).exists():
            self._pass("link to nothing", name)
        elif _UNREAD.fullmatch(suffix):
            self._pass(f"{suffix} (not read; convert to JPEG or PNG)", name)
        else:
            self._pass(f"{suffix or 'file without an ending'} (no image)", name)


def is_result(names: Collection[str]) -> bool:
    """Whether a folder with files of these names was written by this package."""
    return any(marks.issubset(names) for marks in _RESULTS)


def scan_folder(folder: str | Path, used: Collection[str] = ()) -> Listing:
    """List the images under a folder, and count everything else by its reason, without ``used`` POSIX paths in it.

    Links to folders and images are followed. A name with an unusual ending is an image if its content is.
    """
    root = Path(folder)
    if not root.is_dir():
        raise MissingPathError(root, "folder of images")
    return _Scan(root, used).listing()


def class_folder_names(folder: str | Path) -> tuple[str, ...]:
    """Return the names of the folders in a folder that may have data, sorted: none hidden, none of our own results."""
    found = []
    for path in Path(folder).iterdir():
        if not path.name.startswith(".") and not _NO_DATA.fullmatch(path.name) and path.is_dir():
            try:
                own = is_result(os.listdir(path))  # noqa: PTH208 - names only
            except OSError:
                own = False
            found += [] if own else [path.name]
    return tuple(sorted(found))
