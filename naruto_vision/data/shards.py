"""Shards: images scaled down once and packed into tar files that WebDataset reads, with an index of their places.

::

    ROOT/shards.json                     format version
    ROOT/<split>/index.json              classes, longest side, and each shard's bytes, sha256 and number of images
    ROOT/<split>/<split>-000000.tar      00000000.png, 00000000.cls, 00000000.json; 00000001.png, ...
    ROOT/<split>/<split>-000000.json     for each image: path, labels, and where its bytes are in the shard

The tar files can be streamed by anybody. Here an image is read by its place, so that order, length and the share of
each process are those of the folder: nothing depends on how images are spread over shards, processes or workers.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2

from naruto_vision.data.tables import ClassTable, ReadRules, SourceRow, build_table
from naruto_vision.errors import FormatError, InputError, JsonError, MissingPathError
from naruto_vision.io.atomic import atomic_file, remove_leftovers, write_json
from naruto_vision.io.bundles import file_sha256
from naruto_vision.io.images import decode_image, read_image
from naruto_vision.io.quarantine import Quarantine
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
    """Read a file of a folder of shards."""
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
    """Read what is in one shard."""
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
        """Decode one image."""
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
        """Decode one image."""
        return read_image(self.root / path)


def image_reader(root: Path) -> ShardReader | FolderReader:
    """Return what reads the images of a table."""
    return ShardReader(root) if (root / INDEX).is_file() else FolderReader(root)


def read_shards(folder: str | Path, rules: ReadRules | None = None) -> ClassTable:
    """Read the table of a split of shards."""
    folder = Path(folder)
    reader = ShardReader(folder)
    rows = [SourceRow(path, labels) for path, labels in reader.images.items()]
    return build_table(
        folder, rows, reader.classes, replace(rules or ReadRules(), need_files=False), list_unnamed=False
    )


Item = tuple[str, tuple[str, ...]]
"""An image's path and its labels."""


@dataclass(frozen=True)
class ShardPlan:
    """How images are packed.

    Args:
        side: Longest side in pixels; 0 keeps images as they are.
        shard_size: Images a shard.
        quality: JPEG quality, 1 to 100; 0 packs PNG, which loses nothing.
        max_bad: Largest share of unreadable images that is put up with, in [0, 1].

    Raises:
        InputError: If a number is out of range.
    """

    side: int = 256
    shard_size: int = 1000
    quality: int = 0
    max_bad: float = 0.05

    def __post_init__(self) -> None:
        if self.side < 0 or self.shard_size < 1 or not 0 <= self.quality <= 100:
            found = f"side {self.side}, {self.shard_size} and {self.quality}"
            msg = f"shards: expected a side >= 0, at least 1 image a shard and a quality of 0 to 100, found {found}"
            raise InputError(msg)

    def encode(self, image: ImageArray) -> bytes:
        """Scale an image down and encode it."""
        small = cv2.cvtColor(shrink(image, self.side), cv2.COLOR_RGB2BGR)
        options = [cv2.IMWRITE_JPEG_QUALITY, self.quality] if self.quality else [cv2.IMWRITE_PNG_COMPRESSION, 1]
        return cv2.imencode(self.suffix, small, options)[1].tobytes()

    @property
    def suffix(self) -> str:
        """How the images' names end."""
        return ".jpg" if self.quality else ".png"


def check_out(out: Path) -> None:
    """Refuse a folder that holds something else, and mark it as one of shards."""
    if out.is_dir() and any(out.iterdir()) and not (out / MARK).is_file():
        msg = f"{out}: is not empty and holds no shards; give another --out"
        raise InputError(msg)
    remove_leftovers(out)
    write_json(out / MARK, {"format": FORMAT})


