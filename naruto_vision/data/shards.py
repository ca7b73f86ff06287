"""Shards: resized images in tar files that WebDataset reads, with an index for random access.

::

    ROOT/shards.json                     format version
    ROOT/<split>/index.json              classes, longest side, and each shard's bytes, sha256 and number of images
    ROOT/<split>/<split>-000000.tar      00000000.png, 00000000.cls, 00000000.json; 00000001.png, ...
    ROOT/<split>/<split>-000000.json     for each image: path, labels, and where its bytes are in the shard

Any reader of tar files can stream them. Here an image is read by its offset, so that order, length and the share of
each process are those of the folder: nothing depends on how images are spread over shards, processes or workers.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import cv2
import msgspec

from naruto_vision.data.tables import ClassTable, ReadRules, SourceRow, build_table
from naruto_vision.errors import FormatError, InputError, MissingPathError
from naruto_vision.io.atomic import atomic_file, remove_leftovers, utf8, write_json
from naruto_vision.io.bundles import file_sha256
from naruto_vision.io.images import MAX_BYTES, decode_image, read_image, shrink, split_crop
from naruto_vision.io.locks import is_in_use
from naruto_vision.io.quarantine import Quarantine
from naruto_vision.io.typed_json import read_json
from naruto_vision.records import ImageArray

T = TypeVar("T")
FORMAT: Literal[1] = 1
MARK = "shards.json"
INDEX = "index.json"


class PackedImage(NamedTuple):
    """Path and classes of an image in the data set that was packed, and its first byte and bytes in the shard."""

    path: str
    labels: tuple[str, ...]
    offset: int
    size: int


class ShardFile(msgspec.Struct):
    """A whole tar file."""

    bytes: int
    sha256: str


class ShardList(msgspec.Struct):
    """The content of one shard, and its source."""

    format: Literal[1]
    wanted: str
    shard: ShardFile
    pictures: list[PackedImage]
    quarantined: list[tuple[str, str]]


class IndexedShard(msgspec.Struct):
    """One shard of a split."""

    name: str
    pictures: int
    bytes: int
    sha256: str = ""


class SplitIndex(msgspec.Struct):
    """The content of ``index.json``."""

    format: Literal[1]
    classes: tuple[str, ...]
    shards: list[IndexedShard]
    side: int = 0


def read_part(path: Path, kind: type[T]) -> T:
    """Read a JSON file of a folder of shards."""
    hint = "make the shards again with `naruto-vision data shard`"
    if not path.is_file():
        raise MissingPathError(path, "part of a folder of shards", hint)
    return read_json(path, kind, hint=hint)


class ShardReader:
    """The images of one split, by their paths. It has no open file, so it can be sent to other processes.

    ``classes`` are in their fixed order, ``images`` is path to labels in the order of the shards. A missing or short
    shard is a MissingPathError or FormatError: it is never read in part.
    """

    def __init__(self, folder: Path) -> None:
        index = read_part(folder / INDEX, SplitIndex)
        self.classes = index.classes
        self.images: dict[str, tuple[str, ...]] = {}
        self._offsets: dict[str, tuple[Path, int, int]] = {}
        for shard in index.shards:
            self._add(folder / shard.name, shard.bytes, shard.pictures)

    def _add(self, shard: Path, size: int, count: int) -> None:
        found = shard.stat().st_size if shard.is_file() else 0
        if found != size:
            raise FormatError(shard, f"{size} bytes", f"{found}; make the shards again with `naruto-vision data shard`")
        packed = read_part(shard.with_suffix(".json"), ShardList).pictures
        inside = all(0 <= one.offset <= size - one.size and 0 <= one.size <= MAX_BYTES for one in packed)
        if len(packed) != count or not inside:
            expected = f"{count} images inside {size} bytes"
            raise FormatError(shard.with_suffix(".json"), expected, f"{len(packed)}" if inside else "others")
        for one in packed:
            self._offsets[one.path] = (shard, one.offset, one.size)
            self.images[one.path] = one.labels

    def read(self, path: str) -> ImageArray:
        """Decode one image."""
        shard, offset, size = self._offsets[path]
        with shard.open("rb") as file:
            file.seek(offset)
            return decode_image(file.read(size), f"{shard}: {path}")


@dataclass(frozen=True)
class FolderReader:
    """Images as files in a folder."""

    root: Path

    def read(self, path: str) -> ImageArray:
        """Decode one image."""
        return read_image(self.root / path)


def image_reader(root: Path) -> ShardReader | FolderReader:
    """Return the image reader of a table."""
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
    """Refuse a folder with other content, and mark it as one of shards."""
    if out.is_dir() and is_in_use(out) and not (out / MARK).is_file():
        msg = f"{out}: is not empty and has no shards; give another --out"
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

    Images go to shards in the order of a hash of their paths, so that a stream mixes the classes.
    """
    labels: dict[str, list[str]] = {}
    for row in table.rows:
        labels.setdefault(row.path, []).append(row.label)
    order = sorted(labels, key=lambda path: hashlib.sha256(utf8(path)).hexdigest())
    items = [(path, tuple(labels[path])) for path in order]
    folder, kept = out / split, 0
    (folder / INDEX).unlink(missing_ok=True)  # no index until all is written again
    written = []
    for number, start in enumerate(range(0, len(items), plan.shard_size)):
        name = folder / f"{split}-{number:06d}.tar"
        part = items[start : start + plan.shard_size]
        record, kept_one = _write_shard(name, table, part, plan, start, advance)
        kept += kept_one
        for path, reason in record.quarantined:
            quarantine.refuse(path, reason)
        quarantine.ok += len(record.pictures)
        written.append({"name": name.name, "pictures": len(record.pictures), **msgspec.to_builtins(record.shard)})
    quarantine.check(plan.max_bad)
    _remove_others(folder, {str(one["name"]) for one in written})
    write_json(folder / INDEX, {"format": FORMAT, "classes": list(table.classes), "side": plan.side, "shards": written})
    return kept


