"""A run comes back from every format: masks exactly, with the names, scores and texts that it has."""

import csv
import json
import tarfile
import tracemalloc
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO

from naruto_vision.cli.main import main
from naruto_vision.data.box_formats import parse_xml
from naruto_vision.data.boxes import open_boxes, read_boxes
from naruto_vision.data.caption_data import read_captions
from naruto_vision.data.exporting import export_scenes, open_scenes
from naruto_vision.data.masks import CocoMasks
from naruto_vision.errors import FormatError, InputError
from naruto_vision.export.label_studio import brush_of_mask
from naruto_vision.export.masks import polygon_of_mask
from naruto_vision.export.writers import Target
from naruto_vision.geometry import mask_from_rle, rle_from_mask, rle_from_polygons, xyxy_from_mask
from naruto_vision.io.images import write_image
from naruto_vision.records import Mask

WIDTH, HEIGHT = 37, 23
NAMES = ["b c+.png", "a.png", "sub/Ōé.png"]
EXACT: list[Target] = ["coco", "cvat", "label-studio", "yolo-seg"]


def odd_masks() -> list[Mask]:
    """Draw a ring with an island, two parts, one pixel, the whole image, noise, and parts that touch at a corner."""
    masks = np.zeros((7, HEIGHT, WIDTH), np.bool_)
    masks[0, 2:20, 3:30] = masks[0, 9:12, 12:14] = True
    masks[0, 6:16, 8:22] = False
    masks[0, 10, 12] = True
    masks[1, 1:4, 1:6] = masks[1, 18:23, 30:37] = True
    masks[2, 22, 36] = True
    masks[3] = True
    masks[4] = np.random.default_rng(3).random((HEIGHT, WIDTH)) < 0.5
    masks[5, 3:7, 3:7] = masks[5, 7:11, 7:11] = True
    masks[6] = cv2.GaussianBlur(np.random.default_rng(4).random((HEIGHT, WIDTH)), (0, 0), 3) > 0.5
    return list(masks)


def region(mask: Mask, name: str | None = "Mira", *, shown: bool = True, score: float | None = 0.75) -> dict[str, Any]:
    box = xyxy_from_mask(mask)
    found = {"bbox": box, "area": int(mask.sum()), "mask": rle_from_mask(mask), "shown": shown, "prompt": "p"}
    return found if name is None else {**found, "name": name, "label": "Odran", "score": score}


def write_run(folder: Path, scenes: dict[str, list[dict[str, Any]]]) -> Path:
    folder.mkdir(parents=True)
    for name in scenes:
        (folder.parent / "stills" / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(len(name)).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
        write_image(folder.parent / "stills" / name, pixels)
    record = {"state": "done", "identity": {"scenes": str((folder.parent / "stills").resolve())}}
    (folder / "run.json").write_text(json.dumps(record))
    lines = [{"scene": name, "width": WIDTH, "height": HEIGHT, "regions": rows} for name, rows in scenes.items()]
    (folder / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def describe(run: Path, texts: dict[str, list[str]]) -> None:
    lines = [{"scene": scene, "regions": [{"description": one} for one in found]} for scene, found in texts.items()]
    (run / "descriptions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    masks = [region(mask, name) for mask, name in zip(odd_masks(), ["Mira", "Ōbu <&>\"'"] * 4, strict=False)]
    return write_run(tmp_path / "run", {NAMES[0]: masks, NAMES[1]: masks[::-1], NAMES[2]: []})


def read_back(out: Path) -> dict[str, list[tuple[str, Mask]]]:
    """Read masks with our reader of other tools' annotations."""
    found = {}
    for image in read_boxes(open_boxes(out)).images:
        size = (image.height, image.width)
        parts = []
        for box, shape in zip(image.boxes, image.segmentations, strict=True):
            mask = mask_from_rle(shape if isinstance(shape, dict) else rle_from_polygons(shape, *size))
            assert xyxy_from_mask(mask) == box.box
            parts.append((box.label, mask))
        found[image.name] = parts
    return found


