"""Boxes, intervals, matchings and pieces against plain counting of pixels and trying everything."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import astuple
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import poisson

from naruto_vision.geometry import box_pixels, common_box, inclusive_iou_matrix, shared_pixel_matrix, shared_pixels
from naruto_vision.metrics.fragments import FragmentCounts, add_fragments, poisson_interval
from naruto_vision.metrics.scene import match_boxes, match_matrix
from naruto_vision.metrics.stats import Interval, Rate, wilson_interval
from naruto_vision.records import Box, LabelledBox

_QUICK = settings(max_examples=60, deadline=None, derandomize=True)
_BOX = st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 6), st.integers(0, 6)).map(
    lambda v: (v[0], v[1], v[0] + v[2], v[1] + v[3])
)


def _pixels(box: Box) -> set[tuple[int, int]]:
    return set(itertools.product(range(box[0], box[2] + 1), range(box[1], box[3] + 1)))


@_QUICK
@given(st.lists(_BOX, max_size=4), st.lists(_BOX, max_size=4))
def test_overlaps_are_counts_of_pixels(first: list[Box], second: list[Box]) -> None:
    shared, iou = shared_pixel_matrix(first, second), inclusive_iou_matrix(first, second)
    assert shared.shape == iou.shape == (len(first), len(second))
    assert box_pixels(first).tolist() == [len(_pixels(box)) for box in first]
    for (i, one), (j, other) in itertools.product(enumerate(first), enumerate(second)):
        both, either = _pixels(one) & _pixels(other), _pixels(one) | _pixels(other)
        assert shared[i, j] == shared_pixels(one, other) == shared_pixels(other, one) == len(both)
        assert iou[i, j] == pytest.approx(len(both) / len(either))


@_QUICK
@given(st.lists(_BOX, min_size=1, max_size=5))
def test_the_common_box_is_the_smallest_that_holds_all(boxes: list[Box]) -> None:
    x1, y1, x2, y2 = common_box(boxes)
    everything = set().union(*map(_pixels, boxes))
    assert (x1, x2) == (min(x for x, _ in everything), max(x for x, _ in everything))
    assert (y1, y2) == (min(y for _, y in everything), max(y for _, y in everything))
    with pytest.raises(ValueError, match="common_box: expected at least one box, found none"):
        common_box([])


@_QUICK
@given(st.integers(1, 400), st.data())
def test_wilson_ends_are_where_the_score_test_just_rejects(total: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, total))
    low, high = wilson_interval(count, total)
    assert 0.0 <= low <= count / total <= high <= 1.0
    for end in (low, high):
        if 0.0 < end < 1.0:
            assert abs(count / total - end) == pytest.approx(
                1.959963984540054 * math.sqrt(end * (1 - end) / total), abs=1e-9
            )
    mirrored = wilson_interval(total - count, total)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-12)


@pytest.mark.parametrize(("count", "total"), [(-1, 5), (6, 5), (0, 0), (1, 0)])
def test_impossible_counts_have_no_interval(count: int, total: int) -> None:
    with pytest.raises(ValueError, match=f"found {count}/{total}"):
        wilson_interval(count, total)


def test_a_rate_of_nothing_has_no_value_and_an_impossible_one_is_refused() -> None:
    assert Rate(0, 0).as_json() == {"value": None, "count": 0, "total": 0, "low": None, "high": None}
    told = Rate(45, 62).as_json()
    assert told["value"] == pytest.approx(0.7258, abs=1e-4)
    assert (told["low"], told["high"]) == wilson_interval(45, 62)
    for count, total in ((-1, 1), (2, 1)):
        with pytest.raises(ValueError, match=f"rate: expected 0 <= count <= total, found {count}/{total}"):
            Rate(count, total)


@pytest.mark.parametrize("count", [0, 1, 2, 7, 40, 300])
def test_poisson_ends_leave_a_fortieth_on_each_side(count: int) -> None:
    low, high = poisson_interval(count)
    assert low <= count <= high
    assert float(poisson.cdf(count, high)) == pytest.approx(0.025, abs=1e-6)
    if count:
        assert 1 - float(poisson.cdf(count - 1, low)) == pytest.approx(0.025, abs=1e-6)
    else:
        assert low == 0.0


def test_a_negative_count_has_no_interval() -> None:
    with pytest.raises(ValueError, match="expected a count of 0 or more, found -1"):
        poisson_interval(-1)


@pytest.mark.parametrize(("low", "high"), [(0.5, 0.4), (float("nan"), 0.5), (0.1, float("nan"))])
def test_an_interval_has_its_ends_in_order(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="interval: expected low <= high"):
        Interval(low, high, 10)
    Interval(0.5, 0.5, 1)


def _all_matchings(allowed: Sequence[Sequence[bool]]) -> list[tuple[tuple[int, int], ...]]:
    rows, columns = len(allowed), len(allowed[0]) if allowed else 0
    pairs = [(i, j) for i in range(rows) for j in range(columns) if allowed[i][j]]
    return [
        some
        for size in range(min(rows, columns) + 1)
        for some in itertools.combinations(pairs, size)
        if len({i for i, _ in some}) == len({j for _, j in some}) == size
    ]


@_QUICK
@given(
    st.integers(1, 4), st.integers(1, 3), st.integers(0, 10_000), st.sampled_from([0.0, 0.3, 0.5, 0.9]), st.booleans()
)
def test_no_matching_is_better_than_the_one_taken(rows: int, columns: int, seed: int, bar: float, told: bool) -> None:
    rng = np.random.default_rng(seed)
    iou = rng.integers(0, 11, (rows, columns)) / 10.0
    right = rng.random((rows, columns)) < 0.4 if told else None

    def merit(pairs: Sequence[tuple[int, int]]) -> tuple[int, int, float]:
        good = 0 if right is None else sum(bool(right[pair]) for pair in pairs)
        return good, len(pairs), round(sum(float(iou[pair]) for pair in pairs), 9)

    found = match_matrix(iou, bar, right)
    assert merit(found) == max(merit(some) for some in _all_matchings((iou >= bar).tolist()))
    assert list(found) == sorted(found)
    assert all(iou[pair] >= bar for pair in found)


@_QUICK
@given(st.lists(st.tuples(_BOX, st.sampled_from("ab"), st.floats(0, 1, width=16)), max_size=4), st.randoms())
def test_the_order_of_boxes_changes_no_pair(found: list[tuple[Box, str, float]], random: Random) -> None:
    predictions = [LabelledBox(*one) for one in found]
    truths = [LabelledBox(box, label) for box, label, _ in found[:3]]
    pairs = match_boxes(predictions, truths, 0.3, "label")
    shuffled = list(predictions)
    random.shuffle(shuffled)
    again = match_boxes(shuffled, truths[::-1], 0.3, "label")

    def named(pairs: Sequence[tuple[int, int]], left: Sequence[LabelledBox], right: Sequence[LabelledBox]) -> list[str]:
        return sorted(repr((left[i], right[j])) for i, j in pairs)

    assert named(pairs, predictions, truths) == named(again, shuffled, truths[::-1])


def test_the_higher_score_wins_between_equal_boxes_and_no_score_is_the_lowest() -> None:
    box = (0, 0, 9, 9)
    truths = [LabelledBox(box, "a")]
    assert match_boxes([LabelledBox(box, "a", 0.2), LabelledBox(box, "b", 0.9)], truths) == ((1, 0),)
    assert match_boxes([LabelledBox(box, "a"), LabelledBox(box, "b", -1.0)], truths) == ((1, 0),)
    assert match_boxes([LabelledBox(box, "b", 0.9), LabelledBox(box, "a", 0.2)], truths, matching="label") == ((1, 0),)
    assert match_boxes([], truths) == match_boxes([LabelledBox(box, "a")], []) == ()


def test_counts_of_scenes_add_up_and_give_rates() -> None:
    one, other = FragmentCounts(2, 1, 1, 3, 5, 1), FragmentCounts(1, 0, 0, 0, 5, 0)
    whole = add_fragments([one, other])
    assert astuple(whole) == (3, 1, 1, 3, 10, 1)
    assert add_fragments([]) == FragmentCounts()
    found = whole.as_json()
    assert found["mask_recall"] == found["only_pieces"] == Rate(1, 3).as_json()
    assert found["over_merged"] == Rate(1, 10).as_json()
    assert whole.fragments_per_object == pytest.approx(1.0)
    pieces = found["fragments_per_object"]
    assert (pieces["count"], pieces["total"], pieces["value"]) == (3, 3, 1.0)
    assert (pieces["low"], pieces["high"]) == pytest.approx(tuple(end / 3 for end in poisson_interval(3)))
    assert FragmentCounts().fragments_per_object is None
    assert FragmentCounts().as_json()["fragments_per_object"] is None
