"""Manifests as files: what is written reads back, wherever it lies and whatever the names are."""

import json
import os
from pathlib import Path

import pytest

from naruto_vision.data.readers import (
    is_found_from,
    manifest_base,
    manifest_text,
    read_manifest,
    statistics,
    write_manifests,
)
from naruto_vision.data.tables import ClassTable, ReadRules, Split, TableReport, sorted_rows
from naruto_vision.errors import FormatError, JsonError, MissingPathError

ODD_NAMES = [
    "plain.png",
    "with blank.png",
    "ナルト.png",
    'quo"te.png',
    "com,ma.png",
    "new\nline.png",
    "é/ü.png",
    "#1.png",
]


def _touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def _table(root: Path, pairs: list[tuple[str, str]], classes: tuple[str, ...] = ("b", "a")) -> ClassTable:
    return ClassTable(root, sorted_rows(pairs), classes, TableReport(seen=len(pairs), kept=len(pairs)))


@pytest.mark.parametrize("name", ODD_NAMES)
def test_any_name_and_label_reads_back(tmp_path: Path, name: str) -> None:
    root = _touch(tmp_path / "data", name)
    label = name.removesuffix(".png").replace("/", "-")
    label = label if label == label.strip() else "x"
    table = _table(root, [(name, label)], (label,))
    (tmp_path / "train.csv").write_bytes(manifest_text(table, tmp_path).encode())
    back = read_manifest(tmp_path / "train.csv")
    assert [(row.path, row.label) for row in back.rows] == [(f"data/{name}", label)]


def test_lines_end_with_line_feeds_and_paths_are_relative_to_the_base(tmp_path: Path) -> None:
    table = _table(tmp_path / "set" / "train", [("x/1.png", "a"), ("2.png", "b")])
    assert manifest_text(table, tmp_path) == "path,label\nset/train/x/1.png,a\nset/train/2.png,b\n"
    assert manifest_text(table, tmp_path / "set" / "train") == "path,label\nx/1.png,a\n2.png,b\n"
    assert manifest_text(_table(tmp_path, []), tmp_path) == "path,label\n"


def test_manifests_written_together_read_back_with_all_their_classes(tmp_path: Path) -> None:
    root = _touch(tmp_path / "set", "train/1.png", "train/2.png", "test/3.png")
    tables: dict[Split, ClassTable] = {
        "train": _table(root / "train", [("1.png", "a"), ("2.png", "b")]),
        "test": _table(root / "test", [("3.png", "b")]),
    }
    write_manifests(tmp_path / "out", tables, tmp_path, ("z", "b", "a"), "a note")
    found = {split: read_manifest(tmp_path / "out" / f"{split}.csv") for split in tables}
    assert [row.path for row in found["train"].rows] == ["set/train/1.png", "set/train/2.png"]
    assert found["train"].classes == found["test"].classes == ("z", "b", "a")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "classes.json", "stats_test.json", "stats_train.json", "test.csv", "train.csv",
    ]  # fmt: skip
    assert json.loads((tmp_path / "out" / "stats_test.json").read_text())["note"] == "a note"


def test_writing_again_gives_the_same_bytes(tmp_path: Path) -> None:
    root = _touch(tmp_path / "set", "1.png")
    tables: dict[Split, ClassTable] = {"train": _table(root, [("1.png", "a")])}
    states = []
    for _ in range(2):
        write_manifests(tmp_path / "out", tables, tmp_path, ("a",), "n")
        states.append({file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()})
    assert states[0] == states[1]


