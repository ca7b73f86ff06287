"""Scene accuracy, functional and stateful, against a loop that shares no code with them."""

import json
import pickle
from collections import Counter
from itertools import permutations
from pathlib import Path
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import distributed, multiprocessing

from naruto_vision.metrics.report import format_rate, report_table, table_from_json
from naruto_vision.metrics.scene import SceneReport, add_counts, count_scene
from naruto_vision.metrics.scene_accuracy import SceneAccuracy
from naruto_vision.records import LabelledBox

Scene = tuple[list[LabelledBox], list[LabelledBox]]


def overlap(one: LabelledBox, other: LabelledBox) -> float:
    pixels = [{(x, y) for x in range(b[0], b[2] + 1) for y in range(b[1], b[3] + 1)} for b in (one.box, other.box)]
    return len(pixels[0] & pixels[1]) / len(pixels[0] | pixels[1])


def oracle(scenes: list[Scene]) -> dict[str, tuple[int, int]]:
    """Count by trying every assignment; scores differ, so that the best assignment is the only one."""
    count: Counter[str] = Counter()
    for guesses, truths in scenes:
        slots = [*range(len(guesses)), *[None] * len(truths)]
        best: tuple[int, float, int] = (0, 0.0, 0)
        for chosen in set(permutations(slots, len(truths))):
            pairs = [(guesses[g], t) for g, t in zip(chosen, truths, strict=True) if g is not None]
            if any(overlap(g, t) < 0.5 for g, t in pairs):
                continue
            total = sum(overlap(g, t) for g, t in pairs)
            best = max(best, (len(pairs), total, sum(g.label == t.label for g, t in pairs)))
        count["matched"] += best[0]
        count["right"] += best[2]
        count["objects"] += len(truths)
        count["seen"] += len(truths) if guesses else 0
        count["guesses"] += len(guesses)
    return {
        "object_accuracy": (count["right"], count["objects"]),
        "recall": (count["matched"], count["objects"]),
        "reference_recall": (count["matched"], count["seen"]),
        "class_given_matched": (count["right"], count["matched"]),
        "precision": (count["right"], count["guesses"]),
    }


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    """A scene of up to four objects, far enough apart that each guess can mean only one."""
    labels = st.sampled_from(["ayame", "kenta", "日向", "x\u2028y"])
    truths = [LabelledBox((20 * i, 0, 20 * i + 9, 9), draw(labels)) for i in range(draw(st.integers(0, 4)))]
    guesses = []
    for number in range(draw(st.integers(0, 4))):
        x = 20 * draw(st.integers(0, 3))
        shift = number + draw(st.integers(0, 1)) * 8  # guesses at one object overlap it differently
        guesses.append(LabelledBox((x + shift, 0, x + shift + 9, 9), draw(labels), 0.1 * number))
    return guesses, truths


def shown(report: SceneReport) -> dict[str, tuple[int, int]]:
    return {name: (rate.count, rate.total) for name, rate in report.rates().items()}


def measured(several: list[Scene]) -> SceneReport:
    return SceneReport(add_counts(count_scene(*scene) for scene in several))


@settings(max_examples=60, deadline=None)
@given(st.lists(scenes(), max_size=3))
def test_functional_equals_brute_force(several: list[Scene]) -> None:
    report = measured(several)
    assert shown(report) == oracle(several)
    truths = Counter(truth.label for _, objects in several for truth in objects)
    assert {label: rate.total for label, rate in report.per_class.items()} == dict(sorted(truths.items()))
    assert sum(rate.count for rate in report.per_class.values()) == report.object_accuracy.count


@settings(max_examples=40, deadline=None)
@given(st.lists(scenes(), max_size=6), st.integers(1, 4), st.randoms(use_true_random=False))
def test_merged_ranks_equal_one_process(several: list[Scene], ranks: int, random: Random) -> None:
    metrics = [SceneAccuracy() for _ in range(ranks)]
    for scene in several:
        metrics[random.randrange(ranks)].update([scene[0]], [scene[1]])
    for metric in metrics[1:]:
        metrics[0].merge_state(metric)
    assert metrics[0].report() == measured(several)


def test_worked_case() -> None:
    truths = [LabelledBox((0, 0, 9, 9), "a"), LabelledBox((20, 0, 29, 9), "b"), LabelledBox((40, 0, 49, 9), "b")]
    guesses = [
        LabelledBox((0, 0, 9, 9), "a", 0.9),  # right
        LabelledBox((20, 0, 29, 9), "a", 0.8),  # found, wrong name
        LabelledBox((60, 0, 69, 9), "b", 0.7),  # nothing there
    ]
    report = measured([(guesses, truths), ([], [LabelledBox((0, 0, 9, 9), "a")])])
    assert shown(report) == {
        "object_accuracy": (1, 4),
        "recall": (2, 4),
        "reference_recall": (2, 3),
        "class_given_matched": (1, 2),
        "precision": (1, 3),
    }
    assert {label: (rate.count, rate.total) for label, rate in report.per_class.items()} == {"a": (1, 2), "b": (0, 2)}
    assert (report.counts.scenes, report.counts.scenes_with_predictions) == (2, 1)


def test_a_second_guess_at_a_found_object_counts_against_precision_only() -> None:
    guess = LabelledBox((0, 0, 9, 9), "a", 0.9)
    report = measured([([guess, guess], [LabelledBox((0, 0, 9, 9), "a")])])
    assert shown(report)["object_accuracy"] == (1, 1)
    assert shown(report)["precision"] == (1, 2)


def test_no_scenes_give_null_and_not_nan() -> None:
    metric = SceneAccuracy()
    metric.update([], [])
    assert json.loads(json.dumps(metric.report().as_json(), allow_nan=False))["object_accuracy"]["value"] is None
    assert metric.compute()["precision"].isnan()


