"""Exact McNemar and Holm against SciPy and against every pairing that counts allow."""

from itertools import product
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naruto_vision.metrics.stats import (
    Pairing,
    Rate,
    compare_runs,
    compare_totals,
    holm,
    mcnemar_exact,
    pair_objects,
    pairing_range,
    sign_flip_exact,
)

counts = st.integers(0, 60)


@given(counts, counts)
def test_equals_the_sum_of_binomial_tails(first: int, second: int) -> None:
    total = first + second
    tail = sum(comb(total, count) for count in range(min(first, second) + 1))
    assert mcnemar_exact(first, second) == pytest.approx(min(1.0, 2 * tail / 2**total), rel=1e-9)
    assert mcnemar_exact(first, second) == mcnemar_exact(second, first)


def test_many_objects() -> None:
    assert mcnemar_exact(5000, 5000) == 1.0
    assert mcnemar_exact(0, 3000) == 0.0  # 2**-2999 is below the smallest number
    assert 0 < mcnemar_exact(4800, 5200) < 0.001


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 25).flatmap(lambda n: st.tuples(st.integers(0, n), st.integers(0, n), st.just(n))))
def test_the_two_extreme_pairings_bound_every_other(case: tuple[int, int, int]) -> None:
    first, second, total = case
    possible = [
        Pairing(only_first, only_second).p_value
        for only_first, only_second in product(range(total + 1), repeat=2)
        if first - only_first == second - only_second  # what both have right
        and first - only_first >= 0
        and first + only_second <= total
    ]
    near, far = pairing_range(Rate(first, total), Rate(second, total))
    assert (near.p_value, far.p_value) == (min(possible), max(possible))


def test_holm_worked_case() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=6))
def test_holm_equals_its_definition(p_values: list[float]) -> None:
    """A hypothesis falls at a level if it and all with smaller p fall, each at level / (how many are left)."""
    adjusted = holm(p_values)
    for place, value in enumerate(p_values):
        steps = [
            min(1.0, p * sum((q, j) >= (p, i) for j, q in enumerate(p_values)))
            for i, p in enumerate(p_values)
            if (p, i) <= (value, place)
        ]
        assert adjusted[place] == pytest.approx(max(steps))


def test_the_published_runs_are_not_separable_whatever_the_pairing() -> None:
    found = compare_totals(["CLIP", "FT", "DINO"], [Rate(45, 62), Rate(43, 62), Rate(39, 62)])
    assert [(item.first, item.second) for item in found] == [("CLIP", "FT"), ("CLIP", "DINO"), ("FT", "DINO")]
    assert [item.p_low for item in found] == [0.5, 0.03125, 0.125]
    assert [item.adjusted_low for item in found] == [0.5, 0.09375, 0.25]
    assert [item.verdict for item in found] == ["not separable"] * 3


def test_totals_can_decide_or_leave_it_open() -> None:
    assert compare_totals(["a", "b"], [Rate(62, 62), Rate(40, 62)])[0].verdict == "separable"
    assert compare_totals(["a", "b"], [Rate(45, 62), Rate(35, 62)])[0].verdict == "undecided"
    with pytest.raises(ValueError, match="62 and 61"):
        compare_totals(["a", "b"], [Rate(45, 62), Rate(35, 61)])


def test_runs_are_paired_object_by_object() -> None:
    first = [[True, True], [False], [], [True] * 6]
    second = [[True, False], [True], [], [False] * 6]
    assert pair_objects(first, second) == Pairing(7, 1)
    (found,) = compare_runs(["a", "b"], [first, second])
    assert found.pairing == Pairing(7, 1)
    assert found.p_low == found.p_high == mcnemar_exact(7, 1)
    with pytest.raises(ValueError, match="same objects"):
        pair_objects(first, second[1:])
    assert compare_runs(["a"], [first]) == []
    assert compare_totals(["a"], [Rate(1, 2)]) == []


def test_several_comparisons_pay_for_their_number() -> None:
    good, bad = [[True] * 6], [[False] * 6]
    assert compare_runs(["a", "b"], [good, bad])[0].verdict == "separable"  # p = 0.031
    three = compare_runs(["a", "b", "c"], [good, bad, good])
    assert [item.adjusted_low for item in three] == [0.09375, 1.0, 0.09375]
    assert {item.verdict for item in three} == {"not separable"}


def test_negative_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="-1"):
        Pairing(-1, 0)


@pytest.mark.parametrize("flips", [[1, -1, 1, 1, 0], [1] * 9, [-1] * 4 + [1], [0, 0]])
def test_flipped_signs_of_single_objects_are_the_mcnemar_test(flips: list[int]) -> None:
    assert sign_flip_exact(flips) == pytest.approx(mcnemar_exact(flips.count(1), flips.count(-1)))


def test_flipped_signs_of_scenes_are_counted_exactly() -> None:
    differences = [3, -1, 2, 2, 0, 1]
    sums = [
        sum(sign * value for sign, value in zip(signs, differences, strict=True))
        for signs in product((1, -1), repeat=6)
    ]
    expected = np.mean([abs(total) >= abs(sum(differences)) for total in sums])
    assert sign_flip_exact(differences) == pytest.approx(expected)
    assert sign_flip_exact([-value for value in differences]) == pytest.approx(expected)
    assert sign_flip_exact([]) == sign_flip_exact([5, -5]) == 1.0
    assert sign_flip_exact([4]) == 1.0  # one scene tells nothing, however many objects it has
