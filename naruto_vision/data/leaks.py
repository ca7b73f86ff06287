"""Leakage between splits: duplicates, near duplicates and neighbouring video frames."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import pdist

from naruto_vision.data.image_hash import NEAR_BITS, NEAR_COLOUR, ImageSignature, NearPair, image_signature, near_pairs
from naruto_vision.data.tables import SPLIT_WORDS, ClassTable, FolderFiles, Split
from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.io.images import read_image, split_crop
from naruto_vision.io.names import label_name, refusal
from naruto_vision.io.quarantine import Quarantine
from naruto_vision.metrics.stats import Rate
from naruto_vision.records import LabelledImage

_EXPORT_HASH = re.compile(r"\.rf\.[0-9A-Za-z]+$")
_OLD_SUFFIX = re.compile(r"[_-](jpe?g|png|webp|bmp|gif)$", re.IGNORECASE)
_LAST_NUMBER = re.compile(r"^(.*?)([0-9]+)([^0-9]*)$", re.DOTALL)


class Frame(NamedTuple):
    """A family of numbered images (the common part of their names) and a number in it."""

    family: str
    number: int


def plain_stem(name: str) -> str:
    """Return a file name's stem without the suffix of a Roboflow export (``_jpg.rf.<hash>``).

    Examples:
        >>> plain_stem("show-12_jpg.rf.0a1b.jpg")
        'show-12'
    """
    return _OLD_SUFFIX.sub("", _EXPORT_HASH.sub("", PurePosixPath(name).stem))


def is_exported(name: str) -> bool:
    """Return whether a Roboflow export named a file; equal plain stems are then copies of one uploaded image."""
    return bool(_EXPORT_HASH.search(PurePosixPath(name).stem))


def frame_of(path: str, classes: Collection[str] = ()) -> Frame | None:
    """Read family and frame number out of an image's path.

    The number is the last run of digits of the plain stem. The family is the rest of the stem and the folders, without
    those that name a split or a class: a class folder names the class, not the source video.
    """
    match = _LAST_NUMBER.match(plain_stem(path))
    if match is None:
        return None
    folders = list(PurePosixPath(path).parts[:-1])
    splits = [k for k, part in enumerate(folders) if part.casefold() in SPLIT_WORDS]
    folders = folders[splits[-1] + 1 :] if splits else folders
    kept = [part for part in folders if label_name(part) not in classes]
    return Frame("/".join([*kept, f"{match[1]}#{match[3]}"]), int(match[2]))


Numbers: TypeAlias = Literal["auto", "frames", "ignore"]
"""How numbers in file names are read: as frames, not at all, or (auto) as frames unless they look like counters.

Counters restart for each class or split, or their neighbours look no more alike than other images of the family.
"""

COUNTED = 0.5
"""Fraction of held-out numbers also in training from which a family is a counter, not frames of a video."""

_ALIKE, _BY_CHANCE = 0.25, 0.1  # a quarter of a video's neighbours are as similar as a tenth of its other pairs
_PAIRED = 128  # images of a family of which all pairs are compared
_FEWEST = 8  # neighbours; fewer cannot tell a video from a collection, and count as frames


@dataclass(frozen=True)
class FrameNeighbour:
    """A held-out image and the frame of the other side that is nearest by number; the later one of a tie."""

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
    """The nearest frame by number of every held-out image whose family is on the other side too."""

    images: int
    window: int
    neighbours: tuple[FrameNeighbour, ...]
    majority: tuple[str, int]  # the other side's commonest class, and how many held-out images have it
    counted: tuple[str, ...] = ()  # families left out because their numbers look like counters

    @property
    def near(self) -> tuple[FrameNeighbour, ...]:
        """The neighbours within the window."""
        return tuple(one for one in self.neighbours if one.distance <= self.window)

    @property
    def within(self) -> Rate:
        """Share of held-out images with a frame of the other side within the window."""
        return Rate(len(self.near), self.images)

    @property
    def agreeing(self) -> Rate:
        """Share of those whose nearest frame has their class."""
        return Rate(sum(one.agrees for one in self.near), len(self.near))

    @property
    def by_name_alone(self) -> Rate:
        """Accuracy of labelling by the nearest frame's class, however far; without a frame it is an error."""
        return Rate(sum(one.agrees for one in self.neighbours), self.images)

    @property
    def by_majority(self) -> Rate:
        """Accuracy of labelling by the most frequent class of the other side."""
        return Rate(self.majority[1], self.images)


