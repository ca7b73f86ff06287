"""``Segmenter``: generate, filter and deduplicate the masks of an image."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

import numpy as np
import torch

from naruto_vision.errors import InputError
from naruto_vision.geometry import area_xyxy
from naruto_vision.io.bundles import model_fingerprint
from naruto_vision.records import Box, ImageArray, Region
from naruto_vision.segmentation.postprocess import nms_xyxy
from naruto_vision.segmentation.prompts import GridPrompter, point_names
from naruto_vision.segmentation.protocol import PromptableModel, Prompter, Prompts, SceneEmbedding, embed_scenes

_NEAR = 20  # pixels: a mask that ends this close to a window's edge is probably truncated


@dataclass(frozen=True)
class Window:
    """A rectangular part of an image."""

    left: int
    top: int
    right: int
    bottom: int
    layer: int = 0

    @property
    def area(self) -> int:
        """Number of pixels."""
        return (self.right - self.left) * (self.bottom - self.top)

    def cut(self, image: ImageArray) -> ImageArray:
        """Return this part of an image (H, W, 3), as a view."""
        return image[self.top : self.bottom, self.left : self.right]

    def moved(self, box: Box) -> Box:
        """Convert a box from this window's pixels to the image's."""
        x1, y1, x2, y2 = box
        return x1 + self.left, y1 + self.top, x2 + self.left, y2 + self.top

    def cuts(self, box: Box, height: int, width: int) -> bool:
        """Return whether a mask is probably truncated: its box ends at an edge of this window inside the image."""
        mine, whole = (self.left, self.top, self.right, self.bottom), (0, 0, width, height)
        sides = zip(box, mine, whole, strict=True)
        return any(abs(side - edge) <= _NEAR < abs(side - end) for side, edge, end in sides)


@dataclass(frozen=True)
class CropLayers:
    """Multi-crop layers: windows are upscaled to the model's input to find small objects (SAM's ``crop_n_layers``).

    Examples:
        >>> [(window.left, window.right) for window in CropLayers().windows(100, 100)]
        [(0, 100), (0, 67), (0, 67), (33, 100), (33, 100)]
    """

    layers: int = 1
    points_divisor: int = 2
    overlap: float = 512 / 1500
    box_nms: float = 0.7

    def __post_init__(self) -> None:
        if self.layers < 1 or self.points_divisor < 1 or not (0 <= self.overlap < 1 and 0 <= self.box_nms <= 1):
            msg = f"crop layers: expected layers and points_divisor >= 1, overlap and box_nms in [0, 1], found {self}"
            raise InputError(msg)

    def windows(self, height: int, width: int) -> list[Window]:
        """Divide an image into windows, the whole image first."""
        windows = [Window(0, 0, width, height)]
        for layer in range(1, self.layers + 1):
            count = 2**layer
            shared = int(self.overlap * min(height, width) * 2 / count)
            wide, high = (math.ceil((shared * (count - 1) + side) / count) for side in (width, height))
            for column, row in product(range(count), repeat=2):
                left, top = column * (wide - shared), row * (high - shared)
                windows.append(Window(left, top, min(left + wide, width), min(top + high, height), layer))
        return windows

    def prompts(self, prompter: Prompter, image: ImageArray, window: Window) -> Prompts:
        """Return a coarser grid in a window's pixels, with names in the image's."""
        if not isinstance(prompter, GridPrompter):
            msg = f"crop layers: expected a GridPrompter, which covers a window, found {type(prompter).__name__}"
            raise InputError(msg)
        coarser = GridPrompter(max(1, prompter.points_per_side // self.points_divisor**window.layer))
        prompts = coarser(window.cut(image))
        return replace(prompts, names=point_names(prompts.points[:, 0] + np.array([window.left, window.top])))


@dataclass(frozen=True)
class RegionFilter:
    """Which masks become regions.

    Examples:
        >>> import naruto_vision as nv
        >>> import numpy as np
        >>> small, large = (nv.Region((0, 0, s, s), np.ones((s + 1, s + 1), bool)) for s in (3, 19))
        >>> [region.area for region in RegionFilter(min_area=100)([small, large], 40, 40)]
        [400]
    """

    min_area: int = 256
    max_masks: int | None = 12
    sort_by: Literal["area", "stability"] = "area"
    min_box_ratio: float = 0.0
    max_box_ratio: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.min_box_ratio <= self.max_box_ratio or self.min_area < 0 or (self.max_masks or 0) < 0:
            msg = f"region filter: expected 0 <= min_box_ratio <= max_box_ratio and no negative count, found {self}"
            raise ValueError(msg)

    def __call__(self, regions: Sequence[Region], height: int, width: int) -> list[Region]:
        """Return an image's regions that pass, largest mask first; the sort is stable."""
        low, high = self.min_box_ratio * height * width, self.max_box_ratio * height * width
        sized = [(region.area, region) for region in regions if low <= area_xyxy(region.box) <= high]
        kept = [pair for pair in sized if pair[0] >= self.min_area]
        if self.sort_by == "stability" and self.max_masks is not None:
            kept = sorted(kept, key=lambda pair: -pair[1].stability)[: self.max_masks]
        return [region for _, region in sorted(kept, key=lambda pair: -pair[0])][: self.max_masks]


