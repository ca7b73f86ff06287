"""Rates, quality, bounds and resampled intervals of judged scenes."""

import csv
import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import bootstrap

from naruto_vision.metrics.evaluation import Evaluation, bootstrap_difference, bootstrap_intervals, evaluate_scenes
from naruto_vision.metrics.report import (
    bounds_table,
    class_csv,
    comparison_table,
    evaluation_document,
    reasons_table,
    verdict_documents,
    verdict_lines,
)
from naruto_vision.metrics.stats import Interval, wilson_interval
from naruto_vision.records import UNKNOWN, Box, LabelledBox

Scenes = dict[str, list[LabelledBox]]


def row(*names: str) -> list[LabelledBox]:
    """Objects of 10 x 10 pixels, side by side."""
    return [LabelledBox((20 * place, 0, 20 * place + 9, 9), name, 0.5) for place, name in enumerate(names)]


def published() -> tuple[Scenes, Scenes]:
    """31 scenes of two objects: 3 scenes have no file, 6 objects are missed, 5 have another's name."""
    truth = {f"{number:02d}.jpg": row("a", "b") for number in range(31)}
    found = {scene: row("a", "b") for scene in list(truth)[:28]}
    for scene in list(found)[:6]:
        found[scene] = row("a")
    for scene in list(found)[6:11]:
        found[scene] = row("a", "c")
    return truth, found


def test_both_recalls_with_their_counts() -> None:
    report = evaluate_scenes(*published()).report
    rates = {name: (rate.count, rate.total) for name, rate in report.rates().items()}
    assert rates == {
        "object_accuracy": (45, 62),
        "recall": (50, 62),
        "reference_recall": (50, 56),
        "class_given_matched": (45, 50),
        "precision": (45, 50),
    }
    values = {name: round(rate.value or 0, 4) for name, rate in report.rates().items()}
    assert (values["reference_recall"], values["recall"]) == (0.8929, 0.8065)
    assert (values["object_accuracy"], values["class_given_matched"]) == (0.7258, 0.9)
    assert {label: (rate.count, rate.total) for label, rate in report.per_class.items()} == {
        "a": (31 - 3, 31),
        "b": (17, 31),
    }


def test_precision_f1_and_panoptic_quality() -> None:
    truth = {"a.png": row("a", "b"), "b.png": row("a")}
    found = {
        "a.png": [
            LabelledBox((0, 0, 9, 9), "a", 0.9),  # right, IoU 1
            LabelledBox((20, 0, 29, 4), "b", 0.8),  # right, IoU 0.5
            LabelledBox((60, 0, 69, 9), "b", 0.7),  # background
            LabelledBox((80, 0, 89, 9), UNKNOWN, 0.1),  # claims nothing
        ]
    }
    evaluation = evaluate_scenes(truth, found)
    assert (evaluation.report.precision.count, evaluation.report.precision.total) == (2, 3)
    assert evaluation.report.f1 == pytest.approx(2 * (2 / 3) * (2 / 3) / (2 / 3 + 2 / 3))
    quality = evaluation.quality
    assert quality.segmentation_quality == pytest.approx(0.75)
    assert quality.panoptic_quality == pytest.approx(1.5 / (2 + 1 / 2 + 1 / 2))
    one, other = 1.0 / (1 + 0 + 1 / 2), 0.5 / (1 + 1 / 2 + 0)
    assert quality.panoptic_by_class == pytest.approx((one + other) / 2)


def test_nothing_measured_gives_none_and_not_zero() -> None:
    evaluation = evaluate_scenes({"a.png": []}, {})
    assert evaluation.report.f1 is None
    assert set(vars(evaluation.quality).values()) == {None}
    assert bootstrap_intervals(evaluation) == bootstrap_intervals(Evaluation(())) == {}
    assert json.loads(json.dumps(evaluation_document(evaluation), allow_nan=False))["f1"] is None
    with pytest.raises(ValueError, match=r"found 1\.5"):
        evaluate_scenes({}, {}, iou_match=1.5)


