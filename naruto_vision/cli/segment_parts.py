"""What ``naruto-vision bench segment`` times: whole images and the image encoder."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from naruto_vision.cli.bench import Timing, interleaved
from naruto_vision.cli.segment_parity import best_ious, matched_share
from naruto_vision.records import ImageArray, Region
from naruto_vision.segmentation.generator import RegionFilter, Segmenter
from naruto_vision.segmentation.postprocess import resize_longest
from naruto_vision.segmentation.prompts import GridPrompter
from naruto_vision.segmentation.protocol import MaskThresholds
from naruto_vision.segmentation.runtime import ForwardPasses
from naruto_vision.segmentation.sam import SamModel
from naruto_vision.segmentation.stock import StockSegmenter

OURS, STOCK = "ours", "stock"


@dataclass(frozen=True)
class Part:
    """One comparison.

    Args:
        name: What was compared.
        times: Of ours and of stock.
        parity: What the two have in common, by name.
        on_gpu: Whether a GPU did the work, which CPU time says nothing of.
        ious: Of each stock mask, its IoU with the best of ours, in [0, 1]; where ours is in 16 bits.
    """

    name: str
    times: dict[str, Timing]
    parity: dict[str, float]
    on_gpu: bool = False
    ious: tuple[float, ...] = ()

    @property
    def ratio(self) -> float:
        """How many times sooner ours is done: by the clock on a GPU, else by CPU time, since cores may be shared."""
        ours, stock = self.times[OURS], self.times[STOCK]
        return stock.median / ours.median if self.on_gpu else stock.cpu_median / ours.cpu_median

    def figures(self) -> list[str]:
        """Return median wall seconds and CPU seconds of ours and stock, and their ratio, for a table."""
        ours, stock = self.times[OURS], self.times[STOCK]
        seconds = (ours.median, stock.median, ours.cpu_median, stock.cpu_median)
        return [*(f"{each:.3f}" for each in seconds), f"{self.ratio:.2f}"]

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
        tick: Called whenever one of the two is done once.
    """

    model: SamModel
    points: int
    repeats: int
    warm_up: int
    share: float | None
    tick: Callable[[], object] = lambda: None

    def timed(self, ours: Callable[[], object], stock: Callable[[], object]) -> dict[str, Timing]:
        """Time the two in turns.

        Args:
            ours: This project's way.
            stock: The way of ``segment_anything``.
        """
        ways = {OURS: partial(self._finished, ours), STOCK: partial(self._finished, stock)}
        return interleaved(ways, self.repeats, self.warm_up)

    @property
    def on_gpu(self) -> bool:
        """Whether the model is on a GPU."""
        return self.model.device.type != "cpu"

    def _finished(self, work: Callable[[], object]) -> None:
        work()
        if self.model.device.type == "cuda":
            torch.cuda.synchronize()  # the work was only ordered
        self.tick()

    def first_seconds(self, image: ImageArray) -> float:
        """Segment an image for the first time, which compiles what is to be compiled.

        Args:
            image: Shape (H, W, 3), uint8, RGB.

        Returns:
            Wall time in seconds.
        """
        segmenter, start = self.segmenter(Segmenter, image), time.perf_counter()
        segmenter(image)
        return time.perf_counter() - start

    def bars(self, image: ImageArray) -> MaskThresholds:
        """Choose the thresholds for an image: the model's own, or such that the asked-for share of masks passes.

        Args:
            image: Shape (H, W, 3), uint8, RGB.
        """
        if self.share is None:
            return self.model.thresholds
        ious = self._ious(image).flatten().sort().values
        middle = int((1 - self.share) * len(ious))
        near = ious[max(0, middle - 20) : middle + 20]  # the bar goes into the widest gap, so that rounding has no say
        gap = int(near.diff().argmax())
        # random masks fill their image, so every box is alike: none may go because of another
        return MaskThresholds(float(near[gap : gap + 2].mean()), stability=0.0, box_nms=1.0)

    def segment(self, image: ImageArray) -> int:
        """Segment an image in this project's way alone.

        Args:
            image: Shape (H, W, 3), uint8, RGB.

        Returns:
            How many regions there are.
        """
        return len(self.segmenter(Segmenter, image)(image))

    def segmenter(self, kind: type[Segmenter], image: ImageArray) -> Segmenter:
        """Build a segmenter for an image.

        Args:
            kind: Ours or the stock one.
            image: Shape (H, W, 3), uint8, RGB.
        """
        bars = self.bars(image)
        return kind(
            GridPrompter(self.points),
            self.model,
            predicted_iou=bars.predicted_iou,
            stability=bars.stability,
            stability_offset=bars.stability_offset,
            box_nms=bars.box_nms,
            keep=RegionFilter(min_area=0, max_masks=None),
        )

    def _ious(self, image: ImageArray) -> Tensor:
        """Estimate IoUs in float32, whatever the model's precision: the bar is one for both."""
        passes, self.model.passes = self.model.passes, ForwardPasses(self.model.sam, "float32", "none")
        try:
            embedding, prompts = self.model.embed(image), GridPrompter(self.points)(image)
            return torch.cat([some.ious for some in self.model.answers(embedding, prompts, float("-inf"))])
        finally:
            self.model.passes = passes


def masks(bench: Bench, image: ImageArray) -> Part:
    """Compare automatic masks of one image.

    Args:
        bench: The model and the settings.
        image: Shape (H, W, 3), uint8, RGB.
    """
    ours, stock = (bench.segmenter(kind, image) for kind in (Segmenter, StockSegmenter))
    found: dict[str, list[Region]] = {}

    def run(name: str, segmenter: Segmenter) -> None:
        found[name] = segmenter(image)

    times = bench.timed(partial(run, OURS, ours), partial(run, STOCK, stock))
    height, width = image.shape[:2]
    parity: dict[str, float] = {"masks": len(found[OURS]), "stock masks": len(found[STOCK])}
    ious: tuple[float, ...] = ()
    if bench.model.passes.precision == "float32":
        parity["share matched"] = matched_share(found[OURS], found[STOCK])
    else:
        ious = tuple(best_ious(found[OURS], found[STOCK]))
    return Part(f"masks {height}x{width}", times, parity, bench.on_gpu, ious)


@torch.no_grad()
def encoder(bench: Bench, image: ImageArray) -> Part:
    """Compare the image encoders.

    Args:
        bench: The model and the settings.
        image: Shape (H, W, 3), uint8, RGB.
    """
    model, sam, found = bench.model, bench.model.sam, dict[str, Tensor]()
    pixels = torch.from_numpy(resize_longest(image, model.image_size)).to(model.device)
    square = sam.preprocess(pixels.permute(2, 0, 1)[None].float())

    def run(name: str, encode: Callable[[Tensor], Tensor]) -> None:
        found[name] = encode(square)

    ours = partial(run, OURS, model.passes.encode)
    times = bench.timed(ours, partial(run, STOCK, sam.image_encoder))
    one, other = found[OURS], found[STOCK]
    parity = {
        "largest difference": float((one - other).abs().max()),
        "cosine": float(cosine_similarity(one.flatten().double(), other.flatten().double(), dim=0)),
    }
    return Part("encoder", times, parity, bench.on_gpu)
