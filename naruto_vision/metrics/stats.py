"""Whether two runs over the same objects can be told apart."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import Literal, TypeAlias

from scipy.special import bdtr

Z_95 = 1.959963984540054
"""The 97.5 % quantile of the normal distribution: two-sided 95 %."""


def wilson_interval(count: int, total: int, z: float = Z_95) -> tuple[float, float]:
    """Compute Wilson's score interval of a proportion.

    It stays inside [0, 1] and keeps its coverage for small counts and for 0 or all hits, where the usual
    ``p ± z·sqrt(p(1-p)/n)`` collapses to a point. (E. B. Wilson, JASA 1927)

    Args:
        count: Hits, 0 to ``total``.
        total: Trials, at least 1.
        z: Normal quantile; the default gives 95 %.

    Returns:
        Lower and upper end, in [0, 1].

    Raises:
        ValueError: If the counts are not ``0 <= count <= total`` with ``total >= 1``.
    """
    if not 0 <= count <= total or total < 1:
        msg = f"wilson_interval: expected 0 <= count <= total and total >= 1, found {count}/{total}"
        raise ValueError(msg)
    share = count / total
    weight = z * z / total
    centre = (share + weight / 2) / (1 + weight)
    half = z / (1 + weight) * math.sqrt(share * (1 - share) / total + weight / (4 * total))
    # The formula gives these two ends only up to rounding.
    low = 0.0 if count == 0 else max(0.0, centre - half)
    high = 1.0 if count == total else min(1.0, centre + half)
    return low, high


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
    def low(self) -> float | None:
        """Lower end of the 95 % Wilson interval, or None."""
        return wilson_interval(self.count, self.total)[0] if self.total else None

    @property
    def high(self) -> float | None:
        """Upper end of the 95 % Wilson interval, or None."""
        return wilson_interval(self.count, self.total)[1] if self.total else None

    def as_json(self) -> dict[str, float | int | None]:
        """Return ``{value, count, total, low, high}``; value, low and high are null where the total is 0."""
        return {"value": self.value, "count": self.count, "total": self.total, "low": self.low, "high": self.high}


Verdict: TypeAlias = Literal["separable", "not separable", "undecided"]
"""``undecided``: the totals alone do not tell, because it depends on which objects each run has right."""

ALPHA = 0.05
_EXACT = 2000  # objects up to which whole numbers are summed; beyond, that takes minutes


@dataclass(frozen=True)
class Pairing:
    """The objects on which two runs differ.

    Args:
        only_first: Right in the first run alone.
        only_second: Right in the second run alone.

    Raises:
        ValueError: If a count is negative.
    """

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
    """Two runs, side by side.

    Args:
        first: Name of one run.
        second: Name of the other.
        p_low: Smallest p-value that the counts allow; of paired results the p-value itself.
        p_high: Largest one; of paired results the same.
        adjusted_low: ``p_low`` after Holm's correction over all comparisons made.
        adjusted_high: ``p_high`` likewise.
        pairing: The objects on which they differ; None where only totals are known.
    """

    first: str
    second: str
    p_low: float
    p_high: float
    adjusted_low: float
    adjusted_high: float
    pairing: Pairing | None = None

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

    Args:
        only_first: Objects that the first run alone has right.
        only_second: Objects that the second run alone has right.

    Returns:
        Two-sided p-value in [0, 1]; 1 where the runs never differ.

    Example:
        >>> mcnemar_exact(6, 0)
        0.03125
    """
    total, fewer = only_first + only_second, min(only_first, only_second)
    if total > _EXACT:
        return min(1.0, 2 * float(bdtr(fewer, total, 0.5)))
    tail = sum(comb(total, count) for count in range(fewer + 1))
    return min(1.0, 2 * tail / (1 << total))  # whole numbers up to here


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for having looked several times.

    Args:
        p_values: One a comparison, in [0, 1].

    Returns:
        Adjusted ones in the same order: comparing them with 0.05 keeps the chance of any false alarm at 5 %.
        (S. Holm, Scandinavian Journal of Statistics 1979)
    """
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def pair_objects(first: Sequence[Sequence[bool]], second: Sequence[Sequence[bool]]) -> Pairing:
    """Count the objects on which two runs differ.

    Args:
        first: For each scene and object, whether the first run has it right.
        second: The same objects in the second run.

    Returns:
        The counts.

    Raises:
        ValueError: If the runs do not have the same objects.
    """
    if [len(scene) for scene in first] != [len(scene) for scene in second]:
        msg = "pair_objects: expected two runs over the same objects, found others"
        raise ValueError(msg)
    pairs = [pair for early, late in zip(first, second, strict=True) for pair in zip(early, late, strict=True)]
    return Pairing(pairs.count((True, False)), pairs.count((False, True)))


def pairing_range(first: Rate, second: Rate) -> tuple[Pairing, Pairing]:
    """Find the two extreme ways in which two totals over the same objects can have come about.

    Args:
        first: Right objects of one run, of all.
        second: Right objects of the other, of the same.

    Returns:
        The pairing with the fewest objects that only one run has right, whose p-value is the smallest, and the one
        with the most, whose p-value is the largest.

    Raises:
        ValueError: If the totals differ.
    """
    if first.total != second.total:
        msg = f"pairing_range: expected rates over the same objects, found {first.total} and {second.total}"
        raise ValueError(msg)
    shared_most = min(first.count, second.count)
    shared_least = max(0, first.count + second.count - first.total)
    near, far = (Pairing(first.count - shared, second.count - shared) for shared in (shared_most, shared_least))
    return near, far


def compare_runs(names: Sequence[str], right: Sequence[Sequence[Sequence[bool]]]) -> list[Comparison]:
    """Compare every two runs, object by object.

    Args:
        names: One a run.
        right: For each run, scene and object, whether it is right.

    Returns:
        One comparison for every two runs, in order, corrected for their number.
    """
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

    Args:
        names: One a run.
        right: Right objects of each run, of the same objects.

    Returns:
        One comparison for every two runs, in order, both ends corrected for their number.

    Raises:
        ValueError: If the totals differ.
    """
    ranges = [pairing_range(early, late) for early, late in combinations(right, 2)]
    low, high = ([pairing.p_value for pairing in side] for side in zip(*ranges, strict=True)) if ranges else ([], [])
    return [
        Comparison(first, second, *values)
        for (first, second), *values in zip(combinations(names, 2), low, high, holm(low), holm(high), strict=True)
    ]
