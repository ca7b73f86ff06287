"""Captions, masks and scenes in shards: what is read of them is what was packed."""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from naruto_vision.cli.main import main
from naruto_vision.data.caption_data import CaptionDataModule
from naruto_vision.data.masks import CocoMasks
from naruto_vision.data.scenes import SceneDataset
from naruto_vision.data.shards import read_shards
from naruto_vision.errors import FormatError
from naruto_vision.io.images import write_image


def images(folder: Path, names: tuple[str, ...]) -> None:
    for seed, name in enumerate(names):
        write_image(folder / name, np.random.default_rng(seed).integers(0, 256, (20, 16 + seed, 3), dtype=np.uint8))


def pack(root: Path, kind: str, *more: str) -> Path:
    out = root.parent / f"{kind}-shards"
    assert main(["data", "shard", str(root), "--kind", kind, "--out", str(out), "--shard-size", "2", *more]) == 0
    return out


def members(folder: Path) -> list[str]:
    found = []
    for shard in sorted(folder.glob("*.tar")):
        with tarfile.open(shard) as tar:
            found += tar.getnames()
    return found


def test_captions_are_read_as_they_were(tmp_path: Path) -> None:
    root, rows = tmp_path / "data", [("a.png", "one"), ("a.png", "two"), ("b.png", "three"), ("c.png", "four")]
    images(root, ("a.png", "b.png", "c.png"))
    (root / "captions.csv").write_text("path,text\n" + "".join(f"{path},{text}\n" for path, text in rows))
    shards = pack(root, "captions", "--size", "0")
    data = CaptionDataModule(str(shards), hold_out_fraction=0, augmented=False, preprocess=lambda image: image)
    table = data.tables["train"]
    assert sorted((row.path, row.text) for row in table.rows) == sorted(rows)
    assert [text for path, text in ((row.path, row.text) for row in table.rows) if path == "a.png"] == ["one", "two"]
    before = dict(CaptionDataModule(str(root), hold_out_fraction=0).images("train", range(len(rows))))
    after = dict(data.images("train", range(len(rows))))
    original = CaptionDataModule(str(root), hold_out_fraction=0).tables["train"].rows
    assert len(after) == len(rows)
    for row, image in after.items():
        same = next(k for k, other in enumerate(original) if other.path == table.rows[row].path)
        assert np.array_equal(image, before[same])
    assert sum(name.endswith(".txt") for name in members(shards / "train")) == 3


def _figures(root: Path) -> None:
    images(root / "images", ("a.png", "b.png", "c.png"))
    annotations = [
        {"id": k, "image_id": k % 3, "category_id": 1, "segmentation": [[2, 2, 9 + k, 2, 9 + k, 12, 2, 12]]}
        for k in range(4)
    ]
    listed = [{"id": k, "file_name": f"{'abc'[k]}.png", "height": 20, "width": 16 + k} for k in range(3)]
    categories = [{"id": 1, "name": "a"}]
    coco = {"images": listed, "annotations": annotations, "categories": categories}
    (root / "coco.json").write_text(json.dumps(coco))


def test_masks_are_read_as_they_were(tmp_path: Path) -> None:
    _figures(tmp_path / "data")
    shards = pack(tmp_path / "data", "masks")
    before, after = CocoMasks(str(tmp_path / "data")), CocoMasks(str(shards / "masks"))
    assert sorted(after.names) == before.names
    for row, name in enumerate(after.names):
        one, other = after[row], before[before.names.index(name)]
        assert np.array_equal(one.image, other.image)
        assert np.array_equal(one.masks, other.masks)
        assert one.masks.any()
    with pytest.raises(FormatError, match=r"shards of classes, found shards of masks"):
        read_shards(shards / "masks")


@pytest.mark.parametrize("labelled", [True, False])
def test_scenes_keep_their_files_and_truth(tmp_path: Path, labelled: bool) -> None:
    root, names = tmp_path / "data", ("a.jpg", "b.c.png", "sub/d.webp")
    images(root / "images", names)
    truth = {name: [{"bbox": [1, 2, 8, 9], "label": "Zoé"}] * k for k, name in enumerate(names)}
    if labelled:
        (root / "gt.json").write_text(json.dumps(truth))
    shards = pack(root, "scenes") / "scenes"
    before = SceneDataset(str(root))
    after = SceneDataset(str(shards), need_truth=labelled)
    assert after.scenes == (
        "scenes-000000.tar/00000000-a.jpg",
        "scenes-000000.tar/00000001-b_c.png",
        "scenes-000001.tar/00000002-d.png",
    )
    for one, other in zip(after, before, strict=True):
        assert one.truth == other.truth
        assert one.image is not None
        assert other.image is not None
        assert np.array_equal(one.image, other.image)
    with tarfile.open(shards / "scenes-000000.tar") as tar:
        file = tar.extractfile("00000000-a.jpg")
        assert file is not None
        assert file.read() == (root / "images" / "a.jpg").read_bytes()
    alone = SceneDataset(str(shards / "scenes-000001.tar"))
    assert alone.scenes == ("00000002-d.png",)


def test_scenes_and_masks_are_not_resized(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _figures(tmp_path / "data")
    argv = ["data", "shard", str(tmp_path / "data"), "--kind", "masks", "--out", str(tmp_path / "out"), "--size", "9"]
    assert main(argv) == 2
    assert "masks are packed as they are" in capsys.readouterr().err
