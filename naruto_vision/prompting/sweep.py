"""``SweepSegmenter``: ask at one point after another, and not again where a mask lies already."""

import logging
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from naruto_vision.errors import InputError
from naruto_vision.geometry import shared_mask_pixels, xyxy_from_mask
from naruto_vision.io.bundles import model_fingerprint
from naruto_vision.prompting.contours import ContourPrompter, SweepPoints
from naruto_vision.records import ImageArray, Mask, Region
from naruto_vision.segmentation.generator import RegionFilter, Segmenter
from naruto_vision.segmentation.prompts import PointPrompter
from naruto_vision.segmentation.protocol import (
    FullMask,
    MaskPredictions,
    PromptableModel,
    Prompter,
    Prompts,
    SceneEmbedding,
)

_LOG = logging.getLogger(__name__)

_FOUND = 0.5  # IoU from which a region of one order is found again in another
_FIRST_BATCH, _LAST_BATCH = 8, 64  # points decoded ahead: few at first, as the first masks cover most points


@dataclass(frozen=True)
class SweepConfig:
    """How points are asked one after another, and which masks are kept.

    Areas are counted in the image as it is swept, which is at most ``ContourPrompter.max_size``.

    Args:
        mode: ``skip`` asks no point that a kept mask covers, as the reference system. ``subtract`` does the same and
            removes covered pixels from new masks, so that no two regions overlap. ``overlap_tolerance`` asks every
            point.
        tolerance: In the last two modes a mask is dropped of which more than this fraction is covered, in [0, 1].
        min_area: Least pixels of a mask.
        predicted_iou: Least estimated IoU of a mask; 0 keeps all, as the reference system.
        same_iou: A mask is dropped as repeated if its IoU with a kept one is above this: a point of the background is
            often answered with a figure beside it. 1 keeps all, as the reference system.
        max_cover: A mask of more than this fraction of the image is kept and covers nothing, so that an early, too
            large mask hides no others; with 1 every mask covers, as in the reference system.
        mask: Which of a point's masks is taken: that of the highest estimated IoU (``best``), or the ``first``.
        order: ``area`` asks contours by falling area, then the grid, as the reference system; ``centre`` asks points
            near the image's centre first; ``iou`` those with the highest estimated IoU, after one more pass of the
            mask decoder over all points.

    Raises:
        InputError: If a number is out of its range.

    Examples:
        >>> import naruto_vision as nv
        >>> nv.SweepConfig(mode="overlap_tolerance", tolerance=0.2).min_area
        50
    """

    mode: Literal["skip", "subtract", "overlap_tolerance"] = "skip"
    tolerance: float = 0.5
    min_area: int = 50
    predicted_iou: float = 0.0
    same_iou: float = 0.8
    max_cover: float = 1.0
    mask: Literal["best", "first"] = "best"
    order: Literal["area", "centre", "iou"] = "area"

    def __post_init__(self) -> None:
        if self.min_area < 1 or not all(0 <= each <= 1 for each in (self.tolerance, self.same_iou, self.max_cover)):
            msg = f"sweep: expected tolerance, same_iou and max_cover in [0, 1] and min_area >= 1, found {self}"
            raise InputError(msg)


@dataclass(frozen=True)
class Swept:
    """The result of one sweep; its regions are in the order in which they were found."""

    regions: tuple[Region, ...]
    points: tuple[tuple[int, int], ...]  # of each region, in pixels of the upright image
    sources: tuple[str, ...]  # of each point: "user", the name of a prompter, "contour" or "grid"
    covered: float  # fraction of the image in which later points are ignored
    asked: int  # points whose mask was considered
    decoded: int  # points that the mask decoder ran for; some of them were covered before their turn
    skipped: Mapping[str, int]  # points by the reason why they gave no region
    found: SweepPoints  # the points of contours and grid


@dataclass(frozen=True)
class OrderStability:
    """How much the result of a sweep changes when its points are used in random orders: numbers of each order."""

    union_iou: tuple[float, ...]  # of the pixels of all regions with those of the usual order
    found: tuple[float, ...]  # fraction of the usual order's regions that are found again with a mask IoU of 0.5
    regions: tuple[int, ...]  # their number; that of the usual order comes first

    def as_json(self) -> dict[str, Any]:
        """Return the means, the lowest values and the numbers of regions."""
        return {
            "orders": len(self.found),
            "union_iou": {"mean": float(np.mean(self.union_iou)), "min": min(self.union_iou)},
            "regions_found_again": {"mean": float(np.mean(self.found)), "min": min(self.found)},
            "regions": list(self.regions),
        }


