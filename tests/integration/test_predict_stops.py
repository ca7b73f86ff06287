"""What ``predict`` leaves when it is stopped from inside: every scene that was searched, and nothing in pieces."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
from packaged_models import tiny_clip, tiny_sam
from typing_extensions import override

from naruto_vision.callbacks.scenes import SceneWriterCallback
from naruto_vision.data.gallery_data import GalleryDataModule
from naruto_vision.data.scenes import SceneItem
from naruto_vision.encoders.base import embed_images
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.errors import InputError
from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.io.atomic import TEMPORARY_PREFIX
from naruto_vision.io.images import write_image
from naruto_vision.io.typed_json import read_json_lines
from naruto_vision.modules.scene_retriever import SceneRetriever
from naruto_vision.recognition.writer import LOG, SceneWriter
from naruto_vision.records import ImageArray, Region, ScenePrediction
from naruto_vision.segmentation.generator import Segmenter
from naruto_vision.segmentation.prompts import GridPrompter
from naruto_vision.segmentation.protocol import SceneEmbedding

SCENES = ["a.png", "b.png", "c.png", "d.png"]


@pytest.fixture
def world(tmp_path: Path) -> Path:
    for shade, scene in enumerate(SCENES):
        write_image(tmp_path / "scenes" / scene, np.full((32, 32, 3), 40 * shade, np.uint8))
    encoder = tiny_clip()
    vectors = embed_images(encoder, [np.zeros((32, 32, 3), np.uint8)]).numpy()
    Gallery.build(vectors, [GalleryRow("a.png", "a")], fingerprint=encoder.fingerprint).save(tmp_path / "gallery")
    return tmp_path


def predict(world: Path, *, fail_fast: bool = False, batch_size: int = 1, precision: Any = None) -> SceneWriterCallback:
    segmenter = Segmenter(GridPrompter(2), tiny_sam())
    module = SceneRetriever(tiny_clip(), segmenter, gallery=str(world / "gallery"))
    writer = SceneWriterCallback(str(world / "out"), fail_fast=fail_fast)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    trainer = pl.Trainer(
        accelerator="cpu", use_distributed_sampler=False, callbacks=[writer], precision=precision, **quiet
    )
    data = GalleryDataModule(predict=str(world / "scenes"), num_workers=0, batch_size=batch_size)
    trainer.predict(module, datamodule=data)
    return writer


def written(world: Path) -> list[str]:
    return [record["scene"] for record in read_json_lines(world / "out" / LOG, dict)]


@pytest.mark.parametrize("batch_size", [1, 4])
def test_scenes_before_a_bad_image_are_whole_when_fail_fast_stops(world: Path, batch_size: int) -> None:
    good = (world / "scenes" / "c.png").read_bytes()
    (world / "scenes" / "c.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"c\.png.*fail_fast"):
        predict(world, fail_fast=True, batch_size=batch_size)
    assert written(world) == ["a.png", "b.png"]
    assert sorted(file.name for file in (world / "out" / "overlay").iterdir()) == ["a_overlay.jpg", "b_overlay.jpg"]
    (world / "scenes" / "c.png").write_bytes(good)
    assert predict(world, batch_size=batch_size).run["counts"]["ok"] == len(SCENES)
    assert written(world) == SCENES


class Failing(Segmenter):
    """Fails at one scene; the scenes of this file differ in their grey."""

    fault: Exception = TypeError("a defect")

    @override
    def __call__(self, image: ImageArray, embedding: SceneEmbedding | None = None) -> list[Region]:
        if image[0, 0, 0] == 40 * SCENES.index("c.png"):
            raise self.fault
        return super().__call__(image, embedding)


@pytest.mark.parametrize("batch_size", [1, 3, *(pytest.param(size, marks=pytest.mark.slow) for size in (2, 4))])
def test_a_defect_stops_the_run_behind_those_before_it(
    world: Path, monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("test_predict_stops.Segmenter", Failing)
        with pytest.raises(TypeError, match="a defect"):
            predict(world, batch_size=batch_size)
    assert written(world) == ["a.png", "b.png"]
    predict(world, batch_size=batch_size)
    assert written(world) == SCENES


@pytest.mark.parametrize("batch_size", [1, 4])
def test_an_image_that_cannot_be_searched_is_counted_and_the_others_go_on(
    world: Path, monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    monkeypatch.setattr("test_predict_stops.Segmenter", Failing)
    monkeypatch.setattr(Failing, "fault", RuntimeError("height and width must be > 0"))
    run = predict(world, batch_size=batch_size).run
    assert written(world) == ["a.png", "b.png", "d.png"]
    reason = "c.png: fails in the search (RuntimeError: height and width must be > 0)"
    assert run["quarantined"] == [{"scene": "c.png", "reason": reason}]


def test_vectors_of_another_arithmetic_are_not_put_beside_those_of_a_run(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict(world)
    with monkeypatch.context() as patched:
        patched.setattr(ClipEncoder, "arithmetic", "int8")
        with pytest.raises(InputError, match=r"holds results of another run \(different arithmetic\); give"):
            predict(world)
    with pytest.raises(InputError, match=r"\(different precision\)"):
        predict(world, precision="bf16-mixed")
    assert predict(world).run["counts"]["ok"] == len(SCENES)


def test_a_scene_that_cannot_be_written_stops_the_run_and_is_the_next_one_done(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FullDisk(SceneWriter):
        @override
        def write(self, image: ImageArray, prediction: ScenePrediction, sha256: str = "") -> None:
            if prediction.scene == "b.png":
                raise OSError(28, "No space left on device")
            super().write(image, prediction, sha256)

    with monkeypatch.context() as patched:
        patched.setattr("naruto_vision.callbacks.scenes.SceneWriter", FullDisk)
        with pytest.raises(OSError, match="No space left"):
            predict(world)
    assert written(world) == ["a.png"]
    assert not list((world / "out").rglob(f"{TEMPORARY_PREFIX}*"))
    predict(world)
    assert written(world) == SCENES


def test_a_finished_run_says_that_nothing_is_searched_again(world: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "naruto_vision")
    predict(world)
    assert "already done" not in caplog.text
    predict(world)
    assert f"4 of 4 scenes were already done (in {world / 'out'}); use another --out" in caplog.text
    write_image(world / "scenes" / "e.png", np.zeros((32, 32, 3), np.uint8))
    predict(world)
    assert f"4 of 5 scenes were already done (in {world / 'out'}); the others are searched" in caplog.text


def test_ctrl_c_says_how_to_go_on(
    world: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "naruto_vision")
    step = SceneRetriever.predict_step

    def interrupted(module: SceneRetriever, batch: Sequence[SceneItem]) -> list[tuple[SceneItem, ScenePrediction]]:
        if batch[0].scene == "c.png":
            raise KeyboardInterrupt
        return step(module, batch)

    with monkeypatch.context() as patched:
        patched.setattr(SceneRetriever, "predict_step", interrupted)
        with pytest.raises(SystemExit):
            predict(world)
    assert f"stopped with 2 of 4 scenes done (in {world / 'out'}); the same command again continues" in caplog.text
    predict(world)
    assert written(world) == SCENES
