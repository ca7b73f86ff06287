"""``predict`` on scenes in tar files: what a folder of the same images gives, resumable, with damage counted."""

import json
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
from packaged_models import tiny_clip, tiny_sam

from naruto_vision.callbacks.scenes import SceneWriterCallback
from naruto_vision.cli.main import main
from naruto_vision.data.gallery_data import GalleryDataModule
from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.io.images import write_image
from naruto_vision.modules.scene_retriever import SceneRetriever
from naruto_vision.recognition.writer import LOG
from naruto_vision.segmentation.generator import Segmenter
from naruto_vision.segmentation.prompts import GridPrompter

SCENES = ("a.png", "b.png", "c.png", "d.png", "e.png")


@pytest.fixture
def world(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for scene in SCENES:
        write_image(tmp_path / "scenes" / scene, rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))
    shards = ["--kind", "scenes", "--out", str(tmp_path / "shards"), "--shard-size", "2"]
    assert main(["data", "shard", str(tmp_path / "scenes"), *shards]) == 0
    encoder = tiny_clip()
    vectors = np.eye(encoder.dim, dtype=np.float32)[:1]
    Gallery.build(vectors, [GalleryRow("a.png", "a")], fingerprint=encoder.fingerprint).save(tmp_path / "gallery")
    return tmp_path


def predict(world: Path, scenes: str, out: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    segmenter = Segmenter(GridPrompter(2), tiny_sam())
    module = SceneRetriever(tiny_clip(), segmenter, gallery=str(world / "gallery"))
    writer = SceneWriterCallback(str(world / out))
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    trainer = pl.Trainer(accelerator="cpu", use_distributed_sampler=False, callbacks=[writer], **quiet)
    trainer.predict(module, datamodule=GalleryDataModule(predict=scenes, num_workers=0, batch_size=1))
    lines = (world / out / LOG).read_text().splitlines()
    return [json.loads(line) for line in lines], writer.run


def shards(world: Path, numbers: str) -> str:
    return f"{world}/shards/scenes/scenes-{numbers}.tar"


def test_shards_give_what_the_folder_gives(world: Path) -> None:
    folder, _ = predict(world, str(world / "scenes"), "out1")
    packed, _ = predict(world, shards(world, "{000000..000002}"), "out2")
    assert [line.pop("scene") for line in folder] == [*SCENES]
    assert [line.pop("scene") for line in packed] == [
        f"scenes-{k // 2:06d}.tar/{k:08d}-{scene}" for k, scene in enumerate(SCENES)
    ]
    assert packed == folder  # with the digest of each file
    assert (world / "out2" / "json" / "scenes-000002.tar" / "00000004-e.json").is_file()


def test_a_run_goes_on_and_searches_changed_members_again(world: Path) -> None:
    all_three = shards(world, "{000000..000002}")
    whole, _ = predict(world, all_three, "out")
    log = world / "out" / LOG
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:3]))
    before = (world / "out" / "json" / "scenes-000000.tar" / "00000000-a.json").stat().st_mtime_ns
    assert predict(world, all_three, "out")[0] == whole
    assert (world / "out" / "json" / "scenes-000000.tar" / "00000000-a.json").stat().st_mtime_ns == before
    tar = Path(shards(world, "000000"))
    data = bytearray(tar.read_bytes())
    data[data.index(b"IDAT") + 40] ^= 1  # of the first image
    tar.write_bytes(data)
    again, run = predict(world, all_three, "out")
    assert [line["scene"] for line in again] == [line["scene"] for line in whole][1:]
    assert [each["scene"] for each in run["quarantined"]] == [whole[0]["scene"]]


def test_missing_and_damaged_shards_are_counted(world: Path) -> None:
    tar = Path(shards(world, "000001"))
    data = tar.read_bytes()
    tar.write_bytes(data[: data.index(b"00000003-d.json")])
    found, run = predict(world, shards(world, "{000000..000003}"), "out")
    reasons = [each["reason"] for each in run["quarantined"]]
    assert len(found) == run["counts"]["ok"] == 4
    assert "damaged behind 1 images" in reasons[0]
    assert "no such image" in reasons[1]
    assert len(reasons) == 2


def test_segment_takes_tar_files_too(world: Path) -> None:
    argv = ["segment", "grid", shards(world, "000002"), "--out", str(world / "segmented"), "--points-per-side", "2"]
    assert main(argv) == 0
    (line,) = (world / "segmented" / LOG).read_text().splitlines()
    assert json.loads(line)["scene"] == "00000004-e.png"
    assert main(argv) == 0
    assert (world / "segmented" / LOG).read_text().splitlines() == [line]