def test_bounds_tell_what_is_worth_mending() -> None:
    figure: Box = (0, 0, 19, 39)
    truth = {name: [LabelledBox(figure, "a")] for name in ("head", "wrong", "cut", "gone", "right")}
    found = {
        "head": [LabelledBox((5, 0, 14, 9), "a", 0.5)],  # the right name on too small a box
        "wrong": [LabelledBox(figure, "b", 0.5)],
        "cut": [LabelledBox((0, 0, 19, 18), "b", 0.5), LabelledBox((0, 19, 19, 37), "c", 0.5)],
        "gone": [LabelledBox((40, 0, 59, 39), "a", 0.5)],
        "right": [LabelledBox(figure, "a", 0.5)],
    }
    bounds = evaluate_scenes(truth, found).bounds
    assert (bounds.perfect_boxes.count, bounds.perfect_boxes.total) == (2, 5)
    assert (bounds.perfect_names.count, bounds.perfect_merging.count) == (2, 2)


def test_a_perfect_box_serves_one_object() -> None:
    """One region over two figures of one name can become only one of them."""
    evaluation = evaluate_scenes({"a.png": row("a", "a")}, {"a.png": [LabelledBox((0, 0, 29, 9), "a", 0.5)]})
    assert evaluation.bounds.perfect_boxes.count == 1


@st.composite
def boxes(draw: st.DrawFn) -> LabelledBox:
    x, y = draw(st.integers(0, 20)), draw(st.integers(0, 20))
    box = (x, y, x + draw(st.integers(0, 20)), y + draw(st.integers(0, 20)))
    return LabelledBox(box, draw(st.sampled_from(["a", "b", UNKNOWN])), draw(st.floats(0, 1)))


@settings(max_examples=50, deadline=None)
@given(st.lists(boxes(), max_size=5), st.lists(boxes(), max_size=4), st.sampled_from([0.2, 0.5, 0.8]))
def test_no_bound_is_below_what_was_reached(found: list[LabelledBox], truth: list[LabelledBox], bar: float) -> None:
    boxed = evaluate_scenes({"a": truth}, {"a": found}, bar)
    named = evaluate_scenes({"a": truth}, {"a": found}, bar, "label")
    assert boxed.report.object_accuracy.count <= named.report.object_accuracy.count
    for evaluation in (boxed, named):
        right, bounds = evaluation.report.object_accuracy.count, evaluation.bounds
        assert right <= bounds.perfect_boxes.count <= len(truth)
        assert right <= bounds.perfect_names.count == evaluation.report.recall.count
        assert right <= bounds.perfect_merging.count <= len(truth)
        f1, quality = evaluation.report.f1, evaluation.quality
        product = None if f1 is None else f1 * (quality.segmentation_quality or 0.0)
        assert quality.panoptic_quality == (None if product is None else pytest.approx(product))


def clustered() -> Evaluation:
    """20 scenes of ten objects, all right or all missed: 20 facts, not 200."""
    truth = {str(number): row(*"abcdefghij") for number in range(20)}
    return evaluate_scenes(truth, {scene: truth[scene] for scene in list(truth)[:10]})


def test_scenes_that_stand_and_fall_together_widen_the_interval() -> None:
    evaluation = clustered()
    rate, interval = evaluation.report.object_accuracy, bootstrap_intervals(evaluation)["object_accuracy"]
    assert rate.interval is not None
    assert interval.high - interval.low > 2.5 * (rate.interval[1] - rate.interval[0])
    assert interval.low == pytest.approx(0.30, abs=0.06)  # of 20 coins the middle 95 % show 6 to 14 heads
    assert interval.high == pytest.approx(0.70, abs=0.06)