def _remove_others(folder: Path, names: set[str]) -> None:
    """Remove the shards of an earlier, longer run."""
    for shard in folder.glob("*.tar"):
        if shard.name not in names:
            shard.unlink()
            shard.with_suffix(".json").unlink(missing_ok=True)


def _write_shard(
    shard: Path, table: ClassTable, items: Sequence[Item], plan: ShardPlan, first: int, advance: Callable[[], None]
) -> tuple[ShardList, bool]:
    """Write one shard and its list, unless they are there already; return the list, and whether they were."""
    record = shard.with_suffix(".json")
    wanted = _digest(table, items, plan)
    done = _read_list(shard, record)
    if done is not None and done.wanted == wanted:
        for _ in items:
            advance()
        return done, True
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
        PackedImage(path, labels, member.offset_data, member.size)
        for (path, labels), member in zip(kept, members, strict=True)
    ]
    file = ShardFile(shard.stat().st_size, file_sha256(shard))
    value = ShardList(FORMAT, wanted, file, rows, [(row.path, row.reason) for row in bad.rows])
    write_json(record, msgspec.to_builtins(value), indent=None)
    return value, False


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """Add a file without a date or an owner, so that the same images give the same bytes."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def _digest(table: ClassTable, items: Sequence[Item], plan: ShardPlan) -> str:
    """Return a digest of a shard's images and packing options."""
    states = (
        file.stat() if file.is_file() else None for file in (table.root / split_crop(path)[0] for path, _ in items)
    )
    sources = [(state.st_size, state.st_mtime_ns) if state else (0, 0) for state in states]
    text = json.dumps([plan.side, plan.quality, list(table.classes), list(items), sources])
    return hashlib.sha256(text.encode()).hexdigest()


def _read_list(shard: Path, record: Path) -> ShardList | None:
    """Read the list of an existing shard; None if either is missing or broken."""
    if not shard.is_file() or not record.is_file():
        return None
    try:
        found = read_json(record, ShardList)
    except FormatError:
        return None
    return found if found.shard.bytes == shard.stat().st_size else None
