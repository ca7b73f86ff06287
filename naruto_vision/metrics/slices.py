"""Where a run is weak: object accuracy by label, size, overlap and crowd, and how far scores can be trusted."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from naruto_vision.geometry import box_pixels, shared_pixel_matrix
from naruto_vision.metrics.evaluation import SceneVerdict
from naruto_vision.metrics.stats import ALPHA, Rate, holm

_OVERLAP = 0.1  # of an object's box, covered by the box of another object
_CROWD = 3  # objects of a scene that count as several
_BINS = 5  # of equally many names


@dataclass(frozen=True)
class Slice:
    """The objects that have something in common, and all others.

    Attributes:
        by: What they have in common: "label", "size", "overlap" or "objects in the scene".
        name: Which.
        right: Those found under their own name.
        rest: The same of all other objects.
        p: P-value of Fisher's exact test of the two, after Holm over all slices. It takes objects for independent.
    """

    by: str
    name: str
    right: Rate
    rest: Rate
    p: float

    @property
    def weak(self) -> bool:
        """Whether fewer of them are right than of the rest, and that is no chance at 0.05."""
        return self.p < ALPHA and (self.right.value or 0.0) < (self.rest.value or 0.0)

    def as_json(self) -> dict[str, Any]:
        """Return JSON values, the rates as ``{value, count, total, low, high}``."""
        return {**asdict(self), "right": self.right.as_json(), "rest": self.rest.as_json(), "weak": self.weak}


def find_slices(scenes: Iterable[SceneVerdict]) -> list[Slice]:
    """Divide all objects by their label, size (thirds by the square root of the box), overlap and crowd.

    A division that puts all objects on one side is left out.
    """
    members: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    right, sides = list[bool](), list[float]()
    for scene in scenes:
        boxes = [item.truth.box for item in scene.objects]
        pixels, shared = box_pixels(boxes), shared_pixel_matrix(boxes, boxes)
        crowd = "1" if len(boxes) == 1 else f"2 to {_CROWD}" if len(boxes) <= _CROWD else f"more than {_CROWD}"
        for row, item in enumerate(scene.objects):
            covered = (np.delete(shared[row], row) >= _OVERLAP * pixels[row]).any()
            found = {
                "label": item.truth.label,
                "overlap": "beside or behind another" if covered else "apart from others",
                "objects in the scene": crowd,
            }
            for each in found.items():
                members[each].append(len(right))
            right.append(item.reason == "right")
            sides.append(float(pixels[row]) ** 0.5)
    if not right:
        return []
    low, high = np.quantile(sides, (1 / 3, 2 / 3))
    for index, side in enumerate(sides):
        kind = "small" if side < low else "large" if side >= high else "medium"
        members["size", f"{kind} ({_sizes(kind, low, high)} pixels)"].append(index)
    return _compare(members, right)


def _sizes(kind: str, low: float, high: float) -> str:
    return {"small": f"side below {low:.0f}", "large": f"side from {high:.0f}"}.get(
        kind, f"side {low:.0f} to {high:.0f}"
    )


def _compare(members: dict[tuple[str, str], list[int]], right: Sequence[bool]) -> list[Slice]:
    from scipy.stats import fisher_exact

    total, found = sum(right), list[tuple[str, str, Rate, Rate, float]]()
    for (by, name), rows in sorted(members.items()):
        own, other = Rate(sum(right[row] for row in rows), len(rows)), len(right) - len(rows)
        if other:
            rest = Rate(total - own.count, other)
            table = [[own.count, own.total - own.count], [rest.count, rest.total - rest.count]]
            found.append((by, name, own, rest, float(fisher_exact(table).pvalue)))
    adjusted = holm([each[-1] for each in found])
    return [Slice(*each[:-1], p) for each, p in zip(found, adjusted, strict=True)]


@dataclass(frozen=True)
class Reliability:
    """Names of similar scores, lowest to highest, and how many of them are right."""

    low: float
    high: float
    right: Rate

    def as_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {**asdict(self), "right": self.right.as_json()}


def reliability(scores: Sequence[float], right: Sequence[bool]) -> list[Reliability]:
    """Divide names by score into five bins of equally many; fewer bins if there are fewer names.

    Scores of most decision rules are cosines, not probabilities: what can be read is whether higher ones are more often
    right, and from which score on nine in ten are.
    """
    order = np.argsort(scores, kind="stable")
    parts = [part for part in np.array_split(order, min(_BINS, len(order)) or 1) if len(part)]
    return [
        Reliability(scores[part[0]], scores[part[-1]], Rate(sum(bool(right[i]) for i in part), len(part)))
        for part in parts
    ]
