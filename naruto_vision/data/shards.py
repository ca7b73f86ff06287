"""Shards: images scaled down once and packed into tar files that WebDataset reads, with an index of their places.

::

    ROOT/shards.json                     format version
    ROOT/<split>/index.json              classes, longest side, and each shard's bytes, sha256 and number of images
    ROOT/<split>/<split>-000000.tar      00000000.png, 00000000.cls, 00000000.json; 00000001.png, ...
    ROOT/<split>/<split>-000000.json     for each image: path, labels, and where its bytes are in the shard

The tar files can be streamed by anybody. Here an image is read by its place, so that order, length and the share of
each process are those of the folder: nothing depends on how images are spread over shards, processes or workers.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2

from naruto_vision.data.tables import ClassTable, ReadRules, SourceRow, build_table
from naruto_vision.errors import FormatError, JsonError, MissingPathError
from naruto_vision.io.images import decode_image, read_image
from naruto_vision.records import ImageArray

FORMAT = 1
MARK = "shards.json"
INDEX = "index.json"


def shrink(image: ImageArray, side: int) -> ImageArray:
    """Scale an image down so that its longer side fits; a smaller one stays as it is, as all do for side 0."""
    height, width = image.shape[:2]
    scale = side / max(height, width)
    if side == 0 or scale >= 1:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small: ImageArray = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return small


@dataclass(frozen=True)
class PackedImage:
    """Where an image is.

    Args:
        path: Its path in the data set that was packed.
        labels: Its classes.
        offset: First byte in the shard.
        size: How many bytes.
    """

    path: str
    labels: tuple[str, ...]
    offset: int
    size: int


def read_json(path: Path) -> Mapping[str, Any]:
    """Read a file of a folder of shards.

    Args:
        path: The file.

    Raises:
        MissingPathError: If it is not there.
        FormatError: If it is not a JSON object of this format version.
    """
    if not path.is_file():
        raise MissingPathError(
            path, "part of a folder of shards", "make the shards anew with `naruto-vision data shard`"
        )
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise JsonError(path, error) from None
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise FormatError(path, f"shards of format {FORMAT}", repr(value)[:60])
    return value


def packed_images(path: Path) -> list[PackedImage]:
    """Read what is in one shard.

    Args:
        path: The JSON file beside it.

    Raises:
        MissingPathError: If it is not there.
        FormatError: If it says something else.
    """
    try:
        rows = read_json(path)["pictures"]
        return [PackedImage(str(name), tuple(labels), int(start), int(size)) for name, labels, start, size in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(path, "path, labels, offset and size of each image", str(error)) from None


class ShardReader:
    """The images of one split, by their paths. It holds no open file, so it can go to other processes.

    Args:
        folder: The split's folder.

    Attributes:
        classes: Every class in its fixed order.
        images: Path to labels, in the order of the shards.

    Raises:
        MissingPathError: If a shard or an index is not there.
        FormatError: If one is not as the index says: a short shard is refused, not read as far as it goes.
    """

    def __init__(self, folder: Path) -> None:
        index = read_json(folder / INDEX)
        self._places: dict[str, tuple[Path, int, int]] = {}
        self.images: dict[str, tuple[str, ...]] = {}
        try:
            self.classes = tuple(str(name) for name in index["classes"])
            listed = [(folder / str(one["name"]), int(one["bytes"]), int(one["pictures"])) for one in index["shards"]]
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(folder / INDEX, "classes and shards", str(error)) from None
        for shard, size, count in listed:
            self._add(shard, size, count)

    def _add(self, shard: Path, size: int, count: int) -> None:
        found = shard.stat().st_size if shard.is_file() else 0
        if found != size:
            raise FormatError(shard, f"{size} bytes", f"{found}; make the shards anew with `naruto-vision data shard`")
        packed = packed_images(shard.with_suffix(".json"))
        if len(packed) != count or any(one.offset + one.size > size for one in packed):
            raise FormatError(shard.with_suffix(".json"), f"{count} images inside {size} bytes", str(len(packed)))
        for one in packed:
            self._places[one.path] = (shard, one.offset, one.size)
            self.images[one.path] = one.labels

    def read(self, path: str) -> ImageArray:
        """Decode one image.

        Args:
            path: One of ``images``.

        Returns:
            Shape (H, W, 3), uint8, RGB.

        Raises:
            BadImageError: If its bytes are no image.
        """
        shard, offset, size = self._places[path]
        with shard.open("rb") as file:
            file.seek(offset)
            return decode_image(file.read(size), f"{shard}: {path}")


@dataclass(frozen=True)
class FolderReader:
    """Images as files in a folder.

    Args:
        root: The folder that paths are relative to.
    """

    root: Path

    def read(self, path: str) -> ImageArray:
        """Decode one image.

        Args:
            path: Relative to the root.

        Returns:
            Shape (H, W, 3), uint8, RGB, upright.

        Raises:
            BadImageError: If it cannot be used.
            MissingPathError: If it is not there.
        """
        return read_image(self.root / path)


def image_reader(root: Path) -> ShardReader | FolderReader:
    """Return what reads the images of a table.

    Args:
        root: The table's root: a split's folder of shards, or a folder of files.
    """
    return ShardReader(root) if (root / INDEX).is_file() else FolderReader(root)


def read_shards(folder: str | Path, rules: ReadRules | None = None) -> ClassTable:
    """Read the table of a split of shards.

    Args:
        folder: The split's folder.
        rules: What becomes of class names and of images with several labels.

    Returns:
        The same table as that of the folder that was packed.

    Raises:
        MissingPathError: If a shard or an index is not there.
        FormatError: If one is not as the index says.
    """
    folder = Path(folder)
    reader = ShardReader(folder)
    rows = [SourceRow(path, labels) for path, labels in reader.images.items()]
    return build_table(
        folder, rows, reader.classes, replace(rules or ReadRules(), need_files=False), list_unnamed=False
    )