@pytest.mark.parametrize("to", EXACT)
def test_masks_come_back_exactly_from_every_format(run: Path, tmp_path: Path, to: Target) -> None:
    assert main(["export", str(run), "--to", to, "--out", str(tmp_path / "out")]) == 0
    found = read_back(tmp_path / "out")
    assert sorted(found) == sorted(NAMES)
    assert [label for label, _ in found[NAMES[0]]] == (["Mira", "Ōbu <&>\"'"] * 4)[:7]
    for name, masks in ((NAMES[0], odd_masks()), (NAMES[1], odd_masks()[::-1]), (NAMES[2], [])):
        assert [mask.tolist() for _, mask in found[name]] == [mask.tolist() for mask in masks]


@pytest.mark.parametrize("to", [*EXACT, "yolo", "voc", "gt", "pairs"])
def test_the_same_run_gives_the_same_bytes(run: Path, tmp_path: Path, to: Target) -> None:
    trees = []
    for name in ("1", "2"):
        assert export_scenes(run, to, tmp_path / name).exists()
        files = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file() and not path.is_symlink())
        trees.append({path.relative_to(tmp_path / name): path.read_bytes() for path in files})
        assert (tmp_path / name / "images" / NAMES[1]).is_file()
    assert trees[0] == trees[1]


def test_pycocotools_opens_the_coco_file(run: Path, tmp_path: Path) -> None:
    describe(run, {NAMES[0]: ["a ring"] + [""] * 6})
    found = COCO(str(export_scenes(run, "coco", tmp_path / "out")))
    assert [image["file_name"] for image in found.imgs.values()] == NAMES
    assert {one["name"] for one in found.cats.values()} == {"Mira", "Ōbu <&>\"'"}
    for one, mask in zip(found.loadAnns(found.getAnnIds(imgIds=[1])), odd_masks(), strict=True):
        assert (found.annToMask(one) == mask).all()
        assert (one["area"], one["iscrowd"], one["score"]) == (mask.sum(), 0, 0.75)
    assert found.anns[1]["attributes"] == {"label": "Odran", "shown": True, "description": "a ring"}
    assert found.anns[2]["attributes"] == {"label": "Odran", "shown": True}
    assert len(found.loadRes(json.loads((tmp_path / "out" / "coco.json").read_text())["annotations"]).anns) == 14


def unpack(data: list[int]) -> np.ndarray:
    """Decode thi.ng/rle-pack as its source says, from a number of all bits."""
    whole, left = int.from_bytes(bytes(data)), 8 * len(data)

    def read(size: int) -> int:
        nonlocal left
        left -= size
        return whole >> left & ((1 << size) - 1)

    count, word = read(32), read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    values: list[int] = []
    while len(values) < count:
        repeated, length = read(1), read(sizes[read(2)]) + 1
        values += [read(word)] * length if repeated else [read(word) for _ in range(length)]
    assert 0 <= left < 8
    assert len(values) == count
    return np.array(values, np.uint8)


