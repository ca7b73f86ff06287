"""What ``naruto-vision bench segment`` times: whole pictures and the image encoder."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from naruto_vision.commands.bench import Timing, interleaved
from naruto_vision.records import Picture, Region
from naruto_vision.segmentation.automatic import RegionFilter, Segmenter
from naruto_vision.segmentation.fast_encoder import encode_image
from naruto_vision.segmentation.prompters import GridPrompter
from naruto_vision.segmentation.sam import SamModel
from naruto_vision.segmentation.scaling import resize_longest
from naruto_vision.segmentation.stock import StockSegmenter
from naruto_vision.segmentation.thresholds import MaskThresholds

OURS, STOCK = "ours", "stock"
_MATCH = 0.99  # IoU


@dataclass(frozen=True)
class Part:
    """One comparison.

    Args:
        name: What was compared.
        times: Of ours and of stock.
        parity: What the two have in common, by name.
    """

    name: str
    times: dict[str, Timing]
    parity: dict[str, float]

    @property
    def ratio(self) -> float:
        """How many times sooner ours is done, by the process's CPU time, which says more where cores are shared."""
        ours, stock = (self.times[name].as_json()["cpu_median_s"] for name in (OURS, STOCK))
        return float(stock / ours)

    def figures(self) -> list[str]:
        """Return median wall seconds and CPU seconds of ours and stock, and their ratio, for a table."""
        times = [self.times[name].as_json() for name in (OURS, STOCK)]
        return [f"{one[what]:.3f}" for what in ("median_s", "cpu_median_s") for one in times] + [f"{self.ratio:.2f}"]

    def as_json(self) -> dict[str, Any]:
        """Return the JSON values of a report."""
        times = {name: timing.as_json() for name, timing in self.times.items()}
        return {"part": self.name, **times, "times_as_fast": self.ratio, "parity": self.parity}


@dataclass(frozen=True)
class Bench:
    """What all parts share.

    Args:
        model: The model.
        points: Points a side of the grid.
        repeats: Timed rounds.
        warm_up: Rounds before them.
        share: Of a model without thresholds of its own, the share of masks that pass.
    """

    model: SamModel
    points: int
    repeats: int
    warm_up: int
    share: float | None

    def timed(self, ours: Callable[[], object], stock: Callable[[], object]) -> dict[str, Timing]:
        """Time the two in turns.

        Args:
            ours: This project's way.
            stock: The way of ``segment_anything``.
        """
        return interleaved({OURS: ours, STOCK: stock}, self.repeats, self.warm_up)

    def bars(self, picture: Picture) -> MaskThresholds:
        """Choose the thresholds for a picture: the model's own, or such that the asked-for share of masks passes.

        Args:
            picture: Shape (H, W, 3), uint8, RGB.
        """
        if self.share is None:
            return self.model.thresholds
        ious = self._ious(picture).flatten().sort().values
        middle = int((1 - self.share) * len(ious))
        near = ious[max(0, middle - 20) : middle + 20]  # the bar goes into the widest gap, so that rounding has no say
        gap = int(near.diff().argmax())
        # random masks fill their picture, so every box is alike: none may go because of another
        return MaskThresholds(float(near[gap : gap + 2].mean()), stability=0.0, box_nms=1.0)

    def segment(self, picture: Picture) -> int:
        """Segment a picture in this project's way alone.

        Args:
            picture: Shape (H, W, 3), uint8, RGB.

        Returns:
            How many regions there are.
        """
        return len(self.segmenter(Segmenter, picture)(picture))

    def segmenter(self, kind: type[Segmenter], picture: Picture) -> Segmenter:
        """Build a segmenter for a picture.

        Args:
            kind: Ours or the stock one.
            picture: Shape (H, W, 3), uint8, RGB.
        """
        bars = self.bars(picture)
        return kind(
            GridPrompter(self.points),
            self.model,
            predicted_iou=bars.predicted_iou,
            stability=bars.stability,
            stability_offset=bars.stability_offset,
            box_nms=bars.box_nms,
            keep=RegionFilter(min_area=0, max_masks=None),
        )

    def _ious(self, picture: Picture) -> Tensor:
        embedding, prompts = self.model.embed(picture), GridPrompter(self.points)(picture)
        return torch.cat([some.ious for some in self.model.answers(embedding, prompts, float("-inf"))])


def masks(bench: Bench, picture: Picture) -> Part:
    """Compare automatic masks of one picture.

    Args:
        bench: The model and the settings.
        picture: Shape (H, W, 3), uint8, RGB.
    """
    ours, stock = (bench.segmenter(kind, picture) for kind in (Segmenter, StockSegmenter))
    found: dict[str, list[Region]] = {}

    def run(name: str, segmenter: Segmenter) -> None:
        found[name] = segmenter(picture)

    times = bench.timed(partial(run, OURS, ours), partial(run, STOCK, stock))
    height, width = picture.shape[:2]
    parity: dict[str, float] = {
        "masks": len(found[OURS]),
        "stock masks": len(found[STOCK]),
        "matched": matched_share(found[OURS], found[STOCK]),
    }
    return Part(f"masks {height}x{width}", times, parity)


@torch.no_grad()
def encoder(bench: Bench, picture: Picture) -> Part:
    """Compare the image encoders.

    Args:
        bench: The model and the settings.
        picture: Shape (H, W, 3), uint8, RGB.
    """
    sam, found = bench.model.sam, dict[str, Tensor]()
    pixels = (
        torch.from_numpy(resize_longest(picture, bench.model.image_size)).permute(2, 0, 1)[None].to(bench.model.device)
    )
    square = sam.preprocess(pixels.float())

    def run(name: str, encode: Callable[[Tensor], Tensor]) -> None:
        found[name] = encode(square)

    ours = partial(run, OURS, partial(encode_image, sam.image_encoder))
    times = bench.timed(ours, partial(run, STOCK, sam.image_encoder))
    return Part("encoder", times, {"largest difference": float((found[OURS] - found[STOCK]).abs().max())})


def matched_share(ours: list[Region], stock: list[Region]) -> float:
    """Count the share of the stock regions that one of ours matches at a mask IoU of 0.99.

    Args:
        ours: This project's regions.
        stock: Those of ``segment_anything``.
    """
    left = list(ours)
    matched = 0
    for region in stock:
        x1, y1, x2, y2 = region.box
        for index, other in enumerate(left):
            near = max(abs(a - b) for a, b in zip(region.box, other.box, strict=True)) <= 0.01 * max(
                x2 - x1, y2 - y1, 99
            )
            if near and _iou(region, other) >= _MATCH:
                matched += 1
                del left[index]
                break
    return matched / len(stock) if stock else 1.0


def _iou(one: Region, other: Region) -> float:
    if one.box == other.box:
        first, second = one.mask, other.mask
    else:
        height, width = (max(one.box[side], other.box[side]) + 1 for side in (3, 2))
        first, second = one.full_mask(height, width), other.full_mask(height, width)
    return float(np.count_nonzero(first & second) / np.count_nonzero(first | second))
