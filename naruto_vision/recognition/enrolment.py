"""Enrol an image of one label whole, by its one region, or both: what names regions best.

Scenes are searched with regions, so an image is asked by its region's crop, and named by the other images.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.enrolment import UNCHANGED
from naruto_vision.geometry import Box, shape_of_xyxy
from naruto_vision.io.images import split_crop
from naruto_vision.metrics.stats import Rate
from naruto_vision.recognition.heads import LARGEST, VOTE, Mask, compare_rules
from naruto_vision.records import ImageArray, Vectors
from naruto_vision.segmentation.generator import Segmenter

Enrolled: TypeAlias = Literal["image", "region", "both"]
Enrol: TypeAlias = Literal["auto", "image", "region", "both"]
"""How an image of one label is enrolled; ``auto`` compares all, where a learnt detector finds the regions."""

_SMALLEST = 8  # pixels a side, as of a labelled box that is enrolled
_COMPARED = 300  # images, each with its region: as many rows as rules are compared on


@dataclass(frozen=True)
class Rows:
    """Rows of a gallery with their vectors (N, D) and colours (N, K), float32, unit rows."""

    rows: list[GalleryRow]
    vectors: Vectors
    colours: Vectors

    def take(self, numbers: Sequence[int]) -> "Rows":
        """Return some of the rows."""
        chosen = list(numbers)
        return Rows([self.rows[number] for number in chosen], self.vectors[chosen], self.colours[chosen])

    def also(self, other: "Rows") -> "Rows":
        """Return these rows and others, ordered by path."""
        rows = [*self.rows, *other.rows]
        both = Rows(
            rows,
            np.concatenate([self.vectors, other.vectors]),
            np.concatenate([self.colours, other.colours]),
        )
        return both.take(
            sorted(range(len(rows)), key=lambda number: (rows[number].path, rows[number].aug != UNCHANGED))
        )


def only_crop(segmenter: Segmenter, image: ImageArray) -> tuple[Box | None, ImageArray]:
    """Return the box of an image's one region with its crop; None with the image if there is none, or several.

    A region that is too small for a labelled box counts as none.
    """
    regions = tuple(segmenter(image))
    if len(regions) != 1 or min(shape_of_xyxy(regions[0].box)) < _SMALLEST:
        return None, image
    x1, y1, x2, y2 = box = regions[0].box
    return box, np.ascontiguousarray(image[y1 : y2 + 1, x1 : x2 + 1])


def _source(row: GalleryRow) -> tuple[str, str]:
    return split_crop(row.path)[0], row.label


def choose_enrolment(
    whole: Rows, regions: Rows, runs: Sequence[Hashable], wanted: Enrol = "auto"
) -> tuple[Rows, dict[str, Any], dict[str, Any]]:
    """Choose how images are enrolled, and by which rule regions are named.

    Args:
        whole: The images, and crops of labelled boxes.
        regions: The crop of the one region of some of the images.
        runs: A key for each image, equal for the frames of one shot; see ``heads.group_rows``.
        wanted: One way, or ``auto`` for that which names most regions correctly.

    Returns:
        The rows to enrol, the comparison of the rules as of ``compare_rules``, and that of the ways, as JSON values.
    """
    images = {_source(row) for row in whole.rows if split_crop(row.path)[1] is None}
    regions = regions.take([number for number, row in enumerate(regions.rows) if _source(row) in images])
    shown = {_source(row) for row in regions.rows}
    rest = whole.take([number for number, row in enumerate(whole.rows) if (row.path, row.label) not in shown])
    ways: dict[Enrolled, Rows] = {"region": rest.also(regions), "both": whole.also(regions), "image": whole}
    tried = [way for way in ways if wanted in ("auto", way)]
    found = {way: _compare(whole, regions, runs, way) for way in tried}
    right = {way: int(heads["rules"][heads["decision"]]["right"]) for way, heads in found.items() if heads["rules"]}
    chosen: Enrolled = max(right, key=lambda way: right[way]) if right else (tried[-1])
    note = {
        "by": chosen,
        "images": len(images),
        "regions": len(regions.rows),
        "of": found[chosen]["of"],
        "right": right,
    }
    return ways[chosen], found[chosen], note


def _compare(whole: Rows, regions: Rows, runs: Sequence[Hashable], way: Enrolled) -> dict[str, Any]:
    """Compare the rules on regions that are named by images of other groups, enrolled in one way."""
    if len(whole.rows) + len(regions.rows) > LARGEST:
        return {"decision": VOTE, "of": 0, "rules": {}}
    numbers = np.unique(np.linspace(0, len(whole.rows) - 1, min(len(whole.rows), _COMPARED)).round().astype(int))
    some = whole.take(numbers.tolist())
    shots = {_source(whole.rows[number]): runs[number] for number in numbers.tolist()}
    own = regions.take([number for number, row in enumerate(regions.rows) if _source(row) in shots])
    rows = [*some.rows, *(GalleryRow(_source(row)[0], row.label, row.aug) for row in own.rows)]  # one group an image
    asked: Mask = np.arange(len(rows)) >= len(some.rows)
    shown = {_source(row) for row in own.rows}
    covered = np.array([(row.path, row.label) in shown for row in rows])
    enrolled: dict[Enrolled, Mask] = {"region": asked | ~covered, "both": asked | True, "image": ~asked}
    colours = np.concatenate([some.colours, own.colours])
    vectors = np.concatenate([some.vectors, own.vectors])
    return compare_rules(vectors, rows, [shots[_source(row)] for row in rows], colours, enrolled[way], asked)


def describe_enrolment(note: dict[str, Any]) -> str:
    """Describe the result of ``choose_enrolment`` in one line."""
    chosen = {"image": "whole", "region": "by their one region", "both": "whole and by their one region"}[note["by"]]
    line = f"images are enrolled {chosen}: {note['regions']} of {note['images']} show one region"
    if not note["right"]:
        return f"{line}, too few or too many to compare"
    others = ", ".join(f"by {way} {count}" for way, count in note["right"].items())
    low, high = Rate(note["right"][note["by"]], note["of"]).interval or (0.0, 1.0)
    return f"{line}; of {note['of']} regions named by the other images, right are {others} [{low:.2f}, {high:.2f}]"
