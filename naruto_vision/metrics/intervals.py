"""Proportions that carry their counts and an honest interval."""

import math
from dataclasses import dataclass

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