def write_split(
    out: Path,
    split: str,
    table: ClassTable,
    plan: ShardPlan,
    quarantine: Quarantine,
    advance: Callable[[], None] = lambda: None,
) -> int:
    """Pack one split. Shards that an earlier run wrote of the same images are kept.

    Images go to shards in the order of a hash of their paths, so that whoever streams them meets all classes.
    """
    labels: dict[str, list[str]] = {}
    for row in table.rows:
        labels.setdefault(row.path, []).append(row.label)
    items = [(path, tuple(labels[path])) for path in sorted(labels, key=_spread)]
    folder, kept = out / split, 0
    (folder / INDEX).unlink(missing_ok=True)  # until all is written again there is nothing to read
    written = []
    for number, start in enumerate(range(0, len(items), plan.shard_size)):
        name = folder / f"{split}-{number:06d}.tar"
        part = items[start : start + plan.shard_size]
        kept += _write_shard(name, table, part, plan, start, advance)
        record = json.loads(name.with_suffix(".json").read_text(encoding="utf-8"))
        for path, reason in record["quarantined"]:
            quarantine.refuse(path, reason)
        for _ in record["pictures"]:
            quarantine.accept()
        written.append({"name": name.name, "pictures": len(record["pictures"]), **record["shard"]})
    quarantine.check(plan.max_bad)
    _remove_others(folder, {str(one["name"]) for one in written})
    write_json(folder / INDEX, {"format": FORMAT, "classes": list(table.classes), "side": plan.side, "shards": written})
    return kept


def _spread(path: str) -> str:
    return hashlib.sha256(path.encode()).hexdigest()


def _remove_others(folder: Path, names: set[str]) -> None:
    """Remove the shards of an earlier, longer run."""
    for shard in folder.glob("*.tar"):
        if shard.name not in names:
            shard.unlink()
            shard.with_suffix(".json").unlink(missing_ok=True)


def _write_shard(
    shard: Path, table: ClassTable, items: Sequence[Item], plan: ShardPlan, first: int, advance: Callable[[], None]
) -> bool:
    """Write one shard and its list, unless they are there already; return whether they were."""
    record = shard.with_suffix(".json")
    wanted = _digest(table, items, plan)
    if _is_done(shard, record, wanted):
        for _ in items:
            advance()
        return True
    reader = image_reader(table.root)
    bad = Quarantine()
    kept: list[Item] = []
    with atomic_file(shard) as temporary, tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
        for number, (path, labels) in enumerate(items, start=first):
            advance()
            image = bad.read(path, partial(reader.read, path))
            if image is None:
                continue
            data = plan.encode(image)
            kept.append((path, labels))
            _add(tar, f"{number:08d}{plan.suffix}", data)
            _add(tar, f"{number:08d}.cls", str(table.classes.index(labels[0])).encode())
            _add(tar, f"{number:08d}.json", json.dumps({"path": path, "labels": labels}).encode())
    with tarfile.open(shard) as tar:
        members = [member for member in tar if member.name.endswith(plan.suffix)]
    rows = [
        (path, labels, member.offset_data, member.size) for (path, labels), member in zip(kept, members, strict=True)
    ]
    told = {"bytes": shard.stat().st_size, "sha256": file_sha256(shard)}
    value = {
        "format": FORMAT,
        "wanted": wanted,
        "shard": told,
        "pictures": rows,
        "quarantined": [(row.path, row.reason) for row in bad.rows],
    }
    write_json(record, value, indent=None)
    return False


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """Add a file without a date or an owner, so that the same images give the same bytes."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def _digest(table: ClassTable, items: Sequence[Item], plan: ShardPlan) -> str:
    """Return what changes with the images of a shard or with how they are packed."""
    sources = [_mark(table.root / path) for path, _ in items]
    text = json.dumps([plan.side, plan.quality, list(table.classes), list(items), sources])
    return hashlib.sha256(text.encode()).hexdigest()


def _mark(path: Path) -> tuple[int, int]:
    if not path.is_file():
        return (0, 0)
    told = path.stat()
    return (told.st_size, told.st_mtime_ns)


def _is_done(shard: Path, record: Path, wanted: str) -> bool:
    if not shard.is_file() or not record.is_file():
        return False
    try:
        value: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))
        return bool(value["wanted"] == wanted and value["shard"]["bytes"] == shard.stat().st_size)
    except (ValueError, KeyError, TypeError):
        return False