class Segmenter:
    """Segments images into regions.

    Masks are rejected as early as possible: by estimated IoU before their logits are computed, and by stability before
    full resolution, where only pixels that can be foreground are resampled.

    Args:
        prompter: Chooses the prompts.
        model: Predicts the masks.
        predicted_iou: Least estimated IoU; None takes the value stored with the weights, also for the next three.
        stability: Least stability score.
        stability_offset: Shift of the mask threshold for the stability score, in logits.
        box_nms: Box IoU above which the worse of two masks is dropped.
        keep: Which masks become regions.
        crops: Multi-crop layers; None segments the whole image only.
        prompts_per_batch: Prompts per mask-decoder batch; None chooses by the device.

    Examples:
        >>> import naruto_vision as nv
        >>> import numpy as np
        >>> segmenter = nv.Segmenter(nv.GridPrompter(4), nv.SamModel("tiny-sam"))
        >>> regions = segmenter(np.zeros((48, 64, 3), np.uint8))
    """

    def __init__(
        self,
        prompter: Prompter,
        model: PromptableModel,
        *,
        predicted_iou: float | None = None,
        stability: float | None = None,
        stability_offset: float | None = None,
        box_nms: float | None = None,
        keep: RegionFilter | None = None,
        crops: CropLayers | None = None,
        prompts_per_batch: int | None = None,
    ) -> None:
        self.prompter = prompter
        self.model = model
        self.thresholds = model.thresholds.override(
            predicted_iou=predicted_iou, stability=stability, stability_offset=stability_offset, box_nms=box_nms
        )
        self.keep = keep or RegionFilter()
        self.crops = crops
        self.prompts_per_batch = prompts_per_batch

    @property
    def fingerprint(self) -> str:
        """64 hexadecimal digits that change with the model, the prompter or any threshold."""
        facts = {
            "model": self.model.fingerprint,
            "prompter": f"{type(self.prompter).__name__} {getattr(self.prompter, 'fingerprint', vars(self.prompter))}",
            "thresholds": repr(self.thresholds),
            "keep": repr(self.keep),
        }
        if self.crops:
            facts["crops"] = repr(self.crops)
        return model_fingerprint(facts, {})

    def embed_all(self, images: Sequence[ImageArray]) -> Sequence[SceneEmbedding | None]:
        """Run the image encoder on several images, batched if the model supports it."""
        return embed_scenes(self.model, images)

    @torch.no_grad()
    def __call__(self, image: ImageArray, embedding: SceneEmbedding | None = None) -> list[Region]:
        """Segment one image.

        Args:
            image: Shape (H, W, 3), uint8, RGB, upright.
            embedding: Image-encoder output for the whole image, from ``embed_all``; None computes it.

        Returns:
            Its regions, largest mask first; may be empty.
        """
        height, width = image.shape[:2]
        whole = Window(0, 0, width, height)
        windows = self.crops.windows(height, width) if self.crops else [whole]
        embeddings = {} if embedding is None else {whole: embedding}
        rest = [window for window in windows if window not in embeddings]
        embeddings.update(zip(rest, embed_scenes(self.model, [window.cut(image) for window in rest]), strict=True))
        found, sizes = list[Region](), list[float]()
        for window in windows:
            regions = self._segment_window(image, window, embeddings[window])
            found += regions
            sizes += [1 / window.area] * len(regions)
        if self.crops:
            found = _without_duplicates(found, sizes, self.crops.box_nms)
        return self.keep(found, height, width)

    def _segment_window(self, image: ImageArray, window: Window, embedding: SceneEmbedding) -> list[Region]:
        """Segment one window of an image."""
        if window.layer and self.crops:
            prompts = self.crops.prompts(self.prompter, image, window)
        else:
            prompts = self.prompter(image)
        found = self._candidates(embedding, prompts, window)
        uncut = [each for each in found if not window.cuts(each.box, *image.shape[:2])]
        return _without_duplicates(uncut, [each.predicted_iou for each in uncut], self.thresholds.box_nms)

    def _candidates(self, embedding: SceneEmbedding, prompts: Prompts, window: Window) -> Iterator[Region]:
        limits = self.thresholds
        for some in self.model.predict_masks(embedding, prompts, limits.predicted_iou, self.prompts_per_batch):
            ious, prompt = some.ious.tolist(), some.prompt.tolist()
            for full in self.model.full_masks(some.logits, embedding, limits.stability, limits.stability_offset):
                origin = prompts.origin(prompt[full.index], window.left, window.top)
                yield Region(window.moved(full.box), full.mask, ious[full.index], full.stability, origin)


def _without_duplicates(regions: list[Region], scores: list[float], box_nms: float) -> list[Region]:
    boxes = torch.tensor([each.box for each in regions]).view(-1, 4)
    return [regions[i] for i in nms_xyxy(boxes, torch.tensor(scores), box_nms).tolist()]
