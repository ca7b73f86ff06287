"""The whole job from Python: the lines of docs/python.md run as they are, and images come from anywhere."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import naruto_vision as nv
from naruto_vision.cli.main import main
from naruto_vision.errors import InputError

DOCUMENT = Path(__file__).parents[2] / "docs" / "python.md"
SIZES = {"train": 6, "valid": 1, "test": 1, "scenes": 2, "valid-scenes": 2, "size": 128, "image-size": 48}


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Draw a small data set and run the document's first block in its folder."""
    root = tmp_path_factory.mktemp("job")
    options = [each for name, number in SIZES.items() for each in (f"--{name}", str(number))]
    block = re.search(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    assert len(block[1].strip().splitlines()) <= 12 + 1  # a blank line after the import
    names: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        assert main(["draw", "--out", "data", *options]) == 0
        exec(block[1], names)  # noqa: S102 - our own document
    return root, names


def test_the_documents_lines_do_the_whole_job(
    job: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, names = job
    monkeypatch.chdir(root)
    gallery, analyzer = names["gallery"], names["analyzer"]
    assert len(gallery) == 8 * SIZES["train"]
    assert gallery.thresholds.default is not None
    assert Image.open("named.jpg").size == (128, 128)
    results = list(analyzer.analyze_files("data/scenes/test"))
    assert [one.prediction.scene for one in results] == ["scene_00000.jpg", "scene_00001.jpg"]
    assert results[0].names == names["result"].names
    evaluation = nv.evaluate("data/scenes/test/gt.json", results)
    quiet = ["--trainer.logger=false", "--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]
    assert main(["predict", "data/scenes/test", "--out", "out", "--data.num_workers=0", *quiet]) == 0
    assert nv.evaluate("data/scenes/test/gt.json", "out").report == evaluation.report
    with pytest.raises(InputError, match=r"expected scenes of the results, found \['scene_00000\.jpg'\], not \[\]"):
        nv.evaluate("data/scenes/test/gt.json", [])


def test_a_file_that_cannot_be_read_costs_the_others_nothing(
    job: tuple[Path, dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    root, names = job
    (root / "bad.png").write_bytes(b"no image")
    good = root / "data/scenes/test/images/scene_00000.jpg"
    (only,) = names["analyzer"].analyze_files([root / "bad.png", good, root / "gone.png"])
    assert Path(root, only.prediction.scene) == good
    assert [part for part in ("bad.png: not an image", "gone.png: no such image") if part not in caplog.text] == []


def test_the_same_image_is_the_same_result_wherever_it_comes_from(job: tuple[Path, dict[str, Any]]) -> None:
    root, names = job
    path = root / "data/scenes/test/images/scene_00000.jpg"
    analyzer, pixels = names["analyzer"], nv.read_image(path)
    for image in (str(path), Image.open(path), pixels, np.asfortranarray(pixels)):
        assert analyzer.analyze(image).names == names["result"].names
        assert analyzer.search(image).identity == analyzer.search(path).identity
    with pytest.raises(InputError, match=r"found \(3, 128, 128\), torch\.float32; convert it to NumPy"):
        analyzer.analyze(torch.zeros(3, 128, 128))
    with pytest.raises(InputError, match="expected an image or a text"):
        analyzer.search()
