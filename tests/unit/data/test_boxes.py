"""Boxes of other tools: to the pixel, as scene truth and as class data, and nothing left out in silence."""

import json
import logging
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from naruto_vision.data.box_formats import yolo_names
from naruto_vision.data.boxes import MIN_SIDE, box_from_edges, find_boxes, open_boxes, read_boxes
from naruto_vision.data.ground_truth import read_gt
from naruto_vision.data.leaks import Numbers, collect_items, find_frame_leaks, scan_images
from naruto_vision.data.readers import read_classes, read_manifest, read_present, read_splits, write_manifests
from naruto_vision.data.scenes import SceneDataset
from naruto_vision.data.shards import ShardPlan, class_source, image_reader, write_split
from naruto_vision.data.split import SplitPlan, split_items
from naruto_vision.data.tables import ClassTable, ReadRules, Split
from naruto_vision.errors import BadImageError, FormatError, InputError, MissingPathError
from naruto_vision.gallery.info import find_image
from naruto_vision.io.images import read_image, split_crop, write_image
from naruto_vision.io.quarantine import Quarantine
from naruto_vision.records import MAX_BOXES, LabelledBox

WIDTH, HEIGHT = 48, 32
BOX = (10, 4, 25, 19)  # inclusive
EDGES = (10, 4, 26, 20)
FULL = {"a.png": [(BOX, "Mira")]}


