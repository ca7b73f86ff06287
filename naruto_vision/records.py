"""The frozen records that pass between packages. NumPy only."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from naruto_vision.geometry import Box as Box
from naruto_vision.geometry import Mask as Mask
from naruto_vision.geometry import area_of_counts, counts_from_mask, mask_from_rle, rle_of_cut, shape_of_xyxy

ImageArray: TypeAlias = NDArray[np.uint8]
"""A decoded image: shape (H, W, 3), uint8, RGB, upright (EXIF orientation applied)."""

Vectors: TypeAlias = NDArray[np.float32]
"""Embeddings: shape (N, D), float32, unit rows unless documented otherwise."""

UNKNOWN = "unknown"
"""The name of a region that matches no label of the gallery (open-set rejection)."""

MAX_BOXES = 5_000
"""How many boxes of one image are read; evaluation compares all with all."""


def _check_box(box: Box) -> None:
    x1, y1, x2, y2 = box
    if not (0 <= x1 <= x2 and 0 <= y1 <= y2):
        raise ValueError(f"box {box}: expected 0 <= x1 <= x2 and 0 <= y1 <= y2 in inclusive pixels")


@dataclass(frozen=True)
class Prompt:
    """The prompt that a region came from, in pixels of the upright image.

    Args:
        name: For display ("point 120,88").
        points: ``(x, y, positive)`` of each point; positive if it lies on the object.
        box: ``x1, y1, x2, y2``, or None.
        confidence: How sure the prompter was, in [0, 1]; None if it does not say.
    """

    name: str = ""
    points: tuple[tuple[float, float, bool], ...] = ()
    box: tuple[float, float, float, float] | None = None
    confidence: float | None = None

    def __add__(self, other: "Prompt") -> "Prompt":
        """Return the prompt of two merged regions."""
        boxes = [each.box for each in (self, other) if each.box]
        name = " + ".join(filter(None, (self.name, other.name)))
        sure = [each.confidence for each in (self, other) if each.confidence is not None]
        return Prompt(name, self.points + other.points, boxes[0] if len(boxes) == 1 else None, max(sure, default=None))


@dataclass(frozen=True, init=False)
class Region:
    """One segmented region of an image. Its mask is stored as COCO run lengths of a few kilobytes.

    Args:
        box: The tight box of the mask, inclusive pixels of the upright image.
        mask: The mask cropped to ``box``: shape (y2 - y1 + 1, x2 - x1 + 1), bool.
        predicted_iou: The model's own estimate of the mask's IoU, which may exceed 1.
        stability: IoU of the mask thresholded a little higher and a little lower, in [0, 1].
        prompt: The prompt that the region came from, or only its name.

    Attributes:
        counts: COCO's compressed run lengths of the cropped mask.

    Raises:
        ValueError: If the box is malformed or the mask does not have the box's size.

    Examples:
        >>> import numpy as np
        >>> import naruto_vision as nv
        >>> region = nv.Region((3, 1, 4, 2), np.array([[True, False], [True, True]]))
        >>> region.area, region.mask.tolist()
        (3, [[True, False], [True, True]])
    """

    box: Box
    counts: bytes = field(repr=False)
    predicted_iou: float
    stability: float
    prompt: Prompt

    def __init__(
        self, box: Box, mask: Mask, predicted_iou: float = 1.0, stability: float = 1.0, prompt: Prompt | str = ""
    ) -> None:
        _check_box(box)
        expected = shape_of_xyxy(box)
        if mask.shape != expected or mask.dtype != np.bool_:
            raise ValueError(f"mask of box {box}: expected bool {expected}, found {mask.dtype} {mask.shape}")
        prompt = prompt if isinstance(prompt, Prompt) else Prompt(prompt)
        values = (box, counts_from_mask(mask), predicted_iou, stability, prompt)
        for each, value in zip(fields(self), values, strict=True):
            object.__setattr__(self, each.name, value)  # as the constructor of a frozen dataclass does

    @property
    def mask(self) -> Mask:
        """The mask cropped to ``box``: shape (y2 - y1 + 1, x2 - x1 + 1), bool, decoded each time."""
        return mask_from_rle({"size": shape_of_xyxy(self.box), "counts": self.counts})

    @property
    def area(self) -> int:
        """Pixels inside the mask."""
        return area_of_counts(self.counts)

    def full_mask(self, height: int, width: int) -> Mask:
        """Return the mask in the frame of the whole image: shape (height, width), bool."""
        x1, y1, x2, y2 = self.box
        whole = np.zeros((height, width), dtype=np.bool_)
        whole[y1 : y2 + 1, x1 : x2 + 1] = self.mask
        return whole

    def rle(self, height: int, width: int) -> dict[str, Any]:
        """Return the mask in the frame of the whole image as COCO run lengths: ``{"size", "counts"}``, for JSON."""
        return rle_of_cut(self.counts, self.box, height, width)


@dataclass(frozen=True)
class Neighbour:
    """One gallery row near a query.

    Args:
        row: The stable id of the gallery row.
        label: The row's label.
        score: Cosine similarity with the query, in [-1, 1].
        path: Path of the row's image, as recorded in the gallery.
    """

    row: int
    label: str
    score: float
    path: str = ""


@dataclass(frozen=True)
class Identity:
    """The identity of a region or an image.

    Args:
        label: The best gallery label, whether or not it passed the threshold.
        score: The score of that label, a cosine similarity in [-1, 1].
        known: Whether the score passed the gallery's threshold for the label.
        margin: Score minus the best score of another label among ``neighbours``, negative if that label was
            outvoted; None if all have one label.
        neighbours: The nearest gallery rows, best first.
        p_value: How often correctly named regions of the label score as low, in (0, 1]; None if it was not calibrated.
        vector: What was searched: shape (D,), float32, unit length; None if it was not kept. It links regions of
            frames, and is not compared.

    Raises:
        ValueError: If the score is not finite.
    """

    label: str
    score: float
    known: bool = True
    margin: float | None = None
    neighbours: tuple[Neighbour, ...] = ()
    p_value: float | None = None
    vector: Vectors | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not np.isfinite(self.score):
            raise ValueError(f"identity {self.label!r}: expected a finite score, found {self.score}")

    @property
    def name(self) -> str:
        """The label, or ``unknown`` below the threshold."""
        return self.label if self.known else UNKNOWN


@dataclass(frozen=True)
class Heat:
    """What a score loses without each patch of an image.

    Args:
        values: Shape (rows, columns), float32, in [0, 1]: the loss as a fraction of the largest; 0 where it rises.
        largest: The largest loss, at least 0, in units of the score.
    """

    values: NDArray[np.float32]
    largest: float


@dataclass(frozen=True)
class Explanation:
    """Why a region, an image or a text has its name.

    Args:
        identity: The name with its score, margin, p-value and nearest gallery rows.
        why: The reason in one line.
        threshold: Below it the score is unknown; None if there is none.
        votes: Label to its share of the votes of the nearest rows, in [0, 1], falling.
        classes: Label to its score by the gallery's classifier, falling; empty where single rows decide.
        images: Images of the first nearest rows, each (H, W, 3), uint8, RGB; None where one is missing.
        matched: Position in ``images`` of the nearest row of the label.
        image: What was named, (H, W, 3), uint8, RGB; None for a text.
        heat: Which patches of ``image`` the score of the label is due to; None without an image.
        matched_heat: Which patches of the matched row's image its cosine is due to; None where it is missing.
    """

    identity: Identity
    why: str
    threshold: float | None
    votes: Mapping[str, float]
    classes: Mapping[str, float]
    images: tuple[ImageArray | None, ...] = field(compare=False, repr=False)
    matched: int = 0
    image: ImageArray | None = field(default=None, compare=False, repr=False)
    heat: Heat | None = field(default=None, compare=False, repr=False)
    matched_heat: Heat | None = field(default=None, compare=False, repr=False)

    def as_json(self) -> dict[str, Any]:
        """Return the JSON values: all but the images."""
        who = self.identity
        rows = zip(who.neighbours, self.images, strict=False)
        maps = {"heat": self.heat, "matched_heat": self.matched_heat}
        return {
            **{key: getattr(who, key) for key in ("name", "label", "known", "score", "margin", "p_value")},
            "threshold": self.threshold,
            "why": self.why,
            "votes": dict(self.votes),
            "classes": dict(self.classes),
            "neighbours": [
                {"id": row.row, "label": row.label, "score": row.score, "path": row.path, "found": image is not None}
                for row, image in rows
            ],
            "matched": self.matched,
            **{
                key: each and {"largest": each.largest, "values": each.values.astype(float).round(3).tolist()}
                for key, each in maps.items()
            },
        }


@dataclass(frozen=True)
class ScenePrediction:
    """The regions of one scene with their identities.

    Args:
        scene: The scene's path relative to the scene folder, POSIX.
        width: Width of the upright image in pixels.
        height: Height of the upright image in pixels.
        regions: The regions, largest first.
        identities: The identity of each region, in the same order.
        milliseconds: Wall time of each step.

    Raises:
        ValueError: If there are not as many identities as regions, or a box exceeds the image.
    """

    scene: str
    width: int
    height: int
    regions: tuple[Region, ...] = ()
    identities: tuple[Identity, ...] = ()
    milliseconds: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.regions) != len(self.identities):
            raise ValueError(f"scene {self.scene}: {len(self.regions)} regions but {len(self.identities)} identities")
        for region in self.regions:
            if region.box[2] >= self.width or region.box[3] >= self.height:
                raise ValueError(f"scene {self.scene}: box {region.box} leaves the {self.width}x{self.height} image")


@dataclass(frozen=True)
class LabelledBox:
    """One labelled box: an object of the ground truth, or one prediction of a scene's JSON.

    Args:
        box: Inclusive pixels of the upright image.
        label: Its class label.
        score: A prediction's score; None for ground truth.
    """

    box: Box
    label: str
    score: float | None = None

    def __post_init__(self) -> None:
        _check_box(self.box)


@dataclass(frozen=True)
class LabelledImage:
    """One row of a class table."""

    path: str
    label: str
