"""Thresholds against trying every cut."""

import json
from random import Random

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naruto_vision.gallery.thresholds import Thresholds, best_threshold, calibrate_thresholds

judged = st.lists(
    st.tuples(st.sampled_from([-0.5, 0.1, 0.2, 0.3]) | st.floats(-1, 1), st.booleans(), st.sampled_from("ab")),
    min_size=2,
    max_size=30,
).filter(lambda rows: len({row[1] for row in rows}) == 2)


def f1(rows: list[tuple[float, bool, str]], bar: float) -> float:
    kept = [good for score, good, _ in rows if score >= bar]
    hits = sum(kept)
    precision, recall = hits / max(1, len(kept)), hits / sum(good for _, good, _ in rows)
    return 2 * precision * recall / (precision + recall) if hits else 0.0


@settings(max_examples=40, deadline=None)
@given(judged)
def test_no_cut_is_better(rows: list[tuple[float, bool, str]]) -> None:
    scores, right = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    found = f1(rows, best_threshold(scores, right))
    assert found == pytest.approx(max(f1(rows, bar) for bar in scores), abs=1e-12)


def test_the_cut_lies_in_the_middle_of_the_gap() -> None:
    found = calibrate_thresholds([0.9, 0.8, 0.4, 0.2], [True, True, False, False], list("aaab"))
    assert found.default == pytest.approx(0.6)
    assert found.classes == {}
    assert found.counts[""] == {
        "right": 2,
        "wrong": 2,
        "right_kept": 2,
        "wrong_kept": 0,
        "coverage": 1.0,
        "false_accept": 0.0,
    }
    assert found.rule == (
        "precision >= 0.9 on names of validation scenes; keeps 2 of 2 right names, lets 0 of 2 wrong ones through"
    )


def test_a_score_below_all_of_validation_is_not_trusted() -> None:
    found = calibrate_thresholds([0.7, 0.8, 0.9], [True, True, False], list("aaa"))
    assert found.default == 0.7


def test_a_class_with_enough_evidence_gets_its_own() -> None:
    scores = [0.9] * 20 + [0.7] * 20 + [0.5] * 20 + [0.1] * 20
    right = [True] * 20 + [False] * 20 + [True] * 20 + [False] * 20
    labels = ["strict"] * 40 + ["easy"] * 40
    found = calibrate_thresholds(scores, right, labels)
    assert dict(found.classes) == {"easy": pytest.approx(0.3), "strict": pytest.approx(0.8)}
    assert found.threshold("strict") == pytest.approx(0.8)
    assert found.threshold("somebody else") == found.default
    assert "keeps 40 of 40 right names, lets 0 of 40 wrong ones through" in found.rule  # by these, not by the default
    assert (found.counts[""]["right_kept"], found.counts[""]["wrong_kept"]) == (40, 0)
    fewer = calibrate_thresholds(scores[1:], right[1:], labels[1:])
    assert set(fewer.classes) == {"easy"}


@pytest.mark.parametrize("right", [[], [True, True], [False, False]])
def test_without_evidence_everything_is_known_and_it_is_said(right: list[bool]) -> None:
    found = calibrate_thresholds([0.5] * len(right), right, ["a"] * len(right))
    assert found.threshold("a") is None
    assert found.as_json()["default"] is None
    assert "every region counts as known" in found.rule
    assert "every region counts as known" in Thresholds().rule


@settings(max_examples=40, deadline=None)
@given(judged, st.randoms(use_true_random=False))
def test_order_changes_nothing_and_json_keeps_everything(rows: list[tuple[float, bool, str]], random: Random) -> None:
    found = calibrate_thresholds(*map(list, zip(*rows, strict=True)), min_each=1)
    mixed = list(rows)
    random.shuffle(mixed)
    assert calibrate_thresholds(*map(list, zip(*mixed, strict=True)), min_each=1) == found
    assert msgspec.convert(json.loads(json.dumps(found.as_json(), allow_nan=False)), Thresholds) == found


def test_neighbouring_floats_are_told_apart() -> None:
    low = 0.5
    high = float(np.nextafter(low, 1.0))
    assert best_threshold(np.array([low, high]), np.array([False, True])) == high


@pytest.mark.parametrize(
    "record",
    [
        None,
        [],
        {"rule": 1, "default": None, "classes": {}, "counts": {}},
        {"rule": "", "default": "0.5", "classes": {}, "counts": {}},
        {"rule": "", "default": True, "classes": {}, "counts": {}},
        {"rule": "", "default": None, "classes": {"a": None}, "counts": {}},
        {"rule": "", "default": None, "classes": {}, "counts": {"a": 1}},
        {"rule": "", "default": float("inf"), "classes": {}, "counts": {}},
    ],
)
def test_other_json_is_refused(record: object) -> None:
    with pytest.raises(ValueError, match="xpected"):
        msgspec.convert(record, Thresholds)
