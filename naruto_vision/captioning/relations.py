"""How the regions of one image lie to each other, with definitions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from naruto_vision.geometry import Box, fill_holes, shared_mask_pixels, shared_pixels
from naruto_vision.records import Mask, Region

DEFINITIONS: Mapping[str, str] = {
    "inside": "at least 90 % of A's mask lies in B's mask with its holes filled, and A's mask is the smaller one",
    "contains": "B is inside A",
    "overlaps": "the masks share at least 5 % of the smaller one's pixels, and neither is inside the other",
    "near": "the gap between the boxes is at most 5 % of the image's diagonal, and the masks do not overlap",
    "left of": "the boxes share at most a quarter of the narrower one's width, and A's middle is further left",
    "right of": "B is left of A",
    "above": "as left of, from top to bottom",
    "below": "B is above A",
}
"""Relation of A to B → when it holds."""

_INSIDE, _OVERLAP, _NEAR, _SHARED_SIDE = 0.9, 0.05, 0.05, 0.25
_NEIGHBOURS = 5


@dataclass(frozen=True)
class Relation:
    """How region ``a`` lies to region ``b`` of one image.

    Args:
        a: Index of the first region.
        b: Index of the second one, larger than ``a``.
        kinds: Every relation of a to b that holds: "inside", "contains", "overlaps", "near", "left of", "right of",
            "above", "below".
        gap: Pixels between the boxes, 0 if they touch or overlap.
        shared: Pixels that both masks have.
    """

    a: int
    b: int
    kinds: tuple[str, ...]
    gap: float = 0.0
    shared: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return the JSON values."""
        return {"a": self.a, "b": self.b, "relations": list(self.kinds), "gap": self.gap, "shared": self.shared}


def relate_regions(regions: Sequence[Region], width: int, height: int) -> list[Relation]:
    """Find how the regions of an image lie to each other.

    Pairs that overlap or are near are listed, and those where one is among the other's five nearest, so that the
    list grows with the number of regions, not with its square. The definitions are in ``docs/describe.md``.

    Args:
        regions: Regions of one image.
        width: Width of the image in pixels.
        height: Height of the image in pixels.

    Returns:
        One relation for each listed pair for which any holds, in the order of the pairs.

    Examples:
        >>> import naruto_vision as nv
        >>> import numpy as np
        >>> left, right = (nv.Region((x, 0, x + 9, 9), np.ones((10, 10), bool)) for x in (0, 14))
        >>> [relation.kinds for relation in nv.relate_regions([left, right], 100, 100)]
        [('near', 'left of')]
    """
    reach = _NEAR * float(np.hypot(width, height))
    gaps = _gaps([region.box for region in regions])
    listed = set(zip(*np.nonzero(gaps <= reach), strict=True))
    for index, row in enumerate(gaps):
        listed.update((index, int(other)) for other in np.argsort(row, kind="stable")[:_NEIGHBOURS])
    masks = [region.mask for region in regions]
    found = []
    for a, b in sorted({(min(pair), max(pair)) for pair in listed if pair[0] != pair[1]}):
        gap = float(gaps[a, b])
        kinds, shared = _contact((regions[a].box, masks[a]), (regions[b].box, masks[b]))
        kinds += ("near",) * (not kinds and gap <= reach)
        if not {"inside", "contains"} & set(kinds):
            kinds += _sides(regions[a].box, regions[b].box)
        if kinds:
            found.append(Relation(int(a), int(b), kinds, round(gap, 1), shared))
    return found


def _gaps(boxes: Sequence[Box]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the pixels between every two boxes: (N, N), infinite on the diagonal."""
    corners = np.asarray(boxes, np.float64).reshape(-1, 4)
    low, high = corners[:, :2], corners[:, 2:]
    apart = np.maximum(low[:, None] - high[None], low[None] - high[:, None]) - 1
    gaps: np.ndarray[Any, np.dtype[np.float64]] = np.hypot(*np.moveaxis(apart.clip(0), -1, 0))
    np.fill_diagonal(gaps, np.inf)
    return gaps


def _contact(first: tuple[Box, Mask], second: tuple[Box, Mask]) -> tuple[tuple[str, ...], int]:
    """Return the relation by masks, if there is one, and the shared pixels."""
    if not shared_pixels(first[0], second[0]):
        return (), 0
    small, large = sorted((first, second), key=lambda each: int(each[1].sum()))
    size = int(small[1].sum())
    shared = shared_mask_pixels(small, large)
    if shared_mask_pixels(small, (large[0], fill_holes(large[1]))) >= _INSIDE * size:
        return (("inside",) if small is first else ("contains",)), shared
    return (("overlaps",) if shared >= _OVERLAP * size else ()), shared


def _sides(a: Box, b: Box) -> tuple[str, ...]:
    kinds = []
    for axis, (before, after) in enumerate((("left of", "right of"), ("above", "below"))):
        common = min(a[axis + 2], b[axis + 2]) - max(a[axis], b[axis]) + 1
        side = min(a[axis + 2] - a[axis], b[axis + 2] - b[axis]) + 1
        if common <= _SHARED_SIDE * side:
            kinds.append(before if a[axis] + a[axis + 2] < b[axis] + b[axis + 2] else after)
    return tuple(kinds)


def relation_lines(relations: Sequence[Relation]) -> list[str]:
    """Say the relations in words, the regions as D1, D2 …: one line for each pair."""
    lines = []
    for each in relations:
        parts = [kind if kind in {"contains", "overlaps"} else f"is {kind}" for kind in each.kinds]
        lines.append(f"D{each.a + 1} {' and '.join(parts)} D{each.b + 1}")
    return lines
