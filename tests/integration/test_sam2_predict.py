"""SAM 2.1 in front of the whole pipeline: by the short option, by YAML, and again from Python."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from benchmarks.stock import official_state, random_sam2
from packaged_models import tiny_clip
from PIL import Image

import naruto_vision as nv
from naruto_vision.cli.main import main
from naruto_vision.io.bundles import config_path
from naruto_vision.segmentation.sam2 import SIZES, Sam2Size, official_key
from naruto_vision.segmentation.sam2_video import build_video_network
from naruto_vision.synthetic.attributes import read_cast
from naruto_vision.synthetic.videos import SyntheticVideo, VideoConfig, write_video

SMALL = Sam2Size(16, 1, (1, 2, 3, 1), (4,), (8, 4, 6, 2), 4, 128, 32, 2, 48, 16)
QUIET = ["--trainer.logger=false", "--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]
FREE = ["--model.segmenter.init_args.predicted_iou=0", "--model.segmenter.init_args.stability=0"]  # random weights


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a gallery of two colours, one scene, and a file of SAM 2.1."""
    monkeypatch.chdir(tmp_path)
    encoder = tiny_clip()
    images = [np.full((32, 32, 3), colour, dtype=np.uint8) for colour in ((200, 30, 30), (30, 30, 200))]
    rows = [nv.GalleryRow("red.png", "red"), nv.GalleryRow("blue.png", "blue")]
    note = {"encoder": dict(encoder.recipe)}
    vectors = nv.embed_images(encoder, images).numpy()
    nv.Gallery.build(vectors, rows, fingerprint=encoder.fingerprint, note=note).save("runs/gallery")
    scene = np.full((48, 96, 3), 240, dtype=np.uint8)
    scene[10:40, 20:60] = (200, 30, 30)
    Image.fromarray(scene).save("a.png")
    monkeypatch.setitem(SIZES, "tiny", SMALL)
    state = random_sam2(SMALL).sam.state_dict()
    torch.save({"model": {official_key(name): value for name, value in state.items()}}, "sam2.1_hiera_tiny.pt")


@pytest.mark.usefixtures("here")
def test_predict_takes_masks_of_sam2_by_option_and_by_yaml() -> None:
    options = ["--mask-weights", "sam2.1_hiera_tiny.pt", "--data.num_workers=0", *FREE, *QUIET]
    assert main(["predict", "a.png", *options]) == 0
    record = json.loads(Path("runs/scenes/predictions.jsonl").read_text(encoding="utf-8"))
    assert record["regions"]
    config = yaml.safe_load(Path("runs/scenes/config.yaml").read_text(encoding="utf-8"))
    model = config["model"]["init_args"]["segmenter"]["init_args"]["model"]
    assert model["class_path"].rpartition(".")[2] == "Sam2Model"
    assert nv.load("runs/scenes", device="cpu").analyze("a.png").to_dict()["regions"] == record["regions"]
    own = yaml.safe_load(config_path("scenes.yaml").read_text(encoding="utf-8"))
    settings = own["model"]["init_args"]
    settings["encoder"] = {"class_path": "ClipEncoder", "init_args": {"model": "tiny-clip"}}
    settings["segmenter"]["init_args"] |= {"predicted_iou": 0, "stability": 0}
    settings["segmenter"]["init_args"]["model"] = {
        "class_path": "Sam2Model",
        "init_args": {"weights": "sam2.1_hiera_tiny.pt"},
    }
    Path("own.yaml").write_text(yaml.safe_dump(own), encoding="utf-8")
    again = nv.load("runs/gallery", config="own.yaml", device="cpu").analyze("a.png").to_dict()
    assert again["regions"] == record["regions"]


@pytest.mark.usefixtures("here")
def test_absent_weights_are_refused_with_the_command_that_downloads_them(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("sam2.1_hiera_base_plus", "models/sam2.1_hiera_base_plus.pt"):
        assert main(["predict", "a.png", f"--mask-weights={name}", *QUIET]) == 2
        line = capsys.readouterr().err.splitlines()[-1]
        assert line.endswith("no such weights file; run: naruto-vision weights download sam2.1_hiera_base_plus")


@pytest.mark.usefixtures("here")
def test_regions_of_a_video_are_followed_by_option_and_wrong_files_are_refused_before_the_search(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cast = read_cast(config_path("cast.yaml"))
    write_video("clip.mp4", SyntheticVideo(4, cast, VideoConfig(2, 12, 64, 48, shot_seconds=(1, 1))))
    size = replace(SMALL, image_size=64, decoder_width=128)
    monkeypatch.setitem(SIZES, "small", replace(size, blocks=(1, 2, 2, 1), global_blocks=()))
    torch.manual_seed(0)
    torch.save({"model": official_state(build_video_network(SIZES["small"]))}, "sam2.1_hiera_small.pt")
    points = "--model.segmenter.init_args.prompter.init_args.points_per_side=4"
    options = ["--data.num_workers=0", "--fps=2", "--mask-weights=tiny-sam", points, *QUIET]
    assert main(["predict", "clip.mp4", "--track-memory", "sam2.1_hiera_tiny.pt", *options]) == 2
    assert "sam2.1_hiera_tiny.pt: not weights of SAM 2 tiny for videos: " in capsys.readouterr().err
    assert not list(Path("runs/scenes").glob("**/frame_*"))
    calls = list[int]()
    follow = nv.Sam2Memory.follow
    monkeypatch.setattr(nv.Sam2Memory, "follow", lambda self, image: calls.append(1) or follow(self, image))
    argv = ["predict", "clip.mp4", "--track-memory", "sam2.1_hiera_small.pt", *options]
    assert main(argv) == 0
    assert len(calls) == 4  # searched frames
    tracks = [json.loads(line) for line in Path("runs/scenes/tracks.jsonl").read_text(encoding="utf-8").splitlines()]
    assert tracks
    assert all(max(track["frames"]) < 12 or min(track["frames"]) >= 12 for track in tracks)  # no track passes the cut
