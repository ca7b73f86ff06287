"""What a mode of ``naruto-vision segment`` returns for one image."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from naruto_vision.records import ImageArray, Region


@dataclass(frozen=True)
class Segmented:
    """The regions of one image, and what else is written for it.

    Args:
        regions: In the order of the mode.
        images: Ending of a file name ("_visualization.jpg") → image (H, W, 3), uint8, RGB, to write under it.
        texts: Ending of a file name ("_summary.txt") → text to write under it.
        facts: Further JSON values of the image's line in ``predictions.jsonl``.
        region_facts: Further JSON values of each region; empty, or one per region.
        note: One line for the user ("nothing found: lower --threshold"); "" for none.
    """

    regions: tuple[Region, ...]
    images: Mapping[str, ImageArray] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    region_facts: tuple[Mapping[str, Any], ...] = ()
    note: str = ""

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
        """Segment an image (H, W, 3), uint8, RGB, upright; ``name`` is its path, for texts."""
        ...
