"""Between a picture and the model's square input: pictures down to its size, logits back up to the picture's."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from naruto_vision.records import Picture
from naruto_vision.segmentation.base import FullMask, SceneEmbedding
from naruto_vision.segmentation.full_size import Frame, dense_masks


def resize_longest(picture: Picture, side: int) -> Picture:
    """Scale a picture so that its longest side fills the model's input.

    Args:
        picture: Shape (H, W, 3), uint8, RGB.
        side: Of the input, in pixels.

    Returns:
        Shape (h, w, 3), uint8, with ``max(h, w) == side``.
    """
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    size = (max(1, int(width * scale + 0.5)), max(1, int(height * scale + 0.5)))
    return np.array(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR))


@torch.no_grad()
def upscale(logits: Tensor, embedding: SceneEmbedding, side: int) -> Tensor:
    """Bring low-resolution logits to the upright picture's size.

    Args:
        logits: Shape (P, h, w), float32.
        embedding: Of the picture that was asked about.
        side: Of the model's input, in pixels.

    Returns:
        Shape (P, H, W), float32.
    """
    height, width = embedding.input_size
    square = interpolate(logits[:, None], (side, side), mode="bilinear")
    whole = interpolate(square[..., :height, :width], embedding.original_size, mode="bilinear")
    return whole[:, 0]


@torch.no_grad()
def stable_masks(
    logits: Tensor, embedding: SceneEmbedding, side: int, stability: float, offset: float
) -> Iterator[FullMask]:
    """Bring masks to the upright picture's size and keep the stable ones.

    Args:
        logits: Shape (M, h, w), float32.
        embedding: Of the picture that was asked about.
        side: Of the model's input, in pixels.
        stability: The least stability score, in [0, 1].
        offset: How far the stability score moves the threshold, in logits.

    Yields:
        The masks that are stable and not empty, in the order of ``logits``.
    """
    height, width = embedding.original_size
    if logits.device.type == "cpu":
        frame = Frame(logits.shape[-1], side, embedding.input_size, (height, width))
        yield from frame.full_masks(logits, stability, offset)
    else:
        whole = partial(upscale, embedding=embedding, side=side)
        yield from dense_masks(logits, whole, height * width, stability, offset)
