"""Prompts about figures for training a promptable model: which figure, which point, which box."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from naruto_vision.data.mask_sources import MaskedPicture
from naruto_vision.records import Picture
from naruto_vision.segmentation.boxes import xyxy_from_mask
from naruto_vision.segmentation.training import PromptBatch


class Asked(NamedTuple):
    """One picture and the prompts about it.

    Attributes:
        picture: Shape (S, S, 3), uint8, RGB.
        points: Shape (A, 2), float32, x and y in pixels.
        point_masks: Shape (A, S, S), bool; empty for a point on no figure.
        boxes: Shape (C, 4), float32, x1 y1 x2 y2 in pixels.
        box_masks: Shape (C, S, S), bool.
    """

    picture: Picture
    points: NDArray[np.float32]
    point_masks: NDArray[np.bool_]
    boxes: NDArray[np.float32]
    box_masks: NDArray[np.bool_]


def to_square(scene: MaskedPicture, side: int) -> MaskedPicture:
    """Scale a picture and its masks into a square, as the model will see it: longest side full, the rest black.

    Args:
        scene: A picture, shape (H, W, 3), with its masks, shape (K, H, W).
        side: Side of the square in pixels.

    Returns:
        Picture (side, side, 3) and those masks (K', side, side) that still have a pixel.
    """
    height, width = scene.picture.shape[:2]
    scale = side / max(height, width)
    size = (max(1, int(width * scale + 0.5)), max(1, int(height * scale + 0.5)))
    picture = np.zeros((side, side, 3), dtype=np.uint8)
    # the very resizing that the model does itself when it is used
    picture[: size[1], : size[0]] = np.asarray(Image.fromarray(scene.picture).resize(size, Image.Resampling.BILINEAR))
    masks = np.zeros((len(scene.masks), side, side), dtype=np.bool_)
    for row, mask in enumerate(scene.masks):
        cover = cv2.resize(mask.astype(np.uint8) * 255, size, interpolation=cv2.INTER_AREA)
        masks[row, : size[1], : size[0]] = cover >= 128
    return MaskedPicture(picture, masks[masks.any(axis=(1, 2))])


def point_in(mask: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.float32]:
    """Choose a pixel of a mask, all alike probable.

    Args:
        mask: Shape (H, W), bool, not empty.
        rng: The source of chance.

    Returns:
        Shape (2,), float32: x and y.
    """
    pixels = np.flatnonzero(mask)
    y, x = divmod(int(pixels[rng.integers(len(pixels))]), mask.shape[1])
    return np.array([x, y], dtype=np.float32)


def box_around(mask: NDArray[np.bool_], rng: np.random.Generator, jitter: float) -> NDArray[np.float32]:
    """Put a box around a mask, each edge moved at random.

    Args:
        mask: Shape (H, W), bool, not empty.
        rng: The source of chance.
        jitter: Largest move of an edge, as a share of the box's side; never more than 20 pixels, as in SAM.

    Returns:
        Shape (4,), float32: x1 y1 x2 y2 inside the picture.
    """
    x1, y1, x2, y2 = xyxy_from_mask(mask) or (0, 0, 0, 0)
    reach = np.minimum(np.array([x2 - x1 + 1, y2 - y1 + 1] * 2) * jitter, 20.0)
    moved = np.array([x1, y1, x2, y2]) + rng.uniform(-1.0, 1.0, 4) * reach
    limit = np.array([mask.shape[1] - 1, mask.shape[0] - 1] * 2)
    return moved.clip(0, limit).astype(np.float32)


def ask(scene: MaskedPicture, rng: np.random.Generator, *, figures: int, off_figure: int, boxes: float) -> Asked:
    """Choose a picture's training prompts, and flip it every other time.

    Args:
        scene: Square picture, shape (S, S, 3), and masks, shape (K, S, S).
        rng: The source of chance.
        figures: How many figures are asked for at most.
        off_figure: How many points lie on no figure.
        boxes: Chance that a figure is asked for by a box instead of a point, in [0, 1].
    """
    picture, masks = scene
    if rng.random() < 0.5:
        picture, masks = picture[:, ::-1], masks[:, :, ::-1]
    chosen = masks[rng.permutation(len(masks))[:figures]]
    by_box = rng.random(len(chosen)) < boxes
    background = np.logical_not(masks.any(axis=0))
    nothing = np.zeros((off_figure if background.any() else 0, *background.shape), dtype=np.bool_)
    points = [point_in(mask, rng) for mask in chosen[~by_box]] + [point_in(background, rng) for _ in nothing]
    around = [box_around(mask, rng, 0.1) for mask in chosen[by_box]]
    return Asked(
        picture,
        np.array(points, dtype=np.float32).reshape(-1, 2),
        np.concatenate([chosen[~by_box], nothing]),
        np.array(around, dtype=np.float32).reshape(-1, 4),
        chosen[by_box],
    )


def ask_all(scene: MaskedPicture, rng: np.random.Generator) -> Asked:
    """Ask for every figure twice, by one point and by its exact box: what validation measures.

    Args:
        scene: Square picture, shape (S, S, 3), and masks, shape (K, S, S).
        rng: The source of chance.
    """
    points = [point_in(mask, rng) for mask in scene.masks]
    around = [box_around(mask, rng, 0.0) for mask in scene.masks]
    return Asked(
        scene.picture,
        np.array(points, dtype=np.float32).reshape(-1, 2),
        scene.masks,
        np.array(around, dtype=np.float32).reshape(-1, 4),
        scene.masks,
    )


def collate(items: Sequence[Asked]) -> PromptBatch:
    """Put pictures and their prompts into one batch.

    Args:
        items: B pictures of one size with their prompts.

    Returns:
        All points before all boxes.
    """
    pixels = np.stack([item.picture for item in items]).transpose(0, 3, 1, 2)
    counts = [len(item.points) for item in items], [len(item.boxes) for item in items]
    picture = np.concatenate([np.repeat(np.arange(len(items)), count) for count in counts])
    masks = np.concatenate([item.point_masks for item in items] + [item.box_masks for item in items])
    return PromptBatch(
        torch.from_numpy(np.ascontiguousarray(pixels)),
        torch.from_numpy(picture),
        torch.from_numpy(np.concatenate([item.points for item in items])),
        torch.from_numpy(np.concatenate([item.boxes for item in items])),
        torch.from_numpy(masks),
    )
