"""``PromptSession``: one object of an image by points and a box, with history, refinement and a choice of masks."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from typing import Any, TypeAlias

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from naruto_vision.errors import InputError
from naruto_vision.geometry import Box, Mask, fill_holes, xyxy_from_mask
from naruto_vision.io.images import ImageSource, read_image
from naruto_vision.prompting.writer import perimeter
from naruto_vision.records import Identity, ImageArray, Region
from naruto_vision.segmentation.protocol import PromptableModel, Prompts, SceneEmbedding

PromptBox: TypeAlias = tuple[float, float, float, float]
"""``x1 y1 x2 y2`` of a prompt, in pixels of the upright image."""

PromptPoint: TypeAlias = tuple[float, float, bool]
"""``x y positive`` of a prompt, in pixels of the upright image; positive lies on the object."""

Identify: TypeAlias = Callable[[ImageArray, Sequence[Region]], Sequence[Identity]]
"""Names regions of an image (H, W, 3), such as ``SceneAnalyzer.identify``."""

SMALL_SIDE = 20
"""Pixels: the masks of boxes with a shorter side are often poor."""

_NEAR_BEST = 0.1  # of the best estimated IoU: masks within it are about equally good in shape
_SMOOTH = 0.01  # radius of the smoothing, as a fraction of the square root of the area
_RED, _GREEN = (255, 0, 0), (0, 255, 0)


@dataclass(frozen=True, eq=False)
class PromptState:
    """What the model is prompted with."""

    points: tuple[PromptPoint, ...] = ()  # x, y, positive
    box: PromptBox | None = None  # its corners in order
    previous: NDArray[np.float32] | None = None  # logits (h, w) of an earlier mask to refine
    choice: int | None = None  # index of the mask that the user chose; None takes the best estimate

    @property
    def empty(self) -> bool:
        """Whether there is neither a point nor a box."""
        return not self.points and self.box is None

    def prompts(self) -> Prompts:
        """Return it for a model, as one row."""
        points = np.array([each[:2] for each in self.points], np.float32).reshape(1, -1, 2)
        labels = np.array([each[2] for each in self.points], np.int64).reshape(1, -1)
        boxes = None if self.box is None else np.array([self.box], np.float32)
        parts = [] if self.box is None else ["box " + ",".join(f"{side:g}" for side in self.box)]
        name = " ".join(parts + [f"{'' if on else 'not '}{x:g},{y:g}" for x, y, on in self.points])
        masks = None if self.previous is None else self.previous[None]
        return Prompts(points, labels, boxes, (name,), masks)


@dataclass(frozen=True)
class CandidateMask:
    """One of the masks that a model answers."""

    index: int  # among the masks
    score: float  # the model's estimate of its IoU, which may exceed 1
    region: Region | None  # None if it is empty
    logits: NDArray[np.float32] = field(repr=False, compare=False)  # (h, w) of the model: a prompt to refine it

    @property
    def area(self) -> int:
        """Pixels inside the mask."""
        return 0 if self.region is None else self.region.area

    @cached_property
    def perimeter(self) -> float:
        """Length of its external contours in pixels."""
        return 0.0 if self.region is None else perimeter(self.region.mask)


@dataclass(frozen=True)
class Prediction:
    """The masks of one prompt."""

    size: tuple[int, int]  # height and width of the image
    masks: tuple[CandidateMask, ...]  # in the model's order
    chosen: int  # index of the chosen one
    milliseconds: float  # of the first prediction of an image with its image encoder
    identities: tuple[Identity | None, ...] = ()  # where a gallery named the masks; None for an empty one

    @property
    def mask(self) -> CandidateMask:
        """The chosen mask."""
        return self.masks[self.chosen]

    def metrics(self, index: int | None = None) -> dict[str, Any]:
        """Return score, time_ms, area_px, mask_bbox (inclusive, or None) and perimeter of a mask, or the chosen one."""
        mask = self.masks[self.chosen if index is None else index]
        return {
            "score": mask.score,
            "time_ms": round(self.milliseconds, 3),
            "area_px": mask.area,
            "mask_bbox": None if mask.region is None else list(mask.region.box),
            "perimeter": round(mask.perimeter, 3),
        }

    @cached_property
    def ambiguity(self) -> float:
        """How far the masks disagree, in [0, 1]: 1 minus the mean IoU of every two; 0 if there is one."""
        whole = [_full(mask, self.size) for mask in self.masks]
        ious = []
        for first, second in combinations(whole, 2):
            union = np.count_nonzero(first | second)
            ious.append(np.count_nonzero(first & second) / union if union else 1.0)
        return 1.0 - float(np.mean(ious)) if ious else 0.0

    def named(self, image: ImageArray, identify: Identify) -> "Prediction":
        """Name every mask of an image (H, W, 3), and choose the one with the largest margin of its name.

        Only masks whose estimated IoU is within 0.1 of the best take part, so a mask of a bad shape is never chosen.
        """
        filled = [mask.region for mask in self.masks if mask.region is not None]
        found = iter(identify(image, filled))
        identities = tuple(None if mask.region is None else next(found) for mask in self.masks)
        least = max((mask.score for mask in self.masks if mask.region), default=0.0) - _NEAR_BEST
        ranks = [
            (-1.0 if one.margin is None else one.margin, mask.score, index)
            for index, (mask, one) in enumerate(zip(self.masks, identities, strict=True))
            if one is not None and mask.score >= least
        ]
        chosen = max(ranks)[2] if ranks else self.chosen
        return replace(self, chosen=chosen, identities=identities)


@dataclass(frozen=True)
class SessionUse:
    """How a session was used: predictions, those after the prompts were changed, and whether a mask was accepted."""

    predictions: int = 0
    retries: int = 0
    accepted: bool = False

    @property
    def abandoned(self) -> bool:
        """Whether masks were predicted, but none accepted."""
        return self.predictions > 0 and not self.accepted


class PromptSession:
    """Prompts for one object of an image, which is embedded once.

    Every change can be undone and made again: points, the box, the mask to refine, the chosen mask.

    Args:
        image: An image file, a Pillow image, or an array of shape (H, W, 3), uint8, RGB, upright.
        model: Predicts the masks.
        embedding: The model's embedding of the image; None computes it at the first prediction.
        min_side: Shortest side of a box in pixels.
        max_side: Longest side of a box in pixels; None sets no limit.
        clean: Remove reflections and holes from the masks, see ``clean_mask``.

    Attributes:
        embedding: The model's embedding of the image; None before the first prediction.
        use: How often masks were predicted, and whether one was accepted.

    Raises:
        MissingPathError: If there is no such file.
        BadImageError: If the file cannot be read as an image.
        InputError: If the image is of another kind; by its methods, if a point or a box is outside the image, or a
            box is empty, too small or too large.

    Examples:
        >>> import naruto_vision as nv
        >>> import numpy as np
        >>> session = nv.PromptSession(np.zeros((48, 64, 3), np.uint8), nv.SamModel(weights="tiny-sam"))
        >>> session.set_box(40, 30, 10, 5)
        >>> session.add_point(20, 20)
        >>> session.undo(), session.state.points, session.state.box
        (True, (), (10.0, 5.0, 40.0, 30.0))
        >>> sorted(session.predict().metrics())
        ['area_px', 'mask_bbox', 'perimeter', 'score', 'time_ms']
    """

    def __init__(
        self,
        image: ImageSource,
        model: PromptableModel,
        *,
        embedding: SceneEmbedding | None = None,
        min_side: float = 0,
        max_side: float | None = None,
        clean: bool = False,
    ) -> None:
        self.image, self.model = read_image(image), model
        self.size: tuple[int, int] = self.image.shape[0], self.image.shape[1]
        self.min_side, self.max_side, self.clean = min_side, max_side, clean
        self.use = SessionUse()
        self.embedding = embedding
        self._states, self._at = [PromptState()], 0
        self._asked: PromptState | None = None  # of the last prediction
        self._answer: Prediction | None = None

    @property
    def state(self) -> PromptState:
        """The current prompts."""
        return self._states[self._at]

    @property
    def _boxes(self) -> tuple[PromptBox, ...]:
        return () if self.state.box is None else (self.state.box,)

    def _change(self, state: PromptState) -> None:
        self._states[self._at + 1 :] = [state]
        self._at += 1

    def undo(self) -> bool:
        """Take the last change back; False if there is none."""
        self._at, moved = max(self._at - 1, 0), self._at > 0
        return moved

    def redo(self) -> bool:
        """Make the last change again that was taken back; False if there is none."""
        moved = self._at + 1 < len(self._states)
        self._at += moved
        return moved

    def reset(self) -> None:
        """Remove all points, the box and the mask to refine."""
        self._change(PromptState())

    def add_point(self, x: float, y: float, positive: bool = True) -> None:
        """Add a point on the object, or (``positive`` false) on the background."""
        self._change(self._with_points((*self.state.points, self._inside(x, y, positive))))

    def move_point(self, index: int, x: float, y: float) -> None:
        """Move a point; it keeps its label."""
        points = list(self.state.points)
        points[index] = self._inside(x, y, points[index][2])
        self._change(self._with_points(tuple(points)))

    def remove_point(self, index: int) -> None:
        """Remove a point."""
        points = list(self.state.points)
        del points[index]
        self._change(self._with_points(tuple(points)))

    def set_box(self, x1: float, y1: float, x2: float, y2: float) -> None:
        """Set the box by two opposite corners, in any order."""
        (left, right), (top, bottom) = sorted((float(x1), float(x2))), sorted((float(y1), float(y2)))
        height, width = self.size
        shown = f"box {left:g},{top:g},{right:g},{bottom:g}"
        if not (left >= 0 and top >= 0 and right <= width and bottom <= height):
            raise InputError(f"{shown}: is outside the image of {width}x{height} pixels")
        sides = (right - left, bottom - top)
        if min(sides) == 0:
            raise InputError(f"{shown}: has no area; give two opposite corners")
        if min(sides) < self.min_side or (self.max_side is not None and max(sides) > self.max_side):
            limits = f"at least {self.min_side:g}" + ("" if self.max_side is None else f", at most {self.max_side:g}")
            raise InputError(f"{shown}: expected sides of {limits} pixels, found {sides[0]:g} and {sides[1]:g}")
        self._change(replace(self.state, box=(left, top, right, bottom), choice=None))

    def remove_box(self) -> None:
        """Remove the box."""
        self._change(replace(self.state, box=None, choice=None))

    def choose(self, index: int | None) -> None:
        """Choose a mask by its index; None takes the one with the highest estimated IoU again."""
        self._change(replace(self.state, choice=index))

    def _with_points(self, points: tuple[PromptPoint, ...]) -> PromptState:
        return replace(self.state, points=points, choice=None)

    def _inside(self, x: float, y: float, positive: bool) -> PromptPoint:
        height, width = self.size
        if not (0 <= x < width and 0 <= y < height):
            raise InputError(f"point {x:g},{y:g}: is outside the image of {width}x{height} pixels")
        return float(x), float(y), bool(positive)

    def warnings(self) -> tuple[str, ...]:
        """Return what is likely to give a poor mask: a box with a side under 20 pixels, background points alone."""
        box = self.state.box
        if box is None and self.state.points and not any(positive for _, _, positive in self.state.points):
            return ("there are only points on the background: add one on the object, or a box",)
        if box is None or min(box[2] - box[0], box[3] - box[1]) >= SMALL_SIDE:
            return ()
        sides = f"{box[2] - box[0]:g}x{box[3] - box[1]:g}"
        return (f"a box of {sides} pixels has a side under {SMALL_SIDE}; its mask may be poor",)

    def predict(self) -> Prediction:
        """Predict the masks of the current prompts.

        Raises:
            InputError: If there is neither a point nor a box, or no mask of the chosen index.
        """
        state, asked = self.state, self._asked
        if state.empty:
            raise InputError("prompts: expected a point or a box, found none")
        if self._answer is None or asked is None or not _same_question(asked, state):
            changed = asked is not None and (asked.points, asked.box) != (state.points, state.box)
            self.use = replace(
                self.use, predictions=self.use.predictions + 1, retries=self.use.retries + changed, accepted=False
            )
            self._answer, self._asked = self._predict(state), state
        if state.choice is None:
            return self._answer
        if not 0 <= state.choice < len(self._answer.masks):
            raise InputError(f"mask {state.choice}: expected an index from 0 to {len(self._answer.masks) - 1}")
        return replace(self._answer, chosen=state.choice)

    @torch.no_grad()
    def _predict(self, state: PromptState) -> Prediction:
        start = time.perf_counter()
        if self.embedding is None:
            self.embedding = self.model.embed(self.image)
        prompts, offset = state.prompts(), self.model.thresholds.stability_offset
        masks: list[CandidateMask] = []
        for some in self.model.predict_masks(self.embedding, prompts, float("-inf")):
            full = {one.index: one for one in self.model.full_masks(some.logits, self.embedding, 0.0, offset)}
            for index, (logits, iou) in enumerate(zip(some.logits, some.ious.tolist(), strict=True)):
                region = None
                if index in full:
                    one = full[index]
                    region = Region(one.box, one.mask, iou, one.stability, prompts.origin(0))
                    region = clean_region(region) if self.clean else region
                masks.append(CandidateMask(len(masks), iou, region, logits.float().cpu().numpy()))
        best = max(range(len(masks)), key=lambda index: masks[index].score)
        return Prediction(self.size, tuple(masks), best, (time.perf_counter() - start) * 1e3)

    def refine(self) -> Prediction:
        """Predict again with the chosen mask as a further prompt."""
        previous = self.predict().mask.logits
        self._change(replace(self.state, previous=previous, choice=None))
        return self.predict()

    def accept(self) -> Prediction:
        """Return the masks as the user's final ones: the session is not abandoned."""
        found = self.predict()
        self.use = replace(self.use, accepted=True)
        return found

    def points_json(self) -> dict[str, Any]:
        """Return the prompts for JSON: n_points, points with x, y and label, and the boxes."""
        return prompts_json(self.state.points, self._boxes)

    def preview(self) -> ImageArray:
        """Draw the box and the points, green on the object and red on the background: returns (H, W, 3), uint8."""
        return draw_prompts(self.image, (), self._boxes, self.state.points)


