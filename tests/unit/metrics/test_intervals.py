"""Proportions and Wilson's interval."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from naruto_vision.metrics.stats import Rate, wilson_interval


@given(st.integers(1, 500).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
def test_equals_scipy(counts: tuple[int, int]) -> None:
    low, high = wilson_interval(*counts)
    expected = binomtest(*counts).proportion_ci(0.95, method="wilson")
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0.0 <= low <= counts[0] / counts[1] <= high <= 1.0


def test_rate_carries_its_counts() -> None:
    record = Rate(45, 62).as_json()
    assert record["count"] == 45
    assert record["total"] == 62
    assert record["value"] == 45 / 62
    assert record["low"] == pytest.approx(0.604, abs=5e-4)
    assert record["high"] == pytest.approx(0.821, abs=5e-4)


def test_rate_of_nothing_has_no_value() -> None:
    assert Rate(0, 0).as_json() == {"value": None, "count": 0, "total": 0, "low": None, "high": None}


def test_ends_are_exact() -> None:
    assert Rate(0, 7).low == 0.0
    assert Rate(7, 7).high == 1.0


@pytest.mark.parametrize(("count", "total"), [(-1, 3), (4, 3), (1, 0)])
def test_impossible_counts_are_refused(count: int, total: int) -> None:
    with pytest.raises(ValueError, match="0 <= count <= total"):
        Rate(count, total)
    with pytest.raises(ValueError, match="0 <= count <= total"):
        wilson_interval(count, total)
