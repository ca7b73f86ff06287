"""``predict`` on videos: frames are scenes, runs resume, damaged videos are counted, tracks are written."""

import json
import shutil
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
from packaged_models import tiny_clip, tiny_sam

from naruto_vision.callbacks.scenes import SceneWriterCallback
from naruto_vision.cli.main import main
from naruto_vision.cli.trainer_args import expand_argv
from naruto_vision.data.gallery_data import GalleryDataModule
from naruto_vision.data.scenes import SceneDataset
from naruto_vision.encoders.base import embed_images
from naruto_vision.errors import InputError
from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.io.bundles import config_path
from naruto_vision.io.images import write_image
from naruto_vision.io.video import VideoReader
from naruto_vision.modules.scene_retriever import SceneRetriever
from naruto_vision.recognition.writer import LOG
from naruto_vision.segmentation.generator import Segmenter
from naruto_vision.segmentation.prompts import GridPrompter
from naruto_vision.synthetic.attributes import read_cast
from naruto_vision.synthetic.videos import SyntheticVideo, VideoConfig, write_video


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    cast = read_cast(config_path("cast.yaml"))
    write_video(folder / "clip.mp4", SyntheticVideo(4, cast, VideoConfig(2, 12, 64, 48, shot_seconds=(1, 1))))
    (folder / "clip.json").unlink()
    encoder = tiny_clip()
    vectors = embed_images(encoder, [np.zeros((32, 32, 3), np.uint8)]).numpy()
    Gallery.build(vectors, [GalleryRow("a.png", "a")], fingerprint=encoder.fingerprint).save(folder / "gallery")
    return folder


def _predict(made: Path, out: Path, names: str | list[str], fps: float = 3.0, workers: int = 0) -> SceneWriterCallback:
    segmenter = Segmenter(GridPrompter(4), tiny_sam())
    module = SceneRetriever(tiny_clip(), segmenter, gallery=str(made / "gallery"))
    writer = SceneWriterCallback(str(out))
    quiet: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    trainer = pl.Trainer(accelerator="cpu", use_distributed_sampler=False, callbacks=[writer], **quiet)
    data = GalleryDataModule(predict=names, num_workers=workers, batch_size=1, fps=fps)
    trainer.predict(module, datamodule=data)
    return writer


def _outputs(out: Path) -> dict[str, bytes]:
    names = (LOG, "tracks.jsonl", "screen_time.csv", "coco.json", "videos/clip.mp4", "videos/clip_timeline.png")
    return {name: (out / name).read_bytes() for name in names}


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_resumed_run_has_the_files_of_an_uninterrupted_one(made: Path, tmp_path: Path, workers: int) -> None:
    clip = str(made / "clip.mp4")
    whole = _predict(made, tmp_path / "whole", clip, workers=workers)
    assert whole.run["counts"]["ok"] == 6
    log = (tmp_path / "whole" / LOG).read_text().splitlines(keepends=True)
    assert [json.loads(line)["scene"] for line in log] == [f"clip.mp4/frame_{k:06d}" for k in range(0, 24, 4)]
    assert (tmp_path / "whole" / "overlay" / "clip.mp4" / "frame_000004_overlay.jpg").is_file()
    shutil.copytree(tmp_path / "whole", tmp_path / "parts")
    (tmp_path / "parts" / LOG).write_text("".join(log[:3]))
    (tmp_path / "parts" / "tracks.jsonl").unlink()
    again = _predict(made, tmp_path / "parts", clip, workers=workers)
    assert again.run["counts"]["ok"] == 6
    assert _outputs(tmp_path / "parts") == _outputs(tmp_path / "whole")