class _Candidate(NamedTuple):
    """A point to ask, in pixels of the reduced and of the upright image, with its row of some prompts."""

    inside: tuple[int, int]
    point: tuple[int, int]
    source: str
    prompts: Prompts
    row: int


class _Answer(NamedTuple):
    """The chosen mask of a candidate: its logits (h, w) and estimated IoU."""

    logits: Tensor
    iou: float


class _Kept(NamedTuple):
    """A mask that became a region, in the reduced image; ``covers`` is False of one that is too large to cover."""

    candidate: int
    answer: _Answer
    full: FullMask
    covers: bool


class _Decoder:
    """The answers to the candidates of one image: decoded in batches, some before their turn, and each only once."""

    def __init__(
        self,
        segmenter: "SweepSegmenter",
        embedding: SceneEmbedding,
        size: tuple[int, int],
        candidates: Sequence[_Candidate],
    ) -> None:
        self.candidates, self.size, self.config = candidates, size, segmenter.config
        self.answers: dict[int, _Answer | None] = {}
        self._masks: dict[int, FullMask | None] = {}
        self._model, self._batch = segmenter.model, segmenter.prompts_per_batch
        self._offset = segmenter.thresholds.stability_offset
        self._embedding, self._reduced = embedding, replace(embedding, original_size=size)

    def decode(self, indices: Sequence[int]) -> None:
        """Decode candidates, all of which have rows of the same prompts."""
        self.answers.update(dict.fromkeys(indices))
        first, least = self.config.mask == "first", self.config.predicted_iou or -math.inf
        on_cpu = True
        for some in self._predict(indices, -math.inf if first else least):
            best = dict[int, int]()  # prompt → the number of its mask
            ious = some.ious.tolist()
            for number, prompt in enumerate(some.prompt.tolist()):
                if prompt not in best or (not first and ious[number] > ious[best[prompt]]):
                    best[prompt] = number
            logits = some.logits[list(best.values())]  # a copy, so that the other masks are freed
            for each, (prompt, number) in zip(logits, best.items(), strict=True):
                if ious[number] >= least:
                    self.answers[indices[prompt]] = _Answer(each, ious[number])
            on_cpu &= logits.device.type == "cpu"
        if not on_cpu:  # all in one pass: one for each mask would synchronise each time
            self._resample(indices)

    def best_ious(self, indices: Sequence[int]) -> list[float]:
        """Return the highest estimated IoU of candidates with rows of the same prompts; no mask is kept in memory."""
        best = [-math.inf] * len(indices)
        for some in self._predict(indices, -math.inf) if indices else ():
            for number, iou in zip(some.prompt.tolist(), some.ious.tolist(), strict=True):
                best[number] = max(best[number], iou)
        return best

    def _predict(self, indices: Sequence[int], above: float) -> Iterator[MaskPredictions]:
        prompts = rows_of(self.candidates[indices[0]].prompts, [self.candidates[index].row for index in indices])
        return self._model.predict_masks(self._embedding, prompts, above, self._batch)

    def mask(self, index: int) -> FullMask | None:
        """Return the mask of a decoded candidate in the reduced image; None if it has none."""
        if index not in self._masks:
            self._resample([index])
        return self._masks[index]

    def full_size(self, answers: Sequence[_Answer]) -> Iterator[FullMask]:
        """Yield the masks of answers in the upright image, with their positions among the answers."""
        return self._full_masks(answers, self._embedding)

    def _resample(self, indices: Sequence[int]) -> None:
        self._masks.update(dict.fromkeys(indices))
        answered = [(index, answer) for index in indices if (answer := self.answers[index]) is not None]
        for full in self._full_masks([answer for _, answer in answered], self._reduced) if answered else ():
            self._masks[answered[full.index][0]] = full

    def _full_masks(self, answers: Sequence[_Answer], embedding: SceneEmbedding) -> Iterator[FullMask]:
        logits = torch.stack([each.logits for each in answers])
        return self._model.full_masks(logits, embedding, 0.0, self._offset)


def rows_of(prompts: Prompts, rows: Sequence[int]) -> Prompts:
    """Return some rows of prompts, in the given order."""
    arrays = {name: getattr(prompts, name) for name in ("points", "labels", "boxes", "masks", "scores")}
    some: dict[str, Any] = {name: array[list(rows)] for name, array in arrays.items() if array is not None}
    return replace(prompts, names=tuple(prompts.names[row] for row in rows) if prompts.names else (), **some)


