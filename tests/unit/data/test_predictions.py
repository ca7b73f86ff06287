"""Folders of predicted scenes: which file is whose, and what is set aside."""

import json
from pathlib import Path
from typing import Any

import pytest

from naruto_vision.data.ground_truth import read_gt, read_prediction_folder, read_predictions, rename_labels
from naruto_vision.errors import FormatError, InputError, MissingPathError
from naruto_vision.records import MAX_BOXES, LabelledBox

GOOD = {"bbox": [0, 0, 9, 9], "label": "a", "score": 0.5}


def put(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")


def test_gt_json_maps_scenes_to_lists_of_bbox_and_label(tmp_path: Path) -> None:
    put(tmp_path / "gt.json", {"sub/a.jpg": [{"bbox": [1, 2, 3, 4], "label": "Koba"}], "b.jpg": []})
    assert read_gt(tmp_path / "gt.json") == {"sub/a.jpg": (LabelledBox((1, 2, 3, 4), "Koba"),), "b.jpg": ()}
    put(tmp_path / "gt.json", {"a.jpg": [{"box": [1, 2, 3, 4], "label": "Koba"}]})
    with pytest.raises(FormatError, match=r"gt\.json: expected in scene 'a\.jpg'\[0\] an object with 'bbox'"):
        read_gt(tmp_path / "gt.json")


def test_eval_or_overlay_files_are_read(tmp_path: Path) -> None:
    put(tmp_path / "a.json", {"scene": "a.jpg", "preds": [GOOD, GOOD]})
    put(tmp_path / "a_overlay.json", {"scene": "a.jpg", "preds": [{**GOOD, "label": "unknown"}]})
    assert len(read_prediction_folder(tmp_path, ["a.jpg"]).scenes["a.jpg"]) == 2
    (shown,) = read_prediction_folder(tmp_path, ["a.jpg"], overlay=True).scenes["a.jpg"]
    assert shown == LabelledBox((0, 0, 9, 9), "unknown", 0.5)


def test_the_folder_of_predict_and_its_json_folder_are_the_same(tmp_path: Path) -> None:
    put(tmp_path / "run.json", {})
    put(tmp_path / "json" / "sub" / "a.json", {"preds": [GOOD]})
    for folder in (tmp_path, tmp_path / "json"):
        found = read_prediction_folder(folder, ["sub/a.jpg"])
        assert found.scenes == {"sub/a.jpg": (LabelledBox((0, 0, 9, 9), "a", 0.5),)}
        assert (found.missing, found.unknown) == ((), ())


def test_missing_and_superfluous_files_are_named(tmp_path: Path) -> None:
    for name in ("a.json", "other.json", "sub/more.json", "other_overlay.json"):
        put(tmp_path / name, {"preds": []})
    found = read_prediction_folder(tmp_path, ["a.jpg", "b.jpg"])
    assert found.scenes == {"a.jpg": ()}
    assert (found.missing, found.unknown) == (("b.jpg",), ("other.json", "sub/more.json"))


def test_scenes_that_share_a_stem_keep_to_their_own_file(tmp_path: Path) -> None:
    scenes = ["a.jpg", "a.png"]
    put(tmp_path / "a.json", {"scene": "a.png", "preds": [GOOD]})
    found = read_prediction_folder(tmp_path, scenes)
    assert (list(found.scenes), found.quarantine.quarantined) == (["a.png"], 1)
    put(tmp_path / "a.jpg.json", {"scene": "a.jpg", "preds": []})
    found = read_prediction_folder(tmp_path, scenes)
    assert (found.scenes["a.jpg"], len(found.scenes["a.png"]), found.quarantine.quarantined) == ((), 1, 0)


def test_a_scene_whose_name_ends_like_an_overlay_is_a_scene(tmp_path: Path) -> None:
    put(tmp_path / "x_overlay.json", {"preds": [GOOD]})
    assert len(read_prediction_folder(tmp_path, ["x_overlay.png"]).scenes["x_overlay.png"]) == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{\n 3", "not JSON (Expecting property name enclosed in double quotes: line 2 column 2)"),
        ('{"preds": [], "preds": []}', "JSON that cannot be used ('preds' 2 times in one object)"),
        ("[" * 100_000, "not JSON (maximum recursion depth"),
        ("[]", "expected an object, found []"),
        ('{"preds": {}}', "expected in preds a list, found {}"),
        ('{"scene": "b.jpg", "preds": []}', "of scene 'a.jpg', found those of 'b.jpg'"),
        ('{"scene": 3, "preds": []}', "found those of 3"),
        (json.dumps({"preds": [GOOD] * (MAX_BOXES + 1)}), f"expected in preds a list of length <= {MAX_BOXES}"),
        ('{"preds": [3]}', "in preds[0] an object, found 3"),
        ('{"preds": [{"bbox": [0, 0, 9.5, 9], "label": "a"}]}', "four whole numbers"),
        (
            '{"preds": [{"bbox": [0, 0, 9, 9], "label": "a", "score": "high"}]}',
            "in preds[0].score a number, found 'high'",
        ),
        ('{"preds": [{"bbox": [0, 0, 9, 9], "label": "a", "score": NaN}]}', "'score' that is a finite number"),
    ],
)
def test_a_file_that_cannot_be_used_is_set_aside(tmp_path: Path, text: str, reason: str) -> None:
    put(tmp_path / "a.json", text)
    put(tmp_path / "ok.json", {"preds": []})
    found = read_prediction_folder(tmp_path, ["a.jpg", "ok.jpg"])
    assert list(found.scenes) == ["ok.jpg"]
    assert found.quarantine.counts() == {"seen": 2, "ok": 1, "quarantined": 1}
    assert reason in found.quarantine.rows[0].reason
    with pytest.raises(InputError, match=r"a\.json: "):
        read_prediction_folder(tmp_path, ["a.jpg"])


def test_scores_and_scene_names_may_be_absent(tmp_path: Path) -> None:
    put(tmp_path / "a.json", {"preds": [{"bbox": [0, 0, 9, 9], "label": " a ", "more": 1}]})
    assert read_predictions(tmp_path / "a.json", "a.jpg") == (LabelledBox((0, 0, 9, 9), "a", None),)


def test_nothing_to_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(MissingPathError, match="no such folder of predictions"):
        read_prediction_folder(tmp_path / "gone", ["a.jpg"])
    put(tmp_path / "b.json", {"preds": []})
    with pytest.raises(MissingPathError, match=r"JSON for any of 1 scenes; a\.jpg has none"):
        read_prediction_folder(tmp_path, ["a.jpg"])
    with pytest.raises(MissingPathError, match="overlay JSON"):
        read_prediction_folder(tmp_path, ["b.jpg"], overlay=True)


def test_labels_are_mended_once() -> None:
    box = LabelledBox((0, 0, 1, 1), "Gara", 0.5)
    swapped = {"Gara": "Gaara", "Gaara": "Gara"}
    assert rename_labels({"a": [box]}, swapped)["a"] == (LabelledBox((0, 0, 1, 1), "Gaara", 0.5),)
    assert rename_labels({"a": [box]}, {})["a"] == (box,)
