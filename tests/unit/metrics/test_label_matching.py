"""Label-aware matching against every possible matching."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from naruto_vision.metrics.scene import match_boxes, match_matrix
from naruto_vision.records import LabelledBox


def best_by_force(iou: NDArray[np.float64], right: NDArray[np.bool_], bar: float) -> tuple[int, int, float]:
    """Try every one-to-one assignment; return the most right pairs, then the most pairs, then the largest IoU."""
    if iou.shape[0] > iou.shape[1]:
        iou, right = iou.T, right.T
    best = (0, 0, 0.0)
    for columns in permutations(range(iou.shape[1]), iou.shape[0]):
        kept = [place for place in enumerate(columns) if iou[place] >= bar]
        best = max(best, (sum(bool(right[p]) for p in kept), len(kept), float(sum(iou[p] for p in kept))))
    return best


@st.composite
def tables(draw: st.DrawFn, most: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    shape = draw(st.tuples(st.integers(1, most), st.integers(1, most)))
    size = shape[0] * shape[1]
    values = st.sampled_from([0.0, 0.49, 0.5, 0.75, 1.0]) | st.floats(0, 1)
    iou = np.array(draw(st.lists(values, min_size=size, max_size=size))).reshape(shape)
    right = np.array(draw(st.lists(st.booleans(), min_size=size, max_size=size))).reshape(shape)
    return iou, right


def check(iou: NDArray[np.float64], right: NDArray[np.bool_], bar: float) -> None:
    pairs = match_matrix(iou, bar, right)
    assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == len(pairs)
    assert all(iou[pair] >= bar for pair in pairs)
    names, count, total = best_by_force(iou, right, bar)
    assert (sum(bool(right[pair]) for pair in pairs), len(pairs)) == (names, count)
    assert sum(iou[pair] for pair in pairs) == pytest.approx(total, abs=1e-8)


@settings(max_examples=60, deadline=None)
@given(tables(most=5), st.sampled_from([0.0, 0.5, 0.9]))
def test_label_aware_matching_equals_brute_force(
    table: tuple[NDArray[np.float64], NDArray[np.bool_]], bar: float
) -> None:
    check(*table, bar)


@pytest.mark.parametrize("seed", range(4))
def test_six_by_six_equals_brute_force(seed: int) -> None:
    random = np.random.default_rng(seed)
    iou = random.random((6, 6))
    check(iou, random.random((6, 6)) < 0.3, 0.4)
    pairs = match_matrix(iou, 0.4)
    _, count, total = best_by_force(iou, np.zeros((6, 6), dtype=np.bool_), 0.4)
    assert len(pairs) == count
    assert sum(iou[pair] for pair in pairs) == pytest.approx(total, abs=1e-8)


def test_a_right_label_wins_among_boxes_that_overlap_enough() -> None:
    truth = [LabelledBox((0, 0, 9, 9), "a")]
    guesses = [LabelledBox((0, 0, 9, 9), "b", 0.9), LabelledBox((0, 0, 9, 6), "a", 0.2)]
    assert match_boxes(guesses, truth) == ((0, 0),)
    assert match_boxes(guesses, truth, matching="label") == ((1, 0),)
    assert match_boxes(guesses, truth, 0.8, matching="label") == ((0, 0),)


def test_a_right_label_comes_before_a_second_pair() -> None:
    iou = np.array([[0.9, 0.6], [0.6, 0.0]])
    right = np.array([[True, False], [False, False]])
    assert match_matrix(iou, 0.5) == ((0, 1), (1, 0))
    assert match_matrix(iou, 0.5, right) == ((0, 0),)
