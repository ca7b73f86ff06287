"""Images with boxes for the detector: sources, held-out images, flips."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from naruto_vision.data.box_data import BoxDataModule
from naruto_vision.errors import InputError


def _scenes(folder: Path, count: int, size: tuple[int, int] = (40, 30)) -> Path:
    (folder / "images").mkdir(parents=True)
    truth = {}
    for k in range(count):
        image = np.zeros((size[1], size[0], 3), np.uint8)
        image[5:15, 2:12] = 255
        Image.fromarray(image).save(folder / "images" / f"{k:02d}.png")
        truth[f"{k:02d}.png"] = [{"bbox": [2, 5, 11, 14], "label": "a"}]
    (folder / "gt.json").write_text(json.dumps(truth))
    return folder


def test_every_fifth_run_of_images_is_held_out(tmp_path: Path) -> None:
    data = BoxDataModule(str(_scenes(tmp_path / "s", 20)))
    data.setup("fit")
    held = [row.path for row in data.sources["valid"].rows]
    assert held == ["04.png", "09.png", "14.png", "19.png"]
    assert len(data.sources["train"].rows) == 16


def test_a_valid_folder_is_used(tmp_path: Path) -> None:
    _scenes(tmp_path / "train", 3)
    _scenes(tmp_path / "valid", 2)
    data = BoxDataModule(str(tmp_path))
    data.setup("fit")
    assert [len(data.sources[split].rows) for split in ("train", "valid")] == [3, 2]


def test_boxes_follow_their_pixels_when_flipped_and_scaled(tmp_path: Path) -> None:
    data = BoxDataModule(str(_scenes(tmp_path / "s", 20, size=(400, 300))), image_size=80, batch_size=16)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    lefts = set()
    for image, edges in zip(batch.images, batch.boxes, strict=True):
        assert image.shape == (3, 150, 200)  # at most 2.5 times the input's shorter side
        x1, y1, x2, y2 = edges[0].tolist()
        bright = np.argwhere(image[0].numpy() > 0.5)
        assert (bright.min(0) == np.round([y1, x1])).all()
        assert np.abs(bright.max(0) + 1 - [y2, x2]).max() <= 1
        lefts.add(round(x1))
    assert len(lefts) == 2  # some are flipped


def test_validation_keeps_full_size_and_the_limit_spreads(tmp_path: Path) -> None:
    data = BoxDataModule(str(_scenes(tmp_path / "s", 20, size=(400, 300))), image_size=64, limit=4)
    data.setup("fit")
    assert [row.path for row in data.sources["train"].rows] == ["00.png", "06.png", "12.png", "18.png"]
    item = next(iter(data.val_dataloader()))[0]
    assert item.image.shape == (300, 400, 3)
    assert item.edges.tolist() == [[2, 5, 12, 15]]


def test_a_folder_without_boxes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    with pytest.raises(InputError, match="no boxes"):
        BoxDataModule(str(tmp_path)).setup("fit")
