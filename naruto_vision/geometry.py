"""Boxes, masks and COCO run lengths. A box is ``x1 y1 x2 y2`` in pixels, all four inclusive; NumPy only at import."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Box: TypeAlias = tuple[int, int, int, int]
"""``(x1, y1, x2, y2)`` in pixels of the upright image, all four inclusive."""

Mask: TypeAlias = NDArray[np.bool_]
"""A binary mask: shape (H, W), bool."""

MAX_PIXELS = 50_000_000
"""Pixels of the largest image or mask that is read."""

_MAX_OUTLINE = 4_000_000  # pixels


def xyxy_from_mask(mask: Mask) -> Box | None:
    """Find the tight box of a mask (H, W) in its own pixels; None if it is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


def shape_of_xyxy(box: Box) -> tuple[int, int]:
    """Return the height and the width of a box."""
    x1, y1, x2, y2 = box
    return y2 - y1 + 1, x2 - x1 + 1


def area_xyxy(box: Box) -> int:
    """Count the pixels of a box."""
    height, width = shape_of_xyxy(box)
    return height * width


def expand_xyxy(box: Box, ratio: float, width: int, height: int) -> Box:
    """Grow a box by a fraction of its size, half of it on each side, and clip it to an image.

    A ratio of 0.18 makes the box 18 % wider and taller before clipping.
    """
    if ratio < 0:
        raise ValueError(f"expand ratio: expected at least 0, found {ratio}")
    x1, y1, x2, y2 = box
    dx, dy = round((x2 - x1 + 1) * ratio / 2), round((y2 - y1 + 1) * ratio / 2)
    return max(0, x1 - dx), max(0, y1 - dy), min(width - 1, x2 + dx), min(height - 1, y2 + dy)


def shared_pixels(first: Box, second: Box) -> int:
    """Count the pixels that two boxes of one image share."""
    width = min(first[2], second[2]) - max(first[0], second[0]) + 1
    height = min(first[3], second[3]) - max(first[1], second[1]) + 1
    return max(width, 0) * max(height, 0)


def shared_pixel_matrix(first: Sequence[Box], second: Sequence[Box]) -> NDArray[np.float64]:
    """Count the pixels that every two of N and M boxes share: (N, M), float64, integral values."""
    rows, columns = _corners(first)[:, None], _corners(second)[None]
    low = np.maximum(rows[..., :2], columns[..., :2])
    high = np.minimum(rows[..., 2:], columns[..., 2:])
    return np.asarray(np.clip(high - low + 1, 0, None).prod(axis=-1))


def box_pixels(boxes: Sequence[Box]) -> NDArray[np.float64]:
    """Count the pixels of N boxes: (N,), float64, integral values."""
    corners = _corners(boxes)
    return np.asarray((corners[:, 2:] - corners[:, :2] + 1).prod(axis=-1))


def inclusive_iou_matrix(first: Sequence[Box], second: Sequence[Box]) -> NDArray[np.float64]:
    """Compute the IoU of every two of N and M boxes: (N, M), float64, in [0, 1]; a box of one pixel has area 1."""
    shared = shared_pixel_matrix(first, second)
    union = box_pixels(first)[:, None] + box_pixels(second)[None] - shared
    return np.asarray(shared / union)


def shared_mask_pixels(first: tuple[Box, Mask], second: tuple[Box, Mask]) -> int:
    """Count the pixels that two masks share, each cropped to its box in one image."""
    x1, y1 = (max(first[0][axis], second[0][axis]) for axis in (0, 1))
    x2, y2 = (min(first[0][axis], second[0][axis]) for axis in (2, 3))
    if x1 > x2 or y1 > y2:
        return 0
    views = (mask[y1 - box[1] : y2 + 1 - box[1], x1 - box[0] : x2 + 1 - box[0]] for box, mask in (first, second))
    return int(np.count_nonzero(np.logical_and(*views)))


def fill_holes(mask: Mask) -> Mask:
    """Fill the holes of a mask (H, W), bool: returns the same shape."""
    import cv2

    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    solid = np.zeros(mask.shape, np.uint8)
    cv2.drawContours(solid, outlines, -1, 1, cv2.FILLED)
    return solid.view(np.bool_)


def common_box(boxes: Sequence[Box]) -> Box:
    """Find the smallest box that contains all given boxes."""
    if not boxes:
        raise ValueError("common_box: expected at least one box, found none")
    x1, y1, x2, y2 = zip(*boxes, strict=True)
    return min(x1), min(y1), max(x2), max(y2)


