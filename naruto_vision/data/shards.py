"""Shards: images with their labels, captions, masks or boxes in tar files of webdataset, with an index.

::

    ROOT/shards.json                     format version
    ROOT/<split>/index.json              kind, classes, longest side, and each shard's bytes, sha256 and images
    ROOT/<split>/<split>-000000.tar      00000000.png, 00000000.json and 00000000.cls or .txt; 00000001.png, ...
    ROOT/<split>/<split>-000000.json     for each image: path, what belongs to it, and where its bytes are in the shard

webdataset writes them, and ``data/streams.py`` streams them. Here an image is read by its offset, so that order, length
and the share of each process are those of the folder: nothing depends on how images are spread over shards, processes
or workers.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias, TypeVar

import cv2
import msgspec

from naruto_vision.data.tables import ClassTable, ReadRules, SourceRow, build_table
from naruto_vision.errors import FormatError, InputError, MissingPathError
from naruto_vision.io.atomic import atomic_file, remove_leftovers, utf8, write_json
from naruto_vision.io.bundles import file_sha256
from naruto_vision.io.images import decode_image, read_image, shrink, split_crop
from naruto_vision.io.locks import is_in_use
from naruto_vision.io.quarantine import Quarantine
from naruto_vision.io.tars import MAX_BYTES, list_tar
from naruto_vision.io.typed_json import read_json
from naruto_vision.records import ImageArray

T = TypeVar("T")
FORMAT: Literal[1] = 1
MARK = "shards.json"
INDEX = "index.json"


Kind: TypeAlias = Literal["classes", "captions", "masks", "scenes"]
"""What the images of a split come with."""
_FIELDS: dict[Kind, str] = {"classes": "labels", "captions": "texts", "masks": "masks", "scenes": "boxes"}


class PackedBox(NamedTuple):
    """One object of a scene: inclusive pixels of the upright image."""

    bbox: tuple[int, int, int, int]
    label: str


class PackedImage(NamedTuple):
    """An image of the data set that was packed, what belongs to it, and its first byte and bytes in the shard."""

    path: str
    labels: tuple[str, ...]
    offset: int
    size: int
    texts: tuple[str, ...] = ()
    masks: tuple[Any, ...] = ()  # COCO run lengths, checked on decoding
    boxes: tuple[PackedBox, ...] | None = None  # None: no ground truth


class ShardFile(msgspec.Struct):
    """A whole tar file."""

    bytes: int
    sha256: str


class ShardList(msgspec.Struct):
    """The content of one shard, and its source."""

    format: Literal[1]
    wanted: str
    shard: ShardFile
    images: list[PackedImage]
    quarantined: list[tuple[str, str]]


class IndexedShard(msgspec.Struct):
    """One shard of a split."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[^/\\\0]+\.tar\Z")]  # in the folder of the index
    images: Annotated[int, msgspec.Meta(ge=0, le=1 << 31)]
    bytes: Annotated[int, msgspec.Meta(ge=0)]
    sha256: str = ""


class SplitIndex(msgspec.Struct):
    """The content of ``index.json``."""

    format: Literal[1]
    classes: tuple[str, ...]
    shards: list[IndexedShard]
    side: int = 0
    kind: Kind = "classes"


def read_part(path: Path, kind: type[T]) -> T:
    """Read a JSON file of a folder of shards."""
    hint = "make the shards again with `naruto-vision data shard`"
    if not path.is_file():
        raise MissingPathError(path, "part of a folder of shards", hint)
    return read_json(path, kind, hint=hint)


class ShardReader:
    """The images of one split, by their paths. It has no open file, so it can be sent to other processes.

    ``classes`` are in their fixed order, ``images`` is path to what belongs to it in the order of the shards. A missing
    or short shard is a MissingPathError or FormatError: it is never read in part.
    """

    def __init__(self, folder: Path, kind: Kind | None = None) -> None:
        index = read_part(folder / INDEX, SplitIndex)
        if kind is not None and index.kind != kind:
            raise FormatError(folder / INDEX, f"shards of {kind}", f"shards of {index.kind}")
        self.root, self.classes = folder, index.classes
        self.images: dict[str, PackedImage] = {}
        self._shards: dict[str, Path] = {}
        for shard in index.shards:
            self._add(folder / shard.name, shard.bytes, shard.images)

    def _add(self, shard: Path, size: int, count: int) -> None:
        found = shard.stat().st_size if shard.is_file() else 0
        if found != size:
            raise FormatError(shard, f"{size} bytes", f"{found}; make the shards again with `naruto-vision data shard`")
        packed = read_part(shard.with_suffix(".json"), ShardList).images
        inside = all(0 <= one.offset <= size - one.size and 0 <= one.size <= MAX_BYTES for one in packed)
        if len(packed) != count or not inside:
            expected = f"{count} images inside {size} bytes"
            raise FormatError(shard.with_suffix(".json"), expected, f"{len(packed)}" if inside else "others")
        for one in packed:
            self._shards[one.path] = shard
            self.images[one.path] = one

    def data(self, path: str) -> bytes:
        """Read the bytes of one image's file."""
        image = self.images[path]
        with self._shards[path].open("rb") as file:
            file.seek(image.offset)
            return file.read(image.size)

    def read(self, path: str) -> ImageArray:
        """Decode one image."""
        return decode_image(self.data(path), f"{self._shards[path]}: {path}")


