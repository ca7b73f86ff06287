"""Tables and folders as users have them: of spreadsheets, of other tools, with names in several forms."""

import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest

from naruto_vision.data.caption_data import read_captions
from naruto_vision.data.ground_truth import read_prediction_folder
from naruto_vision.data.readers import (
    find_split,
    manifest_text,
    read_class_folders,
    read_classes,
    read_manifest,
    read_present,
    read_roboflow,
)
from naruto_vision.data.scenes import SceneDataset
from naruto_vision.data.tables import ReadRules
from naruto_vision.errors import FormatError, InputError
from naruto_vision.io.csv_files import read_csv
from naruto_vision.io.images import write_image
from naruto_vision.records import LabelledBox

NFC, NFD = "Zo\u00eb", "Zoe\u0308"


def images(folder: Path, *names: str) -> Path:
    for name in names:
        write_image(folder / name, np.zeros((8, 8, 3), dtype=np.uint8))
    return folder


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("filename;Koba;Miru\nx.png;1;0\n", "utf-8"),
        ("sep=;\r\nfilename;Koba;Miru\r\nx.png;1;0\r\n", "utf-8-sig"),
        ("sep=\t\nfilename\tKoba\tMiru\nx.png\t1\t0\n", "utf-8"),
        ("filename\tKoba\tMiru\nx.png\t1\t0\n", "utf-16"),
        ('filename;"Koba";Miru\nx.png;1;\n', "cp1252"),
    ],
)
def test_tables_of_spreadsheets(tmp_path: Path, text: str, encoding: str) -> None:
    images(tmp_path, "x.png")
    (tmp_path / "_classes.csv").write_bytes(text.encode(encoding))
    table = read_roboflow(tmp_path)
    assert table.classes == ("Koba", "Miru")
    assert [(row.path, row.label) for row in table.rows] == [("x.png", "Koba")]


def test_windows_1252_is_told_and_other_encodings_are_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("path;label\nx.png;Zoë\n".encode("cp1252"))
    with caplog.at_level(logging.WARNING):
        assert list(read_csv(path))[1] == (2, ["x.png", "Zoë"])
    assert "a.csv: line 2 is not UTF-8; the file is read as Windows-1252" in caplog.text
    for other in ("shift-jis", "gbk", "euc-jp"):
        path.write_bytes("path;label\nx.png;ナルト\n".encode(other))
        with pytest.raises(FormatError, match="another encoding in line 2; save it as UTF-8"):
            list(read_csv(path))


def test_backslashes_of_windows_separate_folders(tmp_path: Path) -> None:
    images(tmp_path, "train/Koba/1.png")
    (tmp_path / "train.csv").write_text("path,label\ntrain\\Koba\\1.png,Koba\n")
    assert [row.path for row in read_manifest(tmp_path / "train.csv").rows] == ["train/Koba/1.png"]
    (tmp_path / "captions.csv").write_text("path\ttext\ntrain\\Koba\\1.png\tKoba, waving\n")
    assert read_captions(tmp_path / "captions.csv").rows == (("train/Koba/1.png", "Koba, waving"),)


@pytest.mark.parametrize(
    ("path", "reason"),
    [("C:\\pics\\1.png", "starts with a drive"), ("\\\\pc\\1.png", "is absolute"), ("..\\1.png", "climbs")],
)
def test_the_reason_of_a_refused_row_is_told(tmp_path: Path, path: str, reason: str) -> None:
    (tmp_path / "train.csv").write_text(f"path,label\n{path},Koba\n")
    with pytest.raises(InputError, match=f"no usable image, 0 of 1 rows kept .*{reason}"):
        read_classes(tmp_path)


@pytest.mark.parametrize("folder", ["Koba ", " Koba", NFD])
def test_names_of_class_folders_have_one_form(tmp_path: Path, folder: str) -> None:
    images(tmp_path, f"{folder}/1.png", "Miru/2.png")
    table = read_class_folders(tmp_path, ReadRules({"Miru ": "Mira"}))
    assert table.classes == (NFC if folder == NFD else "Koba", "Mira") or table.classes == ("Mira", NFC)
    assert {row.path for row in table.rows} == {f"{folder}/1.png", "Miru/2.png"}


def test_names_agree_between_layouts(tmp_path: Path) -> None:
    images(tmp_path, "a/1.png")
    (tmp_path / "train.csv").write_text(f"path,label\na/1.png,{NFD}\n")
    (tmp_path / "classes.json").write_text(f'["{NFC} "]')
    assert read_manifest(tmp_path / "train.csv", rules=ReadRules(labels=(NFD,))).classes == (NFC,)
    (tmp_path / "_classes.csv").write_text(f"filename,{NFC},{NFD}\na/1.png,1,0\n")
    with pytest.raises(FormatError, match="twice"):
        read_roboflow(tmp_path)


def test_a_linked_class_folder_is_read_and_a_broken_link_counted(tmp_path: Path) -> None:
    images(tmp_path / "disk", "1.png", "2.png")
    images(tmp_path / "set", "Miru/3.png")
    (tmp_path / "set" / "Koba").symlink_to(tmp_path / "disk", target_is_directory=True)
    (tmp_path / "set" / "Miru" / "4.png").symlink_to(tmp_path / "disk" / "1.png")
    (tmp_path / "set" / "Miru" / "5.png").symlink_to("nowhere.png")
    table = read_class_folders(tmp_path / "set")
    assert table.counts() == {"Koba": 2, "Miru": 2}
    assert table.report.missing == ("Miru/5.png",)