def image(path: Path, width: int = WIDTH, height: int = HEIGHT, orientation: int = 1) -> Path:
    """Write an image in which red is the column and green the row of the upright image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    upright = Image.fromarray(np.stack([columns, rows, np.zeros_like(rows)], axis=-1))
    undo = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270, 5: Image.Transpose.TRANSPOSE}
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    stored.save(path, exif=exif)
    return path


def coco(names: list[str], boxes: list[dict[str, Any]], size: tuple[int, int] | None = (WIDTH, HEIGHT)) -> str:
    stated = {} if size is None else {"width": size[0], "height": size[1]}
    images = [{"id": k + 7, "file_name": name, **stated} for k, name in enumerate(names)]
    listed = [{"image_id": 7, "category_id": 3, **box} for box in boxes]
    categories = [{"id": 0, "name": "cast"}, {"id": 3, "name": "Mira", "supercategory": "cast"}]
    return json.dumps({"images": images, "annotations": listed, "categories": categories})


def task(value: dict[str, Any], name: str = "/data/upload/3/0123abcd-a.png", kind: str = "rectanglelabels") -> str:
    region = {"id": "r", "type": kind, "original_width": WIDTH, "original_height": HEIGHT, "value": value}
    return json.dumps([{"id": 1, "data": {"image": name}, "annotations": [{"result": [region]}]}])


def percent(edges: tuple[int, int, int, int] = EDGES) -> dict[str, Any]:
    left, top, right, bottom = edges
    x, y = 100 * left / WIDTH, 100 * top / HEIGHT
    return {"x": x, "y": y, "width": 100 * (right - left) / WIDTH, "height": 100 * (bottom - top) / HEIGHT}


def voc(first: int = 1, name: str = "a.png") -> str:
    corners = zip(("xmin", "ymin", "xmax", "ymax"), (10 + first, 4 + first, 26, 20), strict=True)
    box = "".join(f"<{side}>{value}</{side}>" for side, value in corners)
    size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height></size>"
    item = f"<object><name>Mira</name><part><bndbox/></part><bndbox>{box}</bndbox></object>"
    return f"<annotation><filename>{name}</filename>{size}{item}</annotation>"


CENTRE = f"0 {18 / WIDTH} {12 / HEIGHT} {16 / WIDTH} {16 / HEIGHT}\n"
POLYGON = f"0 {10 / WIDTH} {4 / HEIGHT} {26 / WIDTH} {4 / HEIGHT} {20 / WIDTH} {20 / HEIGHT}\n"
MASK = {"size": [HEIGHT, WIDTH], "counts": [10 * 32 + 4, *([16, 16] * 15), 16, 22 * 32 + 12]}

LAYOUTS: dict[str, dict[str, str]] = {
    "COCO of Roboflow": {"_annotations.coco.json": coco(["a.png"], [{"bbox": [10, 4, 16, 16]}])},
    "COCO without sizes": {"instances.json": coco(["images/a.png"], [{"bbox": [10.2, 3.7, 16, 16.1]}], None)},
    "COCO polygons": {"x.json": coco(["C:\\me\\a.png"], [{"segmentation": [[10, 4, 26, 4, 20, 20]], "bbox": []}])},
    "COCO run lengths": {"x.json": coco(["a.png"], [{"segmentation": MASK}])},
    "YOLO": {"data.yaml": "names: {0: Mira}\ntrain: ../elsewhere", "a.txt": CENTRE},
    "YOLO polygons": {"classes.txt": "Mira\n", "a.txt": POLYGON},
    "Pascal VOC": {"a.xml": voc()},
    "Pascal VOC by stem": {"Annotations/a.xml": voc(name="another.jpg")},
    "Label Studio": {"project-1.json": task({**percent(), "rectanglelabels": ["Mira"]})},
    "Label Studio of local files": {
        "p.json": task({**percent(), "rectanglelabels": ["Mira"]}, "/data/local-files/?d=store/a.png")
    },
    "Label Studio polygons": {
        "p.json": task(
            {
                "points": [[100 * x / WIDTH, 100 * y / HEIGHT] for x, y in ((10, 4), (26, 4), (20, 20))],
                "polygonlabels": ["Mira"],
            },
            kind="polygonlabels",
        )
    },
    "Label Studio JSON-MIN": {
        "p.json": json.dumps(
            [{"image": "/x/a.png", "label": [{**percent(), "rectanglelabels": ["Mira"], "original_width": WIDTH}]}]
        )
    },
    "CSV of Roboflow": {
        "_annotations.csv": f"filename,width,height,class,xmin,ymin,xmax,ymax\na.png,{WIDTH},{HEIGHT},Mira,10,4,26,20\n"
    },
    "CSV with semicolons": {"boxes.csv": "\ufefffile;x1;y1;x2;y2;label\na.png;10;4;26;20;Mira\n"},
}


def lay_out(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_scene_truth_to_the_pixel(tmp_path: Path, layout: str) -> None:
    image(tmp_path / "a.png")
    lay_out(tmp_path, LAYOUTS[layout])
    dataset = SceneDataset(tmp_path, need_truth=True)
    assert {item.scene: [(one.box, one.label) for one in item.truth or ()] for item in dataset} == FULL
    assert {name: [(one.box, one.label) for one in boxes] for name, boxes in read_gt(tmp_path).items()} == FULL


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_class_data_of_one_crop_a_box(tmp_path: Path, layout: str) -> None:
    for split in ("train", "valid"):
        image(tmp_path / split / "a.png")
        lay_out(tmp_path / split, LAYOUTS[layout])
    for table in read_present(tmp_path).values():
        assert [(row.path, row.label) for row in table.rows] == [("a.png#xywh=10,4,16,16", "Mira")]
        crop = read_image(table.root / table.rows[0].path)
        assert crop.shape == (16, 16, 3)
        assert crop[0, 0].tolist() == [10, 4, 0]
        assert crop[-1, -1].tolist() == [25, 19, 0]
        assert table.classes == ("Mira",)


SPLITS: dict[str, dict[str, str]] = {
    "annotations/": {
        "annotations/instances_train2017.json": coco(["a.png"], [{"bbox": [10, 4, 16, 16]}]),
        "annotations/instances_val2017.json": coco(["a.png"], [{"bbox": [10, 4, 16, 16]}]),
        "annotations/captions_val2017.json": json.dumps({"images": [], "annotations": []}),
        "train2017/a.png": "",
        "val2017/a.png": "",
    },
    "folders of YOLO": {
        "data.yaml": "names: [Mira]\npath: /content/set\ntrain: images/train\nval: images/val\n",
        "images/train/a.png": "",
        "images/val/a.png": "",
        "labels/train/a.txt": CENTRE,
        "labels/val/a.txt": CENTRE,
    },
    "Roboflow YOLO": {
        "data.yaml": "names: [Mira]\ntrain: ../train/images\nval: ../valid/images\n",
        "train/images/a.png": "",
        "valid/images/a.png": "",
        "train/labels/a.txt": CENTRE,
        "valid/labels/a.txt": CENTRE,
    },
    "ImageSets of VOC": {
        "ImageSets/Main/train.txt": "a\n",
        "ImageSets/Main/val.txt": "b\n",
        "Annotations/a.xml": voc(),
        "Annotations/b.xml": voc(name="b.png"),
        "JPEGImages/a.png": "",
        "JPEGImages/b.png": "",
    },
    "Capital folders": {
        "Train/a.png": "",
        "Val/a.png": "",
        "Train/a.xml": voc(),
        "Val/a.xml": voc(),
    },
}


@pytest.mark.parametrize("layout", SPLITS)
def test_splits_are_found_where_each_tool_puts_them(tmp_path: Path, layout: str) -> None:
    lay_out(tmp_path, SPLITS[layout])
    for path in tmp_path.rglob("*.png"):
        image(path)
    found = read_present(tmp_path)
    assert list(found) == ["train", "valid"]
    assert all(len(table) == 1 and table.classes == ("Mira",) for table in found.values())
    assert all(read_image(table.root / table.rows[0].path)[0, 0, 0] == 10 for table in found.values())


def test_edges_are_rounded_cut_or_refused() -> None:
    assert box_from_edges((0.4, 0.5, 3.5, 3.4), 8, 8) == ((0, 1, 3, 2), "", False)
    assert box_from_edges((-2, -2, 99, 3), 8, 8) == ((0, 0, 7, 2), "", True)
    for edges, reason in (
        ((8, 0, 9, 1), "outside the image"),
        ((3, 3, 3.4, 9), "that are empty"),
        ((5, 5, 2, 2), "that are empty"),
        ((0, 0, float("inf"), 1), "whose corners are not finite"),
        ((0, float("nan"), 1, 1), "whose corners are not finite"),
    ):
        assert box_from_edges(edges, 8, 8) == (None, reason, False)


def test_pascal_voc_counts_from_one_unless_a_zero_shows_otherwise(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    image(tmp_path / "b.png")
    lay_out(tmp_path, {"a.xml": voc(0), "b.xml": voc(0, "b.png")})
    shifted = {(one.box) for boxes in read_gt(tmp_path).values() for one in boxes}
    assert shifted == {(9, 3, 25, 19)}  # nothing shows that these count from 0
    (tmp_path / "b.xml").write_text(voc(0, "b.png").replace("<xmin>10<", "<xmin>0<"))
    assert [one.box for boxes in read_gt(tmp_path).values() for one in boxes] == [BOX, (0, 4, 25, 19)]


@pytest.mark.parametrize(("angle", "box"), [(0, BOX), (90, (0, 4, 9, 19)), (-90, (10, 0, 25, 3))])
def test_a_turned_rectangle_of_label_studio_is_the_box_around_it(
    tmp_path: Path, angle: int, box: tuple[int, int, int, int]
) -> None:
    image(tmp_path / "a.png")
    value = {**percent((10, 4, 26, 20)), "rotation": angle, "rectanglelabels": ["Mira"]}
    lay_out(tmp_path, {"p.json": task(value)})
    assert [one.box for one in read_gt(tmp_path)["a.png"]] == [box]


def brush(mask: np.ndarray) -> list[int]:
    """Encode RGBA values of a mask as Label Studio does, runs and single values in turn."""
    values = np.stack([np.zeros(mask.shape, np.uint8)] * 3 + [mask.astype(np.uint8) * 255], axis=-1).ravel()
    bits = f"{len(values):032b}" + f"{7:05b}" + "".join(f"{size - 1:04b}" for size in (2, 4, 8, 16))
    start = 0
    while start < len(values):
        end = start + 1
        while end < len(values) and values[end] == values[start] and end - start < 60000:
            end += 1
        if end - start < 9:  # as single values
            end = min(start + 4, len(values))
            bits += "0" + "00" + f"{end - start - 1:02b}" + "".join(f"{value:08b}" for value in values[start:end])
        else:
            bits += "1" + "11" + f"{end - start - 1:016b}" + f"{values[start]:08b}"
        start = end
    bits += "0" * (-len(bits) % 8)
    return [int(bits[k : k + 8], 2) for k in range(0, len(bits), 8)]


def test_a_brush_of_label_studio_is_the_box_around_its_mask(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[4:20, 10] = mask[19, 10:26] = True
    value = {"format": "rle", "rle": brush(mask), "brushlabels": ["Mira"]}
    lay_out(tmp_path, {"p.json": task(value, kind="brushlabels")})
    assert [one.box for one in read_gt(tmp_path)["a.png"]] == [BOX]
    value["rle"] = value["rle"][: len(value["rle"]) // 2]
    lay_out(tmp_path, {"p.json": task(value, kind="brushlabels")})
    assert "1 boxes that is damaged" in read_boxes(open_boxes(tmp_path)).summary()


@pytest.mark.parametrize("orientation", [5, 6, 8])
def test_boxes_are_of_the_upright_image_and_a_stated_size_of_the_stored_one_is_refused(
    tmp_path: Path, orientation: int
) -> None:
    image(tmp_path / "a.jpg", orientation=orientation)
    for stated in ((WIDTH, HEIGHT), None):
        lay_out(tmp_path, {"x.json": coco(["a.jpg"], [{"bbox": [10, 4, 16, 16]}], stated)})
        assert [one.box for one in read_gt(tmp_path)["a.jpg"]] == [BOX]
    lay_out(tmp_path, {"x.json": coco(["a.jpg"], [{"bbox": [10, 4, 16, 16]}], (HEIGHT, WIDTH))})
    found = read_boxes(open_boxes(tmp_path))
    assert found.truth() == {}
    assert "1 images of another size than stated left out" in found.summary()


def test_what_is_left_out_is_counted_in_one_line_with_its_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.png", "c.png", "d.png"):
        image(tmp_path / "train" / name)
    boxes: list[dict[str, Any]] = [
        {"bbox": [10, 4, 16, 16]},
        {"bbox": [40, 4, 16, 16]},
        {"bbox": [99, 4, 16, 16]},
        {"bbox": [3, 3, 0, 9]},
        {"bbox": [3, 3, 4, 4]},
        {"bbox": [3, 3, 9]},
        {"bbox": [float("nan"), 3, 9, 9]},
        {"bbox": [1, 1, 9, 9], "category_id": 8},
        {"bbox": [1, 1, 9, 9], "iscrowd": 1},
        {"bbox": [1, 1, 9, 9], "image_id": 99},
        {"segmentation": {"size": [9, 9], "counts": [81]}},
        {"bbox": [1, 1, 9, 9], "image_id": 8},
    ]
    lay_out(tmp_path / "train", {"x.json": coco(["a.png", "b.png", "c.png"], boxes)})
    with caplog.at_level(logging.INFO):
        table = read_classes(tmp_path)
    (line,) = [record.message for record in caplog.records if record.message.startswith("COCO boxes of")]
    for part in (
        "4 boxes of 1 classes in 3 images",
        "1 boxes outside the image left out",
        "1 boxes that are empty left out",
        "1 boxes of an unknown category left out",
        "1 boxes of a crowd (iscrowd) left out",
        "2 boxes whose bbox is not x, y, width, height left out",
        "1 boxes whose mask has another size than the image left out",
        "1 images are not there",
        "1 images have no annotations",
        "1 boxes cut at the image's border",
        "1 boxes of an image that is not listed",
    ):
        assert part in line
    report = table.report
    assert [row.path for row in table.rows] == ["a.png#xywh=10,4,16,16", "a.png#xywh=40,4,8,16"]
    assert report.seen == report.kept + report.discarded + len(report.missing) + len(report.refused) == 12
    assert any(f"below {MIN_SIDE} pixels" in text for text in report.refused)
    assert report.unlisted == ("d.png",)
    assert report.missing == ("b.png#xywh=1,1,9,9",)


def test_images_with_broken_annotations_are_left_out_and_the_others_stay(tmp_path: Path) -> None:
    for name in "abcde":
        image(tmp_path / f"{name}.png")
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaaaaaa"><!ENTITY b "&a;&a;">]><annotation><filename>&b;</filename></annotation>'
    files = {"a.xml": voc(), "b.xml": "<annotation>", "c.xml": bomb, "d.xml": voc(name="d.png").replace("48", "50")}
    lay_out(tmp_path, files)
    (tmp_path / "c.xml").write_bytes(bomb.encode("utf-16"))
    found = read_boxes(open_boxes(tmp_path))
    assert {name: [(one.box, one.label) for one in boxes] for name, boxes in found.truth().items()} == FULL
    assert "a document type is refused" in found.summary()
    assert "1 images of another size than stated left out" in found.summary()
    assert "1 images have no annotations" in found.summary()
    with pytest.raises(InputError, match="has no entry for 4 of 5 images"):
        SceneDataset(tmp_path, need_truth=True)


def test_records_of_a_coco_file_without_a_name_are_left_out_one_by_one(tmp_path: Path) -> None:
    image(tmp_path / "a NaN,.png")
    whole = json.loads(coco(["a NaN,.png", "b.png"], [{"bbox": [10, 4, 16, 16]}, {"category_id": 4, "bbox": [1] * 4}]))
    whole["images"][1] |= {"file_name": None, "width": float("nan")}
    whole["categories"].append({"id": 4, "name": None})
    lay_out(tmp_path, {"x.json": json.dumps(whole)})
    found = read_boxes(open_boxes(tmp_path))
    assert found.truth() == {"a NaN,.png": (LabelledBox(BOX, "Mira"),)}
    assert found.classes == ("Mira",)
    for part in ("1 boxes without a class left out", "1 images without a file and a stated size left out"):
        assert part in found.summary()


def test_broken_files_of_a_whole_set_are_one_line(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    start = '{"images": [{"id": 1, "file_name": "a.png"}], "annotations": '
    for text in (start + '[{"image_id": 1', start + "[" * 100_000, start + '[{"image_id": {}}]}', start + '"\\ud800"}'):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(FormatError, match=r"x\.json"):
            read_gt(tmp_path)
    (tmp_path / "x.json").unlink()
    for text in ("names: [[", "names: " + "[" * 5000, "names: 3", "a: &a [x]\nnames: [*a, *a]"):
        lay_out(tmp_path, {"data.yaml": text, "a.txt": CENTRE})
        with pytest.raises(FormatError, match=r"data\.yaml"):
            read_gt(tmp_path)


def test_small_files_take_no_more_memory_or_time_than_they_warrant(tmp_path: Path) -> None:
    side = 100_000
    run = [{"segmentation": {"size": [side, side], "counts": [0, side * side]}}]
    lay_out(tmp_path, {"x.json": coco(["gone.png"], run, (side, side))})
    assert "1 images of more than 50 megapixels left out" in read_boxes(open_boxes(tmp_path)).summary()
    image(tmp_path / "a.png")
    lay_out(tmp_path, {"x.json": coco(["a.png"], [{}] * (MAX_BOXES + 1))})
    assert f"1 images of more than {MAX_BOXES} boxes left out" in read_boxes(open_boxes(tmp_path)).summary()
    (tmp_path / "a.png").unlink()
    for values in ([0, 0, 24, 0, 0xFF, 0xFF, 0xFF, 0xFF], [255] * 40, ["x"], 7):
        region = {"format": "rle", "rle": values, "brushlabels": ["Mira"]}
        lay_out(tmp_path, {"x.json": task(region, kind="brushlabels")})
        assert "1 boxes that is damaged" in read_boxes(open_boxes(tmp_path)).summary()


def test_odd_rows_of_csv_are_counted_and_other_tables_are_no_boxes(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    lines = [
        "x1,y1,x2,y2,class,file",
        "10,4,26,20,Mira,a.png",
        "1,2",
        "5,6,7,8,,a.png",
        "x,6,7,8,Mira,a.png",
        ",,,,,b.png",
    ]
    lay_out(tmp_path, {"boxes.csv": "\n".join(lines), "a.csv": "\0,\n", "b.csv": "filename,class\n"})
    found = read_boxes(open_boxes(tmp_path))
    assert {name: [(one.box, one.label) for one in boxes] for name, boxes in found.truth().items()} == FULL
    for part in ("1 boxes without a class", "1 boxes whose corners are not numbers", "2 images without a file"):
        assert part in found.summary()


@pytest.mark.parametrize(
    ("start", "separator", "encoding"),
    [("", ";", "cp1252"), ("sep=;\r\n", ";", "utf-8-sig"), ("", "\t", "utf-16")],
)
def test_boxes_in_tables_of_spreadsheets(tmp_path: Path, start: str, separator: str, encoding: str) -> None:
    image(tmp_path / "a.png")
    lines = ["filename,xmin,ymin,xmax,ymax,class", "a.png,10,4,26,20,Zoë"]
    text = start + "\r\n".join(lines).replace(",", separator)
    (tmp_path / "boxes.csv").write_bytes(text.encode(encoding))
    assert read_boxes(open_boxes(tmp_path)).truth() == {"a.png": (LabelledBox(BOX, "Zoë"),)}


def test_class_names_of_yolo_are_text_of_windows_too(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_bytes("Zoë\r\n\r\nMira".encode("cp1252"))
    assert yolo_names(tmp_path / "classes.txt") == ({}, ("Zoë", "Mira"))


def test_lines_of_yolo_that_are_no_boxes_are_counted(tmp_path: Path) -> None:
    image(tmp_path / "images" / "a.png")
    text = CENTRE + "1 .5 .5 .1 .1\n0 .5 .5\nx y\n" + CENTRE.strip() + " 0.9\n"
    lay_out(tmp_path, {"data.yaml": "names: [Mira]", "labels/a.txt": text})
    found = read_boxes(open_boxes(tmp_path))
    assert [one.box for one in found.truth()["a.png"]] == [BOX, BOX]
    assert (
        "1 boxes of an unknown category left out; 1 boxes whose line is neither a box nor a polygon" in found.summary()
    )
    (tmp_path / "data.yaml").unlink()
    with pytest.raises(MissingPathError, match=r"list of YOLO class names; or classes\.txt"):
        read_classes(tmp_path)


def test_a_layout_that_is_not_understood_says_which_are_and_what_was_seen(tmp_path: Path) -> None:
    image(tmp_path / "train" / "a.png")
    lay_out(tmp_path, {"notes.xlsx": "", "train/b.toml": ""})
    with pytest.raises(InputError, match=r"COCO, YOLO, Pascal VOC.*seen: train/, 1 \.xlsx"):
        read_classes(tmp_path)
    with pytest.raises(InputError, match=r"no such ground truth.*Label Studio.*seen: 1 \.png, 1 \.toml"):
        SceneDataset(tmp_path / "train", need_truth=True)
    with pytest.raises(InputError, match=r"COCO, YOLO.*another kind of file"):
        read_gt(tmp_path / "train" / "b.toml")


def test_crops_are_known_to_manifests_and_policies(tmp_path: Path) -> None:
    rows = [("a.png", k % 2, 8 * k) for k in range(4)] + [(f"{k}.png", k % 2, 0) for k in range(8)]
    for name, *_ in rows:
        image(tmp_path / "set" / name)
    lines = [f"{name},{'ab'[label]},{left},0,{left + 10},12" for name, label, left in rows]
    lay_out(
        tmp_path / "set",
        {"boxes.csv": "\n".join(["filename,class,xmin,ymin,xmax,ymax", *lines, lines[0][:6] + "b,0,0,10,12"])},
    )
    single, both = read_classes(tmp_path / "set"), read_classes(tmp_path / "set", rules=ReadRules(policy="all"))
    assert (len(single), len(both)) == (11, 13)  # one box has both classes
    write_manifests(tmp_path / "manifests", {"train": single}, tmp_path, single.classes, "")
    again = read_manifest(tmp_path / "manifests" / "train.csv")
    assert [read_image(again.root / row.path).shape for row in again.rows] == [(12, 10, 3)] * 11
    assert [row.label for row in again.rows] == [row.label for row in single.rows]


def test_a_crop_that_leaves_its_image_is_refused(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    assert read_image(f"{tmp_path}/a.png#xywh=47,31,1,1").tolist() == [[[47, 31, 0]]]
    with pytest.raises(BadImageError, match="the crop leaves the image of 48x32 pixels"):
        read_image(f"{tmp_path}/a.png#xywh=47,31,2,1")
    with pytest.raises(MissingPathError):
        read_image(f"{tmp_path}/b.png#xywh=0,0,2,1")
    image(tmp_path / "c.png#xywh=0,0,2,1.png")
    assert read_image(tmp_path / "c.png#xywh=0,0,2,1.png").shape == (HEIGHT, WIDTH, 3)


def test_names_lead_to_images_of_the_folder_only_and_to_one_each(tmp_path: Path) -> None:
    image(tmp_path / "secret.png")
    for name in ("x/deep.png", "y/one.png", "z/one.png", "two.png"):
        image(tmp_path / "set" / name)
    names = ["../secret.png", "/far/deep.png", "one.png", "p/two.png", "q/two.png"]
    lay_out(tmp_path / "set", {"x.json": coco(names, [])})
    found = read_boxes(open_boxes(tmp_path / "set"))
    assert {image.name: (image.missing, bool(image.problem)) for image in found.images} == {
        "secret.png": (True, False),
        "x/deep.png": (False, False),
        "one.png": (True, False),  # two files are called so
        "two.png": (False, True),  # two annotated images are called so
    }


def test_boxes_called_unknown_are_scene_truth_but_no_class_unless_renamed(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    lay_out(tmp_path, {"b.csv": "filename,class,x1,y1,x2,y2\na.png,unknown,0,0,9,9\na.png,Mira,0,0,20,9\n"})
    assert [one.label for one in read_gt(tmp_path)["a.png"]] == ["unknown", "Mira"]
    table = read_classes(tmp_path)
    assert (table.classes, len(table), table.report.seen) == (("Mira",), 1, 2)
    assert table.report.refused == ("'a.png#xywh=0,0,9,9': a box called 'unknown'",)
    renamed = read_classes(tmp_path, rules=ReadRules(aliases={"unknown": "extra"}))
    assert sorted(renamed.classes) == ["Mira", "extra"]


def test_images_that_are_not_there_count_only_where_none_is(tmp_path: Path) -> None:
    lay_out(tmp_path, {"x.json": coco(["a.png", "b.png"], [{"bbox": [10, 4, 16, 16]}])})
    assert {name: len(boxes) for name, boxes in read_gt(tmp_path / "x.json").items()} == {"a.png": 1, "b.png": 0}
    image(tmp_path / "a.png")
    assert list(read_gt(tmp_path / "x.json")) == list(read_gt(tmp_path)) == ["a.png"]
    assert SceneDataset(tmp_path, need_truth=True).scenes == ("a.png",)


def test_a_folder_of_boxes_is_found_before_class_folders_and_behind_a_class_table(tmp_path: Path) -> None:
    lay_out(tmp_path, SPLITS["Roboflow YOLO"])
    for path in tmp_path.rglob("*.png"):
        image(path)
    source = find_boxes(tmp_path, "valid")
    assert source is not None
    assert source.format == "YOLO"
    assert find_boxes(tmp_path, "test") is None
    assert read_classes(tmp_path, "valid").classes == ("Mira",)
    (tmp_path / "valid" / "_classes.csv").write_text("filename, Other\nimages/a.png, 1\n")
    assert read_classes(tmp_path, "valid").classes == ("Other",)
    assert read_classes(tmp_path, "valid", "boxes").classes == ("Mira",)


def frames(root: Path, count: int) -> dict[Split, ClassTable]:
    """Read images of two boxes each, of different pixels and frame numbers that are far apart."""
    lines = ["filename,class,xmin,ymin,xmax,ymax"]
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 255, (8, 16, 3), dtype=np.uint8)
        big = np.asarray(Image.fromarray(pixels).resize((64, 32)))
        write_image(root / f"shot_{number * 100:05d}.png", big)
        lines += [f"shot_{number * 100:05d}.png,{name},{left},0,{left + 30},30" for name, left in (("a", 0), ("b", 33))]
    lay_out(root, {"boxes.csv": "\n".join(lines)})
    return read_present(root)


@pytest.mark.parametrize("numbers", ["auto", "ignore"])
def test_crops_of_one_image_stay_in_one_split(tmp_path: Path, numbers: Numbers) -> None:
    tables = frames(tmp_path / "set", 12)
    items = collect_items(tables)
    found = split_items(tables, items, scan_images(items.items), SplitPlan(0.3, 0.0, numbers=numbers))
    sides = {split: {split_crop(row.path)[0] for row in table.rows} for split, table in found.tables.items()}
    assert sides["train"].isdisjoint(sides["valid"])
    assert {split: len(table) for split, table in found.tables.items()} == {
        s: 2 * len(names) for s, names in sides.items()
    }


def test_crops_of_one_image_are_held_out_together(tmp_path: Path) -> None:
    frames(tmp_path / "set", 12)
    found = read_splits(tmp_path / "set", 0.25)
    held, left = ({split_crop(row.path)[0] for row in found[split].rows} for split in ("valid", "train"))
    assert (len(held), len(left)) == (3, 9)
    assert held.isdisjoint(left)


def test_numbers_of_frames_do_not_look_counted_because_each_has_two_crops(tmp_path: Path) -> None:
    rows = frames(tmp_path / "set", 8)["train"].rows
    held, others = [row for row in rows if "00300" in row.path], [row for row in rows if "00300" not in row.path]
    found = find_frame_leaks(held, others, ("a", "b"), window=100)
    assert (len(found.near), found.counted) == (2, ())


def test_shards_of_crops_are_packed_again_only_where_the_image_has_changed(tmp_path: Path) -> None:
    table = frames(tmp_path / "set", 3)["train"]
    plan = ShardPlan(side=0, shard_size=2)
    pack = partial(write_split, tmp_path / "shards", "train", class_source(table), plan)
    assert [pack(Quarantine()), pack(Quarantine())] == [0, 3]
    write_image(tmp_path / "set" / "shot_00100.png", np.zeros((40, 70, 3), dtype=np.uint8))
    assert pack(Quarantine()) < 3
    packed = read_classes(tmp_path / "shards")
    reader = image_reader(packed.root)
    assert [row.path for row in packed.rows] == [row.path for row in table.rows]
    for row in table.rows:
        assert np.array_equal(reader.read(row.path), read_image(table.root / row.path))
    assert find_image(tmp_path / "set", table.rows[0].path) is not None
    assert find_image(tmp_path / "set", "gone.png#xywh=0,0,9,9") is None


def test_the_yaml_of_a_yolo_export_has_the_bounds_of_every_yaml(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]" for k in range(1, 9)]
    (tmp_path / "data.yaml").write_text("\n".join([*lines, "names: *a8"]))
    with pytest.raises(FormatError, match=r"data\.yaml: not YAML"):
        yolo_names(tmp_path / "data.yaml")