@dataclass(frozen=True)
class FolderReader:
    """Images as files in a folder."""

    root: Path

    def data(self, path: str) -> bytes:
        """Read the bytes of one image's file; none of a crop, which has no file."""
        file = self.root / path
        return file.read_bytes() if file.is_file() else b""

    def read(self, path: str) -> ImageArray:
        """Decode one image."""
        return read_image(self.root / path)


def image_reader(root: Path) -> ShardReader | FolderReader:
    """Return the image reader of a table."""
    return ShardReader(root) if (root / INDEX).is_file() else FolderReader(root)


def read_shards(folder: str | Path, rules: ReadRules | None = None) -> ClassTable:
    """Read the table of a split of shards."""
    folder = Path(folder)
    reader = ShardReader(folder, "classes")
    rows = [SourceRow(path, image.labels) for path, image in reader.images.items()]
    return build_table(
        folder, rows, reader.classes, replace(rules or ReadRules(), need_files=False), list_unnamed=False
    )


@dataclass(frozen=True)
class PackSource:
    """Images to pack, without offsets and sizes, and their reader."""

    kind: Kind
    images: Sequence[PackedImage]
    reader: ShardReader | FolderReader
    classes: tuple[str, ...] = ()


def class_source(table: ClassTable) -> PackSource:
    """Return the images of a class table, each with all its labels."""
    labels: dict[str, list[str]] = {}
    for row in table.rows:
        labels.setdefault(row.path, []).append(row.label)
    images = [PackedImage(path, tuple(own), 0, 0) for path, own in labels.items()]
    return PackSource("classes", images, image_reader(table.root), table.classes)


@dataclass(frozen=True)
class ShardPlan:
    """How images are packed; InputError if a number is out of range."""

    side: int = 256  # longest side in pixels; 0 keeps images as they are
    shard_size: int = 1000  # images a shard
    quality: int = 0  # JPEG quality, 1 to 100; 0 packs PNG, which loses nothing
    max_bad: float = 0.05  # maximum fraction of unreadable images, in [0, 1]

    def __post_init__(self) -> None:
        if self.side < 0 or self.shard_size < 1 or not 0 <= self.quality <= 100:
            found = f"side {self.side}, {self.shard_size} and {self.quality}"
            msg = f"shards: expected a side >= 0, at least 1 image per shard and a quality of 0 to 100, found {found}"
            raise InputError(msg)

    def encode(self, image: ImageArray, data: bytes = b"") -> tuple[str, bytes]:
        """Return suffix and bytes of an image to pack: of its own file if nothing is to be changed."""
        if not self.side and not self.quality:
            for suffix, first in _KEPT.items():
                if data.startswith(first):
                    return suffix, data
        small = cv2.cvtColor(shrink(image, self.side), cv2.COLOR_RGB2BGR)
        options = [cv2.IMWRITE_JPEG_QUALITY, self.quality] if self.quality else [cv2.IMWRITE_PNG_COMPRESSION, 1]
        suffix = "jpg" if self.quality else "png"
        return suffix, cv2.imencode(f".{suffix}", small, options)[1].tobytes()


_KEPT = {"jpg": b"\xff\xd8\xff", "png": b"\x89PNG\r\n\x1a\n"}  # suffix to first bytes


def check_out(out: Path) -> None:
    """Refuse a folder with other content, and mark it as one of shards."""
    if out.is_dir() and is_in_use(out) and not (out / MARK).is_file():
        raise InputError(f"{out}: is not empty and has no shards; give another --out")
    remove_leftovers(out)
    write_json(out / MARK, {"format": FORMAT})