def test_a_changed_video_is_searched_again(made: Path, tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes((made / "clip.mp4").read_bytes())
    _predict(made, tmp_path / "out", str(clip))
    before = (tmp_path / "out" / LOG).read_bytes()
    cast = read_cast(config_path("cast.yaml"))
    write_video(clip, SyntheticVideo(5, cast, VideoConfig(2, 12, 64, 48, shot_seconds=(1, 1))))
    run = _predict(made, tmp_path / "out", str(clip)).run
    assert run["counts"]["ok"] == 6
    assert (tmp_path / "out" / LOG).read_bytes() != before


def test_a_folder_of_images_and_videos_counts_what_cannot_be_read(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    write_image(folder / "a.png", np.zeros((32, 32, 3), np.uint8))
    (folder / "clip.mp4").write_bytes((made / "clip.mp4").read_bytes())
    (folder / "text.mp4").write_text("no video")
    (folder / ".hidden.mp4").write_text("no video")
    run = _predict(made, tmp_path / "out", str(folder), fps=1.0).run
    assert run["counts"]["ok"] == 3  # an image and two frames
    assert [each["scene"] for each in run["quarantined"]] == ["text.mp4"]
    assert "text.mp4: " in run["quarantined"][0]["reason"]
    assert {json.loads(line)["video"] for line in (tmp_path / "out" / "tracks.jsonl").read_text().splitlines()} <= {
        "clip.mp4"
    }
    with pytest.raises(InputError, match=r"text\.mp4"):
        _predict(made, tmp_path / "none", str(folder / "text.mp4"))


def test_frames_are_those_of_the_reader_in_any_order(made: Path) -> None:
    dataset = SceneDataset(str(made / "clip.mp4"), fps=6.0)
    frames = {frame.index: frame.image for frame in VideoReader(made / "clip.mp4")}
    for number in (0, 1, 2, 7, 3, 11, 0):
        item = dataset.read(number)
        assert item.image is not None
        assert np.array_equal(item.image, frames[int(item.scene[-6:])])


def test_the_command_takes_videos_and_frames_per_second(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = expand_argv("predict", [str(made / "clip.mp4"), "--gallery", str(made / "gallery"), "--fps", "2"])
    assert argv[argv.index("--data.fps") + 1] == "2"
    assert main(["predict", str(made / "gallery" / "none.mp4"), "--gallery", str(made / "gallery")]) == 2
    assert "none.mp4" in capsys.readouterr().err


def test_tracks_are_compared_with_their_truth(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    out, frames = tmp_path / "out", list[list[dict[str, Any]]]([] for _ in range(24))
    shutil.copy(made / "clip.mp4", tmp_path)
    (tmp_path / "clip.json").write_text("{}")
    with caplog.at_level("INFO"):
        _predict(made, out, str(tmp_path / "clip.mp4"))
    assert f"measure: naruto-vision evaluate tracks --gt {tmp_path} --preds-dir {out}" in caplog.text
    for frame in (0, 4, 8, 12, 16, 20):
        frames[frame] = [{"track": 1 + frame // 12, "label": "unknown", "bbox": [4, 4, 30, 40], "visible": 1}]
    (tmp_path / "clip.json").write_text(json.dumps({"cuts": [12], "frames": frames}))
    names = ["unknown", "a", "unknown"]
    track = {"video": "clip.mp4", "id": 1, "name": "unknown", "frames": [0, 4, 8], "boxes": [[4, 4, 30, 40]] * 3}
    (out / "tracks.jsonl").write_text(json.dumps({**track, "frame_names": names}) + "\n")
    argv = [
        "evaluate",
        "tracks",
        "--gt",
        str(tmp_path),
        "--preds-dir",
        str(out),
        "--json-out",
        str(tmp_path / "r.json"),
    ]
    assert main(argv) == 0
    assert "IDF1" in capsys.readouterr().out
    result = json.loads((tmp_path / "r.json").read_text())
    assert result["idf1"]["value"] == pytest.approx(2 * 3 / (6 + 3))
    assert (result["track_accuracy"]["count"], result["frame_accuracy"]["count"]) == (3, 2)
    assert result["videos"]["clip.mp4"]["only_track"] == 1
    (tmp_path / "clip.json").unlink()
    assert main(argv) == 2
    assert "clip.json: no such ground truth of clip.mp4" in capsys.readouterr().err
    (out / "tracks.jsonl").unlink()
    assert main(argv) == 2
