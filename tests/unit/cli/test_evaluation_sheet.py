"""``evaluate --sheet``: which scenes are drawn, and in which colours."""

import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from naruto_vision.cli.main import main
from naruto_vision.io.images import read_image, write_image
from naruto_vision.metrics.evaluation import ObjectReason, PredictionReason
from naruto_vision.records import ImageArray
from naruto_vision.viz.sheets import REASON_COLOURS, Theme, draw_evaluation_sheet, worst_scenes

BELOW = 80  # of the legend, sheet pixels
BOX, OTHER = [8, 24, 47, 55], [4, 4, 30, 15]


def scene(name: str, objects: list[str], preds: list[str] | None = None) -> dict[str, Any]:
    return {
        "scene": name,
        "objects": [{"bbox": BOX, "label": "Koba", "reason": reason, "answer": "Odran"} for reason in objects],
        "preds": [{"bbox": OTHER, "label": "Koba", "score": 0.5, "reason": reason} for reason in preds or []],
    }


def drawn(folder: Path, one: dict[str, Any]) -> ImageArray:
    write_image(folder / one["scene"], np.full((64, 64, 3), 255, dtype=np.uint8))
    sheet, lost = draw_evaluation_sheet([one], folder)
    assert lost == 0
    return sheet[BELOW:]


def pixels(sheet: ImageArray, reason: str) -> int:
    return int((sheet == REASON_COLOURS[reason]).all(axis=2).sum())


def test_every_reason_has_a_colour_of_its_own() -> None:
    assert set(REASON_COLOURS) == {*get_args(ObjectReason), *get_args(PredictionReason)}
    assert len(set(REASON_COLOURS.values())) == len(REASON_COLOURS)


def test_scenes_with_most_mistakes_come_first_and_those_without_not_at_all() -> None:
    scenes = [
        scene("good.png", ["right"], ["right", "unnamed"]),
        scene("claims.png", ["right"], ["background", "part"]),
        scene("b.png", ["missed", "right"]),
        scene("a.png", ["unknown", "right"]),
        scene("worst.png", ["missed", "wrong name"]),
        scene("noisy.png", ["missed"], ["duplicate"]),
    ]
    names = [one["scene"] for one in worst_scenes(scenes)]
    assert names == ["worst.png", "noisy.png", "a.png", "b.png", "claims.png"]
    assert [one["scene"] for one in worst_scenes(scenes, 2)] == names[:2]


@pytest.mark.parametrize("reason", get_args(ObjectReason))
def test_an_object_s_box_has_the_colour_of_its_reason(tmp_path: Path, reason: str) -> None:
    sheet = drawn(tmp_path, scene("a.png", [reason]))
    assert pixels(sheet, reason) > 2 * 2 * (250 + 200)  # outline and tag
    others = [pixels(sheet, other) for other in REASON_COLOURS if other != reason]
    assert max(others) < 40  # the edge of a white letter on grey is another grey


def test_claims_of_no_object_are_thin_and_others_are_not_drawn(tmp_path: Path) -> None:
    sheet = drawn(tmp_path, scene("a.png", ["right"], ["background"]))
    width, height = 27 * 400 // 64, 12 * 400 // 64
    assert pixels(sheet, "background") == pytest.approx(2 * (width + height), rel=0.1)
    for reason in ("unnamed", "wrong name"):
        assert pixels(drawn(tmp_path, scene("a.png", ["right"], [reason])), reason) == 0


def test_boxes_are_scaled_with_the_image(tmp_path: Path) -> None:
    sheet = drawn(tmp_path, scene("a.png", ["missed"]))
    red = np.argwhere((sheet == REASON_COLOURS["missed"]).all(axis=2))
    scale = 400 / 64
    left, top = 18 + 9, 56 + 26 + 9 - BELOW  # margins, heading and legend
    assert red[:, 1].min() - left == 8 * scale
    assert red[:, 0].max() - top == 56 * scale - 1


@pytest.mark.parametrize(("theme", "bright"), [("dark", False), ("light", True)])
def test_a_sheet_is_dark_or_light(tmp_path: Path, theme: Theme, bright: bool) -> None:
    sheet, _ = draw_evaluation_sheet([scene("gone.png", ["missed"])], tmp_path, "one scene", theme)
    assert (sheet[0, 0].mean() > 128) == bright


def test_all_reasons_stand_in_the_legend_within_the_sheet(tmp_path: Path) -> None:
    objects, preds = list(get_args(ObjectReason)), ["duplicate", "part", "too large", "background"]
    sheet, _ = draw_evaluation_sheet([scene("gone.png", objects, preds)], tmp_path)
    assert all(pixels(sheet[:BELOW], reason) > 50 for reason in {*objects, *preds})
    assert (sheet[:, -18:] == sheet[0, 0]).all()


def test_images_that_are_gone_are_counted(tmp_path: Path) -> None:
    sheet, lost = draw_evaluation_sheet([scene("gone.png", ["missed"])], tmp_path)
    assert lost == 1
    assert pixels(sheet[BELOW:], "missed") == 0


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    truth = {name: [{"bbox": BOX, "label": "Koba"}] for name in ("a.png", "b.png")}
    Path("gt.json").write_text(json.dumps(truth))
    for name in truth:
        write_image(tmp_path / "images" / name, np.zeros((64, 64, 3), dtype=np.uint8))
    Path("run").mkdir()
    Path("run/a.json").write_text(json.dumps({"preds": [{"bbox": BOX, "label": "Koba", "score": 0.9}]}))
    return tmp_path


def evaluate(*words: str) -> int:
    return main(["evaluate", "--gt", "gt.json", "--preds-dir", "run", "--bootstrap", "0", *words])


@pytest.mark.usefixtures("world")
def test_the_command_draws_what_went_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate("--sheet", "out/worst.png") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "the 1 worst scenes are drawn in out/worst.png"
    assert pixels(read_image("out/worst.png")[BELOW:], "missed") > 1000
    Path("run/b.json").write_text(Path("run/a.json").read_text())
    assert evaluate("--sheet", "out/worst.png") == 0
    assert "no scene has a mistake, so there is no sheet" in capsys.readouterr().out
    assert not Path("out/worst.png").exists()


def test_images_may_lie_elsewhere(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (world / "images").rename(world / "moved")
    assert evaluate("--sheet", "worst.png") == 2
    assert "images: no such folder of scene images; give --scenes-dir DIR" in capsys.readouterr().err
    assert evaluate("--sheet", "worst.png", "--scenes-dir", "moved") == 0
    (world / "moved" / "b.png").unlink()
    assert evaluate("--sheet", "worst.png", "--scenes-dir", "moved") == 0
    assert "1 of their images cannot be read in moved" in capsys.readouterr().out


@pytest.mark.usefixtures("world")
def test_a_sheet_is_a_image_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate("--sheet", "worst.gif") == 2
    assert "--sheet: expected a name ending in .png or .jpg or .webp, found 'worst.gif'" in capsys.readouterr().err
