"""The prompter and promptable-model protocols, and their data types."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from naruto_vision.errors import FormatError, InputError
from naruto_vision.io.typed_json import convert_json
from naruto_vision.records import Box, ImageArray, Mask, Prompt


@dataclass(frozen=True)
class MaskThresholds:
    """Thresholds for masks. The defaults are those of the official weights.

    They depend on the weights, so a bundle stores them.

    Examples:
        >>> MaskThresholds().override(stability=0.7).stability
        0.7
    """

    predicted_iou: float = 0.88
    stability: float = 0.95
    stability_offset: float = 1.0
    box_nms: float = 0.7

    def __post_init__(self) -> None:
        if not (0 <= self.stability <= 1 and 0 <= self.box_nms <= 1 and self.stability_offset >= 0):
            msg = f"mask thresholds: expected stability and box_nms in [0, 1], stability_offset >= 0, found {self}"
            raise InputError(msg)

    def override(self, **values: float | None) -> "MaskThresholds":
        """Return a copy with the given values; None keeps a value."""
        return replace(self, **{name: value for name, value in values.items() if value is not None})

    @classmethod
    def from_json(cls, record: object, where: Path) -> "MaskThresholds":
        """Read the thresholds of a bundle's ``model.json``; absent ones take their defaults."""
        numbers = convert_json(where, record, dict[str, float], where="thresholds")
        names = {field.name for field in fields(cls)}
        if not numbers.keys() <= names:
            raise FormatError(where, f"thresholds {', '.join(sorted(names))}", ", ".join(numbers))
        return cls(**numbers)


@dataclass(frozen=True)
class Prompts:
    """The prompts of P objects of one image, in pixels of the upright image.

    ``labels`` are 1 on the object, 0 on the background, -1 for padding. ``multimask``: the model answers with three
    masks, or with one.
    """

    points: NDArray[np.float32]  # (P, K, 2), x and y
    labels: NDArray[np.int64]  # (P, K)
    boxes: NDArray[np.float32] | None = None  # (P, 4), x1 y1 x2 y2
    names: tuple[str, ...] = ()  # for display, one per prompt, or none
    masks: NDArray[np.float32] | None = None  # (P, h, w), logits of an earlier answer to refine
    multimask: bool = True
    scores: NDArray[np.float32] | None = None  # (P,), how sure the prompter is, in [0, 1]

    def __post_init__(self) -> None:
        rows = (self.points, self.labels, self.boxes, self.masks, self.scores)
        lengths = {len(each) for each in rows if each is not None}
        if len(lengths) != 1 or self.points.shape[:2] != self.labels.shape:
            raise ValueError(f"prompts: points {self.points.shape} and labels {self.labels.shape} do not match")

    def origin(self, index: int, left: int = 0, top: int = 0) -> Prompt:
        """Return one row as a ``Prompt``, shifted by the top left corner of its window."""
        rows = zip(self.points[index].tolist(), self.labels[index].tolist(), strict=True)
        points = tuple((x + left, y + top, bool(label)) for (x, y), label in rows if label >= 0)
        name, box = self.names[index] if self.names else "", None
        if self.boxes is not None:
            x1, y1, x2, y2 = self.boxes[index].tolist()
            box = (x1 + left, y1 + top, x2 + left, y2 + top)
        sure = None if self.scores is None else float(self.scores[index])
        return Prompt(name, points, box, sure)


@dataclass(frozen=True)
class SceneEmbedding:
    """The image encoder's output for one image."""

    features: Any
    original_size: tuple[int, int]
    input_size: tuple[int, int]


class MaskPredictions(NamedTuple):
    """The masks of a batch of prompts whose estimated IoU is above the threshold."""

    prompt: Tensor
    logits: Tensor
    ious: Tensor


@dataclass(frozen=True)
class FullMask:
    """A mask at the image's size, cropped to its box."""

    index: int
    box: Box
    mask: Mask
    stability: float


class Prompter(Protocol):
    """Chooses the prompts of an image."""

    def __call__(self, image: ImageArray) -> Prompts:
        """Choose the prompts of one image (H, W, 3), uint8, RGB, in its own pixels."""
        ...


class PromptableModel(Protocol):
    """A model that segments the objects at prompts."""

    thresholds: MaskThresholds

    @property
    def fingerprint(self) -> str:
        """64 hexadecimal digits that change with the architecture or any weight."""
        ...

    def embed(self, image: ImageArray) -> SceneEmbedding:
        """Run the image encoder once for an image (H, W, 3), uint8, RGB."""
        ...

    def predict_masks(
        self, embedding: SceneEmbedding, prompts: Prompts, above: float, batch: int | None = None
    ) -> Iterator[MaskPredictions]:
        """Yield the masks whose estimated IoU is above a threshold, in batches and in prompt order."""
        ...

    def full_masks(
        self, logits: Tensor, embedding: SceneEmbedding, stability: float, offset: float
    ) -> Iterator[FullMask]:
        """Resample masks to the upright image's size and yield those that are stable and not empty, in order.

        Shapes: logits (M, h, w), float32.
        """
        ...


@runtime_checkable
class EmbedsMany(Protocol):
    """Optional: a promptable model whose image encoder takes a batch of images of any sizes."""

    def embed_all(self, images: Sequence[ImageArray]) -> list[SceneEmbedding]:
        """Run the image encoder for several images."""
        ...


def embed_scenes(model: PromptableModel, images: Sequence[ImageArray]) -> list[SceneEmbedding]:
    """Run a model's image encoder for several images: in batches if the model can, else one by one."""
    return model.embed_all(images) if isinstance(model, EmbedsMany) else [model.embed(each) for each in images]
