"""Proportions with Wilson intervals, and paired tests between runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, TypeAlias


def wilson_interval(count: int, total: int) -> tuple[float, float]:
    """Compute the 95 % Wilson score interval of a proportion, in [0, 1] (E. B. Wilson, JASA 1927)."""
    if not 0 <= count <= total or total < 1:
        msg = f"wilson_interval: expected 0 <= count <= total and total >= 1, found {count}/{total}"
        raise ValueError(msg)
    from scipy.stats import binomtest  # a second to import; `predict` computes no interval

    interval = binomtest(count, total).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


@dataclass(frozen=True)
class Rate:
    """A proportion with the counts behind it.

    Args:
        count: Hits.
        total: Trials; 0 means that the rate has no value.

    Raises:
        ValueError: If not ``0 <= count <= total``.

    Example:
        >>> rate = Rate(45, 62)
        >>> round(rate.value, 3)
        0.726
    """

    count: int
    total: int

    def __post_init__(self) -> None:
        if not 0 <= self.count <= self.total:
            msg = f"rate: expected 0 <= count <= total, found {self.count}/{self.total}"
            raise ValueError(msg)

    @property
    def value(self) -> float | None:
        """``count / total`` in [0, 1], or None where there is nothing to divide by."""
        return self.count / self.total if self.total else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % Wilson interval, or None."""
        return wilson_interval(self.count, self.total) if self.total else None

    def as_json(self) -> dict[str, float | int | None]:
        """Return ``{value, count, total, low, high}``; value, low and high are null where the total is 0."""
        low, high = self.interval or (None, None)
        return {"value": self.value, "count": self.count, "total": self.total, "low": low, "high": high}


Verdict: TypeAlias = Literal["separable", "not separable", "undecided"]
"""``undecided``: the totals alone do not tell, because it depends on which objects each run has right."""

ALPHA = 0.05


@dataclass(frozen=True)
class Pairing:
    """How many objects only the first, and only the second, of two runs has right."""

    only_first: int
    only_second: int

    def __post_init__(self) -> None:
        if min(self.only_first, self.only_second) < 0:
            msg = f"pairing: expected counts of 0 or more, found {self.only_first} and {self.only_second}"
            raise ValueError(msg)

    @property
    def p_value(self) -> float:
        """Two-sided p of the exact McNemar test, as ``mcnemar_exact`` gives it."""
        return mcnemar_exact(self.only_first, self.only_second)


@dataclass(frozen=True)
class Comparison:
    """Two runs, side by side: the smallest and largest p-value that the counts allow, before and after Holm."""

    first: str
    second: str
    p_low: float
    p_high: float
    adjusted_low: float
    adjusted_high: float
    pairing: Pairing | None = None  # None where only totals are known; else both ends of p are equal

    @property
    def verdict(self) -> Verdict:
        """Whether the runs can be told apart at 0.05, whichever pairing stands behind the counts."""
        if self.adjusted_low >= ALPHA:
            return "not separable"
        return "separable" if self.adjusted_high < ALPHA else "undecided"


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Test whether two runs differ, by the objects that only one of them has right.

    If they were equally good, each of these objects would be as likely to be the one's as the other's: a binomial
    test at one half. (Q. McNemar, Psychometrika 1947)

    Example:
        >>> mcnemar_exact(6, 0)
        0.03125
    """
    from scipy.stats import binomtest

    total = only_first + only_second
    return float(binomtest(min(only_first, only_second), total).pvalue) if total else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for multiple comparisons (S. Holm, Scandinavian Journal of Statistics 1979)."""
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def pair_objects(first: Sequence[Sequence[bool]], second: Sequence[Sequence[bool]]) -> Pairing:
    """Count the objects on which two runs differ."""
    if [len(scene) for scene in first] != [len(scene) for scene in second]:
        msg = "pair_objects: expected two runs over the same objects, found others"
        raise ValueError(msg)
    pairs = [pair for early, late in zip(first, second, strict=True) for pair in zip(early, late, strict=True)]
    return Pairing(pairs.count((True, False)), pairs.count((False, True)))


def pairing_range(first: Rate, second: Rate) -> tuple[Pairing, Pairing]:
    """Find the two extreme ways in which two totals over the same objects can have come about."""
    if first.total != second.total:
        msg = f"pairing_range: expected rates over the same objects, found {first.total} and {second.total}"
        raise ValueError(msg)
    shared_most = min(first.count, second.count)
    shared_least = max(0, first.count + second.count - first.total)
    near, far = (Pairing(first.count - shared, second.count - shared) for shared in (shared_most, shared_least))
    return near, far


def compare_runs(names: Sequence[str], right: Sequence[Sequence[Sequence[bool]]]) -> list[Comparison]:
    """Compare every two runs, object by object."""
    pairings = [pair_objects(early, late) for early, late in combinations(right, 2)]
    p_values = [pairing.p_value for pairing in pairings]
    return [
        Comparison(first, second, p, p, adjusted, adjusted, pairing)
        for (first, second), p, adjusted, pairing in zip(
            combinations(names, 2), p_values, holm(p_values), pairings, strict=True
        )
    ]


def compare_totals(names: Sequence[str], right: Sequence[Rate]) -> list[Comparison]:
    """Compare every two runs of which only the totals are known.

    The McNemar test needs to know which objects each run has right. Totals leave that open, but not without limits:
    the test is made for the pairing that speaks most for a difference and for the one that speaks least.
    """
    ranges = [pairing_range(early, late) for early, late in combinations(right, 2)]
    low, high = ([pairing.p_value for pairing in side] for side in zip(*ranges, strict=True)) if ranges else ([], [])
    return [
        Comparison(first, second, *values)
        for (first, second), *values in zip(combinations(names, 2), low, high, holm(low), holm(high), strict=True)
    ]