def test_our_results_and_folders_of_programs_are_no_classes(tmp_path: Path) -> None:
    images(tmp_path, "Koba/1.png", "runs/x.png", "__MACOSX/Koba/1.png", "lightning_logs/v/a.png", "out/overlay/1.png")
    for name in ("run.json", "predictions.jsonl"):
        (tmp_path / "out" / name).write_text("{}")
    table = read_classes(tmp_path)
    assert table.classes == ("Koba",)
    assert len(table.report.listing.passed_over) == 4


@pytest.mark.parametrize(("train", "valid"), [("Train", "VALID"), ("TRAINING", "Val"), ("train", "Validation")])
def test_the_case_of_split_names_does_not_matter(tmp_path: Path, train: str, valid: str) -> None:
    images(tmp_path, f"{train}/Koba/1.png", f"{valid}/Koba/2.png")
    assert {split: len(table) for split, table in read_present(tmp_path).items()} == {"train": 1, "valid": 1}
    assert find_split(tmp_path, "test") is None


def test_two_folders_of_one_split_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    images(tmp_path, "train/Koba/1.png", "Training/Koba/2.png")
    with caplog.at_level(logging.WARNING):
        assert len(read_classes(tmp_path)) == 1
    assert "split 'train' is read from train; not from Training" in caplog.text


@pytest.mark.parametrize(
    ("names", "seen"),
    [
        (("train/images/1.png", "train/labels/1.txt", "data.yaml"), "YOLO: .*train/images"),
        (("images/1.png", "labels/1.txt"), "YOLO"),
        (("train/1.png", "train/_annotations.coco.json"), "COCO: .*_annotations.coco.json"),
        (("train/1.png", "train/1.xml"), "Pascal VOC: .*1.xml beside its image"),
        (("JPEGImages/1.png", "Annotations/1.xml"), "Pascal VOC"),
    ],
)
def test_layouts_of_boxes_are_named(tmp_path: Path, names: tuple[str, ...], seen: str) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(InputError, match=f"{seen}.*understood are one folder per class, a Roboflow"):
        read_class_folders(tmp_path)


def test_a_data_set_one_folder_below_is_pointed_at(tmp_path: Path) -> None:
    images(tmp_path, "data/train/Koba/1.png", "scenes/a.png")
    with pytest.raises(InputError, match=r"has a data set in data; give .*data"):
        read_classes(tmp_path)


def test_a_class_folder_called_images_is_a_class(tmp_path: Path) -> None:
    images(tmp_path, "images/1.png", "Koba/2.png")
    assert read_classes(tmp_path).classes == ("Koba", "images")


def test_names_that_are_not_utf8_go_through_a_manifest(tmp_path: Path) -> None:
    images(tmp_path, "Koba/1.png", "Koba/2.png")
    (tmp_path / "Koba" / "1.png").rename(tmp_path / "Koba" / os.fsdecode(b"caf\xe9.png"))
    table = read_class_folders(tmp_path)
    (tmp_path / "train.csv").write_bytes(manifest_text(table, tmp_path).encode("utf-8", "backslashreplace"))
    again = read_manifest(tmp_path / "train.csv")
    assert [row.path for row in again.rows] == [row.path for row in table.rows]
    (tmp_path / "train.csv").write_bytes(b"path,label\nKoba/caf\xe9.png,Koba\n")  # as an old Windows wrote it
    assert len(read_manifest(tmp_path / "train.csv")) == 1


@pytest.mark.parametrize(("listed", "named"), [(NFC, NFD), (NFD, NFC), (NFC, NFC)])
def test_ground_truth_finds_scenes_and_predictions_in_either_form(tmp_path: Path, listed: str, named: str) -> None:
    images(tmp_path, f"images/{listed}.png")
    box = {"bbox": [0, 0, 3, 3], "label": f"{NFD} "}
    (tmp_path / "gt.json").write_text(json.dumps({f"{named}.png": [box]}))
    dataset = SceneDataset(tmp_path, need_truth=True)
    assert dataset.labels == {NFC}
    assert (item := dataset.read(0)).scene == f"{listed}.png"
    assert item.truth == (LabelledBox((0, 0, 3, 3), NFC),)
    (tmp_path / "json").mkdir()
    document = json.dumps({"scene": f"{listed}.png", "preds": [{**box, "score": 0.5}]})
    (tmp_path / "json" / f"{listed}.json").write_text(document)
    found = read_prediction_folder(tmp_path, [f"{named}.png"])
    assert found.scenes == {f"{named}.png": (LabelledBox((0, 0, 3, 3), NFC, 0.5),)}


def test_a_class_folder_that_is_not_utf8_has_a_name(tmp_path: Path) -> None:
    images(tmp_path, "Koba/1.png")
    (tmp_path / "Koba").rename(tmp_path / os.fsdecode(b"caf\xe9"))
    table = read_class_folders(tmp_path)
    assert table.counts() == {r"caf\udce9": 1}
    (tmp_path / "train.csv").write_bytes(manifest_text(table, tmp_path).encode("utf-8", "backslashreplace"))
    assert read_manifest(tmp_path / "train.csv").rows == table.rows
