"""Matching against every possible matching."""

from itertools import permutations
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from naruto_vision.geometry import inclusive_iou_matrix
from naruto_vision.metrics.scene import match_boxes, match_matrix
from naruto_vision.records import Box, LabelledBox


def best_by_force(iou: NDArray[np.float64], bar: float) -> tuple[int, float]:
    """Try every one-to-one assignment; return the most pairs, and the largest total IoU with that many."""
    wide = iou if iou.shape[0] <= iou.shape[1] else iou.T
    best = (0, 0.0)
    for columns in permutations(range(wide.shape[1]), wide.shape[0]):
        kept = [wide[row, column] for row, column in enumerate(columns) if wide[row, column] >= bar]
        best = max(best, (len(kept), float(sum(kept))))
    return best


matrices = st.tuples(st.integers(1, 5), st.integers(1, 5)).flatmap(
    lambda shape: st.lists(
        st.lists(
            st.sampled_from([0.0, 0.2, 0.49, 0.5, 0.51, 0.8, 1.0]) | st.floats(0, 1),
            min_size=shape[1],
            max_size=shape[1],
        ),
        min_size=shape[0],
        max_size=shape[0],
    ).map(np.array)
)


@settings(max_examples=80, deadline=None)
@given(matrices, st.sampled_from([0.0, 0.3, 0.5, 0.9]))
def test_equals_brute_force(iou: NDArray[np.float64], bar: float) -> None:
    pairs = match_matrix(iou, bar)
    assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == len(pairs)
    assert all(iou[pair] >= bar for pair in pairs)
    count, total = best_by_force(iou, bar)
    assert len(pairs) == count
    assert sum(iou[pair] for pair in pairs) == pytest.approx(total, abs=1e-8)


@settings(max_examples=80, deadline=None)
@given(
    st.tuples(st.integers(1, 5), st.integers(1, 4)).flatmap(
        lambda shape: st.lists(
            st.sampled_from([0.25, 0.5, 0.75]), min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]
        ).map(lambda values: np.reshape(values, shape))
    )
)
def test_of_equal_matchings_the_one_of_earlier_rows_is_taken(iou: NDArray[np.float64]) -> None:
    """These IoUs add up exactly, so that matchings tie."""
    rows, columns = iou.shape
    best = (0, 0.0, 0)
    for chosen in permutations([*range(rows), *[-1] * columns], columns):
        pairs = [(row, column) for column, row in enumerate(chosen) if row >= 0 and iou[row, column] >= 0.5]
        best = max(best, (len(pairs), float(sum(iou[pair] for pair in pairs)), -sum(row for row, _ in pairs)))
    assert -sum(row for row, _ in match_matrix(iou, 0.5)) == best[2]


def test_gate_comes_before_the_matching() -> None:
    assert match_matrix(np.array([[0.5, 0.49], [0.49, 0.0]]), 0.5) == ((0, 0),)


def test_more_pairs_beat_a_larger_iou() -> None:
    assert match_matrix(np.array([[1.0, 0.5], [0.5, 0.0]]), 0.5) == ((0, 1), (1, 0))


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0), (2, 2)])
def test_nothing_to_match(shape: tuple[int, int]) -> None:
    assert match_matrix(np.zeros(shape), 0.5) == ()


def test_bar_is_reached_by_an_equal_iou() -> None:
    truth = LabelledBox((0, 0, 9, 9), "a")
    assert match_boxes([LabelledBox((0, 0, 9, 4), "a", 1.0)], [truth], 0.5) == ((0, 0),)
    assert match_boxes([LabelledBox((0, 0, 9, 3), "a", 1.0)], [truth], 0.5) == ()


def test_of_equal_boxes_the_higher_score_wins_and_labels_do_not_help() -> None:
    truth = [LabelledBox((0, 0, 9, 9), "a")]
    low, high = LabelledBox((0, 0, 9, 9), "a", 0.2), LabelledBox((0, 0, 9, 9), "b", 0.9)
    assert match_boxes([low, high], truth) == ((1, 0),)
    assert match_boxes([high, low], truth) == ((0, 0),)


@st.composite
def crowded(draw: st.DrawFn) -> LabelledBox:
    """Boxes on a coarse grid with few scores, so that ties abound."""
    x, y, size = draw(st.integers(0, 3)), draw(st.integers(0, 3)), draw(st.sampled_from([7, 9]))
    box: Box = (x, y, x + size, y + size)
    return LabelledBox(box, draw(st.sampled_from("ab")), draw(st.sampled_from([None, 0.1, 0.9])))


@settings(max_examples=40, deadline=None)
@given(st.lists(crowded(), max_size=5), st.lists(crowded(), max_size=5), st.randoms(use_true_random=False))
def test_order_of_the_lists_changes_nothing(
    guesses: list[LabelledBox], truths: list[LabelledBox], random: Random
) -> None:
    def pairs(first: list[LabelledBox], second: list[LabelledBox]) -> list[tuple[str, str]]:
        return sorted((repr(first[row]), repr(second[column])) for row, column in match_boxes(first, second))

    truths = [LabelledBox(truth.box, truth.label) for truth in truths]
    expected = pairs(guesses, truths)
    mixed, others = list(guesses), list(truths)
    random.shuffle(mixed)
    random.shuffle(others)
    assert pairs(mixed, others) == expected
    iou = inclusive_iou_matrix([g.box for g in guesses], [t.box for t in truths])
    assert len(expected) == (best_by_force(iou, 0.5)[0] if iou.size else 0)