def test_bootstrap_over_scenes_is_that_of_scipy() -> None:
    evaluation = evaluate_scenes(*published())
    pairs = np.array([(scene.counts.right, scene.counts.matched) for scene in evaluation.scenes], dtype=np.float64)

    def ratio(right: NDArray[np.float64], matched: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
        return np.asarray(right.sum(axis=axis) / matched.sum(axis=axis))

    expected = bootstrap(
        tuple(pairs.T), ratio, paired=True, n_resamples=20_000, method="BCa", rng=5
    ).confidence_interval
    interval = bootstrap_intervals(evaluation, 20_000)["class_given_matched"]
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=0.005)
    assert interval.replicates == 20_000


def test_a_rate_without_a_miss_has_the_interval_of_its_count() -> None:
    truth = {str(number): row("a", "b") for number in range(6)}
    intervals = bootstrap_intervals(evaluate_scenes(truth, truth))
    assert intervals["object_accuracy"] == Interval(*wilson_interval(12, 12), 2000)
    nothing = bootstrap_intervals(evaluate_scenes(truth, {}))
    assert nothing["recall"] == Interval(*wilson_interval(0, 12), 2000)


def test_seed_decides_the_intervals() -> None:
    evaluation = evaluate_scenes(*published())
    first = bootstrap_intervals(evaluation, 300, seed=1)
    assert first == bootstrap_intervals(evaluation, 300, seed=1) != bootstrap_intervals(evaluation, 300, seed=2)
    with pytest.raises(ValueError, match="at least 1 replicate"):
        bootstrap_intervals(evaluation, 0)


def test_difference_is_of_the_same_scenes() -> None:
    truth, found = published()
    base = evaluate_scenes(truth, found)
    assert bootstrap_difference(base, base) == Interval(0.0, 0.0, 2000)
    better = bootstrap_difference(base, evaluate_scenes(truth, truth))
    assert better is not None
    assert 0 < better.low < 17 / 62 < better.high
    with pytest.raises(ValueError, match="same scenes"):
        bootstrap_difference(base, clustered())
    assert bootstrap_difference(Evaluation(()), Evaluation(())) is None
    with pytest.raises(ValueError, match="low <= high"):
        Interval(1.0, 0.0, 1)


def test_csv_has_class_correct_total_accuracy() -> None:
    truth = {"a.png": row("b", "b", "b", 'odd, "name"')}
    text = class_csv(evaluation_document(evaluate_scenes(truth, {"a.png": row("b", "b")}), 10))
    assert text.splitlines()[0] == "class,correct,total,accuracy"
    assert list(csv.reader(io.StringIO(text)))[1:] == [
        ["b", "2", "3", "0.666667"],
        ['odd, "name"', "0", "1", "0.000000"],
    ]


def test_document_and_tables_say_the_same() -> None:
    evaluation = evaluate_scenes(*published())
    document = json.loads(json.dumps(evaluation_document(evaluation, 100), allow_nan=False))
    cells = [list(column.cells) for column in reasons_table(document).columns]
    assert cells[0][0] == "  right"
    assert (cells[1][0], cells[1][6], cells[1][-1]) == ("45", "62", "50")
    assert "45/62" in "".join(str(cell) for cell in bounds_table(document).columns[1].cells)
    assert "COCO AP" in list(bounds_table(document | {"average_precision": {"AP": None}}).columns[0].cells)
    lines = verdict_lines(verdict_documents(evaluation))
    assert sum(line.startswith("  object") for line in lines) == 62
    assert "  object b [20, 0, 29, 9]: wrong name as c, IoU 1.000" in lines
    assert comparison_table([]).row_count == 0


def test_every_box_is_in_the_document() -> None:
    found = {"a.png": [*row("a"), LabelledBox((50, 0, 59, 9), "b", 0.25)]}
    (scene,) = verdict_documents(evaluate_scenes({"a.png": row("a", "b")}, found))
    assert scene["objects"][1] == {
        "bbox": [20, 0, 29, 9],
        "label": "b",
        "reason": "missed",
        "answer": None,
        "iou": None,
    }
    assert scene["preds"][1] == {"bbox": [50, 0, 59, 9], "label": "b", "score": 0.25, "reason": "background"}
    assert verdict_lines([scene])[-1] == "  predicted b [50, 0, 59, 9]: background"
