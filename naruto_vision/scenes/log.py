"""An append-only JSON Lines log that survives a kill: whole lines count, a torn last line does not."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from naruto_vision.files.atomic import atomic_file


def read_log(path: str | Path) -> Iterator[dict[str, Any]]:
    """Read the whole lines of a log.

    Args:
        path: The log; one that is not there is empty.

    Yields:
        One JSON object a line; a torn last line is left out.
    """
    file = Path(path)
    if not file.is_file():
        return
    with file.open("rb") as handle:
        for line in handle:
            if line.endswith(b"\n"):
                yield json.loads(line)


class SceneLog:
    """One writer's log; opening it cuts off a torn last line.

    Args:
        path: The file to append to; its folder is made if need be.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._handle = self.path.open("a+b")
        self._cut_torn_line()

    def _cut_torn_line(self) -> None:
        self._handle.seek(0)
        whole = 0
        for line in self._handle:
            if line.endswith(b"\n"):
                whole += len(line)
        self._handle.truncate(whole)
        self._handle.seek(0, os.SEEK_END)

    def append(self, line: str) -> None:
        """Append one line and flush it to the disk.

        Args:
            line: Text that ends in a line feed.
        """
        self._handle.write(line.encode("utf-8"))
        self._handle.flush()
        os.fsync(self._handle.fileno())

    def close(self) -> None:
        """Close the file."""
        self._handle.close()


def merge_logs(target: Path, parts: list[Path], order: dict[str, int]) -> None:
    """Bring the logs of several processes together in scene order; each scene once.

    Args:
        target: The log to write; what it holds already is kept.
        parts: The other logs; they are removed when ``target`` is whole.
        order: Scene to its place.
    """
    places: dict[str, tuple[Path, int]] = {}
    for log in [target, *parts]:
        offset = 0
        for line in log.open("rb") if log.is_file() else []:
            if line.endswith(b"\n"):
                places.setdefault(json.loads(line)["scene"], (log, offset))
            offset += len(line)
    with atomic_file(target) as temporary, temporary.open("wb") as out:
        for scene in sorted(places, key=lambda name: (order.get(name, len(order)), name)):
            log, offset = places[scene]
            with log.open("rb") as handle:
                handle.seek(offset)
                out.write(handle.readline())
    for part in parts:
        part.unlink(missing_ok=True)
