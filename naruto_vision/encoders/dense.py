"""Dense features: a unit vector for each patch of an image of any size, and vectors of regions from one forward pass.

A convolutional network gives two levels, joined: the last one knows what a thing is, the one before where it ends.
"""

import math
from collections.abc import Sequence
from itertools import product

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from naruto_vision.encoders.backbone import TimmEncoder
from naruto_vision.encoders.base import Encoder, WrappedEncoder, embed_images
from naruto_vision.encoders.ensemble import EnsembleEncoder
from naruto_vision.encoders.preprocess import Preparation
from naruto_vision.errors import InputError
from naruto_vision.geometry import shape_of_xyxy
from naruto_vision.records import ImageArray, Region

ENLARGED = 2.0
"""Default side of the scaled image, as a multiple of the encoder's own input: objects are smaller than scenes."""
_LARGEST = 2048  # pixels a side of the square with as many pixels; attention takes memory of the fourth power


def whole_patches(encoder: Encoder, image: ImageArray, side: int) -> Tensor:
    """Scale an image (H, W, 3), uint8, to about side² pixels in whole patches, normalised: (1, 3, h, w), float32.

    It keeps its proportions, except that a long strip is one patch high at least.
    """
    steps, unit = encoder.preparation, encoder.stride
    if not isinstance(steps, Preparation):
        raise InputError(f"{encoder.short_name}: expected an encoder with a square input and patch features")
    scale = side / math.sqrt(image.shape[0] * image.shape[1])
    most = max(1, side // unit) ** 2  # patches in all
    height, width = (unit * max(1, min(round(length * scale / unit), most)) for length in image.shape[:2])
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    scaled = cv2.resize(np.ascontiguousarray(image), (width, height), interpolation=how)
    levels = torch.from_numpy(scaled).permute(2, 0, 1)[None]
    return steps.normalise(levels.to(next(encoder.parameters()).device))


@torch.no_grad()
def dense_map(encoder: Encoder, image: ImageArray, enlarged: float = ENLARGED) -> Tensor:
    """Embed every patch of an image, of any proportions, in one forward pass of each member of an ensemble.

    Args:
        encoder: A CLIP with a vision transformer, whose patches are projected into the space of its texts; a backbone
            of timm; or an ensemble of these, whose parts are weighted as its vectors are.
        image: Shape (H, W, 3), uint8, RGB, upright.
        enlarged: The image is scaled to as many pixels as a square of this multiple of the encoder's input has.

    Returns:
        Shape (h, w, D), float32, unit vectors, on the encoder's device. The grid is the finest of the members'.

    Raises:
        InputError: If the encoder has no patch features.
    """
    if isinstance(encoder, WrappedEncoder):
        encoder = encoder.encoder
    if isinstance(encoder, EnsembleEncoder):
        pairs = zip(encoder.own_members, encoder.weights, strict=True)
        return _joined(
            [math.sqrt(weight) * dense_map(each, image, enlarged).permute(2, 0, 1) for each, weight in pairs]
        )
    pixels = whole_patches(encoder, image, _side(encoder, enlarged))
    maps = encoder.levels(pixels) if isinstance(encoder, TimmEncoder) else [encoder.dense(pixels)]
    return _joined([normalize(each[0].float(), dim=0) for each in maps])


def window_map(encoder: Encoder, image: ImageArray, window: float) -> Tensor:
    """Embed overlapping square windows of an image: a map as coarse as a third of a window, for any encoder.

    Args:
        encoder: Embeds the windows.
        image: Shape (H, W, 3), uint8, RGB, upright.
        window: Side of a window as a fraction of the longer side; windows at the border are cut off.

    Returns:
        Shape (h, w, D), float32, unit vectors, on the CPU.
    """
    height, width = image.shape[:2]
    half = max(1.0, max(height, width) * window / 2)
    rows, columns = (max(1, round(1.5 * length / half)) for length in (height, width))
    centres = product((np.arange(rows) + 0.5) * (height / rows), (np.arange(columns) + 0.5) * (width / columns))
    cuts = [
        image[max(0, round(y - half)) : round(y + half), max(0, round(x - half)) : round(x + half)] for y, x in centres
    ]
    return embed_images(encoder, cuts).view(rows, columns, -1)


def _side(encoder: Encoder, enlarged: float) -> int:
    size = getattr(encoder, "image_size", 1)
    return min(_LARGEST, max(encoder.stride, round(size * enlarged)))


def _joined(maps: Sequence[Tensor]) -> Tensor:
    """Join maps (D, h, w) of any sizes at the finest grid: (h, w, sum of D), unit vectors."""
    grid = max((each.shape[-2:] for each in maps), key=math.prod)
    fine = [each if each.shape[-2:] == grid else interpolate(each[None], grid, mode="bilinear")[0] for each in maps]
    return normalize(torch.cat(fine), dim=0).permute(1, 2, 0)


def averages(encoder: Encoder) -> bool:
    """Return whether an encoder's vector of an image is the mean of its patch features, as global pooling makes it."""
    if not isinstance(encoder, TimmEncoder):
        return False
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    with torch.no_grad():
        pixels = encoder.preprocess(noise)[None].to(next(encoder.parameters()).device)
        maps = encoder.feature_map(pixels)
        means = normalize(encoder.head(maps.mean(dim=(2, 3))), dim=-1)
        return bool((means * encoder.encode_images(pixels)).sum() > 0.999)


@torch.no_grad()
def dense_vectors(
    encoder: TimmEncoder,
    image: ImageArray,
    regions: Sequence[Region],
    *,
    mirror: bool = False,
    renormalise: bool = True,
    enlarged: float = ENLARGED,
) -> Tensor:
    """Embed the regions of an image as means over their masks, from one forward pass over the image.

    For an encoder of ``averages`` the vectors are comparable with those of whole images.

    Shapes: image (H, W, 3), uint8; returns (R, D), float32, unit rows (with ``mirror`` and without ``renormalise`` at
    most unit), on the encoder's device.
    """
    if not regions:
        return torch.zeros(0, encoder.dim)
    pixels = whole_patches(encoder, image, _side(encoder, enlarged))
    maps = encoder.feature_map(torch.cat([pixels, pixels.flip(-1)]) if mirror else pixels)
    if mirror:
        maps = torch.stack([maps[0], maps[1].flip(-1)])
    means = torch.einsum("rhw,vchw->vrc", mask_shares(regions, image.shape[:2], maps.shape[-2:]).to(maps), maps)
    views = normalize(encoder.head(means.flatten(0, 1)).float(), dim=-1).view(*means.shape[:2], -1)
    average = views.mean(dim=0)
    return normalize(average, dim=-1) if renormalise else average


def mask_shares(regions: Sequence[Region], frame: tuple[int, ...], grid: tuple[int, ...]) -> Tensor:
    """Return the weights that average patches over the masks of R regions: (R, h, w), float32, each of sum 1.

    ``frame`` is the height and width of the image in pixels, ``grid`` in patches.
    """
    shares = torch.stack([mask_coverage(each, frame, grid) for each in regions])
    return shares / shares.sum(dim=(1, 2), keepdim=True)


def mask_coverage(region: Region, frame: tuple[int, ...], grid: tuple[int, ...]) -> Tensor:
    """Return the fraction of each patch that a region's mask covers: (h, w), float32, in [0, 1]."""
    x1, y1, _, _ = region.box
    tall, wide = shape_of_xyxy(region.box)
    down, across = _overlaps(y1, tall, frame[0], grid[0]), _overlaps(x1, wide, frame[1], grid[1])
    return torch.from_numpy(down.T @ region.mask.astype(np.float32) @ across)


def _overlaps(first: int, count: int, length: int, cells: int) -> NDArray[np.float32]:
    """Return how much of each of ``count`` pixels from ``first`` on lies in each of ``cells`` equal parts of a side."""
    pixel = cells / length
    starts, edges = (np.arange(count)[:, None] + first) * pixel, np.arange(cells)[None]
    shared = np.minimum(starts + pixel, edges + 1) - np.maximum(starts, edges)
    return np.asarray(shared.clip(0), dtype=np.float32)