class SweepSegmenter(Segmenter):
    """Segments images by asking one point after another, ignoring what is covered already.

    Points are those of the user and of other prompters, then the centroids of contours, then a grid. Each point is one
    prompt, and its mask one region. Points are decoded in batches, ahead of their turn, which changes no result.

    Args:
        model: Predicts the masks.
        points: Finds the points of contours and grid.
        sweep: How points are asked, and which masks are kept.
        before: Prompters whose points and boxes are asked before those of the contours.
        keep: Which regions a call returns; ``sweep`` returns all.
        prompts_per_batch: Prompts per mask-decoder batch; None chooses by the device.

    Examples:
        >>> import naruto_vision as nv
        >>> import numpy as np
        >>> segmenter = nv.SweepSegmenter(nv.SamModel("tiny-sam"), nv.ContourPrompter(grid=(3, 2)))
        >>> swept = segmenter.sweep(np.zeros((48, 64, 3), np.uint8))
        >>> len(swept.regions) == len(swept.sources) <= 6
        True
    """

    def __init__(
        self,
        model: PromptableModel,
        points: ContourPrompter | None = None,
        sweep: SweepConfig | None = None,
        before: Sequence[Prompter] = (),
        keep: RegionFilter | None = None,
        prompts_per_batch: int | None = None,
    ) -> None:
        self.points = points or ContourPrompter()
        super().__init__(self.points, model, keep=keep, prompts_per_batch=prompts_per_batch)
        self.config = sweep or SweepConfig()
        self.before = tuple(before)
        self._reduced: set[tuple[int, int]] = set()

    @property
    @override
    def fingerprint(self) -> str:
        """64 hexadecimal digits that change with the model, the points, the prompters or any setting."""
        before = [f"{type(each).__name__} {getattr(each, 'fingerprint', vars(each))}" for each in self.before]
        return model_fingerprint({"segmenter": super().fingerprint, "sweep": repr(self.config), "before": before}, {})

    @override
    def __call__(self, image: ImageArray, embedding: SceneEmbedding | None = None) -> list[Region]:
        """Segment one image.

        Args:
            image: Shape (H, W, 3), uint8, RGB, upright.
            embedding: Image-encoder output for the image, from ``embed_all``; None computes it.

        Returns:
            The regions that pass the filter, largest mask first; may be empty.
        """
        return self.keep(self.sweep(image, embedding).regions, *image.shape[:2])

    @torch.no_grad()
    def sweep(
        self,
        image: ImageArray,
        embedding: SceneEmbedding | None = None,
        *,
        points: Sequence[tuple[float, float]] = (),
        ignored: Mask | None = None,
    ) -> Swept:
        """Sweep one image.

        Args:
            image: Shape (H, W, 3), uint8, RGB, upright.
            embedding: Image-encoder output for the image, from ``embed_all``; None computes it.
            points: The user's points, x and y in pixels, which are asked first; those outside the image are skipped.
            ignored: Pixels that are covered from the start: shape (h, w), bool, resized to the image if they differ.

        Returns:
            All regions, with where they come from.
        """
        found = self.points.find(image)
        self._warn_of_reduction(image.shape[:2], found.size)
        candidates, outside = self._all_points(image, found, points)
        decoder = _Decoder(self, embedding or self.model.embed(image), found.size, candidates)
        order = self._ordered(decoder, found)
        covered = _resized(ignored, found.size)
        skipped = Counter({"outside the image": outside} if outside else {})
        kept = self._ask(decoder, order, covered, skipped)
        regions = self._regions(decoder, kept, _resized(ignored, image.shape[:2]))
        used = [decoder.candidates[index] for index in regions]
        return Swept(
            tuple(regions.values()),
            tuple(each.point for each in used),
            tuple(each.source for each in used),
            float(covered.mean()),
            len(order) - skipped["covered"],
            len(decoder.answers),
            dict(skipped),
            found,
        )

    @torch.no_grad()
    def order_stability(
        self, image: ImageArray, orders: int = 5, seed: int = 0, embedding: SceneEmbedding | None = None
    ) -> OrderStability:
        """Measure how much the result depends on the order of the points; every point is decoded once for all orders.

        Args:
            image: Shape (H, W, 3), uint8, RGB, upright.
            orders: Number of random orders.
            seed: Seed of these orders.
            embedding: Image-encoder output for the image, from ``embed_all``; None computes it.

        Raises:
            InputError: If ``orders`` is below 1.
        """
        if orders < 1:
            raise InputError(f"order stability: expected at least one random order, found {orders}")
        found = self.points.find(image)
        candidates, _ = self._all_points(image, found, ())
        decoder = _Decoder(self, embedding or self.model.embed(image), found.size, candidates)
        usual, rng = self._ordered(decoder, found), np.random.default_rng(seed)
        results = []
        for order in [usual, *(rng.permutation(usual).tolist() for _ in range(orders))]:
            kept = self._ask(decoder, order, np.zeros(found.size, np.bool_), Counter())
            results.append([Region(each.full.box, each.full.mask).rle(*found.size) for each in kept])
        return _compare_orders(results)

    def _warn_of_reduction(self, whole: tuple[int, int], size: tuple[int, int]) -> None:
        if size != whole and whole not in self._reduced:
            self._reduced.add(whole)  # once for each size of image
            _LOG.warning(
                "images of %dx%d are swept at %dx%d, and their regions given at full size; see max_size",
                *whole[::-1],
                *size[::-1],
            )

    def _all_points(
        self, image: ImageArray, found: SweepPoints, points: Sequence[tuple[float, float]]
    ) -> tuple[list[_Candidate], int]:
        """Return the candidates of all sources, without repeated positions; and how many points lie outside."""
        blocks = [("user", PointPrompter(points)(image))]
        outside = len(points) - len(blocks[0][1].points)
        blocks += [(type(each).__name__.removesuffix("Prompter").lower(), each(image)) for each in self.before]
        blocks.append(("", self.points.prompts(found)))
        scale = np.array(found.size[::-1]) / np.array(image.shape[1::-1])
        first: dict[tuple[int, int], _Candidate] = {}
        for name, prompts in blocks:
            for row in range(len(prompts.points)):
                point = _position(prompts, row)
                inside = ((np.array(point) + 0.5) * scale).astype(int).clip(0, np.array(found.size[::-1]) - 1)
                each = _Candidate(tuple(inside.tolist()), point, name or found.sources[row], prompts, row)
                first.setdefault(point, each)
        return list(first.values()), outside

    def _ordered(self, decoder: _Decoder, found: SweepPoints) -> list[int]:
        """Return the indices of the candidates in the order in which they are asked."""
        candidates, order = decoder.candidates, list(range(len(decoder.candidates)))
        own = [index for index in order if candidates[index].source in {"contour", "grid"}]
        match self.config.order:
            case "area":
                return order
            case "centre":
                middle = np.array(found.size[::-1]) / 2
                costs = [float(np.linalg.norm(candidates[index].inside - middle)) for index in own]
            case "iou":
                costs = [-iou for iou in decoder.best_ious(own)]
        ranked = [index for _, index in sorted(zip(costs, own, strict=True))]
        return order[: len(order) - len(own)] + ranked

    def _ask(self, decoder: _Decoder, order: Sequence[int], covered: Mask, skipped: Counter[str]) -> list[_Kept]:
        """Ask candidates in order; marks the pixels of kept masks as covered, and counts why others are skipped."""
        kept = list[_Kept]()
        ahead = _FIRST_BATCH
        for turn, index in enumerate(order):
            if self._is_covered(decoder, index, covered):
                skipped["covered"] += 1
                continue
            if index not in decoder.answers:
                decoder.decode(list(islice(self._next(decoder, order[turn:], covered), ahead)))
                ahead = min(2 * ahead, _LAST_BATCH)
            judged = self._judge(decoder, index, covered, kept)
            if isinstance(judged, str):
                skipped[judged] += 1
                continue
            kept.append(judged)
            if judged.covers:
                _window(covered, judged.full)[judged.full.mask] = True
        return kept

    def _is_covered(self, decoder: _Decoder, index: int, covered: Mask) -> bool:
        x, y = decoder.candidates[index].inside
        return self.config.mode != "overlap_tolerance" and bool(covered[y, x])

    def _next(self, decoder: _Decoder, order: Sequence[int], covered: Mask) -> Iterator[int]:
        """Yield the candidates that may be asked next and have rows of the same prompts."""
        for index in order:
            if decoder.candidates[index].prompts is not decoder.candidates[order[0]].prompts:
                return
            if index not in decoder.answers and not self._is_covered(decoder, index, covered):
                yield index

    def _judge(self, decoder: _Decoder, index: int, covered: Mask, kept: Sequence[_Kept]) -> _Kept | str:
        """Return what is kept of a decoded candidate, or why nothing is."""
        config, answer, full = self.config, decoder.answers[index], decoder.mask(index)
        if answer is None or full is None:
            return "no mask"
        area = np.count_nonzero(full.mask)
        if area < config.min_area:
            return "too small"
        if config.mode != "skip":
            shared = np.count_nonzero(full.mask & _window(covered, full))
            if shared > config.tolerance * area:
                return "mask covered"
            if config.mode == "subtract":
                full = _without(full, covered)
                if full is None or area - shared < config.min_area:
                    return "mask covered"
        covers = bool(area <= config.max_cover * covered.size)
        if any(_mask_iou(full, each.full) > config.same_iou for each in kept):
            return "repeated"
        return _Kept(index, answer, full, covers)

    def _regions(self, decoder: _Decoder, kept: Sequence[_Kept], covered: Mask) -> dict[int, Region]:
        """Return the regions by candidate; ``covered`` is what was covered from the start, at the image's size."""
        fulls: Iterable[FullMask] = (replace(each.full, index=number) for number, each in enumerate(kept))
        if kept and covered.shape != decoder.size:
            fulls = decoder.full_size([each.answer for each in kept])
        regions = {}
        for full in fulls:
            index, answer, _, covers = kept[full.index]
            rest: FullMask | None = full
            if self.config.mode == "subtract":
                rest = _without(full, covered)
                if covers:
                    _window(covered, full)[full.mask] = True
            if rest is not None:
                each = decoder.candidates[index]
                origin = each.prompts.origin(each.row)
                regions[index] = Region(rest.box, rest.mask, answer.iou, full.stability, origin)
        return regions


