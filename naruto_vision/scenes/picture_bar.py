"""From which score a whole picture shows somebody of the gallery: measured on the gallery's own pictures.

The gallery's thresholds are chosen on regions that were cut out of scenes. Whole pictures have their ground with them
and score differently, so each gallery picture in turn is asked of the others.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.gallery.thresholds import Thresholds
from naruto_vision.records import Neighbour
from naruto_vision.scenes.decision import decide

KEPT = 0.95
"""Share of the rightly named gallery pictures that reach the bar."""

_ASKED = 500  # pictures: enough to place a twentieth of them, and one search
_FEWEST = 20  # right ones: with fewer, a twentieth of them is none


@dataclass(frozen=True)
class PictureBar:
    """The lowest score at which a whole picture counts as known.

    Args:
        score: A cosine in [-1, 1]; None where too few gallery pictures are there to tell, or none was wanted.
        asked: Gallery pictures that were asked of the others.
        right: Those of them that got their own label.

    Raises:
        ValueError: If the score is not a cosine.
    """

    score: float | None = None
    asked: int = 0
    right: int = 0

    def __post_init__(self) -> None:
        if self.score is not None and not -1.0 <= self.score <= 1.0:
            msg = f"picture bar: expected a cosine in [-1, 1], found {self.score}"
            raise ValueError(msg)

    def sentence(self) -> str:
        """Say in one line where the bar comes from."""
        if not self.asked:
            return "known from: as given" if self.score is not None else "no bar: nobody is unknown"
        evidence = f"of {self.asked} gallery pictures asked of the others, {self.right} are named right"
        if self.score is None:
            return f"nobody is unknown: {evidence}, too few to tell"
        return f"known from {self.score:.3f}: {evidence}, and {KEPT:.0%} of these score as much"

    def as_json(self) -> dict[str, Any]:
        """Return the JSON values."""
        return {"score": self.score, "asked": self.asked, "right": self.right, "kept": KEPT if self.asked else None}


def measure_bar(gallery: Gallery, votes: int) -> PictureBar:
    """Ask gallery pictures of the others, and find the score that nineteen of twenty rightly named ones reach.

    A picture's own rows, its variants among them, do not answer for it. What looks alike in the gallery raises the
    bar: near duplicates (frames of one shot) are better left out when it is enrolled.

    Args:
        gallery: The gallery.
        votes: How many rows vote on a picture, at least 1.

    Returns:
        The bar, the same for the same gallery.
    """
    count = len(gallery)
    places = np.unique(np.linspace(0, count - 1, min(count, _ASKED)).round().astype(np.int64)).tolist()
    ids, paths = gallery.ids, Counter(row.path for row in gallery.rows if row.path)
    most = max((paths[gallery.rows[place].path] for place in places), default=0) or 1
    found = gallery.search(gallery.vectors[places], votes + most)
    scores = []
    for place, rows in zip(places, found, strict=True):
        others = _others(gallery.rows[place], ids[place], rows)[:votes]
        answer = decide(others, Thresholds()) if others else None
        if answer is not None and answer.label == gallery.rows[place].label:
            scores.append(answer.score)
    bar = float(np.clip(np.quantile(scores, 1 - KEPT), -1.0, 1.0)) if len(scores) >= _FEWEST else None
    return PictureBar(bar, len(places), len(scores))


def _others(own: GalleryRow, own_id: int, rows: Sequence[Neighbour]) -> list[Neighbour]:
    return [row for row in rows if row.row != own_id and (row.path != own.path or not own.path)]
