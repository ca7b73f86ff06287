"""Boxes and masks survive the way through every format: to the pixel, masks without loss."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO

from naruto_vision.cli.main import main
from naruto_vision.data.exporting import export_scenes, open_scenes
from naruto_vision.data.ground_truth import read_gt
from naruto_vision.errors import InputError, MissingPathError
from naruto_vision.export.writers import Target, write_gt
from naruto_vision.geometry import rle_from_mask
from naruto_vision.io.images import write_image
from naruto_vision.io.locks import folder_lock, lock_beside
from naruto_vision.records import LabelledBox

SIZES = {"a.png": (48, 32), "b c.jpg": (37, 53), "sub/d.png": (64, 64)}


def truth_folder(folder: Path, seed: int = 0) -> dict[str, tuple[LabelledBox, ...]]:
    random = np.random.default_rng(seed)
    truth: dict[str, tuple[LabelledBox, ...]] = {}
    for name, (width, height) in SIZES.items():
        (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(folder / "images" / name, np.zeros((height, width, 3), np.uint8))
        boxes = []
        for _ in range(12):
            (x1, x2), (y1, y2) = (sorted(random.integers(0, side, 2).tolist()) for side in (width, height))
            boxes.append(LabelledBox((x1, y1, x2, y2), str(random.choice(["Mira", "Ōbu <&>"]))))
        truth[name] = (*boxes, LabelledBox((0, 0, width - 1, height - 1), "Mira"))
    truth["sub/d.png"] = ()
    write_gt(folder / "gt.json", truth.items())
    return truth


@pytest.mark.parametrize("to", ["coco", "yolo", "yolo-seg", "voc", "cvat", "label-studio", "gt"])
@pytest.mark.parametrize("seed", range(4))
def test_boxes_come_back_to_the_pixel(tmp_path: Path, to: Target, seed: int) -> None:
    truth = truth_folder(tmp_path / "source", seed)
    target = export_scenes(tmp_path / "source", to, tmp_path / "out")
    assert target.exists()
    assert read_gt(tmp_path / "out") == truth


def test_masks_of_coco_come_back_without_loss(tmp_path: Path) -> None:
    truth_folder(tmp_path)
    mask = np.random.default_rng(1).random((32, 48)) < 0.4
    runs, value = [0], False
    for pixel in mask.T.ravel().tolist():
        runs += [0] if pixel != value else []
        value = pixel
        runs[-1] += 1
    polygon = [[1.5, 2.25, 20.75, 3.0, 9.125, 30.5]]
    segmentations: list[Any] = [rle_from_mask(mask), {"size": [32, 48], "counts": runs}, polygon, None]
    annotations = [
        {"id": k, "image_id": 5, "category_id": 2, "bbox": [1, 2, 20, 29], **({"segmentation": one} if one else {})}
        for k, one in enumerate(segmentations)
    ]
    images = [{"id": 5, "file_name": "a.png", "width": 48, "height": 32}]
    source = {"images": images, "annotations": annotations, "categories": [{"id": 2, "name": "Mira"}]}
    (tmp_path / "masks.json").write_text(json.dumps(source))
    assert main(["export", str(tmp_path / "masks.json"), "--to", "coco", "--out", str(tmp_path / "1")]) == 0
    assert main(["export", str(tmp_path / "1" / "coco.json"), "--to", "coco", "--out", str(tmp_path / "2")]) == 0
    assert (tmp_path / "1" / "coco.json").read_bytes() == (tmp_path / "2" / "coco.json").read_bytes()
    theirs, ours = COCO(str(tmp_path / "masks.json")), COCO(str(tmp_path / "2" / "coco.json"))
    for number, segmentation in enumerate(segmentations[:3]):
        assert (ours.annToMask(ours.anns[number + 1]) == theirs.annToMask(theirs.anns[number])).all()
        if segmentation is not polygon:
            assert (ours.annToMask(ours.anns[number + 1]).astype(bool) == mask).all()
            assert ours.anns[number + 1]["area"] == mask.sum()
    assert ours.anns[3]["segmentation"] == polygon
    assert "segmentation" not in ours.anns[4]
    assert {one["name"] for one in ours.loadCats(ours.getCatIds())} == {"Mira"}


def test_nothing_is_overwritten_and_no_two_images_share_a_file(tmp_path: Path) -> None:
    truth_folder(tmp_path)
    with pytest.raises(InputError, match="is not empty; give another --out"):
        export_scenes(tmp_path, "gt", tmp_path)
    out = tmp_path / "out"
    with folder_lock(out, file=lock_beside(out)), pytest.raises(InputError, match=r"out: process \d+ is writing into"):
        export_scenes(tmp_path, "gt", out)
    write_image(tmp_path / "images" / "a.jpg", np.zeros((8, 8, 3), np.uint8))
    write_gt(tmp_path / "gt.json", [("a.jpg", []), ("a.png", [])])
    targets: list[Target] = ["yolo", "yolo-seg", "voc"]
    for to in targets:
        with pytest.raises(InputError, match=r"a\.jpg and a\.png would share one file"):
            export_scenes(tmp_path, to, tmp_path / to)
        assert not (tmp_path / to).exists()
    with pytest.raises(InputError, match="no ground truth; expected"):
        open_scenes(tmp_path / "images")


def test_a_scene_without_an_image_is_named_and_a_pipe_is_none(tmp_path: Path) -> None:
    truth_folder(tmp_path)
    image = tmp_path / "images" / "a.png"
    image.unlink()
    for replace in (os.mkfifo, os.remove):
        with pytest.raises(MissingPathError, match=r"a\.png: no such image"):
            open_scenes(tmp_path)
        replace(image)


def test_evaluate_takes_boxes_of_other_tools(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = truth_folder(tmp_path)
    for name, boxes in truth.items():
        path = tmp_path / "preds" / "json" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        preds = [{"bbox": list(box.box), "label": box.label, "score": 0.5} for box in boxes[1:]]
        path.write_text(json.dumps({"scene": name, "preds": preds}))
    results = []
    targets: list[Target] = ["gt", "coco", "voc", "yolo", "cvat", "label-studio"]
    for to in targets:
        out = tmp_path / to
        target = export_scenes(tmp_path, to, out)
        gt = target if to in {"coco", "cvat"} else out
        arguments = [
            "--preds-dir",
            str(tmp_path / "preds"),
            "--bootstrap",
            "0",
            "--json-out",
            str(out / "results.json"),
        ]
        assert main(["evaluate", "--gt", str(gt), *arguments, "--sheet", str(out / "sheet.png")]) == 0
        assert (out / "sheet.png").is_file()
        results.append(json.loads((out / "results.json").read_text()) | {"run": ""})
    assert results[0]["object_accuracy"]["count"] > 20
    assert results[1:] == results[:1] * 5
    assert "COCO boxes of" in capsys.readouterr().err
