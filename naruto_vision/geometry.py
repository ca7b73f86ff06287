"""COCO run lengths of a mask that is cut to its box, without the mask at the image's size."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as coco
from torch import Tensor
from torch.nn.functional import channel_shuffle, pad
from torchvision.ops import nms

from naruto_vision.records import Box, Mask


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


def shared_pixels(first: Box, second: Box) -> int:
    """Count the pixels that two boxes share.

    Args:
        first: Inclusive pixels.
        second: Inclusive pixels of the same image.

    Returns:
        A whole number, 0 where they do not meet.
    """
    width = min(first[2], second[2]) - max(first[0], second[0]) + 1
    height = min(first[3], second[3]) - max(first[1], second[1]) + 1
    return max(width, 0) * max(height, 0)


def shared_pixel_matrix(first: Sequence[Box], second: Sequence[Box]) -> NDArray[np.float64]:
    """Count the pixels that every two boxes of two lists share.

    Args:
        first: N boxes, inclusive pixels.
        second: M boxes, inclusive pixels of the same image.

    Returns:
        Shape (N, M), float64, whole numbers of pixels.
    """
    rows, columns = _corners(first)[:, None], _corners(second)[None]
    low = np.maximum(rows[..., :2], columns[..., :2])
    high = np.minimum(rows[..., 2:], columns[..., 2:])
    return np.asarray(np.clip(high - low + 1, 0, None).prod(axis=-1))


def box_pixels(boxes: Sequence[Box]) -> NDArray[np.float64]:
    """Count the pixels of every box.

    Args:
        boxes: N boxes, inclusive pixels.

    Returns:
        Shape (N,), float64, whole numbers of pixels.
    """
    corners = _corners(boxes)
    return np.asarray((corners[:, 2:] - corners[:, :2] + 1).prod(axis=-1))


def inclusive_iou_matrix(first: Sequence[Box], second: Sequence[Box]) -> NDArray[np.float64]:
    """Compute every IoU between two lists of boxes.

    Both corners are inside the box, so a side is ``x2 - x1 + 1`` pixels long and a box of one pixel has area 1.

    Args:
        first: N boxes, inclusive pixels.
        second: M boxes, inclusive pixels of the same image.

    Returns:
        Shape (N, M), float64, in [0, 1].
    """
    shared = shared_pixel_matrix(first, second)
    union = box_pixels(first)[:, None] + box_pixels(second)[None] - shared
    return np.asarray(shared / union)


def common_box(boxes: Sequence[Box]) -> Box:
    """Find the smallest box that holds all of them.

    Args:
        boxes: At least one box, inclusive pixels of one image.

    Returns:
        Inclusive pixels.

    Raises:
        ValueError: If there is no box.
    """
    if not boxes:
        msg = "common_box: expected at least one box, found none"
        raise ValueError(msg)
    x1, y1, x2, y2 = zip(*boxes, strict=True)
    return min(x1), min(y1), max(x2), max(y2)


def _corners(boxes: Sequence[Box]) -> NDArray[np.float64]:
    return np.asarray(boxes, dtype=np.float64).reshape(-1, 4)  # float64 holds any product of pixel sides exactly


def turned(rows: Tensor) -> Tensor:
    """Transpose a matrix.

    It is done as a shuffle of the channels of a single pixel, because PyTorch does that with vector instructions where
    ``rows.t().contiguous()`` goes number by number.

    Args:
        rows: Shape (h, w), uint8 or float32, neither side 0.

    Returns:
        Shape (w, h), of the same type, contiguous.
    """
    height, width = rows.shape
    count = height * width
    pixel = rows.contiguous().as_strided((1, count, 1, 1), (count, 1, count, count))  # channels last
    return channel_shuffle(pixel, height).view(width, height)


def xyxy_from_mask(mask: Mask) -> Box | None:
    """Find the tight box of a mask.

    Args:
        mask: Shape (H, W), bool.

    Returns:
        The inclusive box in the mask's own pixels, or None where the mask is empty.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


def xyxy_from_masks(masks: Tensor) -> Tensor:
    """Find the tight boxes of many masks at once.

    Args:
        masks: Shape (N, H, W), bool, any device.

    Returns:
        Shape (N, 4), int64, inclusive; all zeros for an empty mask.
    """
    rows, columns = masks.any(dim=2).byte(), masks.any(dim=1).byte()
    height, width = masks.shape[1:]
    # argmax of 0/1 values is the first 1; on the flipped axis it counts the zeros after the last 1
    boxes = torch.stack(
        [
            columns.argmax(dim=1),
            rows.argmax(dim=1),
            width - 1 - columns.flip(1).argmax(dim=1),
            height - 1 - rows.flip(1).argmax(dim=1),
        ],
        dim=1,
    )
    return boxes * rows.any(dim=1, keepdim=True)


def area_xyxy(box: Box) -> int:
    """Count the pixels of a box.

    Args:
        box: Inclusive pixels.
    """
    x1, y1, x2, y2 = box
    return (x2 - x1 + 1) * (y2 - y1 + 1)


def expand_xyxy(box: Box, ratio: float, width: int, height: int) -> Box:
    """Grow a box by a share of its own size, half of it on each side, and clip it to the image.

    Args:
        box: Inclusive pixels.
        ratio: 0.18 makes the box 18 % wider and 18 % taller before clipping.
        width: Width of the image in pixels.
        height: Height of the image in pixels.

    Returns:
        Inclusive pixels inside the image.

    Raises:
        ValueError: If the ratio is negative.
    """
    if ratio < 0:
        msg = f"expand ratio: expected at least 0, found {ratio}"
        raise ValueError(msg)
    x1, y1, x2, y2 = box
    dx, dy = round((x2 - x1 + 1) * ratio / 2), round((y2 - y1 + 1) * ratio / 2)
    return max(0, x1 - dx), max(0, y1 - dy), min(width - 1, x2 + dx), min(height - 1, y2 + dy)


