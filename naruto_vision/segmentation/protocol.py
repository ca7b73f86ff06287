"""The two halves of every segmenter: where to ask, and who answers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from naruto_vision.errors import InputError
from naruto_vision.records import Box, ImageArray, Mask


@dataclass(frozen=True)
class MaskThresholds:
    """What an answer has to reach. The defaults are those that the official weights were published with.

    Args:
        predicted_iou: The model's own estimate has to be above this.
        stability: The stability score has to reach this, in [0, 1].
        stability_offset: How far the stability score moves the threshold, in logits.
        box_nms: Of two boxes whose IoU is above this, the one with the lower estimate goes.

    Raises:
        InputError: If a number is out of its range.

    Example:
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
        """Return a copy in which every value that is not None replaces its namesake.

        Args:
            values: New values by field name.
        """
        return replace(self, **{name: value for name, value in values.items() if value is not None})

    def as_json(self) -> dict[str, float]:
        """Return the numbers by name, for a bundle's ``model.json``."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, object], where: str) -> "MaskThresholds":
        """Read the numbers of a bundle.

        Args:
            record: Numbers by name; those that are absent take their defaults.
            where: The file, for the error message.

        Raises:
            InputError: If a name is none of ours or a value is not a number.
        """
        names = {field.name for field in fields(cls)}
        numbers = {name: float(value) for name, value in record.items() if isinstance(value, int | float)}
        if len(numbers) != len(record) or not set(numbers) <= names:
            msg = f"{where}: expected thresholds {', '.join(sorted(names))} as numbers, found {dict(record)}"
            raise InputError(msg)
        return cls(**numbers)


@dataclass(frozen=True)
class Prompts:
    """What a promptable model is asked, one object a row.

    Args:
        points: Shape (P, K, 2), float32, x and y in pixels of the upright image.
        labels: Shape (P, K), int64, 1 for a point on the object and 0 for one off it.
        boxes: Shape (P, 4), float32, x1 y1 x2 y2 in pixels, or None.
        names: P words for people ("point 120,88").

    Raises:
        ValueError: If the lengths differ.
    """

    points: NDArray[np.float32]
    labels: NDArray[np.int64]
    boxes: NDArray[np.float32] | None = None
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        lengths = {len(self.points), len(self.labels), *([] if self.boxes is None else [len(self.boxes)])}
        if len(lengths) != 1 or self.points.shape[:2] != self.labels.shape:
            msg = f"prompts: points {self.points.shape} and labels {self.labels.shape} do not go together"
            raise ValueError(msg)


@dataclass(frozen=True)
class SceneEmbedding:
    """An image after the image encoder.

    Args:
        features: Shape (1, C, h, w), float32.
        original_size: Height and width of the upright image in pixels.
        input_size: Height and width of the resized image inside the model's padded square.
    """

    features: Tensor
    original_size: tuple[int, int]
    input_size: tuple[int, int]


class Answers(NamedTuple):
    """Those masks of a batch of prompts whose estimated IoU is good enough.

    Attributes:
        prompt: Shape (M,), int64: which prompt each mask answers; never falls.
        logits: Shape (M, h, w), float32, of the model's low resolution; above 0 is mask.
        ious: Shape (M,), float32: the estimated IoUs.
    """

    prompt: Tensor
    logits: Tensor
    ious: Tensor


@dataclass(frozen=True)
class FullMask:
    """A mask at the image's size, cut to its box.

    Args:
        index: Which of the logits it came from.
        box: Its tight box, inclusive pixels of the image.
        mask: Shape (h, w) of the box, bool.
        stability: The stability score, in [0, 1].
    """

    index: int
    box: Box
    mask: Mask
    stability: float


class Prompter(Protocol):
    """Where to ask."""

    def __call__(self, image: ImageArray) -> Prompts:
        """Choose the prompts of one image, in its own pixels."""
        ...


class PromptableModel(Protocol):
    """Who answers.

    Attributes:
        thresholds: Which answers count as masks with the model's weights.
    """

    thresholds: MaskThresholds

    @property
    def fingerprint(self) -> str:
        """64 hexadecimal digits that change with the architecture or any weight."""
        ...

    def embed(self, image: ImageArray) -> SceneEmbedding:
        """Run the image encoder once.

        Args:
            image: Shape (H, W, 3), uint8, RGB.
        """
        ...

    def answers(
        self, embedding: SceneEmbedding, prompts: Prompts, above: float, batch: int | None = None
    ) -> Iterator[Answers]:
        """Answer prompts with the masks that are worth looking at.

        Args:
            embedding: Of the image that is asked about.
            prompts: P prompts in the frame of the upright image.
            above: Masks are left out unless their estimated IoU is above this.
            batch: Prompts at once; None leaves it to the model.

        Yields:
            The answers of some prompts at a time, in their order; logits of shape (M, h, w).
        """
        ...

    def full_masks(
        self, logits: Tensor, embedding: SceneEmbedding, stability: float, offset: float
    ) -> Iterator[FullMask]:
        """Bring masks to the upright image's size and keep the stable ones.

        Args:
            logits: Shape (M, h, w), float32, from ``answers``.
            embedding: Of the same image.
            stability: The least stability score, in [0, 1].
            offset: How far the stability score moves the threshold, in logits.

        Yields:
            The masks that are stable and not empty, in the order of ``logits``.
        """
        ...


@runtime_checkable
class EmbedsMany(Protocol):
    """A promptable model whose image encoder takes several images at once; not every model has to."""

    def embed_all(self, images: Sequence[ImageArray]) -> list[SceneEmbedding]:
        """Run the image encoder for several images.

        Args:
            images: Each of shape (H, W, 3), uint8, RGB; of any sizes.
        """
        ...


def embed_scenes(model: PromptableModel, images: Sequence[ImageArray]) -> list[SceneEmbedding]:
    """Run a model's image encoder for several images: at once where the model can, else one by one.

    Args:
        model: Any promptable model.
        images: Each of shape (H, W, 3), uint8, RGB; of any sizes.

    Returns:
        Their embeddings, in order.
    """
    if isinstance(model, EmbedsMany):
        return model.embed_all(images)
    return [model.embed(image) for image in images]
