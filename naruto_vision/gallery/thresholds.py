"""Open-set thresholds: the scores below which a region is unknown, and p-values from the same evidence."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

_ALL_KNOWN = "every region counts as known"
NONE_RULE = f"none: no validation, {_ALL_KNOWN}"

_FEWEST = 20  # right scores of a class for p-values of its own; fewer cannot give one below 0.05
_MOST = 200  # stored scores of a class
_KEPT = 0.1  # a threshold that keeps less than this fraction of the right names does not reach an aim
_DIGITS = 6


@dataclass(frozen=True)
class Aim:
    """What a threshold is chosen for.

    Args:
        kind: ``precision``: the lowest threshold from which at least ``value`` of the shown names are right.
            ``coverage``: the highest one that keeps at least ``value`` of the right names. ``false_accept``: the lowest
            one that lets at most ``value`` of the wrong names through.
        value: The fraction, in [0, 1].

    Raises:
        ValueError: If the value is outside [0, 1].
    """

    kind: Literal["precision", "coverage", "false_accept"] = "precision"
    value: float = 0.9

    def __post_init__(self) -> None:
        if not 0.0 <= self.value <= 1.0:
            raise ValueError(f"model.aim.value: expected a fraction in [0, 1], found {self.value}")

    def __str__(self) -> str:
        """Return the aim as in a rule, for example ``precision >= 0.9``."""
        return f"{self.kind} {'<=' if self.kind == 'false_accept' else '>='} {self.value:g}"


DEFAULT_AIM = Aim()


def why_none(rule: str) -> str:
    """Return why there is no threshold, by the rule of such thresholds.

    Examples:
        >>> why_none(NONE_RULE)
        'no validation'
    """
    return rule.removeprefix("none: ").removesuffix(_ALL_KNOWN).rstrip(" ,;")


@dataclass(frozen=True)
class Thresholds:
    """The minimum scores of labels.

    Args:
        default: The minimum score of labels that have none of their own; None accepts every score.
        classes: The minimum score of a label.
        rule: How they were chosen, in words.
        counts: The evidence of each label, and of all together under "".
        decision: The decision rule whose scores they are; "" if it is not known.
        source: "gallery" if they were chosen on the gallery's own images, or else "".
        scores: Sorted scores of correctly named regions, for p-values: of each label, and of all under "".
        embedding: "dense" if regions were embedded by one pass over the scene, or else "".

    Examples:
        >>> Thresholds(default=0.5, classes={"ayame": 0.75}).threshold("ayame")
        0.75
    """

    default: float | None = None
    classes: Mapping[str, float] = field(default_factory=dict)
    rule: str = NONE_RULE
    counts: Mapping[str, Mapping[str, float | int | None]] = field(default_factory=dict)
    decision: str = ""
    source: str = ""
    scores: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    embedding: str = ""

    def __post_init__(self) -> None:
        for value in (self.default, *self.classes.values()):
            if value is not None and not np.isfinite(value):
                raise ValueError(f"thresholds: expected finite numbers, found {value}")

    @property
    def chosen(self) -> bool:
        """Whether there is any threshold."""
        return self.default is not None or bool(self.classes)

    def threshold(self, label: str) -> float | None:
        """Return the minimum cosine of a label; None if there is none."""
        return self.classes.get(label, self.default)

    def accepts(self, label: str, score: float) -> bool:
        """Return whether a score of a label counts as known."""
        threshold = self.threshold(label)
        return threshold is None or score >= threshold

    def p_value(self, label: str, score: float) -> float | None:
        """Return the split-conformal p-value of a score: how seldom right regions of the label score as low.

        A region that shows the label has a p-value of at most a with probability a or less, if it is exchangeable with
        the regions behind ``scores`` (Vovk et al., 2005). Labels with few of them use those of all; None without any.
        """
        own = self.scores.get(label) or self.scores.get("")
        return (1 + bisect_right(own, round(score, _DIGITS))) / (len(own) + 1) if own else None

    def as_json(self) -> dict[str, Any]:
        """Return the JSON values of ``thresholds.json``."""
        return {
            "rule": self.rule,
            "default": self.default,
            "classes": dict(sorted(self.classes.items())),
            "counts": {label: dict(self.counts[label]) for label in sorted(self.counts)},
            **({"decision": self.decision} if self.decision else {}),
            **({"source": self.source} if self.source else {}),
            **({"embedding": self.embedding} if self.embedding else {}),
            **({"scores": {label: list(self.scores[label]) for label in sorted(self.scores)}} if self.scores else {}),
        }


def best_threshold(scores: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """Choose the threshold of the largest F1 of right regions.

    The candidates are the midpoints of neighbouring distinct scores, and the lowest score: scores below all validation
    scores are always rejected. Of equally good candidates the lowest is taken, which keeps most regions.

    Shapes: scores (N,), float64; right (N,), bool.
    """
    if not right.any() or right.all() or not np.isfinite(scores).all():
        msg = f"best_threshold: expected finite scores, some right and some wrong, found {right.sum()} of {right.size}"
        raise ValueError(msg)
    cuts, kept_right, kept_wrong = _cuts(scores, right)
    return float(cuts[int(np.argmax(2.0 * kept_right / (kept_right + kept_wrong + right.sum())))])


def _cuts(
    scores: NDArray[np.float64], right: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the candidates, rising, with the right and the wrong regions that each keeps."""
    distinct, inverse = np.unique(scores, return_inverse=True)
    rights = np.bincount(inverse, weights=right, minlength=distinct.size)
    wrongs = np.bincount(inverse, weights=~right, minlength=distinct.size)
    middle = (distinct[:-1] + distinct[1:]) / 2.0
    middle = np.where(middle > distinct[:-1], middle, distinct[1:])  # adjacent floats have no midpoint
    return np.concatenate([distinct[:1], middle]), rights[::-1].cumsum()[::-1], wrongs[::-1].cumsum()[::-1]


