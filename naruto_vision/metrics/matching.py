"""One-to-one matching of predicted boxes to true boxes."""

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from naruto_vision.metrics.boxes import inclusive_iou_matrix
from naruto_vision.records import LabelledBox

Matching: TypeAlias = Literal["box", "label"]
"""``box``: labels never help a match. ``label``: of boxes that overlap enough, a right label wins."""

_TIE = 1e-9
"""Spread of the tie-breaking cost: far below any difference of IoU that matters, far above float64's rounding."""


def match_matrix(
    iou: NDArray[np.float64], bar: float, right: NDArray[np.bool_] | None = None
) -> tuple[tuple[int, int], ...]:
    """Match rows to columns one-to-one, allowing only pairs whose IoU reaches the bar.

    Among all allowed matchings it takes one with the most right pairs, if it is told which are right, of these one
    with the most pairs, of these one with the largest total IoU, and of these one that prefers earlier rows. The bar
    acts before the matching: matching first and dropping weak pairs afterwards loses pairs (for
    ``[[.5, .49], [.49, 0]]`` at 0.5 it would keep none instead of one).

    Args:
        iou: Shape (N, M), float64, in [0, 1].
        bar: Smallest IoU of a pair, in [0, 1].
        right: Shape (N, M), bool: pairs that come before all others; None for none.

    Returns:
        Pairs (row, column), sorted by row.
    """
    allowed = iou >= bar
    if not allowed.any():
        return ()
    count = len(iou)
    # A forbidden pair costs more than all others together. A larger constant would swallow the digits of 1 - IoU,
    # and an infinite one makes scipy refuse a row in which everything is forbidden.
    forbidden = float(min(iou.shape) + 1)
    preference = np.arange(count, dtype=np.float64)[:, None] * (_TIE / count)
    cost = np.where(allowed, 1.0 - iou + preference, forbidden)
    if right is not None:
        cost -= (allowed & right) * (forbidden * forbidden)  # one right pair outweighs all that it may cost the others
    from scipy.optimize import linear_sum_assignment  # takes a third of a second to import; predict never matches

    rows, columns = linear_sum_assignment(cost)
    pairs = zip(rows.tolist(), columns.tolist(), strict=True)
    return tuple((row, column) for row, column in pairs if allowed[row, column])


def match_boxes(
    predictions: Sequence[LabelledBox],
    truths: Sequence[LabelledBox],
    bar: float = 0.5,
    matching: Matching = "box",
) -> tuple[tuple[int, int], ...]:
    """Match the predictions of one scene to its objects.

    By their boxes alone ("box first"), or with as many right labels as boxes that reach the bar allow. Where two
    matchings are equally good, the prediction with the higher score wins; what is left is decided by a fixed order
    of boxes and labels, so that the order of the two lists never changes the result.

    Args:
        predictions: Boxes in inclusive pixels; a missing score counts as the lowest.
        truths: Boxes in inclusive pixels of the same picture.
        bar: Smallest inclusive IoU of a pair, in [0, 1].
        matching: Whether labels help.

    Returns:
        Pairs (index in ``predictions``, index in ``truths``), sorted by the first.
    """
    order = sorted(range(len(predictions)), key=lambda index: _rank(predictions[index]))
    columns = sorted(range(len(truths)), key=lambda index: (truths[index].box, truths[index].label))
    iou = inclusive_iou_matrix([predictions[i].box for i in order], [truths[j].box for j in columns])
    right = None
    if matching == "label":
        names = np.array([truths[j].label for j in columns], dtype=object)
        right = np.array([predictions[i].label for i in order], dtype=object)[:, None] == names
    return tuple(sorted((order[row], columns[column]) for row, column in match_matrix(iou, bar, right)))


def _rank(prediction: LabelledBox) -> tuple[float, tuple[int, int, int, int], str]:
    score = float("-inf") if prediction.score is None else prediction.score
    return -score, prediction.box, prediction.label
