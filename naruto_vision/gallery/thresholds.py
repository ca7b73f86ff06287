"""Open-set thresholds: the scores below which a region is unknown, chosen on validation regions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Rule: TypeAlias = Literal["f1", "balanced_accuracy"]

NONE_RULE = "none: no validation, every region counts as known"


@dataclass(frozen=True)
class Thresholds:
    """The minimum scores of labels.

    Example:
        >>> Thresholds(default=0.5, classes={"ayame": 0.75}).threshold("ayame")
        0.75
    """

    default: float | None = None
    classes: Mapping[str, float] = field(default_factory=dict)
    rule: str = NONE_RULE
    counts: Mapping[str, Mapping[str, float | int | None]] = field(default_factory=dict)
    decision: str = ""

    def __post_init__(self) -> None:
        for value in (self.default, *self.classes.values()):
            if value is not None and not np.isfinite(value):
                msg = f"thresholds: expected finite numbers, found {value}"
                raise ValueError(msg)

    @property
    def chosen(self) -> bool:
        """Whether there is any threshold."""
        return self.default is not None or bool(self.classes)

    def threshold(self, label: str) -> float | None:
        """Return the minimum cosine of a label; None if there is none."""
        return self.classes.get(label, self.default)

    def as_json(self) -> dict[str, Any]:
        """Return the JSON values of ``thresholds.json``."""
        return {
            "rule": self.rule,
            "default": self.default,
            "classes": dict(sorted(self.classes.items())),
            "counts": {label: dict(self.counts[label]) for label in sorted(self.counts)},
            **({"decision": self.decision} if self.decision else {}),
        }


def _merit(
    kept_right: NDArray[np.float64], kept_wrong: NDArray[np.float64], right: int, wrong: int, rule: Rule
) -> NDArray[np.float64]:
    match rule:
        case "f1":
            return 2.0 * kept_right / (kept_right + kept_wrong + right)
        case "balanced_accuracy":
            return (kept_right / right + 1.0 - kept_wrong / wrong) / 2.0


def best_threshold(scores: NDArray[np.float64], right: NDArray[np.bool_], rule: Rule = "f1") -> float:
    """Choose the threshold that best separates right from wrong regions.

    The candidates are the midpoints of neighbouring distinct scores, and the lowest score: scores below all validation
    scores are always rejected. Of equally good candidates the lowest is taken, which keeps most regions.

    Shapes: scores (N,), float64; right (N,), bool.
    """
    if not right.any() or right.all() or not np.isfinite(scores).all():
        msg = f"best_threshold: expected finite scores, some right and some wrong, found {right.sum()} of {right.size}"
        raise ValueError(msg)
    distinct, inverse = np.unique(scores, return_inverse=True)
    rights = np.bincount(inverse, weights=right, minlength=distinct.size)
    wrongs = np.bincount(inverse, weights=~right, minlength=distinct.size)
    kept_right, kept_wrong = rights[::-1].cumsum()[::-1], wrongs[::-1].cumsum()[::-1]
    merit = _merit(kept_right, kept_wrong, int(right.sum()), int((~right).sum()), rule)
    middle = (distinct[:-1] + distinct[1:]) / 2.0
    middle = np.where(middle > distinct[:-1], middle, distinct[1:])  # adjacent floats have no midpoint
    cuts = np.concatenate([distinct[:1], middle])
    return float(cuts[int(np.argmax(merit))])


def calibrate_thresholds(
    scores: Sequence[float],
    right: Sequence[bool],
    labels: Sequence[str],
    *,
    rule: Rule = "f1",
    min_each: int = 20,
    decision: str = "",
) -> Thresholds:
    """Choose the gallery's threshold and, where there is enough evidence, one for each class."""
    if not len(scores) == len(right) == len(labels):
        msg = f"calibrate_thresholds: {len(scores)} scores, {len(right)} judgements, {len(labels)} labels"
        raise ValueError(msg)
    values, good, names = np.asarray(scores, dtype=np.float64), np.asarray(right, dtype=np.bool_), np.asarray(labels)
    if not good.any() or good.all():
        words = f"none: {int(good.sum())} right and {int((~good).sum())} wrong regions, every region counts as known"
        return Thresholds(rule=words)
    chosen = {"": best_threshold(values, good, rule)}
    counts = {"": _evidence(values, good, chosen[""])}
    for label in sorted(set(labels)):
        mine = names == label
        if min(int(good[mine].sum()), int((~good[mine]).sum())) >= min_each:
            chosen[label] = best_threshold(values[mine], good[mine], rule)
            counts[label] = _evidence(values[mine], good[mine], chosen[label])
    default = chosen.pop("")
    return Thresholds(default, chosen, f"largest {rule} on validation regions", counts, decision)


def _evidence(scores: NDArray[np.float64], right: NDArray[np.bool_], threshold: float) -> dict[str, float | int | None]:
    """Count the kept regions of N scores (N,) with their judgements (N,)."""
    rights, wrongs = int(right.sum()), int((~right).sum())
    right_kept, wrong_kept = int((right & (scores >= threshold)).sum()), int((~right & (scores >= threshold)).sum())
    return {
        "right": rights,
        "wrong": wrongs,
        "right_kept": right_kept,
        "wrong_kept": wrong_kept,
        "coverage": right_kept / rights,
        "false_accept": wrong_kept / wrongs,
    }
