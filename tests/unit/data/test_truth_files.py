"""Ground truth, predictions, CSV dialects and splits: what is written reads back, what is odd is told by its place."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naruto_vision.data.ground_truth import (
    read_gt,
    read_prediction_folder,
    rename_labels,
)
from naruto_vision.data.readers import (
    class_folder_names,
    find_split,
    is_positive,
    read_class_folders,
    read_classes,
    read_present,
    read_roboflow,
    read_splits,
)
from naruto_vision.data.tables import UNLABELLED, FolderFiles, ReadRules, Split
from naruto_vision.errors import FormatError, InputError, MissingPathError
from naruto_vision.export.writers import write_gt
from naruto_vision.io.csv_files import read_csv
from naruto_vision.io.images import write_image
from naruto_vision.io.names import refusal
from naruto_vision.io.typed_json import convert_json, read_json
from naruto_vision.records import LabelledBox

_QUICK = settings(max_examples=40, deadline=None, derandomize=True)
_BOX = st.tuples(st.integers(0, 99), st.integers(0, 99), st.integers(0, 99), st.integers(0, 99)).map(
    lambda v: (v[0], v[1], v[0] + v[2], v[1] + v[3])
)
_LABEL = st.text('abナé "\\,', min_size=1, max_size=5).filter(lambda text: text == text.strip())
_SCENE = st.text("abcé", min_size=1, max_size=3).map(lambda name: f"{name}.png")


@settings(_QUICK, max_examples=12)  # each is flushed to the disk
@given(st.dictionaries(_SCENE, st.lists(st.builds(LabelledBox, _BOX, _LABEL), max_size=3), max_size=4))
def test_any_ground_truth_reads_back(
    tmp_path_factory: pytest.TempPathFactory, truth: dict[str, list[LabelledBox]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "any" / "gt.json"
    write_gt(path, truth.items())
    found = read_gt(path)
    assert list(found) == list(truth)
    assert {scene: list(items) for scene, items in found.items()} == truth
    before = path.read_bytes()
    write_gt(path, found.items())
    assert path.read_bytes() == before


def test_repeated_keys_are_named_with_their_number(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"a": 1, "b": {"b": 1, "c": 2, "b": 3}}')
    with pytest.raises(FormatError, match=r"x\.json: JSON that cannot be used \('b' 2 times in one object\)"):
        read_json(tmp_path / "x.json", dict[str, int])


@pytest.mark.parametrize("box", [[0, 0, 0, 0], [1.0, 2.0, 3.0, 4.0], [0, 0, 10**12, 5]])
def test_corners_may_be_whole_numbers_of_any_kind(tmp_path: Path, box: list[float]) -> None:
    (tmp_path / "gt.json").write_text(json.dumps({"a": [{"bbox": box, "label": " a ", "extra": None}]}))
    (found,) = read_gt(tmp_path / "gt.json")["a"]
    assert found == LabelledBox((int(box[0]), int(box[1]), int(box[2]), int(box[3])), "a")
    assert all(type(side) is int for side in found.box)


def test_what_does_not_fit_is_told_with_file_place_expected_and_found() -> None:
    for value, kind, words in (
        ({"a": {"b": ["x"]}}, dict[str, dict[str, list[int]]], "in here[...][...][0] a whole number"),
        ([1, [2, None]], tuple[int, list[int]], "in here[1][1] a whole number, found None"),
        ("x", list[int], "in here a list, found 'x'"),
    ):
        with pytest.raises(FormatError) as caught:
            convert_json(Path("f.json"), value, kind, where="here")
        assert str(caught.value).startswith(f"f.json: expected {words}")


def _put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps({"preds": [{"bbox": [0, 0, 1, 1], "label": name}]}))


@pytest.mark.parametrize(
    ("files", "overlay", "label"),
    [
        (["a/b.json"], False, "a/b.json"),
        (["a/b.png.json"], False, "a/b.png.json"),
        (["a/b.json", "a/b.png.json"], False, "a/b.png.json"),
        (["a/b_overlay.json", "a/b.json"], True, "a/b_overlay.json"),
        (["a/b.png_overlay.json", "a/b_overlay.json"], True, "a/b.png_overlay.json"),
    ],
)
def test_which_file_is_a_scenes(tmp_path: Path, files: list[str], overlay: bool, label: str) -> None:
    _put(tmp_path, *files)
    found = read_prediction_folder(tmp_path, ["a/b.png"], overlay=overlay)
    assert [box.label for box in found.scenes["a/b.png"]] == [label]
    assert found.quarantine.counts() == {"seen": 1, "ok": 1, "quarantined": 0}


def test_files_of_the_other_kind_are_not_superfluous(tmp_path: Path) -> None:
    _put(tmp_path, "a.json", "a_overlay.json", "more.json", "more_overlay.json")
    assert read_prediction_folder(tmp_path, ["a.png"]).unknown == ("more.json",)
    assert read_prediction_folder(tmp_path, ["a.png"], overlay=True).unknown == ("more_overlay.json",)


def test_every_scene_advances_once_and_without_scenes_nothing_is_missing(tmp_path: Path) -> None:
    _put(tmp_path, "a.json")
    steps: list[int] = []
    read_prediction_folder(tmp_path, ["a.png", "b.png", "c.png"], advance=lambda: steps.append(1))
    assert len(steps) == 3
    found = read_prediction_folder(tmp_path, [])
    assert (found.scenes, found.missing, found.unknown) == ({}, (), ("a.json",))


def test_a_link_out_of_the_folder_is_no_prediction(tmp_path: Path) -> None:
    _put(tmp_path, "outside.json", "in/b.json")
    (tmp_path / "in" / "a.json").symlink_to(tmp_path / "outside.json")
    assert read_prediction_folder(tmp_path / "in", ["a.png", "b.png"]).missing == ("a.png",)


def test_mended_labels_keep_boxes_scores_and_order() -> None:
    boxes = [LabelledBox((0, 0, 1, 1), "a", 0.5), LabelledBox((0, 0, 2, 2), "b")]
    assert rename_labels({"s": boxes, "t": []}, {"a": "b", "z": "y"}) == {
        "s": (LabelledBox((0, 0, 1, 1), "b", 0.5), boxes[1]),
        "t": (),
    }


def _csv(path: Path, text: str) -> list[tuple[int, list[str]]]:
    path.write_bytes(text.encode())
    return list(read_csv(path))


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("", []),
        ("\n\n", []),
        (",,\n", []),
        ("a,b\n1,2", [(1, ["a", "b"]), (2, ["1", "2"])]),
        ("a,b\r\n\r\n1,2\r\n", [(1, ["a", "b"]), (3, ["1", "2"])]),
        ("a\r1\r", [(1, ["a"]), (2, ["1"])]),
        ('a, "b, c" , d\n', [(1, ["a", "b, c", "d"])]),
        ('"a\nb",c\n1,2\n', [(2, ["a\nb", "c"]), (3, ["1", "2"])]),
        ("a,\n", [(1, ["a", ""])]),
        ("\ufeffa\n", [(1, ["a"])]),
    ],
)
def test_everyday_dialects_of_csv(tmp_path: Path, text: str, rows: list[tuple[int, list[str]]]) -> None:
    assert _csv(tmp_path / "x.csv", text) == rows


def test_a_file_that_is_no_csv_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingPathError, match=r"x\.csv: no such CSV file"):
        list(read_csv(tmp_path / "x.csv"))
    (tmp_path / "x.csv").write_bytes(b"a\n\xff\n")
    with pytest.raises(
        FormatError, match=r"x\.csv: expected UTF-8 text, found another encoding in line 2; save it as UTF-8"
    ):
        list(read_csv(tmp_path / "x.csv"))
    with pytest.raises(FormatError, match=r"x\.csv: expected comma-separated values, found field larger"):
        _csv(tmp_path / "x.csv", "a" * 200_000)


@pytest.mark.parametrize(
    ("cell", "positive"), [("1e-9", True), ("inf", True), ("-inf", False), ("NaN", False), ("-0", False), ("00", False)]
)
def test_numbers_above_nought_are_positive(cell: str, positive: bool) -> None:
    assert is_positive(cell) == positive


@pytest.mark.parametrize("cell", ["x", "1,0", "true", "1 0"])
def test_cells_of_words_are_refused(cell: str) -> None:
    with pytest.raises(ValueError, match="could not convert"):
        is_positive(cell)


def _image(*paths: Path) -> None:
    for path in paths:
        write_image(path, np.zeros((4, 4, 3), np.uint8))


def test_columns_without_a_name_and_short_rows_are_no_classes(tmp_path: Path) -> None:
    _image(tmp_path / "x.png")
    (tmp_path / "_classes.csv").write_text("filename,a,,b,,\nx.png,1\n")
    table = read_roboflow(tmp_path)
    assert table.classes == ("a", "b")
    assert [(row.path, row.label) for row in table.rows] == [("x.png", "a")]


@pytest.mark.parametrize(
    ("names", "found"),
    [(["b", "a", ".hidden"], ("a", "b")), ([], ()), (["B", "a", "ä"], ("B", "a", "ä"))],
)
def test_class_folders_are_listed_by_name(tmp_path: Path, names: list[str], found: tuple[str, ...]) -> None:
    for name in names:
        (tmp_path / name).mkdir()
    (tmp_path / "file.txt").write_text("no folder")
    assert class_folder_names(tmp_path) == found


def test_loose_images_of_class_folders_are_without_a_class(tmp_path: Path) -> None:
    _image(tmp_path / "a" / "1.png", tmp_path / "loose.png")
    assert read_class_folders(tmp_path).report.discarded_by_positives == {0: 1}
    table = read_class_folders(tmp_path, ReadRules(include_unlabeled=True))
    assert [(row.path, row.label) for row in table.rows] == [("loose.png", UNLABELLED), ("a/1.png", "a")]


def test_of_several_layouts_the_first_is_taken_unless_one_is_asked_for(tmp_path: Path) -> None:
    _image(tmp_path / "train" / "a" / "1.png")
    assert find_split(tmp_path, "train") == ("folders", tmp_path / "train")
    (tmp_path / "train.csv").write_text("path,label\ntrain/a/1.png,a\n")
    assert find_split(tmp_path, "train") == ("manifest", tmp_path / "train.csv")
    (tmp_path / "train" / "_classes.csv").write_text("filename,a\na/1.png,1\n")
    assert find_split(tmp_path, "train") == ("roboflow", tmp_path / "train")
    (tmp_path / "train" / "index.json").write_text("{}")
    assert find_split(tmp_path, "train") == ("shards", tmp_path / "train")
    for reader in ("folders", "manifest", "roboflow"):
        assert len(read_classes(tmp_path, "train", reader)) == 1


@pytest.mark.parametrize(
    ("folder", "split"),
    [("training", "train"), ("val", "valid"), ("validation", "valid"), ("testing", "test"), ("test", "test")],
)
def test_splits_go_by_everyday_names(tmp_path: Path, folder: str, split: Split) -> None:
    _image(tmp_path / folder / "a" / "1.png")
    assert find_split(tmp_path, split) == ("folders", tmp_path / folder)


def test_a_folder_with_any_split_is_not_its_own_training_split(tmp_path: Path) -> None:
    _image(tmp_path / "a" / "1.png")
    assert find_split(tmp_path, "train") == ("folders", tmp_path)
    _image(tmp_path / "test" / "a" / "1.png")
    assert find_split(tmp_path, "train") is None
    with pytest.raises(InputError, match="no class data of split 'train'"):
        read_present(tmp_path)


def test_wanted_labels_order_the_classes_of_every_split(tmp_path: Path) -> None:
    _image(tmp_path / "train" / "a" / "1.png", tmp_path / "train" / "b" / "1.png", tmp_path / "test" / "c" / "1.png")
    rules = ReadRules({"c": "C"}, labels=("C", "a"))
    with pytest.raises(InputError, match="no class z; there are a, b, c"):
        read_present(tmp_path, rules=ReadRules(labels=("a", "z")))
    found = read_present(tmp_path, rules=rules)
    assert {split: table.classes for split, table in found.items()} == {"train": ("C", "a"), "test": ("C", "a")}
    assert [row.label for row in found["train"].rows] == ["a"]


def test_a_valid_split_that_is_there_is_used_and_nothing_held_out(tmp_path: Path) -> None:
    _image(tmp_path / "train" / "a" / "1.png", tmp_path / "valid" / "a" / "2.png")
    found = read_splits(tmp_path, 0.9)
    assert [len(found[split]) for split in ("train", "valid")] == [1, 1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "names no file"),
        ("...", "names no file"),
        ("a\0b", "NUL"),
        ("a\\b", "backslash"),
        ("~", "absolute"),
        ("git+ssh://x", "scheme"),
        ("a/..", "climbs out"),
        ("a/./b", ""),
        ("a//b", ""),
        ("1:2.png", ""),
    ],
)
def test_paths_of_other_peoples_files(text: str, words: str) -> None:
    assert (words in refusal(text)) if words else (refusal(text) == "")


def test_files_are_found_inside_only(tmp_path: Path) -> None:
    base = tmp_path.resolve() / "base"
    _image(base / "sub" / "ü.png", tmp_path / "out.png")
    (base / "away.png").symlink_to(tmp_path / "out.png")
    (base / "near.png").symlink_to(base / "sub" / "ü.png")
    assert FolderFiles(base).path("sub/u\u0308.png") == base / "sub/ü.png"
    assert FolderFiles(base).path("near.png") == base / "near.png"
    for name in ("away.png", "sub", "gone.png", "sub/ü.png/x"):
        assert FolderFiles(base).path(name) is None