def nms_xyxy(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Drop every box that overlaps a better one too much.

    The sides count ``x2 - x1`` pixels here, without the one that inclusive corners add: SAM's own generator
    counts so, and the kept masks shall be the same.

    Args:
        boxes: Shape (N, 4), any number type.
        scores: Shape (N,), float32; on a tie the earlier box is the better one.
        threshold: A box goes when its IoU with a better one is above this, in [0, 1].

    Returns:
        Shape (K,), int64: the indices that stay, best score first.
    """
    kept: Tensor = nms(boxes.float(), scores, threshold)
    return kept


def mask_area(masks: Tensor) -> Tensor:
    """Count the pixels of masks.

    Args:
        masks: Shape (..., H, W), bool, narrower than 32,768 pixels.

    Returns:
        Shape (...), int32.
    """
    # rows first, in the smallest type that holds a row: a third of the time of one 64-bit sum
    return masks.sum(dim=-1, dtype=torch.int16).sum(dim=-1, dtype=torch.int32)


def packed_rows(masks: Tensor) -> Tensor:
    """Put eight pixels of a row into a byte, which is what has to leave a GPU.

    Args:
        masks: Shape (N, H, W), bool, any device.

    Returns:
        Shape (N, H, W / 8 rounded up), uint8, the leftmost pixel in the highest bit, as ``numpy.unpackbits`` reads it.
    """
    count, height, width = masks.shape
    eights = pad(masks, (0, -width % 8)).view(count, height, -(-width // 8), 8)
    places = 1 << torch.arange(7, -1, -1, dtype=torch.uint8, device=masks.device)
    return (eights * places).sum(dim=-1, dtype=torch.uint8)


def stability_score(logits: Tensor, offset: float, threshold: float = 0.0) -> Tensor:
    """Measure how little a mask changes when its threshold does: IoU of the strict and the lax mask.

    Args:
        logits: Shape (N, H, W), float32.
        offset: How far the threshold is moved up and down, in logits.
        threshold: Where a logit becomes mask.

    Returns:
        Shape (N,), float32, in [0, 1]; 0 where even the lax mask is empty.
    """
    strict, lax = mask_area(logits > threshold + offset), mask_area(logits > threshold - offset)
    return strict / lax.clamp(min=1)


def mask_iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of masks, pair by pair.

    Args:
        first: Shape (..., H, W), bool.
        second: Broadcastable to ``first``, bool.

    Returns:
        Shape (...), float32, in [0, 1]; 0 where both are empty.
    """
    both, either = mask_area(torch.logical_and(first, second)), mask_area(torch.logical_or(first, second))
    return both / either.clamp(min=1)


def column_runs(mask: Mask, box: Box, height: int, width: int) -> NDArray[np.int64]:
    """Count the runs of a mask down the image's columns, all of them in one pass.

    Args:
        mask: Shape (h, w) of the box, bool.
        box: Where it lies, inclusive pixels of the image.
        height: Height of the image in pixels.
        width: Width of the image in pixels.

    Returns:
        Shape (N,), int64: pixels off, on, off and so on, column by column; the first is 0 where the mask starts on.
    """
    x1, y1, _, _ = box
    if len(mask) < height:  # an empty pixel below each column keeps what ends there from running into the next
        mask = np.concatenate([mask, np.zeros_like(mask[:1])])
    stride = len(mask)
    flat = turned(torch.from_numpy(mask.view(np.uint8))).numpy().ravel()
    inner = _changes(flat)
    if stride < height:
        inner += inner // stride * (height - stride)
    first = x1 * height + y1
    before = [0, first] if flat[0] else [0]
    after = [first + len(flat), height * width] if flat[-1] else [height * width]  # on at the end: no column has a gap
    runs = np.diff(inner + first, prepend=before, append=after)
    return runs[:-1] if runs[-1] == 0 and len(runs) > 1 else runs


def encode_cut(mask: Mask, box: Box, height: int, width: int) -> dict[str, Any]:
    """Write a mask as COCO run lengths, to the same letters as ``encode_rle`` of the whole mask.

    Args:
        mask: Shape (h, w) of the box, bool.
        box: Where it lies, inclusive pixels of the image.
        height: Height of the image in pixels.
        width: Width of the image in pixels.

    Returns:
        ``{"size": [height, width], "counts": text}``, compressed; JSON can hold it.
    """
    plain = {"size": [height, width], "counts": column_runs(mask, box, height, width).tolist()}
    return {"size": [height, width], "counts": coco.frPyObjects(plain, height, width)["counts"].decode("ascii")}


def _changes(flat: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Find where a row of zeros and ones differs from the place before."""
    differs = np.zeros(len(flat) + 7 & ~7, dtype=np.bool_)
    np.not_equal(flat[1:], flat[:-1], out=differs[1 : len(flat)])
    # eight places at a time first: a mask's edges are rare, and NumPy is slow where a few in a hundred places are set
    eights = differs.view(np.uint64)
    some = np.flatnonzero(eights != 0)
    places = np.flatnonzero(eights[some].view(np.bool_))
    found: NDArray[np.int64] = 8 * some[places >> 3] + (places & 7)
    return found
