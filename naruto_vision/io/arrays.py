"""Read ``.npy`` data whose header is compared with its size before anything is allocated."""

import io
import math
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from naruto_vision.errors import FormatError, first_line


def array_from_npy(path: Path, data: bytes, hint: str = "") -> NDArray[Any]:
    """View the bytes of an ``.npy`` file as its array; FormatError if its numbers do not fill the bytes exactly."""
    found = _read_header(path, io.BytesIO(data), len(data), hint)
    values = np.frombuffer(data, dtype=found.dtype, offset=found.start) if found.dtype.itemsize else np.zeros(0)
    return values.reshape(found.shape, order=found.order) if values.size else np.zeros(found.shape, dtype=found.dtype)


def map_npy(path: Path, hint: str = "") -> NDArray[Any]:
    """Map an ``.npy`` file, read-only; FormatError if its numbers do not fill the file exactly."""
    with path.open("rb") as file:
        found = _read_header(path, file, path.stat().st_size, hint)
    if not math.prod(found.shape) * found.dtype.itemsize:
        return np.zeros(found.shape, dtype=found.dtype)
    return np.memmap(path, found.dtype, "r", found.start, found.shape, found.order)


class _Header(NamedTuple):
    shape: tuple[int, ...]
    order: Any
    dtype: np.dtype[Any]
    start: int


def _read_header(path: Path, stream: BinaryIO, size: int, hint: str) -> _Header:
    try:
        version = np.lib.format.read_magic(stream)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, in_columns, dtype = read_header(stream)
    except (ValueError, SyntaxError, TypeError, EOFError, RecursionError, MemoryError) as error:
        raise FormatError(path, "an .npy header of an array of numbers", first_line(error), hint) from None
    start = stream.tell()
    if dtype.hasobject:
        raise FormatError(path, "an array of numbers", f"{dtype}", hint)
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != size - start:
        raise FormatError(path, f"{dtype} of shape {shape}"[:100], f"{size - start} bytes", hint)
    return _Header(shape, "F" if in_columns else "C", dtype, start)
