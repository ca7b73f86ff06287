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

    ``images`` and ``texts`` have, for each file to write, the ending of its name ("_visualization.jpg"), or a whole
    name with ``{stem}`` in it ("overlay_{stem}.png", also in a folder: "images/{stem}.png"). Of ``region_facts``,
    ``label`` is the category of a region in ``coco.json``, and ``name``, or else ``label``, its tag in the overlay.
    """

    regions: tuple[Region, ...]  # in the order of the mode
    images: Mapping[str, ImageArray] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)  # further JSON values of its line in ``predictions.jsonl``
    region_facts: tuple[Mapping[str, Any], ...] = ()  # and of each region; empty, or one per region
    note: str = ""  # one line for the user ("nothing found: lower --threshold")
    milliseconds: Mapping[str, float] = field(default_factory=dict)  # of each step, for ``timings.jsonl``

    def __post_init__(self) -> None:
        if self.region_facts and len(self.region_facts) != len(self.regions):
            raise ValueError(f"segmented: {len(self.regions)} regions but {len(self.region_facts)} region_facts")


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
