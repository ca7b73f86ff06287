"""A ``predict`` that goes on where it stopped: what its loader gives, and where its bar ends."""

import shutil
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
from lightning.pytorch.callbacks import Callback
from packaged_models import tiny_clip, tiny_sam
from typing_extensions import override

from naruto_vision.callbacks.scenes import SceneWriterCallback
from naruto_vision.data.gallery_data import GalleryDataModule
from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.io.images import write_image
from naruto_vision.modules.scene_retriever import SceneRetriever
from naruto_vision.recognition.writer import LOG
from naruto_vision.segmentation.generator import Segmenter
from naruto_vision.segmentation.prompts import GridPrompter

SCENES = ("a.png", "b.png", "c.png", "d.png")


class Visits(Callback):
    """Counts what a progress bar counts."""

    def __init__(self) -> None:
        self.total: list[float] = []
        self.scenes: list[str] = []
        self.batches = 0

    @override
    def on_predict_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, *_: Any) -> None:
        self.total = list(trainer.num_predict_batches)
        self.batches += 1
        self.scenes += [item.scene for item in batch]


@pytest.fixture
def world(tmp_path: Path) -> Path:
    for shade, scene in enumerate(SCENES):
        write_image(tmp_path / "scenes" / scene, np.full((32, 32, 3), 40 * shade, np.uint8))
    encoder = tiny_clip()
    vectors = np.eye(encoder.dim, dtype=np.float32)[:1]
    Gallery.build(vectors, [GalleryRow("a.png", "a")], fingerprint=encoder.fingerprint).save(tmp_path / "gallery")
    return tmp_path


def _predict(world: Path, workers: int) -> tuple[Visits, dict[str, Any]]:
    segmenter = Segmenter(GridPrompter(2), tiny_sam())
    module = SceneRetriever(tiny_clip(), segmenter, gallery=str(world / "gallery"))
    visits, writer = Visits(), SceneWriterCallback(str(world / "out"))
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    trainer = pl.Trainer(accelerator="cpu", use_distributed_sampler=False, callbacks=[visits, writer], **quiet)
    data = GalleryDataModule(predict=str(world / "scenes"), num_workers=workers, batch_size=1)
    trainer.predict(module, datamodule=data)
    return visits, writer.run["counts"]


@pytest.mark.parametrize("workers", [0, 1])
def test_scenes_that_are_done_are_neither_read_nor_counted_again(world: Path, workers: int) -> None:
    first, _ = _predict(world, workers)
    assert (first.scenes, first.batches, first.total) == ([*SCENES], 4, [4])
    log = world / "out" / LOG
    whole = log.read_bytes()
    log.write_bytes(b"".join(whole.splitlines(keepends=True)[:3]))
    second, counts = _predict(world, workers)
    assert (second.scenes, second.batches, second.total) == (["d.png"], 1, [1])
    assert counts["ok"] == len(SCENES)
    assert log.read_bytes() == whole


def test_a_run_with_nothing_left_to_do_still_ends_as_one(world: Path) -> None:
    _predict(world, 0)
    (world / "out" / "run.json").unlink()  # as if it had been killed behind the last scene
    again, counts = _predict(world, 0)
    assert (again.scenes, again.batches, again.total) == ([], 1, [1])
    assert counts["ok"] == len(SCENES)
    assert (world / "out" / "run.json").is_file()


def test_scenes_that_were_taken_out_keep_their_results_and_are_not_counted(
    world: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _predict(world, 0)
    whole = (world / "out" / LOG).read_bytes()
    (world / "scenes" / "a.png").rename(world / "a.png")
    caplog.set_level("INFO", logger="naruto_vision")
    again, counts = _predict(world, 0)
    assert again.scenes == []
    assert (counts["seen"], counts["ok"], counts["absent"]) == (len(SCENES) - 1, len(SCENES) - 1, 1)
    assert f"1 other scenes in {world / 'out'} are not in {world / 'scenes'}: their results are kept" in caplog.text
    assert (world / "out" / LOG).read_bytes() == whole
    shutil.copy(world / "a.png", world / "scenes" / "a.bmp")  # another image, whose results must not replace those
    before = (world / "out" / "json" / "a.json").read_bytes()
    assert _predict(world, 0)[1]["ok"] == len(SCENES)
    assert (world / "out" / "json" / "a.json").read_bytes() == before
    (world / "a.png").rename(world / "scenes" / "a.png")
    assert "absent" not in _predict(world, 0)[1]
