"""Class data of every layout becomes the same kind of table, and every row is accounted for."""

from pathlib import Path

import numpy as np
import pytest

from naruto_vision.data.readers import (
    find_split,
    is_positive,
    read_class_folders,
    read_classes,
    read_manifest,
    read_present,
    read_roboflow,
    read_splits,
)
from naruto_vision.data.tables import (
    ClassTable,
    FolderFiles,
    ReadRules,
    TableReport,
    hold_out,
    refusal,
    row_groups,
    sorted_rows,
)
from naruto_vision.errors import FormatError, InputError, MissingPathError
from naruto_vision.io.images import write_image


def images(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(folder / name, np.zeros((8, 8, 3), dtype=np.uint8))
    return folder


def split(folder: Path, csv: str, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    images(folder, *names)
    (folder / "_classes.csv").write_bytes(csv.encode())
    return folder


def pairs(table: ClassTable) -> list[tuple[str, str]]:
    return [(row.path, row.label) for row in table.rows]


REAL = (
    "filename, Kobba, Odran, Senka, Unlabeled\n"
    "c.rf.1.png, 0, 1, 0, 0\n"
    "a.rf.2.png, 1, 0, 0, 0\n"
    "b.rf.3.png, 0, 1, 1, 0\n"
    "d.rf.4.png, 0, 0, 0, 1\n"
    "absent.png, 0, 0, 1, 0\n"
    "e.rf.5.png, 0, 0, 1, 0"
)
FILES = ("a.rf.2.png", "b.rf.3.png", "c.rf.1.png", "d.rf.4.png", "e.rf.5.png", "extra.png")


def test_a_real_export_with_all_its_quirks(tmp_path: Path) -> None:
    table = read_roboflow(split(tmp_path / "train", REAL, *FILES), ReadRules({"Kobba": "Koba"}))
    assert table.classes == ("Koba", "Odran", "Senka")
    assert pairs(table) == [("a.rf.2.png", "Koba"), ("c.rf.1.png", "Odran"), ("e.rf.5.png", "Senka")]
    report = table.report
    assert (report.seen, report.kept, report.discarded_by_positives[0]) == (6, 3, 1)
    assert report.discarded_by_positives == {0: 1, 2: 1}
    assert report.missing == ("absent.png",)
    assert report.renamed == {"Kobba": "Koba"}
    assert report.unlisted == ("extra.png",)
    assert "1 without their file" in report.summary()


def test_the_policies(tmp_path: Path) -> None:
    folder = split(tmp_path / "train", REAL, *FILES)
    assert ("b.rf.3.png", "Odran") in pairs(read_roboflow(folder, ReadRules(policy="first")))
    everything = read_roboflow(folder, ReadRules(policy="all"))
    assert {label for path, label in pairs(everything) if path == "b.rf.3.png"} == {"Odran", "Senka"}
    assert everything.report.kept == 4
    assert len(everything) == 5


def test_labels_limit_what_counts_before_the_policy(tmp_path: Path) -> None:
    table = read_roboflow(split(tmp_path / "train", REAL, *FILES), ReadRules(labels=("Senka",)))
    assert pairs(table) == [("b.rf.3.png", "Senka"), ("e.rf.5.png", "Senka")]


@pytest.mark.parametrize("name", ["None", "NA", "null", "nan", "1e5", "TRUE", "Sens-Unique", "名前", "with blank"])
def test_class_names_stay_text(tmp_path: Path, name: str) -> None:
    table = read_roboflow(split(tmp_path, f"filename,{name},b\nx.png,1,0\n", "x.png"))
    assert table.classes == (name, "b")
    assert pairs(table) == [("x.png", name)]


@pytest.mark.parametrize(
    "csv",
    [
        "\ufefffilename,a,b\r\nx.png,1,0\r\n",
        "filename, a, b\n\n  x.png , 1 , nan \n\n",
        '"filename","a","b"\n"x.png","1",""',
        "FileName,a,b\nx.png,1.0\n",
        "a,Unlabeled,filename,b\n1,0,x.png,0\n",
        "filename,UNLABELED,a,b,\nx.png,1,1,0,\n",
    ],
)
def test_dialects(tmp_path: Path, csv: str) -> None:
    table = read_roboflow(split(tmp_path, csv, "x.png"))
    assert table.classes == ("a", "b")
    assert pairs(table) == [("x.png", "a")]


def test_quoted_newlines_and_unicode_forms_name_the_file_on_disk(tmp_path: Path) -> None:
    csv = 'filename,a\n"two\nlines.png",1\nuni-e\u0301.png,1\n'
    table = read_roboflow(split(tmp_path, csv, "two\nlines.png", "uni-\u00e9.png"))
    assert [path for path, _ in pairs(table)] == ["two\nlines.png", "uni-\u00e9.png"]


@pytest.mark.parametrize(
    ("csv", "words"),
    [
        ("", "empty file"),
        ("image,a\nx.png,1\n", "column 'filename'"),
        ("filename,filename,a\nx,x,1\n", "one column 'filename'"),
        ("filename,a,a\nx.png,1,0\n", "'a' twice"),
        ("filename,a\nx.png,yes\n", "line 2, column 'a'"),
        ("filename,a\nx.png,1,1\n", "2 values in line 2"),
        ("a,filename\n1\n", "2 values in line 2"),
    ],
)
def test_malformed_tables_are_refused_by_name(tmp_path: Path, csv: str, words: str) -> None:
    split(tmp_path, csv, "x.png")
    with pytest.raises(FormatError, match=words) as caught:
        read_roboflow(tmp_path)
    assert str(tmp_path / "_classes.csv") in str(caught.value)


def test_another_encoding_and_a_missing_table_are_refused(tmp_path: Path) -> None:
    (tmp_path / "_classes.csv").write_bytes("filename,ナルト\n".encode("shift-jis"))
    with pytest.raises(FormatError, match="save it as UTF-8"):
        read_roboflow(tmp_path)
    with pytest.raises(MissingPathError, match="no such CSV file"):
        read_roboflow(tmp_path / "nowhere")


HOSTILE = [
    "/etc/passwd",
    "../secret.png",
    "a/../../secret.png",
    "..",
    ".",
    "./",
    "",
    "C:/x.png",
    "c:x.png",
    "C:\\x.png",
    "a\\b.png",
    "\\\\host\\share.png",
    "file:///etc/passwd",
    "http://host/x.png",
    "~/x.png",
    "~root/x.png",
    "nul\0.png",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_paths_are_refused(name: str) -> None:
    assert refusal(name)


@pytest.mark.parametrize("name", ["a.png", "a/b.png", "-x.png", "..a.png", "a..png", " x.png", "é:x.png", "😀.png"])
def test_ordinary_paths_pass(name: str) -> None:
    assert refusal(name) == ""


def test_refused_rows_are_counted_and_the_neighbours_unharmed(tmp_path: Path) -> None:
    images(tmp_path, "secret.png")
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "link.png").symlink_to(tmp_path / "secret.png")
    csv = "filename,a\n../secret.png,1\n/etc/passwd,1\nlink.png,1\ngood.png,1\ngood.png,1\n"
    table = read_roboflow(split(tmp_path / "inside", csv, "good.png"))
    assert pairs(table) == [("good.png", "a")]
    assert len(table.report.refused) == 2
    assert table.report.missing == ("link.png",)  # a link that leads out is as good as absent
    assert table.report.duplicates == ("good.png",)


def test_a_folder_that_is_itself_a_link_is_followed(tmp_path: Path) -> None:
    split(tmp_path / "far", "filename,a\nx.png,1\n", "x.png")
    (tmp_path / "near").symlink_to(tmp_path / "far", target_is_directory=True)
    assert pairs(read_roboflow(tmp_path / "near")) == [("x.png", "a")]
    assert FolderFiles(tmp_path).path("y" * 400) is None


@pytest.mark.parametrize(
    ("cell", "expected"), [("", 0), ("0", 0), ("0.0", 0), ("nan", 0), ("1", 1), ("2", 1), ("-1", 0)]
)
def test_cells(cell: str, expected: int) -> None:
    assert is_positive(cell) == bool(expected)


def test_class_folders(tmp_path: Path) -> None:
    images(tmp_path, "b/1.png", "b/deep/2.png", "a/1.png", "loose.png", ".cache/x.png")
    (tmp_path / "empty").mkdir()
    table = read_class_folders(tmp_path, ReadRules({"b": "bee"}))
    assert table.classes == ("a", "bee", "empty")
    assert pairs(table) == [("a/1.png", "a"), ("b/1.png", "bee"), ("b/deep/2.png", "bee")]
    assert table.report.discarded_by_positives[0] == 1
    assert table.counts() == {"a": 1, "bee": 2, "empty": 0}
    with pytest.raises(InputError, match="no class folders"):
        read_class_folders(tmp_path / "empty")


def test_a_link_to_another_class_is_said_to_have_no_images(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    images(tmp_path, "mira/1.png", "kenta/1.png")
    (tmp_path / "alias").symlink_to(tmp_path / "mira")
    (tmp_path / "other").symlink_to(images(tmp_path.parent / "elsewhere", "1.png"))
    assert read_class_folders(tmp_path).counts() == {"alias": 0, "kenta": 1, "mira": 1, "other": 1}
    (line,) = caplog.messages
    assert ": alias: a class of 0 images, because it is a link to a folder of another class" in line


def test_manifests_find_their_images(tmp_path: Path) -> None:
    images(tmp_path, "data/train/1.png", "data/train/2.png")
    (tmp_path / "manifests").mkdir()
    path = tmp_path / "manifests" / "train.csv"
    path.write_text("path,label\ndata/train/2.png,b\ndata/train/1.png,a\ndata/train/1.png,a\n/etc/passwd,a\n")
    table = read_manifest(path)
    assert pairs(table) == [("data/train/1.png", "a"), ("data/train/2.png", "b")]
    assert len(table.report.duplicates) == len(table.report.refused) == 1
    (tmp_path / "manifests" / "classes.json").write_text('["b", "c", "a"]')
    assert read_manifest(path, tmp_path).classes == ("b", "c", "a")
    (tmp_path / "manifests" / "classes.json").write_text('["b"]')
    with pytest.raises(FormatError, match=r"labels of classes.json, found a"):
        read_manifest(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "an empty file"), ("a,b\n", "columns 'path' and 'label'"), ("path,label\nx\n", "2 values in line 2")],
)
def test_malformed_manifests(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "train.csv").write_text(text)
    with pytest.raises(FormatError, match=words):
        read_manifest(tmp_path / "train.csv")
    (tmp_path / "train.csv").write_text("path,label\nnowhere.png,a\n")
    with pytest.raises(MissingPathError, match="run from the folder that the paths start in"):
        read_manifest(tmp_path / "train.csv")


def test_layouts_are_told_by_looking(tmp_path: Path) -> None:
    split(tmp_path / "r" / "train", "filename,a\nx.png,1\n", "x.png")
    images(tmp_path / "f" / "train", "a/1.png")
    images(tmp_path / "f" / "val", "a/1.png")
    images(tmp_path / "plain", "a/1.png", "b/1.png")
    places = [find_split(tmp_path / name, "train") for name in ("r", "f", "plain")]
    assert [place[0] for place in places if place] == ["roboflow", "folders", "folders"]
    assert find_split(tmp_path / "f", "valid") == ("folders", tmp_path / "f" / "val")
    assert find_split(tmp_path / "plain", "valid") is None
    assert find_split(tmp_path / "r", "train", "folders") is None
    with pytest.raises(MissingPathError, match="folder of class data"):
        read_classes(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"test/_classes\.csv"):
        read_classes(tmp_path / "f", "test")


def test_a_split_without_a_usable_image_is_refused(tmp_path: Path) -> None:
    split(tmp_path / "train", "filename,a\nabsent.png,1\n../x.png,1\n")
    with pytest.raises(InputError, match=r"0 of 2 rows kept .*; '\.\./x\.png' climbs out .*; absent\.png is not there"):
        read_classes(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no class data of split 'train'"):
        read_classes(tmp_path / "empty")


def test_classes_of_all_splits_have_one_order(tmp_path: Path) -> None:
    split(tmp_path / "train", "filename,b,a\nx.png,1,0\n", "x.png")
    split(tmp_path / "test", "filename,c,a\nx.png,1,0\n", "x.png")
    tables = read_present(tmp_path)
    assert tables["train"].classes == tables["test"].classes == ("b", "a", "c")
    with pytest.raises(InputError, match="no class z; there are b, a"):
        read_present(tmp_path, rules=ReadRules(labels=("z",)))


def test_without_a_valid_split_some_training_images_are_held_out(tmp_path: Path) -> None:
    images(tmp_path, *(f"{name}/{number}.png" for name in "ab" for number in range(10)), "c/only.png")
    tables = read_splits(tmp_path, 0.2)
    assert tables["train"].counts() == {"a": 8, "b": 8, "c": 1}
    assert tables["valid"].counts() == {"a": 2, "b": 2, "c": 0}
    assert not set(tables["train"].rows) & set(tables["valid"].rows)
    assert hold_out(read_classes(tmp_path), 0.2)[1].rows == tables["valid"].rows


def test_tables_check_themselves(tmp_path: Path) -> None:
    rows = sorted_rows([("b.png", "x"), ("a.png", "x"), ("a.png", "x")])
    assert [row.path for row in rows] == ["a.png", "b.png"]
    with pytest.raises(ValueError, match="sorted"):
        ClassTable(tmp_path, rows[::-1], ("x",))
    with pytest.raises(ValueError, match="not among the classes"):
        ClassTable(tmp_path, rows, ("y",))
    with pytest.raises(ValueError, match="3 rows seen but 1 accounted for"):
        TableReport(seen=3, kept=1)
    with pytest.raises(InputError, match="no images to train on"):
        row_groups(ClassTable(tmp_path, (), ("x",)), balanced=True)
