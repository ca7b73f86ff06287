"""``predict`` with saliency in place of the grid, as docs/saliency.md says."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from naruto_vision.cli.main import main
from naruto_vision.io.bundles import config_path
from naruto_vision.io.images import write_image
from naruto_vision.synthetic.attributes import read_cast
from naruto_vision.synthetic.scene import draw_scene

ROOT = Path(__file__).parents[2]
QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.logger=false"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand beside a scene and a gallery."""
    monkeypatch.chdir(tmp_path)
    cast = read_cast(config_path("cast.yaml"))
    write_image(tmp_path / "scenes" / "a.png", draw_scene(2, cast, size=128, difficulty="easy").image)
    for label, colour in (("red", (200, 40, 40)), ("blue", (40, 40, 200))):
        for k in range(3):
            write_image(tmp_path / "cast" / label / f"{k}.png", np.full((24, 24 + k, 3), colour, np.uint8))
    enrol = ["--data.root=cast", "--data.num_workers=0"]
    assert main(["fit", "--config=gallery.yaml", *enrol, *QUIET]) == 0


@pytest.mark.usefixtures("here")
def test_predict_asks_the_salient_objects_by_yaml_or_option() -> None:
    text = (ROOT / "docs" / "saliency.md").read_text(encoding="utf-8")
    (block,) = [found for found in re.findall(r"^```yaml\n(.*?)^```", text, re.DOTALL | re.M) if "class_path" in found]
    Path("salient.yaml").write_text(block, encoding="utf-8")
    words = ["--config=scenes.yaml", "--config=salient.yaml", "--data.predict=scenes", "--data.num_workers=0"]
    assert main(["predict", *words, "--out=by-yaml", *QUIET]) == 0
    key = "--model.segmenter.init_args.prompter"
    words = ["scenes", f"{key}=SaliencyPrompter", f"{key}.init_args.num_objects=8", "--data.num_workers=0"]
    assert main(["predict", *words, "--out=by-option", *QUIET]) == 0
    for out in ("by-yaml", "by-option"):
        (line,) = [json.loads(each) for each in Path(out, "predictions.jsonl").read_text("utf-8").splitlines()]
        assert line["regions"]
        assert all(region["prompt"].startswith("box ") for region in line["regions"])
