"""From all regions of a scene to the ones worth showing."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from naruto_vision.metrics.boxes import inclusive_iou_matrix
from naruto_vision.records import Identity, LabelledBox, ScenePrediction


@dataclass(frozen=True)
class OverlaySettings:
    """Which regions people are shown.

    Args:
        nms_iou: A region is dropped when its box overlaps a better one at least this much; the default is
            the reference system's.
        top_k: Pick at most this many distinct regions; None shows all, and the next four then do nothing.
        steps: A pick has to reach the first of these scores; where none does, the next. The last default, no bar at
            all, fills up with whatever there is: leave it out to show fewer.
        pick_iou: A pick's box overlaps every earlier pick's less than this.
        prefer_different_label: Rather take somebody who was not picked yet, if the score is as good as ``within``.
        within: How far below the best candidate that somebody may score; one that reaches the step may be further.
        min_score: Show no region below this cosine.
        show_unknown: Show regions that are nobody in the gallery, named "unknown".

    Raises:
        ValueError: If a number is out of its range, or there is no step.
    """

    nms_iou: float = 0.30
    top_k: int | None = None
    steps: tuple[float, ...] = (0.80, 0.70, 0.60, -1.0)
    pick_iou: float = 0.50
    prefer_different_label: bool = False
    within: float = 0.10
    min_score: float = -1.0
    show_unknown: bool = True

    def __post_init__(self) -> None:
        falling = list(self.steps) == sorted(self.steps, reverse=True) and self.steps
        if not falling or self.within < 0 or (self.top_k is not None and self.top_k < 0):
            found = f"steps {list(self.steps)}, top_k {self.top_k}, within {self.within}"
            msg = f"overlay: expected falling steps, top_k and within >= 0, found {found}"
            raise ValueError(msg)


def choose_for_overlay(prediction: ScenePrediction, settings: OverlaySettings) -> tuple[int, ...]:
    """Choose the regions that people are shown: greedy NMS, threshold, top-K picks.

    Known identities go before unknown ones, then higher scores before lower, so that an unknown part
    never hides a named figure.

    Args:
        prediction: One scene.
        settings: The limits.

    Returns:
        Indices into ``prediction.regions``, best first; picks in the order in which they were picked.
    """
    identities = prediction.identities
    order = sorted(range(len(identities)), key=lambda i: (not identities[i].known, -identities[i].score, i))
    boxes = [region.box for region in prediction.regions]
    overlap = inclusive_iou_matrix(boxes, boxes)
    kept: list[int] = []
    for index in order:
        identity = identities[index]
        if identity.score < settings.min_score or not (identity.known or settings.show_unknown):
            continue
        if all(overlap[index, other] < settings.nms_iou for other in kept):
            kept.append(index)
    return tuple(kept if settings.top_k is None else _pick(kept, identities, overlap, settings))


def _pick(
    candidates: Sequence[int], identities: Sequence[Identity], overlap: NDArray[np.float64], settings: OverlaySettings
) -> list[int]:
    """Pick ``top_k`` of the candidates, which come best first, by their overlap (N, N)."""
    picked: list[int] = []
    while len(picked) < (settings.top_k or 0):
        free = [
            index
            for index in candidates
            if index not in picked and all(overlap[index, other] < settings.pick_iou for other in picked)
        ]
        known = [index for index in free if identities[index].known]
        choice = _next_pick(known, picked, identities, settings)
        if choice is None:
            choice = _next_pick([index for index in free if index not in known], picked, identities, settings)
        if choice is None:
            break
        picked.append(choice)
    return picked


def _next_pick(
    free: Sequence[int], picked: Sequence[int], identities: Sequence[Identity], settings: OverlaySettings
) -> int | None:
    """Return the best of the free candidates at the first step that one reaches, or None."""
    if not free:
        return None
    best = free[0]
    step = next((bar for bar in settings.steps if identities[best].score >= bar), None)
    if step is None:
        return None
    names = {identities[index].name for index in picked}
    if settings.prefer_different_label and identities[best].name in names:
        bar = min(step, identities[best].score - settings.within)
        others = (i for i in free if identities[i].name not in names and identities[i].score >= bar)
        return next(others, best)
    return best


def labelled_boxes(prediction: ScenePrediction, *, named: bool) -> list[LabelledBox]:
    """Return a scene's regions as boxes, as measurement wants them.

    Args:
        prediction: One scene.
        named: Under the name that people are shown ("unknown" below the threshold), or under the best label.

    Returns:
        One box a region, in the same order.
    """
    return [
        LabelledBox(region.box, identity.name if named else identity.label, identity.score)
        for region, identity in zip(prediction.regions, prediction.identities, strict=True)
    ]