def test_label_studio_gets_pre_annotations_in_its_own_format(run: Path, tmp_path: Path) -> None:
    describe(run, {NAMES[1]: ["noise", *[""] * 6]})
    tasks = json.loads(export_scenes(run, "label-studio", tmp_path / "out").read_text())
    assert [unquote(task["data"]["image"]) for task in tasks] == [f"/data/local-files/?d=stills/{n}" for n in NAMES]
    assert [list(task) for task in tasks] == [["data", "predictions"]] * 3
    (prediction,) = tasks[0]["predictions"]
    assert (prediction["model_version"], prediction["score"]) == ("naruto-vision", 0.75)
    for one, mask in zip(prediction["result"], odd_masks(), strict=True):
        assert (one["type"], one["from_name"], one["to_name"]) == ("brushlabels", "brushlabels", "image")
        assert (one["original_width"], one["original_height"], one["image_rotation"]) == (WIDTH, HEIGHT, 0)
        assert one["value"]["format"] == "rle"
        values = unpack(one["value"]["rle"]).reshape(HEIGHT, WIDTH, 4)
        assert (values == np.where(mask, 255, 0)[..., None]).all()  # RGBA
    texts = [one for one in tasks[1]["predictions"][0]["result"] if one["type"] == "textarea"]
    assert [(one["id"], one["value"]) for one in texts] == [("r1", {"text": ["noise"]})]
    config = parse_xml((tmp_path / "out" / "label_config.xml").read_bytes())
    tags = {tag.get("name"): tag for tag in config.iter() if tag.get("name")}
    assert {one["from_name"] for one in tasks[1]["predictions"][0]["result"]} <= set(tags)
    assert [label.get("value") for label in tags["brushlabels"]] == ["Mira", "Ōbu <&>\"'"]
    again = export_scenes(run, "label-studio", tmp_path / "s3", url="s3://bucket/")
    assert json.loads(again.read_text())[1]["data"]["image"] == "s3://bucket/a.png"


def test_a_long_run_of_a_brush_is_cut() -> None:
    mask = np.zeros((300, 400), np.bool_)
    mask[150:, 7:] = True
    assert (unpack(brush_of_mask(mask)).reshape(300, 400, 4)[..., 3] > 0).tolist() == mask.tolist()
    assert brush_of_mask(mask)[:7] == [0, 7, 83, 0, 0b00111001, 0b00011011, 0b11111111]


def test_cvat_gets_masks_as_it_documents_them(run: Path, tmp_path: Path) -> None:
    describe(run, {NAMES[1]: ["", "a <b> & c", *[""] * 5]})
    root = parse_xml(export_scenes(run, "cvat", tmp_path / "out").read_bytes())
    assert (root.tag, root.findtext("version")) == ("annotations", "1.1")
    assert [one.text for one in root.iterfind("meta/task/labels/label/name")] == ["Mira", "Ōbu <&>\"'"]
    labels = json.loads((tmp_path / "out" / "labels.json").read_text())
    assert [one["name"] for one in labels] == ["Mira", "Ōbu <&>\"'"]
    assert [[one["name"] for one in label["attributes"]] for label in labels] == [["description"]] * 2
    images = root.findall("image")
    assert [(image.get("id"), image.get("name")) for image in images] == list(zip("102", NAMES, strict=True))
    for one, mask in zip(images[0], odd_masks(), strict=True):
        assert (one.tag, one.get("source"), one.get("occluded"), one.get("z_order")) == ("mask", "auto", "0", "0")
        left, top, width, height = (int(one.get(name, "")) for name in ("left", "top", "width", "height"))
        pixels = [k % 2 for k, run in enumerate(one.get("rle", "").split(", ")) for _ in range(int(run))]
        found = np.zeros((HEIGHT, WIDTH), np.bool_)
        found[top : top + height, left : left + width] = np.reshape(pixels, (height, width))
        assert (found == mask).all()
    texts = [(one.get("name"), one.text) for one in images[1].iter("attribute")]
    assert texts == [("description", "a <b> & c")]


