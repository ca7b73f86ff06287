"""Regions learnt from boxes: from labelled scenes to the regions that predict names."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from packaged_models import tiny_clip
from PIL import Image

import naruto_vision as nv
from naruto_vision.cli.main import main
from naruto_vision.segmentation.detector import BoxDetector

QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.logger=false"]


def _scenes(folder: Path, count: int) -> None:
    (folder / "images").mkdir(parents=True)
    truth = {}
    for k in range(count):
        image = np.zeros((72, 96, 3), np.uint8)
        image[20:60, 10 + k : 50 + k] = (200, 40, 40)
        Image.fromarray(image).save(folder / "images" / f"{k}.png")
        truth[f"{k}.png"] = [{"bbox": [10 + k, 20, 49 + k, 59], "label": "red"}]
    (folder / "gt.json").write_text(json.dumps(truth))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make scenes, and a gallery of two colours."""
    root = tmp_path_factory.mktemp("made")
    _scenes(root / "scenes", 10)
    for label, colour in (("red", (200, 40, 40)), ("blue", (40, 40, 200))):
        (root / "cast" / label).mkdir(parents=True)
        for k in range(3):
            Image.fromarray(np.full((24, 24 + k, 3), colour, np.uint8)).save(root / "cast" / label / f"{k}.png")
    nv.enrol(root / "cast", tiny_clip(), root / "runs" / "gallery")
    return root


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in a copy."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("here")
def test_learnt_boxes_become_the_regions_of_predict(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--model.model.init_args.weights=random", "--model.model.init_args.image_size=64"]
    steps = ["--trainer.max_steps=2", "--data.batch_size=2"]
    assert main(["fit", "--config=regions.yaml", "--data.root=scenes", *options, *steps, *QUIET]) == 0
    assert "next: `naruto-vision predict DIR`" in capsys.readouterr().err
    assert "average_precision" in json.loads(Path("runs/regions/bundle/model.json").read_text())["figures"]
    detector = BoxDetector("runs/regions/bundle")
    card = Path("runs/regions/card.md").read_text()
    assert f"fingerprint {detector.fingerprint[:16]}" in card
    assert "| average precision |" in card
    detector.threshold = 0.0  # two steps teach nothing; every box counts
    detector.save("runs/regions/bundle")
    assert main(["predict", "scenes", "--data.num_workers=0", *QUIET]) == 0
    assert "regions are found by runs/regions/bundle" in capsys.readouterr().err
    lines = [json.loads(line) for line in Path("runs/scenes/predictions.jsonl").read_text().splitlines()]
    regions = [region for line in lines for region in line["regions"]]
    assert regions
    assert all(region["prompt"].startswith("box ") for region in regions)
    assert [r.box for r in nv.load("runs").analyze("scenes/images/0.png").regions] == [
        tuple(region["bbox"]) for region in lines[0]["regions"]
    ]


@pytest.mark.usefixtures("here")
def test_another_segmenter_is_used_instead_where_it_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    BoxDetector("random", image_size=64).save("runs/regions/bundle")
    assert main(["predict", "scenes/images/0.png", "--mask-weights=tiny-sam", "--data.num_workers=0", *QUIET]) == 0
    assert "runs/regions/bundle" not in capsys.readouterr().err
    assert '"prompt":"point' in Path("runs/scenes/predictions.jsonl").read_text()
