"""Who is in a scene, and matching of boxes of which one is mostly inside the other."""

import json
from pathlib import Path

import pytest

from naruto_vision.cli.main import main
from naruto_vision.metrics.evaluation import evaluate_scenes
from naruto_vision.metrics.scene import SceneReport, add_counts, count_scene, match_boxes
from naruto_vision.metrics.scene_accuracy import SceneAccuracy
from naruto_vision.records import LabelledBox

FACE, FIGURE, AWAY = (20, 10, 29, 19), (10, 5, 49, 95), (60, 60, 89, 89)


def boxes(*found: tuple[tuple[int, int, int, int], str]) -> list[LabelledBox]:
    return [LabelledBox(box, label, 0.5) for box, label in found]


@pytest.mark.parametrize(
    ("given", "there", "counts"),
    [
        ([(FIGURE, "a")], [(FACE, "a")], (1, 1, 1)),  # wherever it is
        ([(FIGURE, "a"), (AWAY, "a")], [(FACE, "a")], (1, 1, 1)),
        ([(FIGURE, "b"), (AWAY, "unknown")], [(FACE, "a"), (AWAY, "unknown")], (0, 1, 1)),
        ([(FIGURE, "b"), (AWAY, "a")], [(FACE, "a"), (AWAY, "c")], (1, 2, 2)),
        ([], [(FACE, "a")], (0, 0, 1)),
        ([(AWAY, "a")], [], (0, 1, 0)),
    ],
)
def test_names_are_compared_as_sets(given: list, there: list, counts: tuple[int, int, int]) -> None:  # type: ignore[type-arg]  # pairs
    found = count_scene(boxes(*given), boxes(*there))
    assert (found.names_right, found.names_given, found.names_there) == counts
    metric = SceneAccuracy()
    metric.update([boxes(*given)], [boxes(*there)])
    report = metric.report()
    assert (report.names_precision.count, report.names_precision.total) == counts[:2]
    assert report.names_recall.total == counts[2]


def test_names_of_several_scenes_add_up_with_intervals() -> None:
    one = count_scene(boxes((FACE, "a")), boxes((FACE, "a"), (AWAY, "b")))
    report = SceneReport(add_counts([one, one, count_scene(boxes((AWAY, "b")), boxes((FACE, "a")))]))
    document = report.as_json()
    assert (document["names_precision"]["count"], document["names_precision"]["total"]) == (2, 3)
    assert (document["names_recall"]["count"], document["names_recall"]["total"]) == (2, 5)
    assert document["names_recall"]["low"] < 0.4 < document["names_recall"]["high"]


def test_containment_matches_one_to_one_in_both_directions() -> None:
    assert match_boxes(boxes((FIGURE, "a")), boxes((FACE, "a"))) == ()
    assert match_boxes(boxes((FIGURE, "a")), boxes((FACE, "a")), match="contains") == ((0, 0),)
    assert match_boxes(boxes((FACE, "a")), boxes((FIGURE, "a")), match="contains") == ((0, 0),)
    two = boxes((FACE, "a"), ((32, 10, 41, 19), "b"))
    assert len(match_boxes(boxes((FIGURE, "a")), two, match="contains")) == 1
    assert match_boxes(boxes((FIGURE, "a"), (FACE, "b")), boxes((FACE, "b")), match="contains") == (
        (1, 0),
    )  # larger IoU
    assert match_boxes(boxes(((26, 10, 49, 19), "a")), boxes((FACE, "a")), match="contains") == ()  # 0.4 of it


def test_an_evaluation_by_containment_says_so_and_its_reasons_agree() -> None:
    truth = {"s.png": boxes((FACE, "a"), (AWAY, "b"))}
    found = {"s.png": boxes((FIGURE, "a"), ((20, 10, 45, 50), "a"))}
    evaluation = evaluate_scenes(truth, found, match="contains")
    assert evaluation.report.object_accuracy.count == 1
    assert evaluation.reasons.objects["right"] == evaluation.reasons.predictions["right"] == 1
    assert evaluation.reasons.predictions["duplicate"] == 1
    assert "mostly inside" in evaluation.report.as_json()["rule"]
    assert evaluate_scenes(truth, found).report.object_accuracy.count == 0


def test_the_command_matches_by_containment_and_takes_names_from_what_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "out" / "json"
    folder.mkdir(parents=True)
    pred = {"bbox": FIGURE, "label": "a", "score": 0.5}
    other = {"bbox": AWAY, "label": "b", "score": 0.1}
    (folder / "s.json").write_text(json.dumps({"scene": "s.png", "preds": [pred, other]}))
    shown = {"scene": "s.png", "preds": [pred, {**other, "label": "unknown"}]}
    (folder / "s_overlay.json").write_text(json.dumps(shown))
    (tmp_path / "gt.json").write_text(json.dumps({"s.png": [{"bbox": FACE, "label": "a"}]}))
    line = ["evaluate", "--gt", str(tmp_path / "gt.json"), "--preds-dir", str(tmp_path / "out"), "--bootstrap", "0"]
    results = {}
    for match in ("iou", "contains"):
        assert main([*line, "--match", match, "--json-out", str(tmp_path / "r.json")]) == 0
        results[match] = json.loads((tmp_path / "r.json").read_text())
    assert "who is there" in capsys.readouterr().out
    assert [results[match]["object_accuracy"]["count"] for match in ("iou", "contains")] == [0, 1]
    assert [results[match]["names_precision"]["total"] for match in ("iou", "contains")] == [1, 1]
    (folder / "s_overlay.json").unlink()  # of another program: all of its boxes are what it shows
    assert main([*line, "--json-out", str(tmp_path / "r.json")]) == 0
    assert json.loads((tmp_path / "r.json").read_text())["names_precision"]["total"] == 2