def test_yolo_gets_one_polygon_an_object(run: Path, tmp_path: Path) -> None:
    out = export_scenes(run, "yolo-seg", tmp_path / "out").parent
    assert (out / "labels" / "sub" / "Ōé.txt").read_text() == ""
    lines = (out / "labels" / "a.txt").read_text().splitlines()
    assert len(lines) == 7
    drawn = []
    for line in lines[::-1]:
        number, *values = map(float, line.split())
        assert number in (0, 1)
        assert 0 <= min(values) <= max(values) <= 1
        points = (np.reshape(values, (-1, 2)) * (8 * WIDTH, 8 * HEIGHT)).astype(np.int32)  # as Ultralytics draws
        drawn.append(cv2.fillPoly(np.zeros((8 * HEIGHT, 8 * WIDTH), np.uint8), [points], 1) > 0)
    for k in (0, 1, 3, 5, 6):  # with holes, of several parts, whole, touching, round
        large = np.kron(odd_masks()[k], np.ones((8, 8), np.bool_))
        assert (drawn[k] & large).sum() / (drawn[k] | large).sum() > 0.9


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(1, 24), st.integers(1, 24), st.integers(0, 1 << 30), st.floats(0.05, 1))
def test_a_polygon_holds_exactly_the_centres_of_its_mask(height: int, width: int, seed: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < share
    mask[height // 2, width // 2] = True
    polygon = polygon_of_mask(mask)
    assert (mask_from_rle(rle_from_polygons([polygon.ravel().tolist()], height, width)) == mask).all()
    x1, y1, x2, y2 = xyxy_from_mask(mask) or (0, 0, 0, 0)
    assert [*polygon.min(axis=0), *polygon.max(axis=0)] == [x1, y1, x2 + 1, y2 + 1]


def test_named_and_drawn_regions_or_all_are_exported(tmp_path: Path) -> None:
    first, second, third, *_ = odd_masks()
    rows = [region(first), region(second, "unknown"), region(third, shown=False)]
    run = write_run(tmp_path / "run", {"a.png": rows})
    assert [label for label, _ in read_back(export_scenes(run, "coco", tmp_path / "1").parent)["a.png"]] == ["Mira"]
    every = read_back(export_scenes(run, "coco", tmp_path / "2", regions="all").parent)["a.png"]
    assert [label for label, _ in every] == ["Mira", "unknown", "Mira"]
    rows = [{**region(first, None), "predicted_iou": 0.5}, {**region(third, None), "label": "hat"}]
    segmented = write_run(tmp_path / "segmented", {"a.png": rows})
    (segmented / "run.json").write_text(json.dumps({"identity": {"images": str(tmp_path / "stills")}}))
    out = export_scenes(segmented, "coco", tmp_path / "3").parent
    assert [label for label, _ in read_back(out)["a.png"]] == ["region", "hat"]
    assert [one.get("score") for one in json.loads((out / "coco.json").read_text())["annotations"]] == [0.5, None]


def test_pairs_are_crops_with_texts_that_trainers_read(tmp_path: Path) -> None:
    first, second, third, *_ = odd_masks()
    rows = {"a.png": [region(first), region(second)], "sub/b.png": [region(third)], "gone.png": [region(first)]}
    run = write_run(tmp_path / "run", rows)
    describe(run, {"sub/b.png": ['a "dot",\nred'], "a.png": ["", "two parts"]})  # in any order
    (tmp_path / "stills" / "gone.png").unlink()
    table = export_scenes(run, "pairs", tmp_path / "out")
    texts = ["Mira", "Mira: two parts", 'Mira: a "dot",\nred']
    assert [row.text for row in read_captions(table).rows] == texts
    with table.open(newline="") as file:
        assert [row["text"] for row in csv.DictReader(file)] == texts
    lines = [json.loads(line) for line in (table.parent / "metadata.jsonl").read_text().splitlines()]
    assert [(one["scene"], one["bbox"], one["text"]) for one in lines] == [
        (scene, list(xyxy_from_mask(mask) or ()), text)
        for scene, mask, text in zip(["a.png", "a.png", "sub/b.png"], [first, second, third], texts, strict=True)
    ]
    webdataset = pytest.importorskip("webdataset")
    with tarfile.open(tmp_path / "00000.tar", "w") as tar:
        tar.add(table.parent / "00000", ".")
    samples = list(webdataset.WebDataset(str(tmp_path / "00000.tar"), shardshuffle=False).decode("rgb8"))
    assert [one["txt"] for one in samples] == texts
    assert [one["jpg"].shape for one in samples] == [(18, 27, 3), (22, 36, 3), (1, 1, 3)]
    assert "gone.png" in (table.parent / "quarantine.jsonl").read_text()


def test_pairs_without_texts_or_images_say_what_is_missing(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", {"a.png": [region(odd_masks()[0], None)]})
    with pytest.raises(InputError, match="no region has a name or a description; `naruto-vision describe`"):
        export_scenes(run, "pairs", tmp_path / "out")
    (run / "run.json").unlink()
    with pytest.raises(InputError, match="give --images DIR"):
        export_scenes(run, "pairs", tmp_path / "out")
    describe(run, {"a.png": ["one", "too many"]})
    with pytest.raises(FormatError, match=r"descriptions.jsonl: expected 1 regions of scene 'a.png', found 2"):
        export_scenes(run, "pairs", tmp_path / "out", images=tmp_path / "stills")
    describe(run, {"a.png": ["a ring"]})
    write_image(tmp_path / "stills" / "a.png", np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(InputError, match="has 9x9 pixels, its regions are of 37x23"):
        export_scenes(run, "pairs", tmp_path / "out", images=tmp_path / "stills")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"scene": "../../x.png"}, "a 'scene' that is a path inside the folder of images"),
        ({"scene": "\ud83d.png"}, "surrogates not allowed"),
        ({"scene": "/x.png"}, "a 'scene' that is a path inside"),
        ({"width": 20}, "boxes inside an image of 'width' and 'height'"),
        ({"width": 40}, "masks of 23x40 pixels for scene 'a.png'"),
        ({"regions": [{**region(odd_masks()[0]), "score": float("nan")}]}, "NaN, expected a finite number"),
        ({"regions": [{**region(odd_masks()[0]), "bbox": [5, 0, 1, 1]}]}, "inclusive corners"),
        (
            {"regions": [{**region(odd_masks()[0]), "mask": {"size": [23, 37], "counts": "0"}}]},
            "masks of scene 'a.png'",
        ),
        ({"regions": 3}, "a list"),
    ],
)
def test_a_damaged_run_is_one_line_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], words: str
) -> None:
    run = write_run(tmp_path / "run", {"a.png": [region(odd_masks()[0])]})
    record = json.loads((run / "predictions.jsonl").read_text())
    (run / "predictions.jsonl").write_text(json.dumps({**record, **change}) + "\n")
    assert main(["export", str(run), "--to", "yolo-seg", "--out", str(tmp_path / "out")]) == 2
    text = capsys.readouterr().err
    assert words in text
    assert text.count("\n") == 1
    assert not [path for path in tmp_path.iterdir() if path.name not in {"run", "stills"}]


