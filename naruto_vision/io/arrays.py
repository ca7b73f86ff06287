"""Read ``.npy`` data whose header is compared with its size before anything is allocated."""

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from naruto_vision.errors import FormatError


def array_from_npy(path: Path, data: bytes, hint: str = "") -> NDArray[Any]:
    """View the bytes of an ``.npy`` file as its array; FormatError if its numbers do not fill the bytes exactly."""
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, in_columns, dtype = read_header(stream)
    except (ValueError, SyntaxError, TypeError, EOFError, RecursionError, MemoryError) as error:
        raise FormatError(
            path, "an .npy header of an array of numbers", str(error).partition("\n")[0][:100], hint
        ) from None
    start = stream.tell()
    if dtype.hasobject:
        raise FormatError(path, "an array of numbers", f"{dtype}", hint)
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(data) - start:
        raise FormatError(path, f"{dtype} of shape {shape}"[:100], f"{len(data) - start} bytes", hint)
    values = np.frombuffer(data, dtype=dtype, offset=start) if dtype.itemsize else np.zeros(0, dtype=dtype)
    return values.reshape(shape, order="F" if in_columns else "C") if values.size else np.zeros(shape, dtype=dtype)
