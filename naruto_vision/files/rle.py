"""COCO's run lengths, the form in which masks stand in files."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco

from naruto_vision.records import Mask


def encode_rle(mask: Mask) -> dict[str, Any]:
    """Write a mask as COCO run lengths.

    Args:
        mask: Shape (H, W), bool.

    Returns:
        ``{"size": [H, W], "counts": text}``, compressed; JSON can hold it.
    """
    record = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in record["size"]], "counts": record["counts"].decode("ascii")}


def decode_rle(record: Mapping[str, Any]) -> Mask:
    """Read a mask from COCO run lengths, compressed or plain.

    The runs are checked here and never reach the C library, which trusts them and can crash the process.

    Args:
        record: ``{"size": [H, W], "counts": text, bytes or whole numbers}``.

    Returns:
        Shape (H, W), bool.

    Raises:
        ValueError: If the record is malformed or its runs do not fill the mask exactly.

    Example:
        >>> decode_rle({"size": [2, 2], "counts": [1, 2, 1]}).tolist()
        [[False, True], [True, False]]
    """
    size, counts = record.get("size"), record.get("counts")
    if not (isinstance(size, Sequence) and len(size) == 2 and all(isinstance(n, int) and n >= 0 for n in size)):
        msg = f"run-length mask: expected size [height, width], found {size!r}"
        raise ValueError(msg)
    height, width = size
    runs = _runs(counts)
    if sum(runs) != height * width or min(runs, default=0) < 0:
        msg = f"run-length mask: expected runs that fill {height}x{width} pixels, found a sum of {sum(runs)}"
        raise ValueError(msg)
    values = np.arange(len(runs)) % 2 == 1
    return np.ascontiguousarray(np.repeat(values, runs).reshape(width, height).T)


def _runs(counts: object) -> list[int]:
    if isinstance(counts, bytes):
        counts = counts.decode("ascii", errors="replace")
    if isinstance(counts, str):
        return _uncompress(counts)
    if isinstance(counts, Sequence) and all(isinstance(run, int) for run in counts):
        return list(counts)
    msg = f"run-length mask: expected counts as text or whole numbers, found {type(counts).__name__}"
    raise ValueError(msg)


def _uncompress(text: str) -> list[int]:
    """Undo COCO's text form: six bits a character from "0" up, of which five are value and one says "more"."""
    digits = [ord(character) - 48 for character in text]
    if any(not 0 <= digit < 64 for digit in digits) or (digits and digits[-1] & 32):
        msg = f"run-length mask: counts {text[:24]!r} are not COCO's compressed form"
        raise ValueError(msg)
    numbers: list[int] = []
    value, shift = 0, 0
    for digit in digits:
        value |= (digit & 31) << shift
        shift += 5
        if not digit & 32:
            numbers.append(value - (1 << shift) if digit & 16 else value)  # bit 5 of the last digit is the sign
            value, shift = 0, 0
    runs: list[int] = []
    for index, number in enumerate(numbers):  # from the fourth run on, the difference from the run two before it
        runs.append(number + (runs[index - 2] if index > 2 else 0))
    return runs
