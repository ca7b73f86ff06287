"""The two halves of every segmenter: where to ask, and who answers."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from naruto_vision.records import Picture
from naruto_vision.segmentation.thresholds import MaskThresholds


@dataclass(frozen=True)
class Prompts:
    """What a promptable model is asked, one object a row.

    Args:
        points: Shape (P, K, 2), float32, x and y in pixels of the upright picture.
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
    """A picture after the image encoder.

    Args:
        features: Shape (1, C, h, w), float32.
        original_size: Height and width of the upright picture in pixels.
        input_size: Height and width of the resized picture inside the model's padded square.
    """

    features: Tensor
    original_size: tuple[int, int]
    input_size: tuple[int, int]


class Prompter(Protocol):
    """Where to ask."""

    def __call__(self, picture: Picture) -> Prompts:
        """Choose the prompts of one picture, in its own pixels."""
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

    def embed(self, picture: Picture) -> SceneEmbedding:
        """Run the image encoder once.

        Args:
            picture: Shape (H, W, 3), uint8, RGB.
        """
        ...

    def answer(self, embedding: SceneEmbedding, prompts: Prompts) -> tuple[Tensor, Tensor]:
        """Answer prompts.

        Args:
            embedding: Of the picture that is asked about.
            prompts: P prompts in the frame of the upright picture.

        Returns:
            Low-resolution mask logits (P, M, h, w) and predicted IoUs (P, M), both float32.
        """
        ...

    def upscale(self, logits: Tensor, embedding: SceneEmbedding) -> Tensor:
        """Bring logits to the upright picture's size.

        Args:
            logits: Shape (P, h, w), float32, from ``answer``.
            embedding: Of the same picture.

        Returns:
            Shape (P, H, W), float32.
        """
        ...