def aimed_threshold(
    scores: NDArray[np.float64], right: NDArray[np.bool_], aim: Aim, spare: float = 1.0, place: float = 1.0
) -> tuple[float, bool]:
    """Choose the threshold for an aim, and return whether it reaches it; if none does, it is that of the largest F1.

    With ``spare`` below 1 it lies between the lowest threshold that reaches the aim (``place`` 0) and the highest one
    that also keeps this fraction of the right ones (``place`` 1).

    Shapes: scores (N,), float64; right (N,), bool; both kinds must occur.
    """
    fallback = best_threshold(scores, right)
    cuts, kept_right, kept_wrong = _cuts(scores, right)
    reaches: NDArray[np.bool_]
    match aim.kind:
        case "precision":
            reaches = kept_right >= aim.value * (kept_right + kept_wrong)
        case "coverage":
            reaches = kept_right >= aim.value * right.sum()
        case "false_accept":
            reaches = kept_wrong <= aim.value * (~right).sum()
    reaches &= kept_right >= _KEPT * right.sum()
    if not reaches.any():
        return fallback, False
    if aim.kind == "coverage":
        return float(cuts[reaches][-1]), True
    spared = cuts[reaches & (kept_right >= spare * right.sum())] if spare < 1 else cuts[:0]
    low = float(cuts[reaches][0])
    return low + place * max(float(spared[-1]) - low, 0.0) if spared.size else low, True


def calibrate_thresholds(
    scores: Sequence[float],
    right: Sequence[bool],
    labels: Sequence[str],
    *,
    aim: Aim = DEFAULT_AIM,
    min_each: int = 20,
    decision: str = "",
    source: str = "",
    of: str = "names of validation scenes",
    spare: float = 1.0,
    place: float = 1.0,
) -> Thresholds:
    """Choose the gallery's threshold and, where there is enough evidence, one for each class.

    Args:
        scores: The score of each name.
        right: Whether it is right.
        labels: The names.
        aim: What the thresholds are chosen for.
        min_each: Right and wrong names that a class needs for a threshold of its own.
        decision: The decision rule whose scores they are.
        source: Where the names come from, as in ``Thresholds``.
        of: What the names are, in words, for the rule.
        spare: As for ``aimed_threshold``, like ``place``.
        place: Where between the lowest and the highest threshold.
    """
    if not len(scores) == len(right) == len(labels):
        raise ValueError(f"calibrate_thresholds: {len(scores)} scores, {len(right)} judgements, {len(labels)} labels")
    values, good, names = np.asarray(scores, dtype=np.float64), np.asarray(right, dtype=np.bool_), np.asarray(labels)
    if not good.any() or good.all():
        words = f"none: {int(good.sum())} right and {int((~good).sum())} wrong {of}, {_ALL_KNOWN}"
        return Thresholds(rule=words, scores=conformal_scores(values[good], names[good]))
    default, reached = aimed_threshold(values, good, aim, spare, place)
    chosen, counts = dict[str, float](), dict[str, dict[str, float | int | None]]()
    for label in sorted(set(labels)):
        mine = names == label
        if min(int(good[mine].sum()), int((~good[mine]).sum())) >= min_each:
            chosen[label], _ = aimed_threshold(values[mine], good[mine], aim, spare, place)
            counts[label] = _evidence(values[mine], good[mine], chosen[label])
    seen = counts[""] = _evidence(values, good, np.array([chosen.get(name, default) for name in names]))
    words = f"{aim} on {of}" if reached else f"{aim} is not reached on {of}: largest f1 instead"
    words += (
        f"; keeps {seen['right_kept']} of {seen['right']} right names, lets {seen['wrong_kept']} of {seen['wrong']} "
    )
    words += "wrong ones through"
    return Thresholds(default, chosen, words, counts, decision, source, conformal_scores(values[good], names[good]))


def conformal_scores(scores: NDArray[np.float64], labels: NDArray[np.str_]) -> dict[str, tuple[float, ...]]:
    """Sort scores (N,) of correctly named regions for p-values: all under "", and of each label that has enough.

    At most 200 of each are kept, at even ranks.
    """
    groups = {"": scores} | {str(label): scores[labels == label] for label in np.unique(labels)}
    found = {}
    for label, own in groups.items():
        if len(own) >= (_FEWEST if label else 1):
            ranks = np.linspace(0, len(own) - 1, min(len(own), _MOST)).round().astype(np.int64)
            found[label] = tuple(round(value, _DIGITS) for value in np.sort(own)[ranks].tolist())
    return found


def _evidence(
    scores: NDArray[np.float64], right: NDArray[np.bool_], threshold: float | NDArray[np.float64]
) -> dict[str, float | int | None]:
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
