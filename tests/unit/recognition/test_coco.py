"""The COCO file of a run: other programs read it, masks are those of the record, and it can be turned off."""

import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from naruto_vision.data.ground_truth import read_gt
from naruto_vision.geometry import mask_from_rle
from naruto_vision.recognition.coco import CocoObject, CocoScene, write_coco
from naruto_vision.recognition.writer import SceneWriter, WriterConfig
from naruto_vision.records import Identity, Region, ScenePrediction
from naruto_vision.segmentation.crops import CropConfig

SCENES = ["a.png", "bad.png", "sub/ò.png"]


def finished(out: Path, settings: WriterConfig | None = None) -> Path:
    writer = SceneWriter(out, SCENES, ["Mira", "Odran"], {}, crop=CropConfig(), settings=settings)
    mask = np.random.default_rng(0).random((20, 15)) < 0.7
    mask[0] = mask[-1] = mask[:, 0] = mask[:, -1] = True
    regions = (Region((5, 6, 19, 25), mask), Region((30, 6, 44, 25), mask[:, ::-1]))
    identities = (Identity("Odran", 0.91), Identity("Mira", 0.3, known=False))
    for scene in (SCENES[0], SCENES[2]):
        writer.write(np.zeros((48, 64, 3), np.uint8), ScenePrediction(scene, 64, 48, regions, identities))
    writer.close()
    writer.finish([("bad.png", "empty")], {})
    return out


def test_other_programs_read_the_predictions(tmp_path: Path) -> None:
    path = finished(tmp_path) / "coco.json"
    found = COCO(str(path))
    assert {number: image["file_name"] for number, image in found.imgs.items()} == {1: "a.png", 3: "sub/ò.png"}
    assert [one["name"] for one in found.loadCats(found.getCatIds())] == ["Mira", "Odran"]
    records = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    regions = [region for record in records for region in record["regions"]]
    for one, region in zip(found.anns.values(), regions, strict=True):
        assert one["segmentation"] == region["mask"]
        assert (found.annToMask(one).astype(bool) == mask_from_rle(region["mask"])).all()
        assert one["area"] == region["area"] == found.annToMask(one).sum()
        assert found.cats[one["category_id"]]["name"] == region["label"]
        assert one["score"] == region["score"]
        assert one["attributes"] == {"name": region["name"], "shown": region["shown"]}
        x1, y1, x2, y2 = region["bbox"]
        assert one["bbox"] == [x1, y1, x2 - x1 + 1, y2 - y1 + 1]


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_annotations_are_detection_results_of_pycocotools(tmp_path: Path, kind: str) -> None:
    truth = COCO(str(finished(tmp_path) / "coco.json"))
    results = truth.loadRes(json.loads((tmp_path / "coco.json").read_text())["annotations"])
    judged = COCOeval(truth, results, kind)
    judged.evaluate()
    judged.accumulate()
    judged.summarize()
    assert judged.stats[0] == pytest.approx(1.0)


def test_it_reads_back_as_ground_truth_and_can_be_turned_off(tmp_path: Path) -> None:
    (tmp_path / "on" / "images").mkdir(parents=True)
    boxes = read_gt(finished(tmp_path / "on") / "coco.json")
    assert list(boxes) == ["a.png", "sub/ò.png"]
    assert [(one.box, one.label) for one in boxes["a.png"]] == [((5, 6, 19, 25), "Odran"), ((30, 6, 44, 25), "Mira")]
    assert not (finished(tmp_path / "off", WriterConfig(coco=False)) / "coco.json").exists()


def test_labels_that_only_objects_have_follow_and_nothing_is_a_file_too(tmp_path: Path) -> None:
    path = tmp_path / "coco.json"
    write_coco(
        path, lambda: [CocoScene(n, f"{n}.png", 9, 9, [CocoObject("New", (0, 0, 1, 2))]) for n in (4, 7)], ["Mira"]
    )
    document = json.loads(path.read_text())
    assert [one["name"] for one in document["categories"]] == ["Mira", "New"]
    assert [(one["id"], one["image_id"], one["category_id"]) for one in document["annotations"]] == [
        (1, 4, 2),
        (2, 7, 2),
    ]
    write_coco(path, list, [])
    assert json.loads(path.read_text()) == {"images": [], "annotations": [], "categories": []}