def test_statistics_account_for_every_row(tmp_path: Path) -> None:
    report = TableReport(
        seen=9,
        kept=2,
        discarded_by_positives={0: 1, 2: 1},
        missing=("m1", "m2"),
        refused=("'/x' is absolute",),
        duplicates=("d", "e"),
        renamed={"Kobba": "Koba"},
        unlisted=("u",),
    )
    told = statistics(ClassTable(tmp_path, sorted_rows([("p", "a"), ("p", "b"), ("q", "b")]), ("b", "a"), report), "n")
    assert told == {
        "total_rows_seen": 9,
        "total_rows_kept": 2,
        "total_rows_discarded": 7,
        "discarded_by_num_positives": {"0": 1, "2": 1},
        "missing_files": 2,
        "missing": ["m1", "m2"],
        "refused_paths": ["'/x' is absolute"],
        "duplicates": ["d", "e"],
        "renamed": {"Kobba": "Koba"},
        "unlisted_files": 1,
        "kept_per_label": {"b": 2, "a": 1},
        "written_rows": 3,
        "note": "n",
    }
    json.dumps(told)


def test_the_base_is_the_folder_around_the_data_set(tmp_path: Path) -> None:
    tables: dict[Split, ClassTable] = {"train": _table(tmp_path / "set" / "train", [])}
    assert manifest_base(tmp_path / "set", tables) == tmp_path
    assert manifest_base(tmp_path / "x" / ".." / "set", tables) == tmp_path


def test_the_base_of_images_elsewhere_is_what_they_share(tmp_path: Path) -> None:
    tables: dict[Split, ClassTable] = {
        "train": _table(tmp_path / "far" / "a" / "train", []),
        "test": _table(tmp_path / "far" / "a" / "test", []),
    }
    assert manifest_base(tmp_path / "deep" / "set", tables) == tmp_path / "far" / "a"


def test_a_link_keeps_its_name_in_the_base(tmp_path: Path) -> None:
    (tmp_path / "real" / "set").mkdir(parents=True)
    (tmp_path / "near").mkdir()
    (tmp_path / "near" / "set").symlink_to(tmp_path / "real" / "set", target_is_directory=True)
    tables: dict[Split, ClassTable] = {"train": _table(tmp_path / "near" / "set", [])}
    assert manifest_base(tmp_path / "near" / "set", tables) == tmp_path / "near"


def test_manifests_are_found_from_their_folder_the_one_above_and_where_we_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    out = tmp_path / "a" / "b"
    assert is_found_from(out, out)
    assert is_found_from(out, tmp_path / "a")
    assert is_found_from(out, Path())
    assert is_found_from(out, tmp_path / "here" / ".." / "here")
    assert not is_found_from(out, tmp_path)
    assert not is_found_from(out, out / "c")
    (tmp_path / "link").symlink_to(tmp_path / "a", target_is_directory=True)
    assert is_found_from(tmp_path / "link" / "b", tmp_path / "a")  # the same folder under another name


@pytest.mark.parametrize("place", ["", "deep", "deep/er"])
def test_images_are_found_beside_above_and_where_we_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    _touch(tmp_path / "data", "1.png")
    folder = tmp_path / place
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train.csv").write_text("path,label\ndata/1.png,a\n")
    monkeypatch.chdir(tmp_path if place == "deep/er" else "/")
    table = read_manifest(os.path.relpath(folder / "train.csv"))
    assert table.root.resolve() == tmp_path.resolve()
    assert len(table) == 1


def test_one_image_that_is_there_is_enough_to_tell_the_folder(tmp_path: Path) -> None:
    _touch(tmp_path, "there.png")
    (tmp_path / "train.csv").write_text("path,label\ngone.png,a\n/etc/passwd,a\nthere.png,a\n")
    report = read_manifest(tmp_path / "train.csv").report
    assert (report.seen, report.kept, report.missing, len(report.refused)) == (3, 1, ("gone.png",), 1)


