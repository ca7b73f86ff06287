"""Packs class data into shards: each is whole or not there, and an interrupted run goes on behind the last one."""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

from naruto_vision.data.shards import FORMAT, INDEX, MARK, image_reader, shrink
from naruto_vision.data.tables import ClassTable
from naruto_vision.errors import BadImageError, InputError, MissingPathError
from naruto_vision.io.atomic import atomic_file, remove_leftovers, write_json
from naruto_vision.io.bundles import file_sha256
from naruto_vision.io.quarantine import Quarantine
from naruto_vision.records import ImageArray

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
        """Scale an image down and encode it.

        Args:
            image: Shape (H, W, 3), uint8, RGB.
        """
        small = cv2.cvtColor(shrink(image, self.side), cv2.COLOR_RGB2BGR)
        options = [cv2.IMWRITE_JPEG_QUALITY, self.quality] if self.quality else [cv2.IMWRITE_PNG_COMPRESSION, 1]
        return cv2.imencode(self.suffix, small, options)[1].tobytes()

    @property
    def suffix(self) -> str:
        """How the images' names end."""
        return ".jpg" if self.quality else ".png"


def check_out(out: Path) -> None:
    """Refuse a folder that holds something else, and mark it as one of shards.

    Args:
        out: The folder; made if need be.

    Raises:
        InputError: If it is not empty and holds no shards.
    """
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

    Args:
        out: The folder of all splits.
        split: Its name.
        table: Its images.
        plan: How they are packed.
        quarantine: Gets the images that cannot be read.
        advance: Called after every image.

    Returns:
        How many shards were kept from an earlier run.

    Raises:
        InputError: If too many images cannot be read; then the split has no index, and nothing reads it.
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
    bad: list[tuple[str, str]] = []
    kept: list[Item] = []
    with atomic_file(shard) as temporary, tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
        for number, (path, labels) in enumerate(items, start=first):
            advance()
            try:
                data = plan.encode(reader.read(path))
            except (BadImageError, MissingPathError) as error:
                bad.append((path, str(error)))
                continue
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
    value = {"format": FORMAT, "wanted": wanted, "shard": told, "pictures": rows, "quarantined": bad}
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