def _position(prompts: Prompts, row: int) -> tuple[int, int]:
    """Return the pixel that a prompt asks at: its first positive point, or the middle of its box."""
    origin = prompts.origin(row)
    on = next(((x, y) for x, y, positive in origin.points if positive), None)
    if on is None:
        x1, y1, x2, y2 = origin.box or (0.0, 0.0, 0.0, 0.0)
        on = (x1 + x2) / 2, (y1 + y2) / 2
    return int(on[0]), int(on[1])


def _window(image: Mask, full: FullMask) -> Mask:
    """Return a mask's box of an image-sized array (H, W), as a view."""
    x1, y1, x2, y2 = full.box
    return image[y1 : y2 + 1, x1 : x2 + 1]


def _without(full: FullMask, covered: Mask) -> FullMask | None:
    """Remove covered pixels (H, W) from a mask; None if nothing is left."""
    rest = full.mask & ~_window(covered, full)
    inside = xyxy_from_mask(rest)
    if inside is None:
        return None
    x1, y1, x2, y2 = inside
    left, top = full.box[:2]
    return replace(full, box=(x1 + left, y1 + top, x2 + left, y2 + top), mask=rest[y1 : y2 + 1, x1 : x2 + 1])


def _mask_iou(first: FullMask, second: FullMask) -> float:
    both = shared_mask_pixels((first.box, first.mask), (second.box, second.mask))
    return both / (np.count_nonzero(first.mask) + np.count_nonzero(second.mask) - both)


def _resized(mask: Mask | None, size: tuple[int, int]) -> Mask:
    """Return a mask at another size (height, width), by nearest neighbours; an empty one for None."""
    if mask is None:
        return np.zeros(size, np.bool_)
    if mask.shape == size:
        return mask.astype(np.bool_)  # a copy, as the caller changes it
    return np.asarray(cv2.resize(mask.astype(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST), np.bool_)


def _compare_orders(results: Sequence[Sequence[dict[str, Any]]]) -> OrderStability:
    """Compare the run-length masks of random orders with those of the usual one, which comes first."""
    from pycocotools import mask as coco

    usual, unions, found = results[0], list[float](), list[float]()
    for other in results[1:]:
        if usual and other:
            again = coco.iou(list(other), list(usual), [0] * len(usual)).max(axis=0) >= _FOUND
            unions.append(float(coco.iou([coco.merge(other)], [coco.merge(usual)], [0])[0, 0]))
            found.append(float(again.mean()))
        else:
            unions.append(float(len(usual) == len(other)))
            found.append(float(not usual))
    return OrderStability(tuple(unions), tuple(found), tuple(map(len, results)))