def test_names_that_xml_cannot_hold_are_escaped(tmp_path: Path) -> None:
    name = "bad\x01\udce9\ufffe.png"
    run = write_run(tmp_path / "run", {})
    line = {"scene": name, "width": WIDTH, "height": HEIGHT, "regions": [region(odd_masks()[0], "a\x02]]>")]}
    (run / "predictions.jsonl").write_text(json.dumps(line) + "\n")
    targets: list[Target] = ["coco", "cvat", "voc", "gt"]
    for to in targets:
        target = export_scenes(run, to, tmp_path / to)
        for path in target.rglob("*.xml") if to == "voc" else [target]:
            if path.suffix == ".xml":
                assert "a\\u0002]]>" in "".join(parse_xml(path.read_bytes()).itertext())
            else:
                found = json.loads(path.read_text())
                assert name in ([one["file_name"] for one in found["images"]] if to == "coco" else found)


def test_memory_does_not_grow_with_the_run(tmp_path: Path) -> None:
    def peak(scenes: int) -> int:
        run = write_run(tmp_path / str(scenes), {})
        with (run / "predictions.jsonl").open("w") as lines, (run / "descriptions.jsonl").open("w") as texts:
            for k in range(scenes):
                record = {"scene": f"{k}.png", "width": WIDTH, "height": HEIGHT, "regions": [region(odd_masks()[5])]}
                lines.write(json.dumps(record) + "\n")
                texts.write(json.dumps({"scene": f"{k}.png", "regions": [{"description": "x" * 5000}]}) + "\n")
        source = open_scenes(run)
        tracemalloc.start()
        for scene in source.scenes():
            assert len(list(scene.objects)) == 1
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(2)  # imports
    assert peak(100) < peak(10) + 50_000


