"""``naruto-vision doctor data``: counts on the user's images and scenes, and what to do if weights do not fit."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from naruto_vision.cli import data_doctor
from naruto_vision.cli.main import main
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.encoders.tiny import TinySizes
from naruto_vision.geometry import Box, shape_of_xyxy
from naruto_vision.io.images import write_image
from naruto_vision.records import Region

SIZES = TinySizes(
    embed_dim=16, image_size=24, patch_size=12, vision_width=32, vision_layers=1, text_width=32, text_layers=1
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Draw noise, so that no encoder can name it, and scenes with a labelled box each."""
    random = np.random.default_rng(1)
    for split, count in (("train", 8), ("valid", 15)):
        for name in ("ayame", "kenta"):
            for number in range(count):
                image = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                write_image(tmp_path / "data" / split / name / f"{'abcdefghijklmnop'[number]}.png", image)
    for number in range(4):
        write_image(tmp_path / "scenes" / "images" / f"{number}.png", random.integers(0, 256, (64, 64, 3), np.uint8))
    truth = [{"bbox": [10, 10, 19, 19], "label": "ayame"}]
    (tmp_path / "scenes" / "gt.json").write_text(json.dumps({f"{number}.png": truth for number in range(4)}))
    torch.manual_seed(0)
    ClipEncoder("tiny-clip", "random", sizes=SIZES).save(tmp_path / "clip")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def segment(monkeypatch: pytest.MonkeyPatch, *boxes: Box) -> None:
    regions = [Region(box, np.ones(shape_of_xyxy(box), dtype=np.bool_)) for box in boxes]
    monkeypatch.setattr(data_doctor, "_segmenter", lambda: lambda _image: regions)


@pytest.mark.usefixtures("folder")
def test_images_that_an_encoder_cannot_name_are_told_with_counts_and_remedies(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["doctor", "data", "data", "--encoder", "clip"]) == 1
    first, problem = capsys.readouterr().out.splitlines()
    assert "of 30 validation images [" in first
    assert "(16 training images); colours alone name" in first
    assert "not certain" in problem
    assert "class ayame has 8 to train on" in problem
    assert "naruto-vision weights download ViT-B-32.openai" in problem
    assert main(["doctor", "data", "data", "--encoder", "clip", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["images"]["total"] == 30
    assert len(document["wrong"]) == 1


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("boxes", "found", "wrong"),
    [
        (((10, 10, 19, 18),), 4, False),  # matched
        (((5, 5, 40, 40),), 4, False),  # held
        (((0, 0, 63, 63),), 0, True),  # holds everything
        (((40, 40, 60, 60),), 0, True),
        ((), 0, True),
    ],
)
def test_scenes_are_compared_with_their_boxes(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    boxes: tuple[Box, ...],
    found: int,
    wrong: bool,
) -> None:
    segment(monkeypatch, *boxes)
    main(["doctor", "data", "data", "--encoder", "clip", "--scenes", "scenes", "--json"])
    document = json.loads(capsys.readouterr().out)
    scenes = document["scenes"]
    assert (scenes["scenes"], scenes["regions"], scenes["found"]["count"]) == (4, 4 * len(boxes), found)
    assert scenes["without"]["count"] == (0 if boxes else 4)
    told = [line for line in document["wrong"] if "segmenter" in line]
    assert len(told) == wrong
    assert all("fit --config regions.yaml --data.root scenes" in line and "sam_vit_b" in line for line in told)


def test_scenes_without_boxes_are_judged_by_their_regions(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "scenes" / "gt.json").unlink()
    segment(monkeypatch)
    main(["doctor", "data", "data", "--encoder", "clip", "--scenes", "scenes", "--limit", "3"])
    told = capsys.readouterr().out
    assert "0 regions in 3 scenes, 3 of them without any\n" in told
    assert "3 of 3 have no region; certain; try boxes of about 50 scenes" in told


@pytest.mark.usefixtures("folder")
def test_the_packaged_segmenter_is_taken() -> None:
    assert data_doctor._segmenter()(np.zeros((64, 64, 3), dtype=np.uint8)) == []


def test_a_folder_without_validation_images_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("ayame", "kenta"):
        write_image(folder / "few" / name / "a.png", np.zeros((8, 8, 3), dtype=np.uint8))
    assert main(["doctor", "data", "few", "--encoder", "clip"]) == 1
    assert "found too few to compare; add images to few" in capsys.readouterr().out
    assert main(["doctor", "data", "nowhere", "--encoder", "clip"]) == 2