def _corners(boxes: Sequence[Box]) -> NDArray[np.float64]:
    return np.asarray(boxes, dtype=np.float64).reshape(-1, 4)  # float64 holds any product of pixel sides exactly


def counts_from_mask(mask: Mask) -> bytes:
    """Return COCO's compressed run lengths of a mask (H, W), bool, down its columns."""
    import cv2
    from pycocotools import mask as coco

    columns = cv2.transpose(np.ascontiguousarray(mask).view(np.uint8))  # several times faster than NumPy's copy
    counts: bytes = coco.encode(columns.T)["counts"]
    return counts


def mask_overlap_matrix(
    first: Sequence[Mask], second: Sequence[Mask], *, of_first: bool = False
) -> NDArray[np.float64]:
    """Return the IoU of each pair of masks (H, W), bool, or the share of the first one that is in the second one.

    Returns:
        Shape (len(first), len(second)), float64, in [0, 1].
    """
    from pycocotools import mask as coco

    if not first or not second:
        return np.zeros((len(first), len(second)))
    rles = [[{"size": each.shape, "counts": counts_from_mask(each)} for each in masks] for masks in (first, second)]
    overlaps: NDArray[np.float64] = coco.iou(
        *rles, [int(of_first)] * len(second)
    )  # COCO's "crowds" divide by the first
    return overlaps


def rle_from_mask(mask: Mask) -> dict[str, Any]:
    """Return ``{"size": [H, W], "counts": text}`` of a mask (H, W), bool, for JSON."""
    return {"size": list(mask.shape), "counts": counts_from_mask(mask).decode("ascii")}


def mask_from_rle(record: Mapping[str, Any]) -> Mask:
    """Read a mask from COCO run lengths, compressed or plain: returns (H, W), bool.

    The runs are decoded and checked in Python, because pycocotools can crash the process on malformed runs.

    Examples:
        >>> mask_from_rle({"size": [2, 2], "counts": [1, 2, 1]}).tolist()
        [[False, True], [True, False]]
    """
    import cv2

    height, width, runs = _checked_runs(record)
    columns = np.repeat((np.arange(len(runs)) % 2).astype(np.uint8), runs).reshape(width, height)
    return cv2.transpose(columns).view(np.bool_) if columns.size else np.zeros((height, width), np.bool_)


def rle_from_polygons(polygons: object, height: int, width: int) -> dict[str, Any]:
    """Return the run lengths of all pixels whose centre is in one of the polygons ``[[x, y, …], …]``, as COCO does.

    x and y are in edges of pixels. A ValueError says why a value that a file has is no list of polygons.
    """
    from pycocotools import mask as coco

    try:
        corners = [np.asarray(one, dtype=np.float64).reshape(-1, 2) for one in polygons]  # type: ignore[attr-defined]  # or a TypeError
    except (TypeError, ValueError):
        corners = []
    if not corners or min(map(len, corners)) < 3 or not all(np.isfinite(one).all() for one in corners):
        raise ValueError(f"polygons: expected lists of three or more points x, y, found {str(polygons)[:40]}")
    around = sum(float(np.abs(np.diff(one, axis=0, append=one[:1])).max(axis=1).sum()) for one in corners)
    if around > _MAX_OUTLINE or not 0 < height * width <= MAX_PIXELS:  # pycocotools takes memory for the whole outline
        raise ValueError(
            f"polygons: expected an image of up to {MAX_PIXELS} pixels and outlines of at most {_MAX_OUTLINE}, found "
            f"{height}x{width} and {around:.0f}"
        )
    runs = coco.merge(coco.frPyObjects([one.ravel().tolist() for one in corners], height, width))
    return {"size": [height, width], "counts": runs["counts"].decode("ascii")}