def test_cvat_boxes_and_polygons_are_read_and_the_rest_is_counted(tmp_path: Path) -> None:
    write_image(tmp_path / "images" / "a.png", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    mask = 'rle="1, 2, 3" left="{left}" top="2" width="3" height="2"'
    shapes = [
        '<box label="Mira" xtl="2.00" ytl="3.00" xbr="5.00" ybr="9.00" rotation="90"/>',
        '<polygon label="Mira" points="1.00,1.00;9.00,1.00;9.00,5.00"/>',
        f'<mask label="Odran" {mask.format(left=4)}/>',
        f'<mask label="Odran" {mask.format(left=36)}/>',
        f'<mask label="Odran" {mask.format(left=4).replace("3,", "4,").replace("2, 3", "2, 9")}/>',
        '<ellipse label="Mira" cx="3" cy="3" rx="1" ry="1"/>',
        '<tag label="night"/>',
    ]
    text = f'<annotations><version>1.1</version><image id="0" name="a.png" width="37" height="23">{"".join(shapes)}'
    (tmp_path / "annotations.xml").write_text(f"<?xml version='1.0'?>{text}</image></annotations>")
    found = read_boxes(open_boxes(tmp_path))
    assert [(one.label, one.box) for one in found.images[0].boxes] == [
        ("Mira", (1, 5, 6, 7)),
        ("Mira", (1, 1, 8, 4)),
        ("Odran", (5, 2, 6, 2)),
    ]
    assert found.classes == ("Mira", "Odran")
    assert "1 boxes of a kind that is not read" in found.summary()
    assert "1 boxes that is damaged (a mask that leaves the image)" in found.summary()
    assert "1 boxes that is damaged (run-length mask" in found.summary()
    (tmp_path / "annotations.xml").write_text("<annotations><image></annotations>")
    with pytest.raises(FormatError, match="XML of CVAT for images"):
        read_boxes(open_boxes(tmp_path / "annotations.xml"))


def test_corrected_masks_are_truth(run: Path, tmp_path: Path) -> None:
    targets: list[Target] = ["label-studio", "cvat", "yolo-seg"]
    for to in targets:
        corrected = export_scenes(run, to, tmp_path / to).parent
        truth = export_scenes(corrected, "coco", tmp_path / f"{to}-truth")
        source = CocoMasks(str(truth.parent))
        assert source[source.names.index(NAMES[0])].masks.tolist() == [mask.tolist() for mask in odd_masks()]
    gt = str(tmp_path / "yolo-seg-truth" / "coco.json")
    preds = export_scenes(run, "gt", tmp_path / "gt")
    for name, rows in json.loads(preds.read_text()).items():
        file = run / "json" / f"{name}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"scene": name, "preds": [{**row, "score": 1} for row in rows]}))
    words = ["evaluate", "--gt", gt, "--preds-dir", str(run), "--gt-masks", gt, "--bootstrap", "0"]
    assert main([*words, "--json-out", str(tmp_path / "results.json")]) == 0
    fragments = json.loads((tmp_path / "results.json").read_text())["fragments"]
    assert (fragments["mask_recall"]["count"], fragments["mask_recall"]["total"]) == (14, 14)


def test_what_an_unfinished_run_has_is_exported_with_a_warning(run: Path, tmp_path: Path, caplog: Any) -> None:
    (run / "run.json").write_text(json.dumps({"state": "running", "identity": {}}))
    with (run / "predictions.jsonl").open("a") as lines:
        lines.write('{"scene": "torn')
    assert len(json.loads(export_scenes(run, "gt", tmp_path / "out").read_text())) == 3
    assert "the run has not finished; its first 3 scenes are exported" in caplog.text
    assert not (tmp_path / "out" / "images").exists()
