"""``predict`` with exemplars or texts in place of the grid, and with vectors from one pass over the scene."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import naruto_vision as nv
from naruto_vision.cli.main import main

QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.logger=false"]
PROMPTER = "--model.segmenter.init_args.prompter"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes with a red square, and a gallery of red and blue images of the default encoder."""
    root = tmp_path_factory.mktemp("made")
    (root / "scenes").mkdir()
    for k in range(2):
        image = np.full((72, 96, 3), 210, np.uint8)
        image[20:60, 10 + 20 * k : 50 + 20 * k] = (200, 40, 40)
        Image.fromarray(image).save(root / "scenes" / f"{k}.png")
    for label, colour in (("red", (200, 40, 40)), ("blue", (40, 40, 200))):
        (root / "cast" / label).mkdir(parents=True)
        for k in range(2):
            Image.fromarray(np.full((24, 24 + k, 3), colour, np.uint8)).save(root / "cast" / label / f"{k}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        assert main(["fit", "--config=gallery.yaml", "--data.root=cast", "--data.num_workers=0", *QUIET]) == 0
    return root


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in a copy."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)


def records() -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path("runs/scenes/predictions.jsonl").read_text().splitlines()]


@pytest.mark.usefixtures("here")
def test_exemplars_and_texts_prompt_in_place_of_the_grid() -> None:
    box = '["thing=scenes/0.png:10,20,49,59"]'
    own = [f"{PROMPTER}=ExemplarPrompter", f"{PROMPTER}.init_args.exemplars={box}"]
    assert main(["predict", "scenes", *own, "--data.num_workers=0", *QUIET]) == 0
    for k, line in enumerate(records()):
        assert {region["prompt"] for region in line["regions"]} == {"thing"}
        assert any(abs(region["bbox"][0] - 10 - 20 * k) < 6 for region in line["regions"])
    (region, *_) = nv.load("runs/scenes").analyze("scenes/0.png").regions
    assert region.prompt.name == "thing"
    assert region.prompt.confidence is not None
    texts = [f"{PROMPTER}=TextPrompter", f'{PROMPTER}.init_args.texts=["a red ball"]', "--out=runs/texts"]
    assert main(["predict", "scenes/0.png", *texts, "--data.num_workers=0", *QUIET]) == 0


@pytest.mark.usefixtures("here")
def test_regions_get_vectors_from_one_pass_over_the_scene(capsys: pytest.CaptureFixture[str]) -> None:
    dense = ["--model.embedding=dense", f"{PROMPTER}.init_args.points_per_side=6", "--data.num_workers=0", *QUIET]
    assert main(["predict", "scenes", *dense]) == 0
    assert json.loads(Path("runs/scenes/run.json").read_text())["identity"]["embedding"] == "dense"
    assert {region["label"] for line in records() for region in line["regions"]} <= {"red", "blue"}
    capsys.readouterr()
    assert main(["predict", "scenes", dense[1], "--data.num_workers=0", *QUIET]) == 2  # the results are of another run
    assert "different embedding" in capsys.readouterr().err
    clip = ["--data.root=cast", "--encoder=tiny-clip", "--model.gallery=runs/clip"]
    assert main(["fit", "--config=gallery.yaml", *clip, "--data.num_workers=0", *QUIET]) == 0
    assert main(["predict", "scenes", "--gallery=runs/clip", "--out=runs/other", *dense]) == 2
    assert "model.embedding dense: expected an encoder that pools its features by their mean" in capsys.readouterr().err
