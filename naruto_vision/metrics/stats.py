"""Proportions with Wilson intervals, a cluster bootstrap, and paired tests between runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

_BLOCK = 256  # replicates at a time: the weights of 10,000 scenes then take 20 MB
_SAME = 1e-12  # ratios that differ by less are equal up to rounding


def wilson_interval(count: int, total: int) -> tuple[float, float]:
    """Compute the 95 % Wilson score interval of a proportion, in [0, 1] (E. B. Wilson, JASA 1927)."""
    if not 0 <= count <= total or total < 1:
        raise ValueError(f"wilson_interval: expected 0 <= count <= total and total >= 1, found {count}/{total}")
    from scipy.stats import binomtest  # a second to import; `predict` computes no interval

    interval = binomtest(count, total).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


@dataclass(frozen=True)
class Rate:
    """A proportion with its counts; without a value where ``total`` is 0.

    Examples:
        >>> rate = Rate(45, 62)
        >>> round(rate.value, 3)
        0.726
    """

    count: int
    total: int

    def __post_init__(self) -> None:
        if not 0 <= self.count <= self.total:
            raise ValueError(f"rate: expected 0 <= count <= total, found {self.count}/{self.total}")

    @property
    def value(self) -> float | None:
        """``count / total`` in [0, 1], or None where the denominator is 0."""
        return self.count / self.total if self.total else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % Wilson interval, or None."""
        return wilson_interval(self.count, self.total) if self.total else None

    def as_json(self) -> dict[str, float | int | None]:
        """Return ``{value, count, total, low, high}``; value, low and high are null where the total is 0."""
        low, high = self.interval or (None, None)
        return {"value": self.value, "count": self.count, "total": self.total, "low": low, "high": high}


@dataclass(frozen=True)
class Interval:
    """A two-sided 95 % interval, and the number of replicates with a value."""

    low: float
    high: float
    replicates: int

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(f"interval: expected low <= high, found {self.low} and {self.high}")


def bootstrap_ratios(
    table: NDArray[np.float64], replicates: int, seed: int, *, proportions: bool = True
) -> list[Interval | None]:
    """Compute the intervals of F ratios by a cluster bootstrap: None where the denominator is 0 in all replicates.

    Objects of one scene are not independent, so whole scenes are drawn with replacement. ``table`` (S, 2, F) has each
    scene's contribution to the numerators and denominators. The intervals are bias-corrected and accelerated (B. Efron,
    JASA 1987): with some tens of scenes percentiles cover less than 95 %. ``proportions`` says that the ratios lie in
    [0, 1]: one that is 0 or 1 in all scenes, on which a bootstrap says nothing, has the Wilson interval.
    """
    if replicates < 1:
        raise ValueError(f"bootstrap: expected at least 1 replicate, found {replicates}")
    scenes, _, figures = table.shape
    if scenes == 0:
        return [None] * figures
    random = np.random.default_rng(seed)
    even = np.full(scenes, 1.0 / scenes)
    blocks = [
        random.multinomial(scenes, even, size=min(_BLOCK, replicates - start)) @ table.reshape(scenes, -1)
        for start in range(0, replicates, _BLOCK)
    ]
    sums = np.concatenate(blocks).reshape(-1, 2, figures)  # (R, 2, F)
    return [_interval(table[..., index], sums[..., index], proportions) for index in range(figures)]


