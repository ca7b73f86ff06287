"""Whether two segmenters found the same masks: one to one in float32, and by the best of all in 16 bits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from naruto_vision.geometry import inclusive_iou_matrix
from naruto_vision.records import Region

_SAME = 0.99  # IoU
_MATCH, _MATCHED, _MEAN = 0.9, 0.97, 0.98
_CLOSE = 1e-3  # features and logits; a hundred times what float32 rounds off here
_RUN_LENGTHS = ("identical run lengths", "identical to stock on two threads")


def is_stock_result(parity: Mapping[str, float]) -> bool:
    """Tell whether a comparison in float32 found what stock finds.

    Args:
        parity: What the two have in common, by name. The counts of masks have to be equal, ``share matched`` 1, the
            run lengths those of stock on one thread or on two, and ``largest difference`` at most 1e-3; what is
            absent is not asked for.
    """
    lengths = [parity[name] for name in _RUN_LENGTHS if name in parity]
    return (
        parity.get("masks") == parity.get("stock masks")
        and parity.get("share matched", 1.0) == 1.0
        and (not lengths or max(lengths) == parity.get("stock masks"))
        and parity.get("largest difference", 0.0) <= _CLOSE
    )


def matched_share(ours: Sequence[Region], stock: Sequence[Region]) -> float:
    """Count the share of the stock regions that one of ours matches at a mask IoU of 0.99, each of ours once.

    Args:
        ours: This project's regions.
        stock: Those of ``segment_anything``.

    Returns:
        In [0, 1]; 1 where stock found nothing.
    """
    left = list(ours)
    for region in stock:
        match = next((other for other in left if _near(region, other) and _iou(region, other) >= _SAME), None)
        if match is not None:
            left.remove(match)
    return (len(ours) - len(left)) / len(stock) if stock else 1.0


def _near(one: Region, other: Region) -> bool:
    """Tell whether two boxes differ too little to rule an IoU of 0.99 out, so that few masks are unpacked."""
    x1, y1, x2, y2 = one.box
    furthest = max(abs(mine - theirs) for mine, theirs in zip(one.box, other.box, strict=True))
    return furthest <= 0.01 * max(x2 - x1, y2 - y1, 99)


def best_ious(ours: Sequence[Region], stock: Sequence[Region]) -> list[float]:
    """Find for each stock region the best of ours; any may be the best of several, since low precision moves counts.

    Args:
        ours: This project's regions.
        stock: Those of ``segment_anything``.

    Returns:
        The mask IoU of each stock region with its best one, in [0, 1]. One of 0.99 or more ends the search.
    """
    return [_best(region, ours) for region in stock]


def _best(region: Region, others: Sequence[Region]) -> float:
    overlaps = inclusive_iou_matrix([region.box], [other.box for other in others])[0].tolist() if others else []
    # the likeliest come first: the same prompt's, then the most alike boxes
    order = sorted(range(len(overlaps)), key=lambda i: (others[i].prompt.name != region.prompt.name, -overlaps[i]))
    best = 0.0
    for index in (i for i in order if overlaps[i] > 0):
        best = max(best, _iou(region, others[index]))
        if best >= _SAME:
            break
    return best


def _iou(one: Region, other: Region) -> float:
    height, width = (max(one.box[side], other.box[side]) + 1 for side in (3, 2))
    mine, theirs = one.full_mask(height, width), other.full_mask(height, width)
    return float(np.count_nonzero(mine & theirs) / np.count_nonzero(mine | theirs))


@dataclass(frozen=True)
class LowPrecisionGate:
    """What 16 bits may change.

    Args:
        ious: Of each stock mask, its IoU with the best of ours, in [0, 1].

    Raises:
        ValueError: If there is none.
    """

    ious: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.ious:
            msg = "low precision: stock found no mask, so there is nothing to compare"
            raise ValueError(msg)

    @property
    def matched(self) -> int:
        """Stock masks with one of ours at an IoU of 0.9 or more."""
        return sum(iou >= _MATCH for iou in self.ious)

    @property
    def mean(self) -> float:
        """Mean IoU of all stock masks with their best ones, matched or not."""
        return float(np.mean(self.ious))

    @property
    def passed(self) -> bool:
        """Whether 97 % match, and the mean is 0.98 or more."""
        return self.matched >= _MATCHED * len(self.ious) and self.mean >= _MEAN

    def sentence(self) -> str:
        """Return the verdict for people, with its numbers."""
        share = self.matched / len(self.ious)
        verdict = "passed" if self.passed else "FAILED"
        return (
            f"low precision {verdict}: {self.matched}/{len(self.ious)} stock masks matched at IoU {_MATCH} "
            f"({share:.1%}, {_MATCHED:.0%} wanted), mean IoU {self.mean:.4f} ({_MEAN} wanted)"
        )
