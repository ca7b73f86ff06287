"""The permutation test of two groups of scenes, against plain loops and on data whose answer is known."""

from itertools import product

import numpy as np
import pytest

from naruto_vision.metrics.two_sample import mmd_test
from naruto_vision.records import Vectors


def scenes(seed: int, count: int, *, shift: float = 0.0, own: float = 0.0) -> list[Vectors]:
    """Draw scenes of one to four vectors; ``own`` is how far the vectors of a scene share a direction."""
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(count):
        rows = rng.standard_normal((int(rng.integers(1, 5)), 8)) + own * rng.standard_normal(8)
        drawn.append((rows + shift * np.eye(8)[0]).astype(np.float32))
    return drawn


def test_the_statistic_is_that_of_plain_loops() -> None:
    first, second = scenes(0, 4), scenes(1, 3, shift=1.0)
    rows = np.concatenate([*first, *second]).astype(np.float64)
    width = np.median([((a - b) ** 2).sum() for a, b in product(rows, rows)])

    def kernel(one: Vectors, other: Vectors) -> float:
        return float(np.mean([np.exp(-((a - b) ** 2).sum() / width) for a, b in product(one, other)]))

    def mean(left: list[Vectors], right: list[Vectors]) -> float:
        pairs = [(a, b) for a, b in product(left, right) if a is not b]
        return float(np.mean([kernel(a, b) for a, b in pairs]))

    expected = mean(first, first) + mean(second, second) - 2 * mean(first, second)
    assert mmd_test(first, second)[0] == pytest.approx(expected, abs=1e-5)
    assert mmd_test(second, first)[0] == pytest.approx(expected, abs=1e-5)


def test_a_shift_is_found_and_equal_groups_are_not() -> None:
    assert mmd_test(scenes(0, 20), scenes(1, 12, shift=3.0))[1] == pytest.approx(1 / 2001)
    same = [np.ones((2, 8), np.float32)] * 12
    assert mmd_test(same, same) == (0.0, 1.0)


def test_vectors_that_a_scene_shares_raise_no_alarm() -> None:
    found = [mmd_test(scenes(seed, 12, own=3.0), scenes(1000 + seed, 12, own=3.0))[1] for seed in range(60)]
    assert sum(p <= 0.05 for p in found) <= 8  # 3 are expected; 9 or more have a probability of 0.003
    assert 0.3 < np.median(found) < 0.7
