r"""Atomic files: temporary file in the same folder, fsync, rename.

Every writer puts its bytes into a temporary file in the *same* folder, flushes it to the disk,
renames it over the final name and flushes the folder. A temporary name starts with ``.tmp-``. Its writer has it locked:
one that is not locked was left by a killed process, and the next writer beside it removes it.

Texts are UTF-8. A byte of a file name that is not, such as E9, is written as ``\udce9``: in JSON that is its own
escape, which every reader turns back, and so do the readers of CSV files here.
"""

import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from naruto_vision.errors import InputError
from naruto_vision.io.locks import TEMPORARY, disk_errors_named, is_locked, lock, release

TEMPORARY_PREFIX = ".tmp-"
_OLD = re.compile(rf"{re.escape(TEMPORARY)}\w{{8}}-(.+)-old")  # of a folder that is being replaced
_LONG = 200  # bytes of a name; file systems take 255
_swept: set[Path] = set()


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _allowed(mode: int) -> int:
    """Return what the user's umask leaves of a mode; temporary files and folders are made for the owner alone."""
    umask = os.umask(0)
    os.umask(umask)
    return mode & ~umask


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path with the same suffix; on success it is renamed to ``path``, on failure removed."""
    final = Path(path)
    if final.is_dir():  # the rename would fail at the end, and name the temporary file
        raise IsADirectoryError(errno.EISDIR, "expected a file to write, found a folder", str(final))
    final.parent.mkdir(parents=True, exist_ok=True)
    _sweep(final.parent)
    with disk_errors_named(final):
        descriptor, name = tempfile.mkstemp(prefix=TEMPORARY, suffix=final.suffix, dir=final.parent)
        lock(descriptor)
        temporary = Path(name)
        try:
            yield temporary
            with temporary.open("rb+") as handle:
                os.fsync(handle.fileno())
            temporary.chmod(_allowed(0o666))
            temporary.replace(final)
            sync_folder(final.parent)
        finally:
            temporary.unlink(missing_ok=True)
            release(descriptor)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield an empty temporary folder; on success it replaces ``path`` as a whole.

    Between the two renames of the swap the old folder has a ``.tmp-`` name, so a kill never leaves a mixture of both;
    the next writer beside it puts the old folder back.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    _sweep(final.parent)
    name = final.name if len(os.fsencode(final.name)) < _LONG else "long"
    with disk_errors_named(final), ExitStack() as locked:
        temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=final.parent))
        old = temporary.with_name(f"{temporary.name}-{name}-old")
        locked.enter_context(_locked(temporary))
        temporary.chmod(_allowed(0o777))
        try:
            yield temporary
            for file in filter(Path.is_file, temporary.rglob("*")):
                file.chmod(_allowed(0o666))
                with file.open("rb") as handle:
                    os.fsync(handle.fileno())
            if final.exists():
                locked.enter_context(_locked(final))
                final.rename(old)
            temporary.rename(final)
            sync_folder(final.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            if final.exists():
                shutil.rmtree(old, ignore_errors=True)
            elif old.exists():  # the second rename failed
                old.rename(final)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    lock(descriptor)
    try:
        yield
    finally:
        release(descriptor)


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a whole file atomically."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(data)


def utf8(text: str) -> bytes:
    """Encode a text that may have file names whose bytes are not UTF-8, which are escaped."""
    return text.encode("utf-8", "backslashreplace")


def unicode_text(text: str) -> str:
    """Return a text whose bytes that are not UTF-8 are escaped, for what holds valid Unicode only."""
    return utf8(text).decode()


def write_text(path: str | Path, text: str) -> None:
    """Write a whole UTF-8 text file atomically, with line feeds unchanged."""
    write_bytes(path, utf8(text))


def json_bytes(value: object, *, indent: int | None = 2) -> bytes:
    """Return the bytes of a JSON file: UTF-8, final newline, no NaN."""
    return utf8(json.dumps(value, ensure_ascii=False, indent=indent, allow_nan=False) + "\n")


def lines_bytes(values: Iterable[Mapping[str, Any]]) -> bytes:
    """Return the bytes of a JSON Lines file."""
    return b"".join(json_bytes(value, indent=None) for value in values)


def write_json(path: str | Path, value: object, *, indent: int | None = 2) -> None:
    """Write a JSON file atomically, as ``json_bytes``."""
    write_bytes(path, json_bytes(value, indent=indent))


def check_empty(out: Path) -> None:
    """Raise InputError if an output folder has files already."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: is not empty; give another --out")


def remove_leftovers(folder: str | Path) -> int:
    """Remove temporary files that killed processes left in a folder of this package and its sub-folders."""
    removed = 0
    for parent, folders, files in os.walk(folder):
        leftovers = [name for name in folders if name.startswith(TEMPORARY_PREFIX)]
        folders[:] = [name for name in folders if name not in leftovers]
        unfinished = [name for name in files if name.startswith(TEMPORARY_PREFIX)]
        removed += sum(_discard(Path(parent) / name) for name in [*leftovers, *unfinished])
    return removed


def _sweep(folder: Path) -> None:
    """Remove what killed processes left directly in a folder, once per folder and process."""
    if folder not in _swept:
        _swept.add(folder)
        for name in os.listdir(folder):  # noqa: PTH208 - may be a large folder
            if name.startswith(TEMPORARY):  # in folders of others, only what is certainly this package's
                _discard(folder / name)


def _discard(path: Path) -> bool:
    """Remove a temporary file or folder unless a process has it locked; an old folder without successor is put back."""
    try:
        if is_locked(path):
            return False
        replaced = _OLD.fullmatch(path.name)
        if replaced and not path.with_name(replaced[1]).exists():
            path.rename(path.with_name(replaced[1]))
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    except (FileNotFoundError, PermissionError):  # another process was faster, or it is another user's
        return False
    return True