def test_a_manifest_of_absent_images_reads_by_name_where_files_are_not_needed(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("path,label\ngone.png,a\n")
    table = read_manifest(tmp_path / "train.csv", rules=ReadRules(need_files=False))
    assert (table.root, [row.path for row in table.rows]) == (tmp_path, ["gone.png"])
    with pytest.raises(MissingPathError, match=rf"gone\.png: no such image of .*train\.csv under {tmp_path}"):
        read_manifest(tmp_path / "train.csv")


def test_a_manifest_without_lines_names_itself(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("path,label\n")
    with pytest.raises(MissingPathError, match=r"train\.csv: no such image"):
        read_manifest(tmp_path / "train.csv")
    with pytest.raises(MissingPathError, match="no such CSV file"):
        read_manifest(tmp_path / "other.csv")


def test_several_labels_of_one_image_follow_the_policy(tmp_path: Path) -> None:
    _touch(tmp_path, "1.png", "2.png")
    (tmp_path / "train.csv").write_text("label,path\nb,1.png\na,1.png\na,2.png\n,2.png\n")
    assert [row.path for row in read_manifest(tmp_path / "train.csv").rows] == ["2.png"]
    everything = read_manifest(tmp_path / "train.csv", rules=ReadRules(policy="all"))
    assert [(row.path, row.label) for row in everything.rows] == [("1.png", "a"), ("2.png", "a"), ("1.png", "b")]
    first = read_manifest(tmp_path / "train.csv", rules=ReadRules(policy="first"))
    assert [(row.path, row.label) for row in first.rows] == [("2.png", "a"), ("1.png", "b")]


def test_a_line_without_a_label_is_a_image_without_one(tmp_path: Path) -> None:
    _touch(tmp_path, "1.png", "2.png")
    (tmp_path / "train.csv").write_text("path,label\n1.png,\n2.png,a\n")
    assert read_manifest(tmp_path / "train.csv").report.discarded_by_positives[0] == 1
    table = read_manifest(tmp_path / "train.csv", rules=ReadRules(include_unlabeled=True))
    assert table.counts() == {"a": 1, "Unlabeled": 1}


def test_more_columns_and_any_case_of_the_header_pass(tmp_path: Path) -> None:
    _touch(tmp_path, "1.png")
    (tmp_path / "train.csv").write_text("id,LABEL,note,Path\n7,a,hm,1.png\n")
    assert [row.label for row in read_manifest(tmp_path / "train.csv").rows] == ["a"]


@pytest.mark.parametrize(
    ("classes", "error", "words"),
    [
        ("{", JsonError, "not JSON"),
        ('{"a": 1}', FormatError, "a list"),
        ('["a", "a"]', FormatError, "a list of different class names"),
        ('["a", 1]', FormatError, r"in \[1\] text, found 1"),
        ('["a", ""]', FormatError, "a list of different class names"),
        ('["z"]', FormatError, r"labels of classes\.json, found a"),
    ],
)
def test_a_wrong_list_of_classes_is_refused_by_name(
    tmp_path: Path, classes: str, error: type[Exception], words: str
) -> None:
    _touch(tmp_path, "1.png")
    (tmp_path / "train.csv").write_text("path,label\n1.png,a\n")
    (tmp_path / "classes.json").write_text(classes)
    with pytest.raises(error, match=words):
        read_manifest(tmp_path / "train.csv")


def test_without_a_list_the_classes_are_in_order_of_their_names(tmp_path: Path) -> None:
    _touch(tmp_path, "1.png", "2.png", "3.png")
    (tmp_path / "train.csv").write_text("path,label\n1.png,c\n2.png,a\n3.png,b\n")
    assert read_manifest(tmp_path / "train.csv").classes == ("a", "b", "c")


def test_labels_that_the_list_lacks_are_named_in_order(tmp_path: Path) -> None:
    _touch(tmp_path, "1.png")
    lines = "".join(f"1.png,{label}\n" for label in ("z", "known", "m", "a"))
    (tmp_path / "train.csv").write_text(f"path,label\n{lines}")
    (tmp_path / "classes.json").write_text('["known"]')
    with pytest.raises(FormatError, match=r"labels of classes\.json, found a, m, z$"):
        read_manifest(tmp_path / "train.csv")
