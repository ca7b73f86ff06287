"""Uncompressed tar files, read from front to back or where a file lies: ``scenes.tar/key.jpg``. Nothing is unpacked.

A tar file may be untrusted. Python's reader loads headers of any size into memory, and takes a damaged header for the
end of the file; this one bounds what it reads and says where a file is damaged. Only plain files with harmless relative
names are read.
"""

import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from braceexpand import braceexpand

from naruto_vision.errors import BadImageError, InputError
from naruto_vision.geometry import MAX_PIXELS
from naruto_vision.io.names import refusal

SUFFIX = ".tar"
MAX_BYTES = 8 * MAX_PIXELS
"""Of an image file: 16-bit RGBA without compression."""
MOST_SHARDS = 100_000
_BLOCK = tarfile.BLOCKSIZE
_PIECE = 1 << 20
_PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE)  # not sparse: a small file of that kind may claim any size
_EMPTY = (tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE)
_LONG_NAME, _PAX, _OTHER_HEADERS = b"L", b"x", (b"g", b"K")
_LONGEST_HEADER = 1 << 16
_LONGEST_FILE = 1 << 60  # of more, no position is a C integer


class DamagedTarError(OSError):
    """A tar file that ends before its end mark, or has no header where one should be."""


class TarReader:
    """Reads a tar file once, from front to back, from a stream that need not be seekable."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._offset = self._next = 0

    def __iter__(self) -> Iterator[tarfile.TarInfo]:
        """Yield a header for each file; ``read`` reads its bytes before the next one is asked for."""
        name = ""
        while True:
            self._skip()
            header = self._offset
            block = self._exactly(_BLOCK)
            if not any(block):
                return
            try:
                member = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            except tarfile.HeaderError:
                raise DamagedTarError(f"no file begins at byte {header}") from None
            if not 0 <= member.size <= _LONGEST_FILE:
                raise DamagedTarError(f"the file at byte {header} has the size {member.size}")
            member.offset_data = self._offset
            self._next = self._offset + (0 if member.type in _EMPTY else member.size)
            self._next += -self._next % _BLOCK
            if member.type in (_LONG_NAME, _PAX, *_OTHER_HEADERS):
                name = self._long_name(member) or name
                continue
            member.name, name = name or member.name, ""
            yield member

    def _long_name(self, header: tarfile.TarInfo) -> str:
        if header.size > _LONGEST_HEADER:
            raise DamagedTarError(f"a header of {header.size} bytes; at most {_LONGEST_HEADER} are read")
        data = self.read(header)
        if header.type == _PAX:
            found = re.search(rb"(?:^|\n)\d+ path=([^\n]*)\n", data)
            data = found[1] if found else b""
        return data.rstrip(b"\0").decode("utf-8", "surrogateescape") if header.type in (_LONG_NAME, _PAX) else ""

    def read(self, member: tarfile.TarInfo) -> bytes:
        """Read the bytes of the header that was yielded last; its size is the caller's to check."""
        return self._exactly(member.size)

    def _skip(self) -> None:
        while self._offset < self._next:
            self._exactly(min(_PIECE, self._next - self._offset))

    def _exactly(self, count: int) -> bytes:
        data = self._stream.read(count)
        while len(data) < count and (more := self._stream.read(count - len(data))):
            data += more
        self._offset += len(data)
        if len(data) < count:
            raise DamagedTarError(f"it ends at byte {self._offset}, before its end mark")
        return data


class _Seekable(TarReader):
    """Passes over the bytes of files without reading them."""

    def _skip(self) -> None:
        if self._offset < self._next:  # the last byte is read, to see whether it is there
            self._stream.seek(self._next - 1)
            self._offset = self._next - 1
            self._exactly(1)


@dataclass(frozen=True)
class TarListing:
    """The files of a tar file by name, with first byte and size, and what else is in it."""

    files: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    passed_over: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # by reason
    damage: str = ""  # why the rest could not be listed


def is_tar(path: Path) -> bool:
    """Return whether a file is a tar file by its name."""
    return path.suffix.lower() == SUFFIX and path.is_file()


def member_refusal(member: tarfile.TarInfo) -> str:
    """Return why a member of a tar file is not read; empty for a plain file with a harmless name."""
    if member.type not in _PLAIN:
        return "folder" if member.isdir() else "link, device or sparse file in a tar file"
    reason = refusal(member.name)
    return f"name in a tar file that {reason}" if reason else ""


def list_tar(path: Path) -> TarListing:
    """List a tar file from its headers, of whose last four the result is kept."""
    state = path.stat()
    return _listed(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=4)  # scenes are read in the order of their shards
def _listed(path: Path, _size: int, _time: int) -> TarListing:
    files: dict[str, tuple[int, int]] = {}
    passed: dict[str, list[str]] = {}
    damage = ""
    try:
        with path.open("rb") as handle:
            for member in _Seekable(handle):
                member.name = PurePosixPath(member.name).as_posix()  # "./a.png" as paths have it
                reason = member_refusal(member) or "name that a tar file has twice" * (member.name in files)
                if not reason:
                    files[member.name] = member.offset_data, member.size
                elif reason != "folder":
                    passed.setdefault(reason, []).append(member.name)
    except OSError as error:
        damage = error.strerror or str(error)
    return TarListing(files, {reason: tuple(names) for reason, names in passed.items()}, damage)


def read_member(path: Path) -> bytes | None:
    """Read a file in a tar file; None if no part of the path is a tar file, BadImageError if it cannot be read."""
    tar = next((parent for parent in path.parents if is_tar(parent)), None)
    if tar is None:
        return None
    found = list_tar(tar).files.get(path.relative_to(tar).as_posix())
    if found is None:
        raise BadImageError(path, "is not in the tar file")
    first, size = found
    if size > MAX_BYTES:
        raise BadImageError(path, f"{size} bytes; at most {MAX_BYTES} are read")
    with tar.open("rb") as handle:
        handle.seek(first)
        data = handle.read(size)
    if len(data) != size:
        raise BadImageError(path, f"the tar file ends after {len(data)} of its {size} bytes")
    return data


def member_or_none(path: Path) -> bytes | None:
    """Read the bytes of a file in a tar file, or return None if it cannot be read."""
    try:
        return read_member(path)
    except BadImageError:
        return None


def expand_braces(text: str) -> list[str]:
    """Return the names that ``scenes-{000..999}.tar`` or ``{a,b}.tar`` expands to; the text itself otherwise."""
    if "{" not in text:
        return [text]
    if re.search(r"\.\.-?\d{7}|\d{7}\.\.", text):  # the package makes a list of every range
        raise InputError(f"{text[:80]}: a range of this length is not read")
    try:
        names = list(islice(braceexpand(text, escape=False), MOST_SHARDS + 1))
    except ValueError:  # a brace is not closed
        return [text]
    if len(names) > MOST_SHARDS:
        raise InputError(f"{text[:80]}: expands to more than {MOST_SHARDS} names")
    return names