def _by_family(
    rows: Sequence[LabelledImage], classes: Collection[str]
) -> Mapping[str, list[tuple[Frame, LabelledImage]]]:
    families: dict[str, list[tuple[Frame, LabelledImage]]] = defaultdict(list)
    for row in rows:
        frame = frame_of(row.path, classes)
        if frame is not None:
            families[frame.family].append((frame, row))
    return families


def looks_counted(numbers: Sequence[int]) -> bool:
    """Return whether the numbers of a family are counters that restart for each class, not frames."""
    often = Counter(numbers)
    return sum(often[number] > 1 for number in numbers) >= COUNTED * len(numbers)


def unlike_families(
    frames: Sequence[Frame | None], views: Mapping[int, NDArray[Any]], window: int = 3, same: float = 0.0
) -> set[str]:
    """Find the families whose neighbouring numbers look no more alike than other pairs: they are no video.

    ``views`` describe images by index in arrays of one shape; up to a mean absolute difference ``same`` they are alike.
    """
    families: dict[str, dict[int, int]] = defaultdict(dict)
    for index, frame in enumerate(frames):
        if frame is not None and index in views:
            families[frame.family].setdefault(frame.number, index)
    return {family for family, own in families.items() if not _neighbours_alike(own, views, window, same)}


def _neighbours_alike(images: Mapping[int, int], views: Mapping[int, NDArray[Any]], window: int, same: float) -> bool:
    numbers = sorted(images)
    rows = np.stack([views[images[number]].ravel() for number in numbers]).astype(np.float32)
    near = np.abs(np.diff(rows, axis=0)).mean(axis=1)[np.diff(numbers) <= window]
    if len(near) < _FEWEST:
        return True
    some = rows[:: -(-len(rows) // _PAIRED)]
    every = pdist(some, "cityblock") / rows.shape[1]
    return float((near <= max(same, np.quantile(every, _BY_CHANCE))).mean()) >= _ALIKE


def frame_runs(
    rows: Sequence[LabelledImage | GalleryRow], views: NDArray[np.float32] | None = None
) -> list[tuple[str, int] | None]:
    """Give images whose frame numbers are in the same ten of a family the same key; None without a frame number.

    ``views`` (N, K) describe the images; numbers whose neighbours do not look alike are no frame numbers.
    """
    classes = {row.label for row in rows}
    frames = [frame_of(row.path, classes) for row in rows]
    unlike = set() if views is None else unlike_families(frames, dict(enumerate(views)))
    numbers: dict[str, list[int]] = defaultdict(list)
    for frame in {(one, row.path) for one, row in zip(frames, rows, strict=True) if one is not None}:
        numbers[frame[0].family].append(frame[0].number)
    counted = unlike | {family for family, own in numbers.items() if looks_counted(own)}
    return [None if one is None or one.family in counted else (one.family, one.number // 10) for one in frames]


def _counted_sides(held: Sequence[tuple[Frame, LabelledImage]], others: Sequence[tuple[Frame, LabelledImage]]) -> bool:
    """Return whether both sides were numbered independently from the start."""
    if any(is_exported(row.path) for _, row in held):
        return False
    taken = {frame.number for frame, _ in others}
    both = [number for number, _ in {(frame.number, split_crop(row.path)[0]) for frame, row in (*held, *others)}]
    return sum(frame.number in taken for frame, _ in held) >= COUNTED * len(held) or looks_counted(both)


def _nearest(frame: Frame, row: LabelledImage, others: Sequence[tuple[Frame, LabelledImage]]) -> FrameNeighbour:
    other, found = min(others, key=lambda one: (abs(one[0].number - frame.number), -one[0].number, one[1].path))
    return FrameNeighbour(row.path, row.label, found.path, found.label, abs(other.number - frame.number))


def find_frame_leaks(
    held: Sequence[LabelledImage],
    others: Sequence[LabelledImage],
    classes: Collection[str] = (),
    *,
    window: int = 3,
    numbers: Numbers = "auto",
    unlike: Collection[str] = (),
) -> FrameLeaks:
    """Find the nearest frame of every held-out image; ``auto`` also leaves out ``unlike_families``."""
    common = Counter(row.label for row in others).most_common(1)
    majority = common[0][0] if common else ""
    neighbours: list[FrameNeighbour] = []
    counted = []
    families = {} if numbers == "ignore" else _by_family(others, classes)
    for family, frames in _by_family(held, classes).items():
        known = families.get(family, [])
        if known and numbers == "auto" and (family in unlike or _counted_sides(frames, known)):
            counted.append(family.replace("#", "<number>"))
        elif known:
            neighbours.extend(_nearest(frame, row, known) for frame, row in frames)
    neighbours.sort(key=lambda one: (one.distance, one.path))
    share = (majority, sum(row.label == majority for row in held))
    return FrameLeaks(len(held), window, tuple(neighbours), share, tuple(sorted(counted)))


GALLERY = "gallery"
"""Part name of a gallery's images, beside "train", "valid" and "test"."""


@dataclass(frozen=True)
class AuditItem:
    """One image of one part, and its file where it is on the disk."""

    part: str
    row: LabelledImage
    file: Path | None


@dataclass(frozen=True)
class AuditItems:
    """Every image of every part, part by part."""

    items: tuple[AuditItem, ...]
    classes: tuple[str, ...]

    def rows(self, part: str) -> list[LabelledImage]:
        """Return the images of one part."""
        return [item.row for item in self.items if item.part == part]

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that have images, in order."""
        return tuple(dict.fromkeys(item.part for item in self.items))


@dataclass
class ScannedImages:
    """Signatures by index among the items, what could not be decoded, and how many are listed but not on the disk."""

    signatures: dict[int, ImageSignature] = field(default_factory=dict)
    quarantine: Quarantine = field(default_factory=lambda: Quarantine("images"))
    absent: int = 0

    def unlike(self, paths: Sequence[str], classes: Collection[str], window: int) -> set[str]:
        """Find the families of these items' paths whose neighbouring numbers do not look alike."""
        views = {index: one.thumbnail for index, one in self.signatures.items()}
        return unlike_families([frame_of(path, classes) for path in paths], views, window, NEAR_COLOUR)


def _file_of(folders: Collection[FolderFiles], name: str) -> Path | None:
    paths = (folder.path(name) for folder in (() if refusal(name) else folders))
    return next((path for path in paths if path is not None), None)


def collect_items(tables: Mapping[Split, ClassTable], gallery: str | Path | None = None) -> AuditItems:
    """List the images of the splits and of a gallery; an image of several classes counts under its first."""
    items: dict[tuple[str, str], AuditItem] = {}
    folders: dict[Path, FolderFiles] = {}
    for split, table in tables.items():
        files = folders.setdefault(table.root.resolve(), FolderFiles(table.root, follow=True))
        for row in table.rows:
            items.setdefault((split, row.path), AuditItem(split, row, _file_of([files], row.path)))
    for enrolled in () if gallery is None else Gallery.open(gallery, index="exact").rows:
        row = LabelledImage(enrolled.path, enrolled.label)
        items.setdefault((GALLERY, row.path), AuditItem(GALLERY, row, _file_of(folders.values(), row.path)))
    classes = {name for table in tables.values() for name in table.classes}
    return AuditItems(tuple(items.values()), tuple(sorted(classes)))


def scan_images(items: Sequence[AuditItem], advance: Callable[[], None] = lambda: None) -> ScannedImages:
    """Decode every image that is on the disk, once, also where several parts list it."""
    scanned = ScannedImages()
    known: dict[Path, ImageSignature | None] = {}
    for index, item in enumerate(items):
        if item.file is None:
            scanned.absent += 1
        else:
            if item.file not in known:
                image = scanned.quarantine.read(item.file, partial(read_image, item.file))
                known[item.file] = None if image is None else image_signature(image)
            signature = known[item.file]
            if signature is not None:
                scanned.signatures[index] = signature
        advance()
    return scanned


COMPARISONS = (("valid", "train"), ("test", "train"), ("test", "valid"), ("valid", GALLERY), ("test", GALLERY))
"""Held-out part, and the part it must not overlap. Train and gallery may overlap."""


@dataclass(frozen=True)
class Comparison:
    """How many images of a held-out part are also in another part, exactly, nearly, or as a neighbouring frame."""

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
            "images": frames.images,
            "leaking": Rate(self.leaking, frames.images).as_json(),
            "exact": Rate(self.exact, self.compared).as_json(),
            "near": Rate(self.near, self.compared).as_json(),
            "frames_within": frames.within.as_json(),
            "frames_agreeing": frames.agreeing.as_json(),
            "by_name_alone": frames.by_name_alone.as_json(),
            "by_majority": {"label": frames.majority[0], **frames.by_majority.as_json()},
            "counted_families": list(frames.counted),
            "neighbours": [asdict(one) for one in frames.near],
        }


@dataclass(frozen=True)
class Audit:
    """Results of an audit: every similar pair, most similar first, and held-out parts against the others."""

    items: AuditItems
    scanned: ScannedImages
    alike: tuple[NearPair, ...]
    comparisons: tuple[Comparison, ...]
    window: int

    @property
    def leaking(self) -> int:
        """Held-out images that leak, summed over the comparisons."""
        return sum(one.leaking for one in self.comparisons)

    def crossing(self) -> list[NearPair]:
        """Return the pairs across a comparison, most similar first."""
        return [pair for pair in self.alike if self._crosses(pair)]

    def repeats(self, part: str) -> int:
        """Count the images of a part that repeat an earlier one of it, exactly or nearly."""
        items = self.items.items
        return len({pair.second for pair in self.alike if items[pair.first].part == items[pair.second].part == part})

    def conflicts(self) -> int:
        """Count the pairs of the same pixels under different classes."""
        items = self.items.items
        return sum(pair.exact and items[pair.first].row.label != items[pair.second].row.label for pair in self.alike)

    def _crosses(self, pair: NearPair) -> bool:
        parts = {self.items.items[index].part for index in (pair.first, pair.second)}
        return any({one.held, one.against} == parts for one in self.comparisons)

    def as_json(self) -> dict[str, Any]:
        """Return the content of ``audit.json``."""
        return {
            "window": self.window,
            "near_bits": NEAR_BITS,
            "images": {part: len(self.items.rows(part)) for part in self.items.parts},
            "absent": self.scanned.absent,
            **{f"images_{name}": count for name, count in self.scanned.quarantine.counts().items()},
            "leaking": self.leaking,
            "repeats": {part: self.repeats(part) for part in self.items.parts},
            "same_pixels_other_class": self.conflicts(),
            "comparisons": [one.as_json() for one in self.comparisons],
            "crossing_pairs": [self._pair_json(pair) for pair in self.crossing()],
        }

    def _pair_json(self, pair: NearPair) -> dict[str, Any]:
        sides = [self.items.items[index] for index in (pair.first, pair.second)]
        return {
            "parts": [side.part for side in sides],
            "paths": [side.row.path for side in sides],
            "labels": [side.row.label for side in sides],
            "distance": pair.distance,
            "exact": pair.exact,
            "mirrored": pair.mirrored,
        }


def find_alike(scanned: ScannedImages) -> tuple[NearPair, ...]:
    """Find every pair of scanned duplicates and near-duplicates, by their indices among the items."""
    indices = list(scanned.signatures)
    pairs = near_pairs(list(scanned.signatures.values()))
    return tuple(replace(pair, first=indices[pair.first], second=indices[pair.second]) for pair in pairs)


def _compare(
    items: AuditItems,
    scanned: ScannedImages,
    alike: Sequence[NearPair],
    sides: tuple[str, str],
    window: int,
    numbers: Numbers,
    unlike: Collection[str],
) -> Comparison:
    held, against = sides
    exact: set[int] = set()
    near: set[int] = set()
    for pair in alike:
        for here, there in ((pair.first, pair.second), (pair.second, pair.first)):
            if (items.items[here].part, items.items[there].part) == sides:
                (exact if pair.exact else near).add(here)
    rows = items.rows(held), items.rows(against)
    frames = find_frame_leaks(*rows, items.classes, window=window, numbers=numbers, unlike=unlike)
    compared = sum(items.items[index].part == held for index in scanned.signatures)
    by_frame = {one.path for one in frames.near}
    leaking = by_frame | {items.items[index].row.path for index in exact | near}
    return Comparison(held, against, compared, len(exact), len(near - exact), frames, len(leaking))


def audit(items: AuditItems, scanned: ScannedImages, *, window: int = 3, numbers: Numbers = "auto") -> Audit:
    """Find duplicates and near-duplicates across splits."""
    alike = find_alike(scanned)
    sides = [pair for pair in COMPARISONS if set(pair) <= set(items.parts)]
    unlike = scanned.unlike([item.row.path for item in items.items], items.classes, window)
    found = tuple(_compare(items, scanned, alike, pair, window, numbers, unlike) for pair in sides)
    return Audit(items, scanned, alike, found, window)
