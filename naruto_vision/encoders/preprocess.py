"""Batched preprocessing on the encoder's device, without PIL.

An encoder's own ``preprocess`` uses PIL, one image at a time on the CPU, which suits training and gallery building in
worker processes. The crops of a scene come from one decoded image; here they stay tensors, are resized by the same
antialiased filter, rounded to uint8 after each of its two passes as in PIL, and normalised in batches. If one axis
changes, values are within 1 of PIL's; if both change, PIL orders the passes by shape, which changes single values at
hard edges.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

_LONGEST = 32


def middle(height: int, width: int) -> tuple[slice, slice]:
    """Return the middle rows and columns of an image, all of them unless its sides differ more than 32 times.

    Of a thinner image a side would be resized to no pixels, or to millions.
    """
    sides = [(side, min(side, _LONGEST * min(height, width))) for side in (height, width)]
    rows, columns = (slice((side - kept) // 2, (side + kept) // 2) for side, kept in sides)
    return rows, columns


class BatchPreparation(Protocol):
    """Batched preprocessing: images (3, H, W), uint8, to levels, and levels to the encoder's pixels."""

    def levels(self, images: Sequence[Tensor]) -> Tensor:
        """Resize images of any sizes on one device to uint8 of one shape."""

    def normalise(self, levels: Tensor) -> Tensor:
        """Normalise the output of ``levels``: float32 of the same shape."""


@dataclass(frozen=True)
class Preparation:
    """The preprocessing steps of an encoder.

    Examples:
        >>> preparation = Preparation(32, "longest", 32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
        >>> preparation.normalise(preparation.levels([torch.zeros(3, 40, 20, dtype=torch.uint8)])).shape
        torch.Size([1, 3, 32, 32])
    """

    size: int
    fit: Literal["shortest", "longest", "squash"]
    resize_to: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    filter: Literal["bicubic", "bilinear"] = "bicubic"
    fill: int = 0

    def __post_init__(self) -> None:
        if min(self.size, self.resize_to) < 1 or not all(self.std):
            raise ValueError(f"preparation: expected sizes >= 1 and std other than 0, found {self}")

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width that an image is resized to, before cropping and padding."""
        side = self.resize_to
        match self.fit:
            case "squash":
                return side, side
            case "shortest":  # torchvision truncates
                short, long = min(height, width), int(side * max(height, width) / min(height, width))
                return (side, long) if height == short else (long, side)
            case "longest":  # open_clip rounds
                ratio = max(height / side, width / side)
                return max(1, round(height / ratio)), max(1, round(width / ratio))

    def levels(self, images: Sequence[Tensor]) -> Tensor:
        """Resize, crop and pad images (3, H, W), uint8, of any sizes on one device: (N, 3, S, S), uint8."""
        return torch.stack([self._squared(self._resize(image)) for image in images])

    def normalise(self, levels: Tensor) -> Tensor:
        """Normalise the output of ``levels``: (N, 3, S, S), float32."""
        mean = torch.tensor(self.mean, device=levels.device).view(1, 3, 1, 1) * 255.0
        std = torch.tensor(self.std, device=levels.device).view(1, 3, 1, 1) * 255.0
        return levels.float().sub_(mean).div_(std)

    def _resize(self, image: Tensor) -> Tensor:
        image = image[:, *middle(*image.shape[-2:])]
        size = self.resized(*image.shape[-2:])
        if image.shape[-2:] == size:
            return image
        if image.device.type == "cpu":  # only the CPU has a uint8 kernel, several times faster than PIL
            return interpolate(image[None], size, mode=self.filter, antialias=True)[0]
        return self.filter_in_floats(image)

    def filter_in_floats(self, image: Tensor) -> Tensor:
        """Resize (3, H, W), uint8, on a device without a uint8 kernel: width, then height, each rounded.

        Values are within 1 of the CPU's kernel.
        """
        height, width = self.resized(*image.shape[-2:])
        levels = image[None].float()
        for size in ((image.shape[-2], width), (height, width)):
            levels = interpolate(levels, size, mode=self.filter, antialias=True).round_().clamp_(0, 255)
        return levels[0].to(torch.uint8)

    def _squared(self, image: Tensor) -> Tensor:
        """Crop the centre of (3, H, W), or pad it, to (3, S, S)."""
        height, width = image.shape[-2:]
        down, right = max(0, self.size - height), max(0, self.size - width)
        if down or right:
            image = pad(image, (right // 2, (right + 1) // 2, down // 2, (down + 1) // 2), value=self.fill)
        top, left = (round((side - self.size) / 2.0) for side in image.shape[-2:])
        return image[:, top : top + self.size, left : left + self.size]
