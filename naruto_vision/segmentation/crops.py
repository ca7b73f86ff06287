"""Crop and embed regions in batches on the encoder's device.

Cropping, background filling, resizing and normalisation run on that device, and the forward passes have a fixed batch
size, independent of the number of regions and crops. ``DenseEmbedder`` takes one pass over the scene instead.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice, product
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from naruto_vision.encoders.backbone import TimmEncoder
from naruto_vision.encoders.base import Encoder, encode_images
from naruto_vision.encoders.dense import averages, dense_vectors
from naruto_vision.encoders.ensemble import EnsembleEncoder
from naruto_vision.errors import InputError
from naruto_vision.geometry import expand_xyxy
from naruto_vision.records import Box, ImageArray, Region

_CPU_BATCH = 16  # a ViT reaches nine tenths of a core's peak rate; more only takes memory
_GPU_BATCH = 256

Embedding: TypeAlias = Literal["crops", "dense"]
"""How regions become vectors: by a forward pass for each crop, or by one over the scene."""


@dataclass(frozen=True)
class CropConfig:
    """How regions are cropped for the encoder.

    Args:
        expand: Fraction of its size by which the box grows, half on each side. With ``background`` it only matters if
            ``tight`` is off, since a tight crop uses the mask's own box.
        tight: With ``background``, crop to the mask's own box.
        pad: With ``background``, border as a fraction of the short side of the crop.
        pad_min: Least border in pixels.
        background: Grey value from 0 to 255 that replaces everything outside the mask; None keeps the image's
            own pixels, without border.

    Raises:
        ValueError: If a number is out of its range.

    Examples:
        >>> import naruto_vision as nv
        >>> nv.CropConfig(background=255).expand
        0.18
    """

    expand: float = 0.18
    tight: bool = True
    pad: float = 0.10
    pad_min: int = 8
    background: int | None = 0

    def __post_init__(self) -> None:
        if min(self.expand, self.pad, self.pad_min) < 0:
            msg = f"crop: expected expand, pad and pad_min >= 0, found {self.expand}, {self.pad}, {self.pad_min}"
            raise ValueError(msg)
        if self.background is not None and not 0 <= self.background <= 255:
            raise ValueError(f"crop: expected a background from 0 to 255, found {self.background}")


def crop_region(image: ImageArray, region: Region, settings: CropConfig | None = None) -> ImageArray:
    """Crop a region from its image (H, W, 3), uint8: returns (h, w, 3), uint8.

    Only the crop's window is read, so the cost does not grow with the image.
    """
    settings = settings or CropConfig()
    (x1, y1, x2, y2), border = crop_layout(region, settings, image.shape[1], image.shape[0])
    window = image[y1 : y2 + 1, x1 : x2 + 1]
    if settings.background is None:
        return np.ascontiguousarray(window)
    shape = (len(window) + 2 * border, window.shape[1] + 2 * border, 3)
    canvas = np.full(shape, settings.background, dtype=np.uint8)
    left, top, mask = region.box[0] - x1, region.box[1] - y1, region.mask
    own = slice(top, top + len(mask)), slice(left, left + mask.shape[1])
    canvas[border:, border:][own][mask] = window[own][mask]
    return canvas


def crop_layout(region: Region, settings: CropConfig, width: int, height: int) -> tuple[Box, int]:
    """Return the image window of a crop, inclusive pixels, and the border around it in pixels."""
    if settings.background is None:
        return expand_xyxy(region.box, settings.expand, width, height), 0
    box = expand_xyxy(region.box, 0.0 if settings.tight else settings.expand, width, height)
    short = min(box[2] - box[0], box[3] - box[1]) + 1
    return box, max(settings.pad_min, round(settings.pad * short))


@torch.inference_mode()
def embed_regions(
    encoder: Encoder,
    scenes: Sequence[tuple[ImageArray, Sequence[Region]]],
    crops: Sequence[CropConfig],
    *,
    mirror: bool = False,
    renormalise: bool = True,
    batch_size: int | None = None,
) -> list[Tensor]:
    """Embed the regions of several images; a batch may contain crops of several of them.

    Shapes: returns (C, R, D), float32, for C crop configs and R regions.
    """
    device = next(encoder.parameters()).device
    size = batch_size or (_CPU_BATCH if device.type == "cpu" else _GPU_BATCH)
    apart = [[scene] for scene in scenes] if encoder.mixes else [scenes]
    batches = chain.from_iterable(_batches(encoder, some, crops, size) for some in apart)
    rows = [encode_images(encoder, each, mirror=mirror, renormalise=renormalise).float() for each in batches]
    flat = torch.cat(rows).cpu() if rows else torch.zeros(0, encoder.dim)
    counts = [len(regions) for _, regions in scenes]
    parts = torch.split(flat, [len(crops) * count for count in counts])
    return [part.view(len(crops), count, encoder.dim) for part, count in zip(parts, counts, strict=True)]


class DenseEmbedder:
    """Embeds the regions of a scene by one forward pass over it: each vector is the mean of features over the mask.

    This needs an encoder that pools by the mean, so that the vectors are comparable with a gallery's. Of an ensemble,
    the members that do are run in this way, and the others crop by crop.

    Raises:
        InputError: If neither the encoder nor a member pools by the mean.
    """

    def __init__(self, encoder: Encoder) -> None:
        members = encoder.own_members if isinstance(encoder, EnsembleEncoder) else [encoder]
        weights = encoder.weights if isinstance(encoder, EnsembleEncoder) else (1.0,)
        self._parts = [(each, math.sqrt(weight)) for each, weight in zip(members, weights, strict=True)]
        self._dense = {each for each in members if averages(each)}
        if not self._dense:
            raise InputError(
                f"model.embedding dense: expected an encoder that pools its features by their mean (TimmEncoder, or "
                f"ClipEnsemble with one), found {encoder.short_name}; use crops"
            )

    def __call__(
        self,
        scenes: Sequence[tuple[ImageArray, Sequence[Region]]],
        crops: Sequence[CropConfig],
        *,
        mirror: bool = False,
        renormalise: bool = True,
        batch_size: int | None = None,
    ) -> list[Tensor]:
        """Embed the regions of several images as ``embed_regions`` does: (1, R, D), float32, on the CPU."""
        dense = partial(dense_vectors, mirror=mirror, renormalise=renormalise)
        parts: list[list[Tensor]] = []
        for encoder, weight in self._parts:
            if isinstance(encoder, TimmEncoder) and encoder in self._dense:
                found = [dense(encoder, *scene).float().cpu() for scene in scenes]
            else:
                views = embed_regions(
                    encoder, scenes, crops, mirror=mirror, renormalise=renormalise, batch_size=batch_size
                )
                found = [each.mean(dim=0) for each in views]
                found = [normalize(each, dim=-1) for each in found] if renormalise else found
            parts.append([weight * each for each in found])
        return [torch.cat(own, dim=1)[None] for own in zip(*parts, strict=True)]


def _batches(
    encoder: Encoder, scenes: Sequence[tuple[ImageArray, Sequence[Region]]], crops: Sequence[CropConfig], size: int
) -> Iterator[Tensor]:
    """Yield prepared crops (B, 3, S, S), float32: image by image, all regions of the first crop config first."""
    preparation, device = encoder.preparation, next(encoder.parameters()).device
    if preparation is None:
        jobs = ((image, *each) for image, regions in scenes for each in product(crops, regions))
        prepared = (encoder.preprocess(crop_region(image, region, crop)) for image, crop, region in jobs)
        while part := list(islice(prepared, size)):
            yield torch.stack(part).to(device)
        return
    cut = _cut(scenes, crops, device)
    while part := list(islice(cut, size)):
        yield preparation.normalise(preparation.levels(part))


def _cut(
    scenes: Sequence[tuple[ImageArray, Sequence[Region]]], crops: Sequence[CropConfig], device: torch.device
) -> Iterator[Tensor]:
    """Yield crops (3, h, w), uint8; each image is copied to the device once, when its crops are due."""
    for image, regions in scenes:
        if regions:
            whole = torch.from_numpy(np.ascontiguousarray(image)).to(device)  # (H, W, 3)
            yield from (crop_tensor(whole, region, crop) for crop, region in product(crops, regions))


def crop_tensor(image: Tensor, region: Region, settings: CropConfig) -> Tensor:
    """Crop a region from its image (H, W, 3), uint8, as ``crop_region`` does, on the image's device."""
    height, width = image.shape[:2]
    (x1, y1, x2, y2), border = crop_layout(region, settings, width, height)
    window = image[y1 : y2 + 1, x1 : x2 + 1]
    if settings.background is None:
        return window.permute(2, 0, 1)
    rows, columns = window.shape[:2]
    ground = settings.background
    canvas = torch.full((rows + 2 * border, columns + 2 * border, 3), ground, dtype=torch.uint8, device=image.device)
    left, top = region.box[0] - x1, region.box[1] - y1
    mask = torch.from_numpy(region.mask).to(image.device)[..., None]
    own = window[top : top + mask.shape[0], left : left + mask.shape[1]]
    inside = canvas[border + top :, border + left :][: mask.shape[0], : mask.shape[1]]
    torch.where(mask, own, inside, out=inside)
    return canvas.permute(2, 0, 1)