def canonical_rle(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return ``rle_from_mask`` of checked run lengths without decoding them to pixels; None of an empty mask."""
    from pycocotools import mask as coco

    height, width, runs = _checked_runs(record)
    inside, runs = (np.arange(len(runs)) % 2)[runs > 0], runs[runs > 0]
    if not inside.any():
        return None
    first = np.flatnonzero(np.diff(inside, prepend=1 - inside[0]))  # runs of one kind become one
    joined: list[int] = np.add.reduceat(runs, first).tolist()
    plain = {"size": [height, width], "counts": [0] * int(inside[0]) + joined}
    return {"size": [height, width], "counts": coco.frPyObjects(plain, height, width)["counts"].decode("ascii")}


def _checked_runs(record: Mapping[str, Any]) -> tuple[int, int, NDArray[np.int64]]:
    """Return height, width and run lengths of a record; ValueError unless they fill an image of a size that is read."""
    size = record.get("size")
    if not (isinstance(size, Sequence) and len(size) == 2 and all(isinstance(n, int) and n >= 0 for n in size)):
        raise ValueError(f"run-length mask: expected size [height, width], found {size!r}")
    height, width = size
    if height * width > MAX_PIXELS:
        raise ValueError(f"run-length mask: expected at most {MAX_PIXELS} pixels, found {height}x{width}")
    runs = _runs(record.get("counts"))
    total = sum(runs.tolist())
    if total != height * width or min(runs, default=0) < 0:
        raise ValueError(f"run-length mask: expected runs that fill {height}x{width} pixels, found a sum of {total}")
    return height, width, runs


def area_of_counts(counts: bytes) -> int:
    """Count the pixels of a mask by its compressed run lengths."""
    return int(_runs(counts)[1::2].sum())


def rle_of_cut(counts: bytes, box: Box, height: int, width: int) -> dict[str, Any]:
    """Return ``rle_from_mask`` of a whole mask, from the compressed run lengths of its crop to a box."""
    from pycocotools import mask as coco

    plain = {"size": [height, width], "counts": runs_of_cut(counts, box, height, width)}
    return {"size": [height, width], "counts": coco.frPyObjects(plain, height, width)["counts"].decode("ascii")}


def runs_of_cut(counts: bytes, box: Box, height: int, width: int) -> list[int]:
    """Return the run lengths of a whole mask, uncompressed, from the compressed ones of its crop to a box."""
    tall, _ = shape_of_xyxy(box)
    edges = np.cumsum(_runs(counts))
    starts, ends = edges[: len(edges) // 2 * 2].reshape(-1, 2).T
    if tall < height:  # a run that continues in the next column of the crop is interrupted in the image
        first = starts // tall
        spans = (ends - 1) // tall - first + 1
        column = np.repeat(first, spans) + np.arange(spans.sum()) - np.repeat(np.cumsum(spans) - spans, spans)
        starts = np.maximum(np.repeat(starts, spans), column * tall) + column * (height - tall)
        ends = np.minimum(np.repeat(ends, spans), (column + 1) * tall) + column * (height - tall)
    edges = np.stack([starts, ends], axis=1).ravel() + box[0] * height + box[1]
    runs: list[int] = np.diff(edges, prepend=0, append=height * width).tolist()
    return runs if runs[-1] or len(runs) == 1 else runs[:-1]


def _runs(counts: object) -> NDArray[np.int64]:
    """Return run lengths, background first; from the fourth on, COCO stores the difference from the run two before."""
    if isinstance(counts, bytes):
        counts = counts.decode("ascii", errors="replace")
    if isinstance(counts, str):
        numbers = _uncompress(counts)
        numbers[1::2], numbers[2::2] = np.cumsum(numbers[1::2]), np.cumsum(numbers[2::2])
        return numbers
    if isinstance(counts, Sequence) and all(isinstance(run, int) and abs(run) < 1 << 60 for run in counts):
        return np.asarray(counts, dtype=np.int64)
    raise ValueError(f"run-length mask: expected counts as text or whole numbers, found {type(counts).__name__}")


def _uncompress(text: str) -> NDArray[np.int64]:
    """Decode COCO's numbers: six bits per character from "0" up, five of value and a continuation bit."""
    digits = np.frombuffer(text.encode("ascii", errors="replace"), np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero(digits & 32 == 0)
    starts = np.concatenate([[0], ends[:-1] + 1]).astype(np.int64)[: len(ends)]
    lengths = ends - starts + 1
    whole = len(digits) == 0 or (digits.min() >= 0 and digits.max() < 64 and lengths.sum() == len(digits))
    if not whole or lengths.max(initial=0) > 12:  # longer ones do not fit into 64 bits
        raise ValueError(f"run-length mask: counts {text[:24]!r} are not COCO's compressed form")
    if not len(ends):
        return np.zeros(0, np.int64)
    shifts = 5 * (np.arange(len(digits)) - np.repeat(starts, lengths))
    numbers = np.add.reduceat((digits & 31) << shifts, starts)
    return np.where(digits[ends] & 16, numbers - (1 << 5 * lengths), numbers)  # bit 5 of the last digit is the sign
