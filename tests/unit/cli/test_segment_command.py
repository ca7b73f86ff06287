"""``segment``: prompts from the command line, files for each image, resuming, what cannot be used, alerts."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from naruto_vision.cli.main import main
from naruto_vision.encoders.base import embed_images
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.encoders.tiny import TinySizes
from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.geometry import mask_from_rle
from naruto_vision.io.images import read_image, write_image
from naruto_vision.prompting import writer
from naruto_vision.records import ImageArray
from naruto_vision.segmentation.protocol import SceneEmbedding
from naruto_vision.segmentation.sam import SamModel

BOX = "30,44,10,6"
"""Of the figure, by its corners at the bottom right and the top left."""


def figure(colour: tuple[int, int, int] = (200, 60, 40)) -> ImageArray:
    image = np.full((48, 64, 3), 240, np.uint8)
    image[6:45, 10:31] = colour
    return image


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three images, one of them in a sub-folder, and one that cannot be read; we stand beside their folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png", "sub/a.png"):
        write_image(tmp_path / "in" / name, figure())
    (tmp_path / "in" / "c.jpg").write_bytes(b"\xff\xd8\xff broken")
    return tmp_path


def lines(out: str = "runs/segment") -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(out, "predictions.jsonl").read_text(encoding="utf-8").splitlines()]


def run_json(out: str = "runs/segment") -> dict[str, Any]:
    document: dict[str, Any] = json.loads(Path(out, "run.json").read_text(encoding="utf-8"))
    return document


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["segment", *words]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("naruto-vision: error: ")
    return error


@pytest.mark.usefixtures("place")
def test_a_box_and_points_give_the_files_of_the_reference(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["in/a.png", "--box", BOX, "--point", "20,20,1", "--point", "50,40,0"]
    assert main(["segment", *words]) == 0
    shown = capsys.readouterr().out
    assert "1 of 1 images segmented; 1 regions" in shown
    assert "region 1: score " in shown
    assert "look at runs/segment/overlay" in shown
    (record,) = lines()
    (region,) = record["regions"]
    assert (record["scene"], record["width"], record["height"], len(record["sha256"])) == ("a.png", 64, 48, 64)
    assert region["box"] == [10.0, 6.0, 30.0, 44.0]
    assert region["points"] == [{"x": 20.0, "y": 20.0, "label": 1}, {"x": 50.0, "y": 40.0, "label": 0}]
    mask = mask_from_rle(region["mask"])
    assert mask.sum() == region["area"]
    assert mask[8:42, 12:28].mean() > 0.9
    points = json.loads(Path("runs/segment/a_points.json").read_text(encoding="utf-8"))
    assert (points["n_points"], points["points"]) == (2, region["points"])
    (metrics,) = json.loads(Path("runs/segment/a_metrics.json").read_text(encoding="utf-8"))
    own = metrics["masks"][metrics["chosen"]]
    assert (own["area_px"], own["mask_bbox"], own["perimeter"]) == (
        region["area"],
        region["bbox"],
        pytest.approx(region["perimeter"]),
    )
    assert metrics["chosen"] == int(np.argmax([one["score"] for one in metrics["masks"]]))
    drawn, image = read_image("runs/segment/overlay_a.png"), figure()
    inside = mask.copy()
    inside[[6, 44], :] = inside[:, [10, 30]] = False  # the box is drawn over the mask
    tinted = (image[inside].astype(float) + np.array([255, 0, 0])) / 2
    assert np.abs(drawn[inside] - tinted).max() <= 1
    assert (drawn[6, 10:31] == [0, 255, 0]).all()
    coco = json.loads(Path("runs/segment/coco.json").read_text(encoding="utf-8"))
    assert [one["bbox"][:2] for one in coco["annotations"]] == [region["bbox"][:2]]
    Path("gt.json").write_text(json.dumps({"a.png": []}), encoding="utf-8")
    assert main(["evaluate", "--gt", "gt.json", "--preds-dir", "runs/segment"]) == 2
    assert "the folder is of `segment`, which names no characters: evaluate" in capsys.readouterr().err


@pytest.mark.usefixtures("place")
def test_overlays_number_regions_from_one(monkeypatch: pytest.MonkeyPatch) -> None:
    tags = []
    draw = writer.draw_regions
    monkeypatch.setattr(
        writer, "draw_regions", lambda image, drawn: (tags.extend(each.text for each in drawn), draw(image, drawn))[1]
    )
    assert main(["segment", "in/a.png", "--box", BOX, "--box", "40,4,60,30"]) == 0
    assert sorted(tags) == ["1", "2"]


@pytest.mark.usefixtures("place")
def test_a_mask_is_chosen_by_its_index_and_several_boxes_are_objects() -> None:
    assert main(["segment", "in/a.png", "--box", BOX, "--box", "40,4,60,30", "--mask", "0", "--out", "out"]) == 0
    (record,) = lines("out")
    assert [region["mask_index"] for region in record["regions"]] == [0] * len(record["regions"])
    assert record["regions"][0]["box"] == [10.0, 6.0, 30.0, 44.0]
    assert Path("out/overlay_a_m0.png").is_file()
    assert len(json.loads(Path("out/a_metrics.json").read_text(encoding="utf-8"))) == 2


def test_a_folder_is_segmented_bad_files_are_counted_and_a_second_run_resumes(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["segment", "in", "--box", BOX]) == 0
    counts = run_json()["counts"]
    assert counts == {"seen": 4, "ok": 3, "quarantined": 1, "regions": 3}
    assert "c.jpg: not an image of a format that is read" in capsys.readouterr().out
    first = Path("runs/segment/predictions.jsonl").read_bytes()
    assert [record["scene"] for record in lines()] == ["a.png", "b.png", "sub/a.png"]
    assert Path("runs/segment/sub/overlay_a.png").is_file()
    assert Path("runs/segment/overlay/sub/a_overlay.jpg").is_file()
    Path("runs/segment/predictions.jsonl").write_bytes(b"".join(first.splitlines(keepends=True)[:1]))
    assert main(["segment", "in", "--box", BOX]) == 0
    assert "1 of 4 images were already done" in capsys.readouterr().err
    assert Path("runs/segment/predictions.jsonl").read_bytes() == first
    write_image(place / "in" / "b.png", figure((20, 120, 60)))
    assert main(["segment", "in", "--box", BOX]) == 0
    assert "1 images have changed" in capsys.readouterr().err
    assert sorted(record["scene"] for record in lines()) == ["a.png", "b.png", "sub/a.png"]


@pytest.mark.usefixtures("place")
def test_other_prompts_need_another_folder_or_force(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["segment", "in/a.png", "--box", BOX]) == 0
    other = refused(capsys, "in/a.png", "--point", "20,20,1")
    assert "holds results of another run (different prompts); give another --out, or --force to replace them" in other
    assert main(["segment", "in/a.png", "--point", "20,20,1", "--force"]) == 0
    assert lines()[0]["regions"][0]["box"] is None
    Path("mine").mkdir()
    Path("mine/notes.txt").write_text("keep", encoding="utf-8")
    words = ("in/a.png", "--point", "20,20,1", "--force", "--out", "mine")
    assert "--force removes results of naruto-vision only" in refused(capsys, *words)
    assert Path("mine/notes.txt").is_file()


@pytest.mark.usefixtures("place")
def test_each_file_has_its_own_prompts(capsys: pytest.CaptureFixture[str]) -> None:
    prompts = {"a.png": {"boxes": [[10, 6, 30, 44]]}, "b.png": {"points": [{"x": 20, "y": 20, "label": 1}]}}
    Path("p.json").write_text(json.dumps(prompts), encoding="utf-8")
    assert main(["segment", "in/a.png", "in/b.png", "in/sub", "--prompts", "p.json"]) == 0
    assert [record["regions"][0]["prompt"] for record in lines()] == ["box 10,6,30,44", "20,20", "box 10,6,30,44"]
    Path("p.json").write_text(json.dumps({"a.png": prompts["a.png"]}), encoding="utf-8")
    assert main(["segment", "in/a.png", "in/b.png", "--prompts", "p.json", "--out", "out"]) == 0
    assert run_json("out")["quarantined"] == [
        {"scene": "b.png", "reason": "b.png: has no prompts in the file of --prompts"}
    ]
    capsys.readouterr()
    points = "runs/segment/b_points.json"  # what one run wrote is read back for all images
    assert main(["segment", "in/a.png", "in/b.png", "--prompts", points, "--out", "again"]) == 0
    assert [record["regions"][0]["prompt"] for record in lines("again")] == ["20,20", "20,20"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "expected a box or a point, found none; give --box x1,y1,x2,y2 or --point x,y,1"),
        (("--box", "1,2,3"), "argument --box: expected x1,y1,x2,y2, found '1,2,3'"),
        (("--point", "1,2,5"), "argument --point: expected x,y,1 (on the object) or x,y,0 (on the background)"),
        (("--point", "200,5,1"), "a.png: point 200,5: is outside the image of 64x48 pixels"),
        (("--box", "1,2,300,4"), "a.png: box 1,2,300,4: is outside the image of 64x48 pixels"),
        (("--box", "9,20,30,20"), "a.png: box 9,20,30,20: has no area; give two opposite corners"),
        (("--box", BOX, "--weights", "gone.pth"), "gone.pth: no such SAM weights; give tiny-sam, an official name"),
        (("--box", "1,2,9,40", "--min-side", "10"), "expected sides of at least 10 pixels, found 8 and 38"),
        (("--box", "1,2,9,9", "--box", "1,2,8,8", "--point", "2,2,1"), "points belong to one box, found 2"),
        (("--box", BOX, "--prompts", "p.json"), "expected either --prompts or --box and --point"),
        (("--prompts", "no.json"), "no.json: no such file of prompts"),
        (("--box", BOX, "--weights", "vit_b9"), "vit_b9: no such SAM weights; give tiny-sam, an official name"),
        (("--box", BOX, "--gallery", "none"), "none"),
        (("--box", BOX, "--alert", "x=1"), "--alert x=1: expected NAME=NUMBER"),
    ],
)
@pytest.mark.usefixtures("place")
def test_what_is_wrong_is_said_in_one_line(
    words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refused(capsys, "in/a.png", *words)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{", "not JSON"),
        ('{"n_points": 2, "points": [{"x": 1, "y": 2}]}', "expected n_points points, found n_points 2 and 1 points"),
        ('{"points": [{"x": 1, "y": 2, "label": 3}]}', "expected labels 1 (object) and 0 (background), found 3"),
        ('{"a.png": {"boxes": [[1, 2, 3]]}}', "boxes[0]"),
        ('{"a.png": {}}', "p.json: a.png: prompts: expected a box or a point"),
    ],
)
@pytest.mark.usefixtures("place")
def test_prompts_of_a_broken_file_are_refused(document: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("p.json").write_text(document, encoding="utf-8")
    assert message in refused(capsys, "in/a.png", "--prompts", "p.json")


@pytest.mark.usefixtures("place")
def test_a_small_box_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["segment", "in/a.png", "--box", "10,6,22,44"]) == 0
    assert "a box of 12x38 pixels has a side under 20" in capsys.readouterr().out


@pytest.mark.usefixtures("place")
def test_masks_are_refined_and_cleaned_by_options() -> None:
    assert main(["segment", "in/a.png", "--box", BOX, "--refine", "1", "--clean"]) == 0
    assert "refine=1, clean=True" in run_json()["identity"]["settings"]


@pytest.mark.usefixtures("place")
def test_alerts_are_shown_logged_and_may_fail_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    alert = ["--alert", "p95_ms=0.001", "--alert", "median_score=0", "--alert", "low_share=1", "--logs", "logs"]
    assert main(["segment", "in", "--box", BOX, *alert]) == 0
    assert "alert: segmenting images up to 0.5 MP: p95 in ms" in capsys.readouterr().out
    run = run_json()
    assert len(run["alerts"]) == 1
    assert run["monitor"]["ms_by_size"]["up to 0.5 MP"]["scenes"] == 3
    assert run["monitor"]["masks"]["count"] == 3
    assert list(Path("logs/segment/version_0").glob("events.out.tfevents.*"))
    assert main(["segment", "in", "--box", BOX, *alert, "--fail-on-alert"]) == 1
    assert not Path("logs/segment/version_1").exists()  # nothing new was segmented
    assert main(["segment", "in", "--box", BOX, *alert, "--alert", "p95_ms=1e9", "--fail-on-alert"]) == 0


@pytest.mark.usefixtures("place")
def test_everything_is_segmented_from_a_grid(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["segment", "grid", "in", "--points-per-side", "4", "--predicted-iou", "0.3", "--stability", "0.3"]
    assert main(words) == 0
    assert "3 of 4 images segmented, 1 could not be used" in capsys.readouterr().out
    areas = [max(region["area"] for region in record["regions"]) for record in lines()]
    assert min(areas) > 0.7 * 39 * 21
    assert main([*words, "--predicted-iou", "1", "--out", "none"]) == 0
    assert "no mask passes the thresholds: lower --predicted-iou or --stability (3 images)" in capsys.readouterr().out


def test_a_gallery_names_the_masks_and_chooses_by_the_margin(place: Path) -> None:
    torch.manual_seed(0)
    sizes = TinySizes(
        embed_dim=16, image_size=24, patch_size=12, vision_width=32, vision_layers=1, text_width=32, text_layers=1
    )
    ClipEncoder("tiny-clip", "random", sizes=sizes).save("bundle")
    encoder = ClipEncoder("bundle").eval()
    images = [figure(), figure((40, 60, 200))]
    rows = [GalleryRow("1.png", "ayame"), GalleryRow("2.png", "kenta")]
    vectors = embed_images(encoder, images, mirror=True).numpy()
    note = {"encoder": encoder.recipe, "mirror": True}
    Gallery.build(vectors, rows, fingerprint=encoder.fingerprint, note=note).save("gallery")
    assert main(["segment", str(place / "in" / "a.png"), "--box", BOX, "--gallery", "gallery"]) == 0
    (region,) = lines()[0]["regions"]
    named = region["identities"]
    assert len(named) == 3
    assert region["label"] in {"ayame", "kenta"}
    near = [index for index, score in enumerate(region["scores"]) if score >= max(region["scores"]) - 0.1]
    assert region["mask_index"] == max(near, key=lambda index: named[index]["margin"])
    assert region["margin"] == named[region["mask_index"]]["margin"]


@pytest.mark.usefixtures("place")
def test_an_image_that_fails_in_the_model_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    embed = SamModel.embed

    def fail(model: SamModel, image: ImageArray) -> SceneEmbedding:
        if image[20, 20, 0] == 20:
            raise RuntimeError("activations overflow\nsecond line")
        return embed(model, image)

    monkeypatch.setattr(SamModel, "embed", fail)
    write_image("in/b.png", figure((20, 120, 60)))
    assert main(["segment", "in", "--box", BOX]) == 0
    assert "b.png: fails in the segmentation (RuntimeError: activations overflow)" in capsys.readouterr().out
    assert [record["scene"] for record in lines()] == ["a.png", "sub/a.png"]


@pytest.mark.usefixtures("place")
def test_results_of_other_images_are_kept_and_not_counted() -> None:
    assert main(["segment", "in/a.png", "--box", BOX]) == 0
    write_image("in/b.png", figure((20, 120, 60)))
    assert main(["segment", "in/b.png", "--box", BOX]) == 0
    assert run_json()["counts"] == {"seen": 1, "ok": 1, "quarantined": 0, "regions": 1, "absent": 1}
    assert run_json()["monitor"]["masks"]["count"] == 1
    assert [record["scene"] for record in lines()] == ["a.png", "b.png"]