def _same_question(first: PromptState, second: PromptState) -> bool:
    same = (first.points, first.box) == (second.points, second.box)
    return same and first.previous is second.previous


def _full(mask: CandidateMask, size: tuple[int, int]) -> Mask:
    return np.zeros(size, np.bool_) if mask.region is None else mask.region.full_mask(*size)


def prompts_json(points: Sequence[PromptPoint], boxes: Sequence[PromptBox]) -> dict[str, Any]:
    """Return prompts as ``{"n_points", "points": [{"x", "y", "label"}], "boxes"}``; label 1 is on the object."""
    rows = [{"x": x, "y": y, "label": int(positive)} for x, y, positive in points]
    return {"n_points": len(rows), "points": rows, "boxes": [list(box) for box in boxes]}


def draw_prompts(
    image: ImageArray,
    regions: Sequence[Region],
    boxes: Sequence[PromptBox | Box] = (),
    points: Sequence[PromptPoint] = (),
) -> ImageArray:
    """Tint masks red by half, and draw boxes green and points, over an image: (H, W, 3), uint8, returns the same."""
    canvas = image.copy()
    for region in regions:
        x1, y1, x2, y2 = region.box
        window, mask = canvas[y1 : y2 + 1, x1 : x2 + 1], region.mask
        window[mask] = ((window[mask].astype(np.uint16) + np.array(_RED, np.uint16)) // 2).astype(np.uint8)
    unit = max(1, round(min(image.shape[:2]) / 320))
    for box in boxes:
        x1, y1, x2, y2 = (round(side) for side in box)
        cv2.rectangle(canvas, (x1, y1), (x2, y2), _GREEN, unit)
    for x, y, positive in points:
        cv2.circle(canvas, (round(x), round(y)), 3 * unit, _GREEN if positive else _RED, cv2.FILLED, cv2.LINE_AA)
    return canvas


def clean_mask(mask: Mask) -> Mask:
    """Keep the largest part of a mask (H, W), bool, fill its holes and smooth its outline: returns the same shape.

    Reflections and other patches apart from the object go, and so do thin spurs and cracks.
    """
    count, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    if count == 1:
        return mask
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    solid = fill_holes(parts == largest).view(np.uint8)
    side = 2 * max(1, round(_SMOOTH * float(np.count_nonzero(solid)) ** 0.5)) + 1
    ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    smooth = cv2.morphologyEx(cv2.morphologyEx(solid, cv2.MORPH_OPEN, ellipse), cv2.MORPH_CLOSE, ellipse)
    return np.asarray(smooth if smooth.any() else solid, dtype=np.bool_)


def clean_region(region: Region) -> Region:
    """Clean the mask of a region, see ``clean_mask``; its box becomes the tight one of the result."""
    mask = np.pad(region.mask, 1)
    clean = clean_mask(mask)[1:-1, 1:-1]
    x1, y1, x2, y2 = xyxy_from_mask(clean) or (0, 0, clean.shape[1] - 1, clean.shape[0] - 1)
    left, top = region.box[:2]
    box = (left + x1, top + y1, left + x2, top + y2)
    return Region(box, clean[y1 : y2 + 1, x1 : x2 + 1], region.predicted_iou, region.stability, region.prompt)
