"""A sweep as the segmenter of predict: named in a config in place of the packaged one."""

import json
from pathlib import Path

import numpy as np
import pytest
from packaged_models import tiny_clip
from PIL import Image

import naruto_vision as nv
from naruto_vision.cli.main import main

QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.logger=false"]
SWEEP = """
model:
  init_args:
    segmenter:
      class_path: SweepSegmenter
      init_args:
        before:
          - class_path: GridPrompter
            init_args: {points_per_side: 1}
        points: {grid: [3, 2]}
        sweep: {mode: overlap_tolerance, tolerance: 0.2, min_area: 9}
        keep: {min_area: 9}
        model:
          class_path: SamModel
          init_args: {weights: tiny-sam}
"""


def test_predict_sweeps_where_a_config_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for label, colour in (("red", (200, 40, 40)), ("blue", (40, 40, 200))):
        (tmp_path / "cast" / label).mkdir(parents=True)
        for k in range(2):
            Image.fromarray(np.full((24, 24 + k, 3), colour, np.uint8)).save(tmp_path / "cast" / label / f"{k}.png")
    nv.enrol("cast", tiny_clip(), "runs/gallery")
    image = np.zeros((72, 96, 3), np.uint8)
    image[10:60, 20:50] = (200, 40, 40)
    Image.fromarray(image).save(tmp_path / "scene.png")
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    options = ["--config=scenes.yaml", "--config=sweep.yaml", "--encoder=tiny-clip", "--data.num_workers=0", *QUIET]
    assert main(["predict", "scene.png", *options]) == 0
    (line,) = Path("runs/scenes/predictions.jsonl").read_text().splitlines()
    prompts = [region["prompt"] for region in json.loads(line)["regions"]]
    assert prompts
    assert all(prompt.split()[0] in {"point", "contour", "grid"} for prompt in prompts)
    segmenter = nv.load("runs/scenes").segmenter
    assert isinstance(segmenter, nv.SweepSegmenter)
    assert (segmenter.config.tolerance, segmenter.points.grid) == (0.2, (3, 2))