def _ratios(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide numerators by denominators (N, 2), where these are above 0."""
    kept = sums[sums[:, 1] > 0]
    return np.asarray(kept[:, 0] / kept[:, 1])


def _interval(table: NDArray[np.float64], sums: NDArray[np.float64], proportions: bool) -> Interval | None:
    """Compute one interval from the contributions of scenes (S, 2) and the sums of replicates (R, 2)."""
    values, whole = _ratios(sums), table.sum(axis=0)
    if not len(values):
        return None
    if np.ptp(values) <= _SAME:
        low = high = float(values[0])
        if proportions and (low in (0.0, 1.0)):
            low, high = wilson_interval(round(low * whole[1]), round(whole[1]))
        return Interval(low, high, len(values))
    from scipy.special import ndtr, ndtri

    value, edge = whole[0] / whole[1], 0.5 / len(values)
    below = (values < value - _SAME).mean() / 2 + (values <= value + _SAME).mean() / 2
    bias = ndtri(np.clip(below, edge, 1 - edge))
    left_out = _ratios(whole - table)
    apart = left_out.mean() - left_out
    skewness = (apart**3).sum() / max(6 * (apart**2).sum() ** 1.5, np.finfo(np.float64).tiny)
    ends = bias + ndtri(np.array([0.025, 0.975]))
    low, high = np.quantile(values, ndtr(bias + ends / (1 - skewness * ends))).tolist()
    return Interval(low, high, len(values))


Verdict: TypeAlias = Literal["separable", "not separable", "undecided"]
"""``undecided``: it depends on which objects each run has right, and only the totals are known."""

ALPHA = 0.05


@dataclass(frozen=True)
class Pairing:
    """Numbers of objects that only the first, and only the second, run has right."""

    only_first: int
    only_second: int

    def __post_init__(self) -> None:
        if min(self.only_first, self.only_second) < 0:
            raise ValueError(f"pairing: expected counts of 0 or more, found {self.only_first} and {self.only_second}")

    @property
    def p_value(self) -> float:
        """Two-sided p of the exact McNemar test, as ``mcnemar_exact`` gives it."""
        return mcnemar_exact(self.only_first, self.only_second)


@dataclass(frozen=True)
class Comparison:
    """Two runs: the smallest and largest p-value possible for the counts, before and after Holm."""

    first: str
    second: str
    p_low: float
    p_high: float
    adjusted_low: float
    adjusted_high: float
    pairing: Pairing | None = None  # None where only totals are known; else both ends of p are equal

    @property
    def verdict(self) -> Verdict:
        """Whether the runs differ significantly at 0.05, whichever pairing the counts come from."""
        if self.adjusted_low >= ALPHA:
            return "not separable"
        return "separable" if self.adjusted_high < ALPHA else "undecided"


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Test whether two runs differ, by the objects that only one of them has right.

    Under the null hypothesis each of these objects is equally likely to be either run's: a binomial test at one half.
    (Q. McNemar, Psychometrika 1947)

    Examples:
        >>> mcnemar_exact(6, 0)
        0.03125
    """
    from scipy.stats import binomtest

    total = only_first + only_second
    return float(binomtest(min(only_first, only_second), total).pvalue) if total else 1.0


def sign_flip_exact(differences: Sequence[int]) -> float:
    """Test whether two runs differ, by the difference that each scene makes; whole scenes are the independent units.

    Under the null hypothesis the difference of a scene is as likely with the opposite sign: two-sided p of the sum over
    all signs, by their exact distribution (R. A. Fisher, The Design of Experiments, 1935). With differences of at most
    1 it is the exact McNemar test.

    Examples:
        >>> sign_flip_exact([1, 1, 1, 1, 1, 1, 0]) == mcnemar_exact(6, 0)
        True
        >>> sign_flip_exact([3, -3])
        1.0
    """
    chances = np.ones(1)  # of the sums, from the lowest one on
    for size in (abs(difference) for difference in differences):
        chances = (np.pad(chances, (0, 2 * size)) + np.pad(chances, (2 * size, 0))) / 2
    sums = np.arange(len(chances)) - len(chances) // 2
    return float(min(1.0, chances[abs(sums) >= abs(sum(differences))].sum()))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for multiple comparisons (S. Holm, Scandinavian Journal of Statistics 1979)."""
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def pair_objects(first: Sequence[Sequence[bool]], second: Sequence[Sequence[bool]]) -> Pairing:
    """Count the objects on which two runs differ."""
    if [len(scene) for scene in first] != [len(scene) for scene in second]:
        raise ValueError("pair_objects: expected two runs over the same objects, found others")
    pairs = [pair for early, late in zip(first, second, strict=True) for pair in zip(early, late, strict=True)]
    return Pairing(pairs.count((True, False)), pairs.count((False, True)))


def pairing_range(first: Rate, second: Rate) -> tuple[Pairing, Pairing]:
    """Return the pairings that differ least and most of all that two totals over the same objects allow."""
    if first.total != second.total:
        raise ValueError(f"pairing_range: expected rates over the same objects, found {first.total} and {second.total}")
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
    """Compare every two runs from their totals alone.

    The McNemar test needs to know which objects each run has right. Totals only bound that, so the test is
    made for the two extreme pairings.
    """
    ranges = [pairing_range(early, late) for early, late in combinations(right, 2)]
    low, high = ([pairing.p_value for pairing in side] for side in zip(*ranges, strict=True)) if ranges else ([], [])
    return [
        Comparison(first, second, *values)
        for (first, second), *values in zip(combinations(names, 2), low, high, holm(low), holm(high), strict=True)
    ]
