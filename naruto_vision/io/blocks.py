"""Contents of files that are written and hashed block by block, because they may be larger than the memory."""

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Blocks: TypeAlias = Iterable[bytes | memoryview]
"""The content of a file; it can be iterated several times."""

_SIZE = 1 << 22


class FileBlocks:
    """The content of a file that is there."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __iter__(self) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            while block := file.read(_SIZE):
                yield block


class MadeBlocks:
    """Blocks that a function makes again for each pass."""

    def __init__(self, make: Callable[[], Iterator[bytes | memoryview]]) -> None:
        self._make = make

    def __iter__(self) -> Iterator[bytes | memoryview]:
        return self._make()


def npy_blocks(array: NDArray[Any]) -> Blocks:
    """Return the content of an ``.npy`` file of an array (N, D), which may be a mapped file."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
    rows = max(1, _SIZE // max(1, array[:1].nbytes))

    def make() -> Iterator[bytes | memoryview]:
        yield header.getvalue()
        for start in range(0, len(array), rows):
            yield np.ascontiguousarray(array[start : start + rows]).data.cast("B")

    return MadeBlocks(make)


def sha256_of(blocks: Blocks) -> str:
    """Return the SHA-256 of a content, as hexadecimal digits."""
    found = hashlib.sha256()
    for block in blocks:
        found.update(block)
    return found.hexdigest()
