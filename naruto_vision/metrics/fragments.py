"""Over- and under-segmentation: figures cut into pieces, figures merged into one region."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

from pycocotools import mask as coco
from scipy.stats import chi2

from naruto_vision.metrics.scene import INSIDE
from naruto_vision.metrics.stats import Rate

_COVERED = 0.5  # fraction of a figure's pixels from which a region covers it


@dataclass(frozen=True)
class FragmentCounts:
    """Counts of one scene, or of several together."""

    objects: int = 0
    found: int = 0
    in_pieces: int = 0
    fragments: int = 0
    regions: int = 0
    over_merged: int = 0

    @property
    def fragments_per_object(self) -> float | None:
        """Mean number of pieces per figure, or None without figures."""
        return self.fragments / self.objects if self.objects else None

    def as_json(self) -> dict[str, Any]:
        """Return JSON values: the rates with counts and intervals, and the mean number of pieces with its own."""
        low, high = poisson_interval(self.fragments)
        per_object = None
        if self.objects:
            per_object = {
                "value": self.fragments_per_object,
                "count": self.fragments,
                "total": self.objects,
                "low": low / self.objects,
                "high": high / self.objects,
            }
        return {
            "mask_recall": Rate(self.found, self.objects).as_json(),
            "only_pieces": Rate(self.in_pieces, self.objects).as_json(),
            "over_merged": Rate(self.over_merged, self.regions).as_json(),
            "fragments_per_object": per_object,
        }


def poisson_interval(count: int) -> tuple[float, float]:
    """Compute the exact 95 % interval of a Poisson mean from one count.

    Pieces are not trials of a fixed number, so a binomial interval does not apply.
    (F. Garwood, Biometrika 1936)
    """
    if count < 0:
        raise ValueError(f"poisson_interval: expected a count of 0 or more, found {count}")
    low = float(chi2.ppf(0.025, 2 * count)) / 2 if count else 0.0
    return low, float(chi2.ppf(0.975, 2 * count + 2)) / 2


def count_fragments(
    regions: Sequence[Mapping[str, Any]],
    figures: Sequence[Mapping[str, Any]],
    *,
    iou_match: float = 0.5,
) -> FragmentCounts:
    """Count pieces and over-merges of one scene."""
    if not regions or not figures:
        return FragmentCounts(objects=len(figures), regions=len(regions))
    found, true = list(regions), list(figures)
    whole = coco.iou(found, true, [0] * len(true)) >= iou_match  # (R, F)
    piece = (coco.iou(found, true, [1] * len(true)) >= INSIDE) & ~whole  # iscrowd: shared over the region's pixels
    covered = coco.iou(true, found, [1] * len(found)) >= _COVERED  # (F, R): shared over the figure's pixels
    return FragmentCounts(
        objects=len(true),
        found=int(whole.any(axis=0).sum()),
        in_pieces=int((piece.any(axis=0) & ~whole.any(axis=0)).sum()),
        fragments=int((piece.any(axis=1) & ~whole.any(axis=1)).sum()),
        regions=len(found),
        over_merged=int((covered.sum(axis=0) >= 2).sum()),
    )


def add_fragments(parts: Iterable[FragmentCounts]) -> FragmentCounts:
    """Add up the counts of several scenes."""
    columns = zip(*(astuple(part) for part in parts), strict=True)
    return FragmentCounts(*(sum(column) for column in columns))
