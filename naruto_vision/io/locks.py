"""One writer for one folder: advisory locks (``flock``) that end with their process, however it ends."""

import errno
import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from naruto_vision.errors import InputError

LOCK = ".lock"
"""Name of the lock file in a folder while a process writes there; removed afterwards."""

TEMPORARY = ".tmp-nv-"
"""How the names of this package's temporary files begin."""

_LOG = logging.getLogger(__name__)
_held: set[int] = set()


def _close_inherited() -> None:
    """Close the locks of the parent in a forked child, as a worker that outlives a killed run would keep them."""
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_close_inherited)


def lock(descriptor: int) -> bool:
    """Lock an open file or folder without waiting; False where another process has it. ``release`` ends the lock."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        _LOG.warning("this file system has no locks (%s); write into a folder with one process at a time", error)
    _held.add(descriptor)
    return True


def release(descriptor: int) -> None:
    """Close a descriptor, and so end its lock; nothing in a forked child, which has closed it."""
    if descriptor in _held:
        _held.remove(descriptor)
        os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Whether a live process has a file or folder locked."""
    if path.is_symlink():
        return False
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # locked, or locks are unknown here
        return True
    finally:
        os.close(descriptor)
    return False


def is_in_use(folder: Path) -> bool:
    """Whether a folder has anything but lock files and what killed writers left."""
    names = (entry.name for entry in folder.iterdir())
    return any(not name.startswith(TEMPORARY) and not (name[0] == "." and name.endswith(LOCK)) for name in names)


def lock_beside(folder: str | Path) -> Path:
    """Return the lock file beside a folder that is replaced as a whole, as one inside would be replaced with it."""
    return Path(folder).with_name(f".{Path(folder).absolute().name}{LOCK}")


@contextmanager
def disk_errors_named(path: str | Path) -> Iterator[None]:
    """Name the path in an error about a temporary or lock file, or of a full disk where an open file is written."""
    try:
        yield
    except OSError as error:
        name = str(error.filename or "")
        full = error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if full or TEMPORARY in name or name.endswith(LOCK):
            error.filename = str(path)
        raise


@contextmanager
def folder_lock(
    folder: str | Path, option: str = "", *, doing: str = "writing into this folder", file: Path | None = None
) -> Iterator[None]:
    """Lock a folder against other writers; InputError names the process that has the lock.

    The folder is made if it is missing, and removed afterwards if it is then still empty. ``option`` chooses another
    folder, ``doing`` says what the holder does, both for the message; ``file`` is the lock file, by default ``.lock``
    in the folder.
    """
    path = (file or Path(folder) / LOCK).absolute()
    made = [parent for parent in path.parents if not parent.exists()]
    with disk_errors_named(folder):
        descriptor = _take(path)
    if descriptor not in _held:
        owner = os.read(descriptor, 20).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        advice = f"or give another {option}" if option else "then try again"
        raise InputError(f"{folder}: process {owner} is {doing}; wait until it has finished, {advice}")
    try:
        with disk_errors_named(folder):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode("ascii"))
            yield
    finally:
        if descriptor in _held:  # not in a forked child
            try:
                path.unlink(missing_ok=True)  # while it is locked; whoever waits for it opens a new one
            finally:
                release(descriptor)
            with suppress(OSError):  # a folder has files
                for parent in made:
                    parent.rmdir()


def _take(path: Path) -> int:
    """Open and lock a lock file; the descriptor is not in ``_held`` if another process has the lock."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # the last holder has removed the folder
            continue
        if not lock(descriptor):
            return descriptor
        with suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        release(descriptor)  # the last holder has removed the file
