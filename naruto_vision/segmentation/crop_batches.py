"""From the regions of a picture to their vectors, without a picture of its own for every mask.

The picture goes to the encoder's device once; cutting, laying on the flat ground, resizing and normalising happen
there, and the forward passes run in batches of one size, whatever the regions and the ways to crop them.
"""

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from naruto_vision.encoders.base import Encoder
from naruto_vision.records import Picture, Region
from naruto_vision.segmentation.crops import CropSettings, crop_layout, crop_region

CPU_BATCH = 16
"""Where a ViT reaches nine tenths of a core's matrix rate; more only takes memory."""

GPU_BATCH = 256


@torch.inference_mode()
def embed_regions(
    encoder: Encoder,
    picture: Picture,
    regions: Sequence[Region],
    crops: Sequence[CropSettings],
    *,
    mirror: bool = False,
    renormalise: bool = True,
    batch_size: int | None = None,
) -> Tensor:
    """Embed the regions of one picture, each cropped in every way.

    Args:
        encoder: Any encoder; one without a ``preparation`` is given its crops one by one.
        picture: Shape (H, W, 3), uint8, RGB.
        regions: R regions of this picture.
        crops: C ways to crop them.
        mirror: Average each crop's vector with its mirror image's.
        renormalise: Bring that average back to length 1.
        batch_size: Crops a forward pass; None takes 16 on a CPU and 256 elsewhere.

    Returns:
        Shape (C, R, D), float32, on the CPU; unit rows unless an average is left as it is.
    """
    device = next(encoder.parameters()).device
    size = batch_size or (CPU_BATCH if device.type == "cpu" else GPU_BATCH)
    rows = []
    for pixels in _batches(encoder, picture, regions, crops, size):
        vectors = encoder.encode_images(pixels)
        if mirror:
            vectors = (vectors + encoder.encode_images(pixels.flip(-1))) / 2.0
            vectors = normalize(vectors, dim=-1) if renormalise else vectors
        rows.append(vectors.float().cpu())
    flat = torch.cat(rows) if rows else torch.zeros(0, encoder.dim)
    return flat.view(len(crops), len(regions), encoder.dim)


def _batches(
    encoder: Encoder, picture: Picture, regions: Sequence[Region], crops: Sequence[CropSettings], size: int
) -> Iterator[Tensor]:
    """Yield prepared crops (B, 3, S, S), float32, all regions of the first way before those of the second."""
    device = next(encoder.parameters()).device
    preparation = encoder.preparation
    asked = ((region, crop) for crop in crops for region in regions)
    if preparation is None:
        while part := list(islice(asked, size)):
            yield torch.stack([encoder.preprocess(crop_region(picture, *one)) for one in part]).to(device)
        return
    whole = torch.from_numpy(np.ascontiguousarray(picture)).to(device)  # (H, W, 3)
    while part := list(islice(asked, size)):
        yield preparation.normalise(preparation.levels([crop_tensor(whole, *one) for one in part]))


def crop_tensor(picture: Tensor, region: Region, settings: CropSettings) -> Tensor:
    """Cut a region out of its picture as ``crop_region`` does, on the picture's device.

    Args:
        picture: Shape (H, W, 3), uint8.
        region: A region of this picture.
        settings: How.

    Returns:
        Shape (3, h, w), uint8: the same levels as ``crop_region``'s, channels first (strided: nothing is moved for it).
    """
    height, width = picture.shape[:2]
    (x1, y1, x2, y2), border = crop_layout(region, settings, width, height)
    window = picture[y1 : y2 + 1, x1 : x2 + 1]
    if settings.background is None:
        return window.permute(2, 0, 1)
    rows, columns = window.shape[:2]
    ground = settings.background
    canvas = torch.full((rows + 2 * border, columns + 2 * border, 3), ground, dtype=torch.uint8, device=picture.device)
    left, top = region.box[0] - x1, region.box[1] - y1
    mask = torch.from_numpy(np.ascontiguousarray(region.mask)).to(picture.device)[..., None]
    own = window[top : top + mask.shape[0], left : left + mask.shape[1]]
    inside = canvas[border + top :, border + left :][: mask.shape[0], : mask.shape[1]]
    torch.where(mask, own, inside, out=inside)
    return canvas.permute(2, 0, 1)