def write_split(
    out: Path,
    split: str,
    source: PackSource,
    plan: ShardPlan,
    quarantine: Quarantine,
    advance: Callable[[], None] = lambda: None,
) -> int:
    """Pack one split. Shards that an earlier run wrote of the same images are kept.

    Images go to shards in the order of a hash of their paths, so that a stream mixes the classes; scenes in their own.
    """
    images = list(source.images)
    if source.kind != "scenes":
        images.sort(key=lambda image: hashlib.sha256(utf8(image.path)).hexdigest())
    folder, kept = out / split, 0
    (folder / INDEX).unlink(missing_ok=True)  # no index until all is written again
    written = []
    for number, start in enumerate(range(0, len(images), plan.shard_size)):
        name = folder / f"{split}-{number:06d}.tar"
        part = replace(source, images=images[start : start + plan.shard_size])
        record, kept_one = _write_shard(name, part, plan, start, advance)
        kept += kept_one
        for path, reason in record.quarantined:
            quarantine.refuse(path, reason)
        quarantine.ok += len(record.images)
        written.append({"name": name.name, "images": len(record.images), **msgspec.to_builtins(record.shard)})
    quarantine.check(plan.max_bad)
    _remove_others(folder, {str(one["name"]) for one in written})
    facts = {"format": FORMAT, "kind": source.kind, "classes": list(source.classes), "side": plan.side}
    write_json(folder / INDEX, {**facts, "shards": written})
    return kept


def _remove_others(folder: Path, names: set[str]) -> None:
    """Remove the shards of an earlier, longer run."""
    for shard in folder.glob("*.tar"):
        if shard.name not in names:
            shard.unlink()
            shard.with_suffix(".json").unlink(missing_ok=True)


def _write_shard(
    shard: Path, source: PackSource, plan: ShardPlan, first: int, advance: Callable[[], None]
) -> tuple[ShardList, bool]:
    """Write one shard and its list, unless they are there already; return the list, and whether they were."""
    from webdataset import TarWriter  # imports torch

    record = shard.with_suffix(".json")
    wanted = _digest(source, plan)
    done = _read_list(shard, record)
    if done is not None and done.wanted == wanted:
        for _ in source.images:
            advance()
        return done, True
    bad = Quarantine()
    kept: dict[str, PackedImage] = {}
    with (
        atomic_file(shard) as temporary,
        temporary.open("wb") as file,
        TarWriter(file, user="", group="", mtime=0, encoder=False) as tar,  # the same images give the same bytes
    ):
        for number, image in enumerate(source.images, start=first):
            advance()
            pixels = bad.read(image.path, partial(source.reader.read, image.path))
            if pixels is not None:
                suffix, data = plan.encode(pixels, source.reader.data(image.path))
                key = _key(number, image.path, source.kind)
                kept[f"{key}.{suffix}"] = image
                tar.write({"__key__": key, suffix: data, **_members(source, image)})
    files = list_tar(shard).files
    rows = [image._replace(offset=files[name][0], size=files[name][1]) for name, image in kept.items()]
    value = ShardList(
        FORMAT,
        wanted,
        ShardFile(shard.stat().st_size, file_sha256(shard)),
        rows,
        list(bad.rows),
    )
    write_json(record, msgspec.to_builtins(value), indent=None)
    return value, False


def _key(number: int, path: str, kind: Kind) -> str:
    """Name a sample: by its number; a scene, whose results are named so, also by the last name of its path."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", PurePosixPath(path).stem)[:60] if kind == "scenes" else ""
    return f"{number:08d}" + f"-{name}" * bool(name)


def _members(source: PackSource, image: PackedImage) -> dict[str, bytes]:
    """Return what is packed beside an image, by suffix."""
    field = _FIELDS[source.kind]
    members = {"json": utf8(json.dumps({"path": image.path, field: _plain(getattr(image, field))}))}
    if source.kind == "classes":
        members["cls"] = str(source.classes.index(image.labels[0])).encode()
    if source.kind == "captions":
        members["txt"] = utf8(image.texts[0])
    return members


def _plain(value: Any) -> Any:  # noqa: ANN401 - any field of PackedImage
    """Return a field as JSON values; boxes as in ``gt.json``."""
    boxes = isinstance(value, tuple) and all(isinstance(each, PackedBox) for each in value)
    return [each._asdict() for each in value] if boxes else value


def _digest(source: PackSource, plan: ShardPlan) -> str:
    """Return a digest of a shard's images and packing options."""
    files = (source.reader.root / split_crop(image.path)[0] for image in source.images)
    states = [(state.st_size, state.st_mtime_ns) if (state := _state(file)) else (0, 0) for file in files]
    content = msgspec.to_builtins(list(source.images))
    text = json.dumps([plan.side, plan.quality, source.kind, list(source.classes), content, states])
    return hashlib.sha256(text.encode()).hexdigest()


def _state(file: Path) -> os.stat_result | None:
    return file.stat() if file.is_file() else None


def _read_list(shard: Path, record: Path) -> ShardList | None:
    """Read the list of an existing shard; None if either is missing or broken."""
    if not shard.is_file() or not record.is_file():
        return None
    try:
        found = read_json(record, ShardList)
    except FormatError:
        return None
    return found if found.shard.bytes == shard.stat().st_size else None
