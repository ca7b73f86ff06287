"""Does a split leak? The same picture, nearly the same picture, or a neighbouring frame on both sides of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from naruto_vision.data.audit_items import GALLERY, AuditItems, Seen
from naruto_vision.data.frame_leaks import FrameLeaks, Numbers, find_frame_leaks
from naruto_vision.data.picture_hash import NEAR_BITS, NearPair, near_pairs
from naruto_vision.metrics.intervals import Rate

COMPARISONS = (
    ("valid", "train"),
    ("test", "train"),
    ("test", "valid"),
    ("valid", GALLERY),
    ("test", GALLERY),
)
"""Held-out part, and the part that it has to share nothing with. Train and gallery may share everything."""


@dataclass(frozen=True)
class Alike:
    """Two pictures that are the same, or nearly.

    Args:
        first: Place among the audit's items.
        second: Place of the other, larger than ``first``.
        distance: Bits of 256 in which their hashes differ; 0 for the same pixels.
        exact: Whether the pixels are the same.
        mirrored: Whether one is the other's mirror image.
    """

    first: int
    second: int
    distance: int = 0
    exact: bool = False
    mirrored: bool = False


@dataclass(frozen=True)
class Comparison:
    """One held-out part against another part.

    Args:
        held: The held-out part.
        against: The part that it has to share nothing with.
        compared: Held-out pictures that could be looked at.
        exact: Held-out pictures whose pixels stand on the other side too.
        near: Held-out pictures, not exact, that look nearly like one of the other side.
        frames: What the file names say.
        leaking: Held-out pictures that are exact, near or a neighbouring frame.
    """

    held: str
    against: str
    compared: int
    exact: int
    near: int
    frames: FrameLeaks
    leaking: int

    def as_json(self) -> dict[str, Any]:
        """Return the counts, with rates and their intervals, and the neighbouring frames."""
        frames = self.frames
        return {
            "held": self.held,
            "against": self.against,
            "pictures": frames.pictures,
            "leaking": Rate(self.leaking, frames.pictures).as_json(),
            "exact": Rate(self.exact, self.compared).as_json(),
            "near": Rate(self.near, self.compared).as_json(),
            "frames_within": frames.within.as_json(),
            "frames_agreeing": frames.agreeing.as_json(),
            "by_name_alone": frames.by_name_alone.as_json(),
            "by_majority": {"label": frames.majority[0], **frames.by_majority.as_json()},
            "counted_families": list(frames.counted),
            "neighbours": [
                {
                    "path": one.path,
                    "label": one.label,
                    "nearest": one.nearest,
                    "nearest_label": one.nearest_label,
                    "distance": one.distance,
                }
                for one in frames.near
            ],
        }


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Args:
        items: The pictures.
        seen: What they look like.
        alike: Every pair that is the same or nearly so, the most alike first, wherever its pictures stand.
        comparisons: Held-out parts against the others.
        window: Frame numbers that differ by at most this much are neighbours.
    """

    items: AuditItems
    seen: Seen
    alike: tuple[Alike, ...]
    comparisons: tuple[Comparison, ...]
    window: int

    @property
    def leaking(self) -> int:
        """Held-out pictures that leak, summed over the comparisons."""
        return sum(one.leaking for one in self.comparisons)

    def crossing(self) -> list[Alike]:
        """Return the pairs that stand on both sides of a comparison, the most alike first."""
        return [pair for pair in self.alike if self._crosses(pair)]

    def repeats(self, part: str) -> int:
        """Count the pictures of a part that repeat an earlier one of it, exactly or nearly.

        Args:
            part: "train", "valid", "test" or "gallery".
        """
        items = self.items.items
        return len({pair.second for pair in self.alike if items[pair.first].part == items[pair.second].part == part})

    def conflicts(self) -> int:
        """Count the pairs of the same pixels under different classes."""
        items = self.items.items
        return sum(pair.exact and items[pair.first].row.label != items[pair.second].row.label for pair in self.alike)

    def _crosses(self, pair: Alike) -> bool:
        parts = {self.items.items[place].part for place in (pair.first, pair.second)}
        return any({one.held, one.against} == parts for one in self.comparisons)

    def as_json(self) -> dict[str, Any]:
        """Return what ``audit.json`` holds."""
        return {
            "window": self.window,
            "near_bits": NEAR_BITS,
            "pictures": {part: len(self.items.rows(part)) for part in self.items.parts},
            "absent": self.seen.absent,
            **{f"pictures_{name}": count for name, count in self.seen.quarantine.counts().items()},
            "leaking": self.leaking,
            "repeats": {part: self.repeats(part) for part in self.items.parts},
            "same_pixels_other_class": self.conflicts(),
            "comparisons": [one.as_json() for one in self.comparisons],
            "crossing_pairs": [self._pair_json(pair) for pair in self.crossing()],
        }

    def _pair_json(self, pair: Alike) -> dict[str, Any]:
        sides = [self.items.items[place] for place in (pair.first, pair.second)]
        return {
            "parts": [side.part for side in sides],
            "paths": [side.row.path for side in sides],
            "labels": [side.row.label for side in sides],
            "distance": pair.distance,
            "exact": pair.exact,
            "mirrored": pair.mirrored,
        }


def find_alike(seen: Seen, most_bits: int = NEAR_BITS) -> tuple[Alike, ...]:
    """Find every pair of pictures that are the same, or nearly.

    Args:
        seen: What the pictures look like.
        most_bits: Most bits of 256 in which a near pair's hashes differ.

    Returns:
        The exact pairs, then the near ones, the most alike first.
    """
    places = list(seen.looks)
    looks = list(seen.looks.values())

    def alike(pair: NearPair) -> Alike:
        first, second = looks[pair.first], looks[pair.second]
        exact = first.digest == second.digest
        return Alike(places[pair.first], places[pair.second], pair.distance, exact, pair.mirrored and not exact)

    found = [alike(pair) for pair in near_pairs(looks, most_bits)]
    return tuple(sorted(found, key=lambda pair: (not pair.exact, pair.distance, pair.first, pair.second)))


def _compare(
    items: AuditItems, seen: Seen, alike: Sequence[Alike], sides: tuple[str, str], window: int, numbers: Numbers
) -> Comparison:
    held, against = sides
    exact: set[int] = set()
    near: set[int] = set()
    for pair in alike:
        for here, there in ((pair.first, pair.second), (pair.second, pair.first)):
            if (items.items[here].part, items.items[there].part) == sides:
                (exact if pair.exact else near).add(here)
    frames = find_frame_leaks(items.rows(held), items.rows(against), items.classes, window=window, numbers=numbers)
    compared = sum(items.items[place].part == held for place in seen.looks)
    by_frame = {one.path for one in frames.near}
    leaking = by_frame | {items.items[place].row.path for place in exact | near}
    return Comparison(held, against, compared, len(exact), len(near - exact), frames, len(leaking))


def audit(items: AuditItems, seen: Seen, *, window: int = 3, numbers: Numbers = "auto") -> Audit:
    """Look for pictures that stand, or nearly stand, on both sides of a split.

    Args:
        items: The pictures.
        seen: What they look like; nothing for an audit of the names alone.
        window: Frame numbers that differ by at most this much are neighbours.
        numbers: What numbers in file names are.
    """
    alike = find_alike(seen)
    sides = [pair for pair in COMPARISONS if set(pair) <= set(items.parts)]
    found = tuple(_compare(items, seen, alike, pair, window, numbers) for pair in sides)
    return Audit(items, seen, alike, found, window)
