"""Proportions and Wilson's interval."""

import pytest

from naruto_vision.metrics.stats import Rate, wilson_interval


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
    assert Rate(0, 7).as_json()["low"] == 0.0
    assert Rate(7, 7).as_json()["high"] == 1.0


@pytest.mark.parametrize(("count", "total"), [(-1, 3), (4, 3), (1, 0)])
def test_impossible_counts_are_refused(count: int, total: int) -> None:
    with pytest.raises(ValueError, match="0 <= count <= total"):
        Rate(count, total)
    with pytest.raises(ValueError, match="0 <= count <= total"):
        wilson_interval(count, total)
