"""The gallery's images come once each, in order, with their names; repeats are kept and counted."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from naruto_vision.data.gallery_data import GalleryBatch, GalleryDataModule
from naruto_vision.errors import InputError
from naruto_vision.io.images import write_image
from naruto_vision.records import ImageArray


def pixels_of(image: ImageArray) -> Tensor:
    return torch.from_numpy(image[:4, :4].copy()).permute(2, 0, 1).float()


def gallery(root: Path) -> Path:
    for number, name in enumerate(["b/0.png", "b/1.png", "a/0.png", "a/1.png", "a/2.png"]):
        path = root / "train" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, np.full((40, 30, 3), number, dtype=np.uint8))
    write_image(root / "train" / "a" / "3.png", np.full((40, 30, 3), 4, dtype=np.uint8))
    return root


def test_every_image_once_in_order(tmp_path: Path) -> None:
    data = GalleryDataModule(str(gallery(tmp_path)), enrol_batch_size=4)
    data.setup("fit")
    batches = list(data.gallery_loader(pixels_of))
    assert [type(batch) for batch in batches] == [GalleryBatch] * 2
    assert [label for batch in batches for label in batch.labels] == ["a"] * 4 + ["b"] * 2
    assert [path for batch in batches for path in batch.paths][:2] == ["a/0.png", "a/1.png"]
    assert torch.cat([batch.pixels for batch in batches])[:, 0, 0, 0].tolist() == [2, 3, 4, 4, 0, 1]
    assert data.quarantine is not None
    assert data.quarantine.counts() == {"seen": 6, "ok": 6, "quarantined": 0}


def test_bad_images_are_set_aside_up_to_a_share(tmp_path: Path) -> None:
    gallery(tmp_path)
    (tmp_path / "train" / "a" / "1.png").write_bytes(b"no image")
    with pytest.raises(InputError, match="1 of 6 gallery images"):
        list(GalleryDataModule(str(tmp_path)).gallery_loader(pixels_of))
    data = GalleryDataModule(str(tmp_path), max_bad_fraction=0.2)
    data.setup("fit")
    (batch,) = data.gallery_loader(pixels_of)
    assert batch.pixels[:, 0, 0, 0].tolist() == [2, 4, 4, 0, 1]
    assert data.quarantine is not None
    assert data.quarantine.quarantined == 1
    for name in ("0", "1"):
        (tmp_path / "train" / "b" / f"{name}.png").write_bytes(b"")
    with pytest.raises(InputError, match="class 'b': none of 2 gallery images can be read"):
        list(GalleryDataModule(str(tmp_path), max_bad_fraction=0.9).gallery_loader(pixels_of))


def test_fit_needs_a_root_and_the_other_verbs_do_not(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--data\.root DIR"):
        GalleryDataModule().setup("fit")
    write_image(tmp_path / "scene.png", np.zeros((8, 8, 3), dtype=np.uint8))
    data = GalleryDataModule(predict=str(tmp_path), num_workers=0)
    data.setup("predict")
    assert [batch[0].scene for batch in data.predict_dataloader()] == ["scene.png"]
    assert data.val_dataloader() == []


def test_tensors_move_and_scenes_stay(tmp_path: Path) -> None:
    data = GalleryDataModule(str(gallery(tmp_path)))
    data.setup("fit")
    (batch,) = data.gallery_loader(pixels_of)
    moved = data.transfer_batch_to_device(batch, torch.device("meta"), 0)
    assert moved.pixels.device.type == "meta"
    assert moved.labels == batch.labels
    scenes: list[object] = []
    assert data.transfer_batch_to_device(scenes, torch.device("meta"), 0) is scenes
