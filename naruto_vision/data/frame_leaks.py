"""Frames of one video in two splits: how near they are by their numbers, and what that alone gives away."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from naruto_vision.data.frame_names import Frame, frame_of, is_exported
from naruto_vision.metrics.intervals import Rate
from naruto_vision.records import LabelledPicture

Numbers: TypeAlias = Literal["auto", "frames", "ignore"]
"""What numbers in file names are: frames, to be ignored, or (auto) frames unless they look like counters."""

COUNTED = 0.5
"""A family of which this share of held-out numbers stands in training too was counted, not cut from a video."""


@dataclass(frozen=True)
class FrameNeighbour:
    """A held-out picture and the frame of the other side that is nearest by number.

    Args:
        path: The held-out picture.
        label: Its class.
        nearest: The nearest frame's path; of two equally near, the later one's.
        nearest_label: That frame's class.
        distance: Difference of the numbers.
    """

    path: str
    label: str
    nearest: str
    nearest_label: str
    distance: int

    @property
    def agrees(self) -> bool:
        """Whether both have the same class."""
        return self.label == self.nearest_label


@dataclass(frozen=True)
class FrameLeaks:
    """What the file names of one split say about its classes, given another split.

    Args:
        pictures: Held-out pictures.
        window: Numbers that differ by at most this much are neighbours.
        neighbours: The nearest frame of every held-out picture whose family stands on the other side, as well.
        majority: The other side's most frequent class, and how many held-out pictures have it.
        counted: Families left out because their numbers look like counters.
    """

    pictures: int
    window: int
    neighbours: tuple[FrameNeighbour, ...]
    majority: tuple[str, int]
    counted: tuple[str, ...] = ()

    @property
    def near(self) -> tuple[FrameNeighbour, ...]:
        """The neighbours within the window."""
        return tuple(one for one in self.neighbours if one.distance <= self.window)

    @property
    def within(self) -> Rate:
        """Held-out pictures that have a frame of the other side within the window."""
        return Rate(len(self.near), self.pictures)

    @property
    def agreeing(self) -> Rate:
        """Those within the window whose nearest frame has their class."""
        return Rate(sum(one.agrees for one in self.near), len(self.near))

    @property
    def by_name_alone(self) -> Rate:
        """Held-out pictures named right by the class of the nearest frame, however far; no frame is wrong."""
        return Rate(sum(one.agrees for one in self.neighbours), self.pictures)

    @property
    def by_majority(self) -> Rate:
        """Held-out pictures named right by the most frequent class of the other side."""
        return Rate(self.majority[1], self.pictures)


def _by_family(
    rows: Sequence[LabelledPicture], classes: Collection[str]
) -> Mapping[str, list[tuple[Frame, LabelledPicture]]]:
    families: dict[str, list[tuple[Frame, LabelledPicture]]] = defaultdict(list)
    for row in rows:
        frame = frame_of(row.path, classes)
        if frame is not None:
            families[frame.family].append((frame, row))
    return families


def looks_counted(numbers: Sequence[int]) -> bool:
    """Tell whether numbers of one family were counted several times, class by class, and so are no frames.

    Args:
        numbers: The family's numbers, at least one.
    """
    often = Counter(numbers)
    return sum(often[number] > 1 for number in numbers) >= COUNTED * len(numbers)


def _counted_sides(
    held: Sequence[tuple[Frame, LabelledPicture]], others: Sequence[tuple[Frame, LabelledPicture]]
) -> bool:
    """Tell whether both sides were numbered from the start, each for itself."""
    if any(is_exported(row.path) for _, row in held):
        return False
    taken = {frame.number for frame, _ in others}
    both = [frame.number for frame, _ in (*held, *others)]
    return sum(frame.number in taken for frame, _ in held) >= COUNTED * len(held) or looks_counted(both)


def _nearest(frame: Frame, row: LabelledPicture, others: Sequence[tuple[Frame, LabelledPicture]]) -> FrameNeighbour:
    other, found = min(others, key=lambda one: (abs(one[0].number - frame.number), -one[0].number, one[1].path))
    return FrameNeighbour(row.path, row.label, found.path, found.label, abs(other.number - frame.number))


def find_frame_leaks(
    held: Sequence[LabelledPicture],
    others: Sequence[LabelledPicture],
    classes: Collection[str] = (),
    *,
    window: int = 3,
    numbers: Numbers = "auto",
) -> FrameLeaks:
    """Look for the nearest frame of every held-out picture.

    Args:
        held: The held-out pictures.
        others: The pictures that are learned from.
        classes: Class names, whose folders do not make a family.
        window: Numbers that differ by at most this much are neighbours.
        numbers: What numbers in file names are.
    """
    common = Counter(row.label for row in others).most_common(1)
    majority = common[0][0] if common else ""
    neighbours: list[FrameNeighbour] = []
    counted = []
    families = {} if numbers == "ignore" else _by_family(others, classes)
    for family, frames in _by_family(held, classes).items():
        known = families.get(family, [])
        if known and numbers == "auto" and _counted_sides(frames, known):
            counted.append(family.replace("#", "<number>"))
        elif known:
            neighbours.extend(_nearest(frame, row, known) for frame, row in frames)
    neighbours.sort(key=lambda one: (one.distance, one.path))
    share = (majority, sum(row.label == majority for row in held))
    return FrameLeaks(len(held), window, tuple(neighbours), share, tuple(sorted(counted)))
