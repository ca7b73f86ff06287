"""Publish a gallery's next generation: whole or not at all, by one writer at a time."""

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from naruto_vision.errors import InputError
from naruto_vision.files.atomic import atomic_folder, remove_leftovers, sync_folder, write_bytes
from naruto_vision.files.hashing import has_sha256
from naruto_vision.gallery.layout import LOCK, MANIFEST, OPTIONAL, STAGING, json_bytes, read_manifest


@contextmanager
def writer_lock(folder: str | Path) -> Iterator[None]:
    """Keep other writers out of a gallery folder; the system lets go of the lock when the process ends, however.

    Args:
        folder: The gallery; one that is not there yet needs no lock.

    Raises:
        InputError: If somebody else is writing.
    """
    root = Path(folder)
    if not root.is_dir():
        yield
        return
    with (root / LOCK).open("a+b") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            owner = handle.read(20).decode("ascii", "replace").strip() or "unknown"
            msg = f"{root}: process {owner} is changing this gallery; wait until it has finished, then try again"
            raise InputError(msg) from None
        handle.truncate(0)
        handle.write(f"{os.getpid()}\n".encode("ascii"))
        handle.flush()
        yield


def publish(folder: str | Path, files: Mapping[str, bytes], manifest: Mapping[str, Any]) -> None:
    """Write one generation; the caller holds the lock.

    The new files wait in a folder of their own. Renaming the manifest is the moment at which they count; moving them
    to their places comes after, and whoever opens the gallery in between finds them where they wait. A process that
    is killed leaves the generation before or the one after, never a mixture.

    Args:
        folder: The gallery; what else lies in it stays.
        files: Name to bytes: all files of the generation.
        manifest: Has their hashes.
    """
    root = Path(folder)
    if not root.exists():
        with atomic_folder(root) as temporary:
            for name, data in {**files, MANIFEST: json_bytes(manifest)}.items():
                (temporary / name).write_bytes(data)
        return
    settle(root)
    try:
        staging = root / STAGING
        staging.mkdir()
        for name, data in files.items():
            if not has_sha256(root / name, manifest["files"][name]):
                _write_synced(staging / name, data)
        sync_folder(staging)
        write_bytes(root / MANIFEST, json_bytes(manifest))
    finally:
        settle(root)


def settle(folder: str | Path) -> None:
    """Finish what a stopped writer had published, and drop what it had not; the caller holds the lock.

    Args:
        folder: The gallery.
    """
    root = Path(folder)
    remove_leftovers(root)
    try:
        files: Mapping[str, str] = read_manifest(root)["files"]
    except InputError:  # no gallery yet, or a damaged one that is being replaced: nothing was published
        files = {}
    waiting = [name for name, digest in files.items() if has_sha256(root / STAGING / name, digest)]
    for name in waiting:
        (root / STAGING / name).replace(root / name)
    if waiting:
        sync_folder(root)
    for name in OPTIONAL - set(files) if files else ():
        (root / name).unlink(missing_ok=True)
    shutil.rmtree(root / STAGING, ignore_errors=True)


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())
