"""What a mode of ``naruto-vision segment`` returns for one image, and the mode that segments everything."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from naruto_vision.records import ImageArray, Region
from naruto_vision.segmentation.generator import Segmenter

STEM = "{stem}"
"""Placeholder of the image's own name, without folder and ending, in the name of a file that a mode writes."""


@dataclass(frozen=True)
class Segmented:
    """The regions of one image, and what else is written for it.

    Args:
        regions: In the order of the mode.
        images: Ending of a file name ("_visualization.jpg"), or a whole name with ``{stem}`` in it
            ("overlay_{stem}.png", also in a folder: "images/{stem}.png") → image (H, W, 3), uint8, RGB, to write
            under it.
        texts: The same for texts ("_summary.txt").
        facts: Further JSON values of the image's line in ``predictions.jsonl``.
        region_facts: Further JSON values of each region; empty, or one per region. ``label`` is its category in
            ``coco.json``; ``name``, or else ``label``, is its tag in the overlay.
        note: One line for the user ("nothing found: lower --threshold"); "" for none.
        milliseconds: Wall time of each step, for ``timings.jsonl``.
    """

    regions: tuple[Region, ...]
    images: Mapping[str, ImageArray] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    region_facts: tuple[Mapping[str, Any], ...] = ()
    note: str = ""
    milliseconds: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.region_facts and len(self.region_facts) != len(self.regions):
            msg = f"segmented: {len(self.regions)} regions but {len(self.region_facts)} region_facts"
            raise ValueError(msg)


class SegmentMode(Protocol):
    """Segments images one by one; used without files from Python, and by ``naruto-vision segment``."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """The JSON values that determine the result; a folder of results is resumed only with equal ones."""
        ...

    def __call__(self, image: ImageArray, name: str = "") -> Segmented:
        """Segment an image (H, W, 3), uint8, RGB, upright; ``name`` is its path, for texts.

        Raises:
            BadImageError: If this image cannot be used; the others are segmented.
        """
        ...


class SegmenterMode(SegmentMode):
    """Everything that a segmenter finds; any prompter may be in it.

    Examples:
        >>> import naruto_vision as nv
        >>> import numpy as np
        >>> mode = SegmenterMode(nv.Segmenter(nv.GridPrompter(4), nv.SamModel("tiny-sam")))
        >>> len(mode(np.zeros((48, 64, 3), np.uint8)).regions) >= 0
        True
    """

    def __init__(self, segmenter: Segmenter) -> None:
        self.segmenter = segmenter

    @property
    def identity(self) -> Mapping[str, Any]:
        """The fingerprint of the model, the prompter and all thresholds."""
        return {"segmenter": self.segmenter.fingerprint}

    def __call__(self, image: ImageArray, name: str = "") -> Segmented:  # noqa: ARG002 - the protocol's
        """Segment an image (H, W, 3), uint8, RGB, upright."""
        start = time.perf_counter()
        (embedding,) = self.segmenter.embed_all([image])
        middle = time.perf_counter()
        regions = self.segmenter(image, embedding)
        times = {"embed": (middle - start) * 1e3, "masks": (time.perf_counter() - middle) * 1e3}
        note = "" if regions else "no mask passes the thresholds: lower --predicted-iou or --stability"
        return Segmented(tuple(regions), note=note, milliseconds=times)