def test_a_scene_that_two_ranks_saw_counts_once() -> None:
    scene = [LabelledBox((0, 0, 9, 9), "a", 0.9)], [LabelledBox((0, 0, 9, 9), "a")]
    metric = SceneAccuracy()
    metric.update([scene[0], scene[0]], [scene[1], scene[1]], ["one.png", "two.png"])
    metric.update([scene[0]], [scene[1]], ["one.png"])
    assert (metric.report().counts.scenes, metric.report().object_accuracy.total) == (2, 2)


def test_state_survives_pickling_and_reset_forgets() -> None:
    metric = SceneAccuracy()
    metric.update([[]], [[LabelledBox((0, 0, 9, 9), "a")]])
    assert pickle.loads(pickle.dumps(metric)).report() == metric.report()  # noqa: S301 - our own bytes
    metric.reset()
    assert metric.report().counts.scenes == 0
    assert metric.records[0].dtype == torch.uint8


def test_forward_gives_the_batch_and_keeps_the_sum() -> None:
    metric = SceneAccuracy()
    truth = LabelledBox((0, 0, 9, 9), "a")
    assert metric([[truth]], [[truth]])["object_accuracy"] == 1.0
    assert metric([[]], [[truth]])["object_accuracy"] == 0.0
    assert metric.report().object_accuracy.count == 1
    assert metric.compute()["object_accuracy"] == 0.5


def test_a_higher_bar_finds_less() -> None:
    scene = [LabelledBox((0, 0, 9, 7), "a", 0.9)], [LabelledBox((0, 0, 9, 9), "a")]
    found = []
    for bar in (0.5, 0.9):
        metric = SceneAccuracy(iou_match=bar)
        metric.update([scene[0]], [scene[1]])
        found.append((metric.report().iou_match, metric.report().recall.count))
    assert found == [(0.5, 1), (0.9, 0)]


def test_senseless_input_is_refused() -> None:
    with pytest.raises(ValueError, match="iou_match"):
        SceneAccuracy(iou_match=1.5)
    with pytest.raises(ValueError, match="1 predicted scenes, 2 true ones"):
        SceneAccuracy().update([[]], [[], []])
    with pytest.raises(ValueError, match="3 names"):
        SceneAccuracy().update([[]], [[]], ["a", "b", "c"])


def rank_scenes(rank: int) -> list[Scene]:
    """Uneven work: rank 0 sees nothing, rank 1 three scenes with a class of its own."""
    truth = LabelledBox((0, 0, 9, 9), "only here")
    return [] if rank == 0 else [([truth], [truth]), ([], [truth]), ([truth], [])]


def run_rank(rank: int, world: int, folder: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    metric = SceneAccuracy()
    for guesses, truths in rank_scenes(rank):
        metric.update([guesses], [truths])
    record = {"report": metric.report().as_json(), "logged": float(metric.compute()["object_accuracy"])}
    assert metric.counts().scenes == len(rank_scenes(rank))  # gathering leaves the rank's own state alone
    (Path(folder) / f"{rank}.json").write_text(json.dumps(record), encoding="utf-8")
    distributed.destroy_process_group()


# Forked processes start at once; each spawned one imports torch and torchmetrics anew, ten seconds a process.
@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_two_processes_one_of_them_empty(tmp_path: Path, start: str) -> None:
    multiprocessing.start_processes(run_rank, args=(2, str(tmp_path)), nprocs=2, start_method=start)
    expected = measured([scene for rank in range(2) for scene in rank_scenes(rank)])
    for rank in range(2):
        record = json.loads((tmp_path / f"{rank}.json").read_text(encoding="utf-8"))
        assert record["report"] == json.loads(json.dumps(expected.as_json()))
        assert record["logged"] == expected.object_accuracy.value


def test_table_shows_every_figure_with_its_counts() -> None:
    truth = LabelledBox((0, 0, 9, 9), "ayame")
    report = measured([([truth], [truth]), ([], [truth])])
    table = report_table(report, title="here")
    cells = [list(column.cells) for column in table.columns]
    assert len(cells[0]) == 9  # five rates, two of names, F1, one class
    assert cells[0][-1] == "  ayame"
    assert cells[1][0] == format_rate(report.object_accuracy)
    assert table.title == "here"
    assert "2 scenes, 1 without predictions" in str(table.caption)
    assert len(table.columns) == 2  # a third one only where scenes were drawn anew
    again = table_from_json(json.loads(json.dumps({**report.as_json(), "shown": {}})))
    assert [list(column.cells) for column in again.columns] == cells


def test_rates_are_written_with_interval() -> None:
    rate = measured([([], [LabelledBox((0, 0, 9, 9), "a")])])
    assert format_rate(rate.object_accuracy) == "0/1  0.000 [0.000, 0.793]"
    assert format_rate(rate.precision) == "0/0  -"


def test_unknown_claims_nothing_unless_the_truth_says_unknown() -> None:
    here, there, nowhere = (0, 0, 9, 9), (20, 0, 29, 9), (40, 0, 49, 9)
    guesses = [LabelledBox(here, "a", 0.9), LabelledBox(there, "unknown", 0.4), LabelledBox(nowhere, "unknown", 0.3)]
    counts = count_scene(guesses, [LabelledBox(here, "a"), LabelledBox(there, "b")])
    assert (counts.right, counts.predictions, counts.matched) == (1, 1, 2)
    counts = count_scene(guesses, [LabelledBox(here, "a"), LabelledBox(there, "unknown")])
    assert (counts.right, counts.predictions) == (2, 2)
