"""Merge parts of a character (a face, a coat) if their union matches one gallery label better.

A segmenter may split a character into several regions. Two regions that touch are candidates; their union is embedded
like any region, and replaces them if its score is higher than that of either part. Merged regions are candidates again,
so a character of five parts needs several rounds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import cv2
import numpy as np

from naruto_vision.geometry import common_box, shared_mask_pixels, shared_pixels
from naruto_vision.records import Box, Identity, Mask, Region

Identify = Callable[[Sequence[Region]], Sequence[Identity]]
"""Names regions of the current image."""


@dataclass(frozen=True)
class MergeConfig:
    """When parts are merged into one character.

    Args:
        gain: Least difference between the score of a union and that of its better part, as a cosine.
        gap: Parts that are at most this many pixels apart touch.
        rounds: Most rounds of merging.
        max_candidates: Most unions that are embedded in one round, those of the largest parts first.
        nested: A region with this fraction of its pixels inside another one is nested, and no candidate.
        drop_nested: Drop a nested region if the outer region scores at least this much higher, as a cosine (may be
            negative); None keeps nested regions.

    Raises:
        ValueError: If a number is out of its range.

    Examples:
        >>> import naruto_vision as nv
        >>> nv.MergeConfig(gain=0.05).rounds
        4
    """

    gain: float = 0.0
    gap: int = 3
    rounds: int = 4
    max_candidates: int = 32
    nested: float = 0.8
    drop_nested: float | None = None

    def __post_init__(self) -> None:
        if min(self.gap, self.rounds, self.max_candidates) < 0 or not 0 < self.nested <= 1:
            raise ValueError(f"merge: expected gap, rounds, max_candidates >= 0 and nested in (0, 1], found {self}")


class _Named(NamedTuple):
    region: Region
    identity: Identity


def merge_parts(
    regions: Sequence[Region], identities: Sequence[Identity], identify: Identify, settings: MergeConfig
) -> tuple[tuple[Region, ...], tuple[Identity, ...]]:
    """Merge parts if their union matches one label better."""
    found = [_Named(*pair) for pair in zip(regions, identities, strict=True)]
    for _ in range(settings.rounds):
        pairs = _candidates(found, settings)
        unions = [union_of(found[i].region, found[j].region) for i, j in pairs]
        if not unions:
            break
        named = [_Named(*pair) for pair in zip(unions, identify(unions), strict=True)]
        after = _accept(found, pairs, named, settings)
        if len(after) == len(found):
            break
        found = after
    if settings.drop_nested is not None:
        found = _without_nested(found, settings.nested, settings.drop_nested)
    found = sorted(found, key=lambda one: -one.region.area)
    return tuple(one.region for one in found), tuple(one.identity for one in found)


def union_of(first: Region, second: Region) -> Region:
    """Return the union of two regions, with the lower of their qualities; its prompt names both."""
    box = common_box([first.box, second.box])
    mask = _within(first, box) | _within(second, box)
    predicted = min(first.predicted_iou, second.predicted_iou)
    return Region(box, mask, predicted, min(first.stability, second.stability), first.prompt + second.prompt)


def _within(region: Region, box: Box) -> Mask:
    """Return a region's mask (H, W) in the frame of a box, clipped to it."""
    x1, y1 = max(region.box[0], box[0]), max(region.box[1], box[1])
    x2, y2 = min(region.box[2], box[2]), min(region.box[3], box[3])
    frame = np.zeros((box[3] - box[1] + 1, box[2] - box[0] + 1), dtype=np.bool_)
    if x1 <= x2 and y1 <= y2:
        inside = region.mask[y1 - region.box[1] : y2 - region.box[1] + 1, x1 - region.box[0] : x2 - region.box[0] + 1]
        frame[y1 - box[1] : y2 - box[1] + 1, x1 - box[0] : x2 - box[0] + 1] = inside
    return frame


def common_pixels(first: Region, second: Region) -> int:
    """Count the pixels that two regions share."""
    if not shared_pixels(first.box, second.box):
        return 0
    return shared_mask_pixels((first.box, first.mask), (second.box, second.mask))


def touch(first: Region, second: Region, gap: int) -> bool:
    """Return whether two regions are within ``gap`` pixels along rows and columns; 0 requires a shared pixel."""
    x1, y1, x2, y2 = first.box
    grown = (x1 - gap, y1 - gap, x2 + gap, y2 + gap)
    if not shared_pixels(grown, second.box):
        return False
    framed = np.pad(first.mask, gap).astype(np.uint8)
    reach = cv2.dilate(framed, np.ones((2 * gap + 1, 2 * gap + 1), np.uint8)).astype(np.bool_)
    return bool((_within(second, grown) & reach).any())


def _candidates(found: Sequence[_Named], settings: MergeConfig) -> list[tuple[int, int]]:
    order = sorted(range(len(found)), key=lambda index: -found[index].region.area)
    pairs = []
    for i, j in combinations(order, 2):
        large, small = found[i], found[j]
        if _differ(large.identity, small.identity) or not touch(large.region, small.region, settings.gap):
            continue
        if common_pixels(large.region, small.region) < settings.nested * small.region.area:
            pairs.append((i, j))
    return pairs[: settings.max_candidates]


def _differ(first: Identity, second: Identity) -> bool:
    """Return whether two parts are known and have different labels."""
    return first.known and second.known and first.label != second.label


def _accept(
    found: Sequence[_Named], pairs: Sequence[tuple[int, int]], unions: Sequence[_Named], settings: MergeConfig
) -> list[_Named]:
    """Accept unions with enough gain, greedily by gain, each part once."""
    gains = []
    for (i, j), union in zip(pairs, unions, strict=True):
        best = max(found[i].identity.score, found[j].identity.score)
        gains.append(union.identity.score - best)
    taken: set[int] = set()
    merged = []
    for index in sorted(range(len(pairs)), key=lambda k: -gains[k]):
        if gains[index] >= settings.gain and taken.isdisjoint(pairs[index]):
            taken.update(pairs[index])
            merged.append(unions[index])
    return [*merged, *(one for index, one in enumerate(found) if index not in taken)]


def _without_nested(found: Sequence[_Named], nested: float, lead: float) -> list[_Named]:
    def is_part(one: _Named) -> bool:
        return any(
            whole.region.area > one.region.area
            and not _differ(whole.identity, one.identity)
            and whole.identity.score >= one.identity.score + lead
            and common_pixels(whole.region, one.region) >= nested * one.region.area
            for whole in found
        )

    return [one for one in found if not is_part(one)]
