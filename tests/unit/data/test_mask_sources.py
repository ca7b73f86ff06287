import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from naruto_vision.data.masks import CocoMasks, SyntheticMasks
from naruto_vision.errors import FormatError, MissingPathError
from naruto_vision.geometry import rle_from_mask
from naruto_vision.io.images import write_image


def _folder(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    masks = np.zeros((2, 20, 30), dtype=bool)
    masks[0, 3:9, 4:10] = masks[1, 10:18, 11:29] = True
    write_image(tmp_path / "images" / "a.png", np.full((20, 30, 3), 7, np.uint8))
    write_image(tmp_path / "images" / "b.png", np.full((20, 30, 3), 9, np.uint8))
    annotations = [{"image_id": 5, "segmentation": rle_from_mask(mask), "category_id": 1} for mask in masks]
    images = [{"id": 5, "file_name": "a.png"}, {"id": 8, "file_name": "b.png"}]
    record = {"images": images, "annotations": annotations}
    _write(tmp_path, record)
    return tmp_path, record


def _write(folder: Path, record: object) -> None:
    (folder / "coco.json").write_text(json.dumps(record), encoding="utf-8")


def test_a_coco_folder_gives_images_and_masks(tmp_path: Path) -> None:
    folder, _ = _folder(tmp_path)
    source = CocoMasks(str(folder))
    assert len(source) == 2
    image, masks = source[0]
    assert (image == 7).all()
    assert masks.shape == (2, 20, 30)
    assert masks[1, 10:18, 11:29].all()
    assert masks.sum() == 36 + 144
    assert source[1].masks.shape == (0, 20, 30)


def test_what_is_no_coco_truth_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingPathError, match=r"coco\.json"):
        CocoMasks(str(tmp_path))
    folder, record = _folder(tmp_path)
    for broken in ([], {"images": []}, {**record, "images": [{"id": 5}]}, {**record, "images": record["images"][1:]}):
        _write(folder, broken)
        with pytest.raises(FormatError, match=r"coco\.json"):
            CocoMasks(str(folder))


@pytest.mark.parametrize(
    "segmentation", [[[1, 2, 3, 4]], {"size": [20, 30], "counts": "P"}, {"size": [2, 2], "counts": [4]}]
)
def test_a_broken_mask_names_its_image(tmp_path: Path, segmentation: object) -> None:
    folder, record = _folder(tmp_path)
    record["annotations"][0]["segmentation"] = segmentation
    _write(folder, record)
    with pytest.raises(FormatError, match=r"a\.png"):
        CocoMasks(str(folder))[0]


def test_drawn_scenes_are_the_same_whenever_asked_and_differ_between_seeds() -> None:
    source = SyntheticMasks(seed=4, count=3, size=64)
    first, again, other = source[1], source[1], SyntheticMasks(seed=5, count=3, size=64)[1]
    assert (first.image == again.image).all()
    assert (first.masks == again.masks).all()
    assert (first.image != other.image).any()
    assert first.masks.shape[1:] == (64, 64)
    with pytest.raises(IndexError):
        source[3]
