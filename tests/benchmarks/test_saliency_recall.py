"""Whether the comparison of saliency with a grid counts what it says."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import saliency
from naruto_vision.io.atomic import write_json
from naruto_vision.io.images import write_image
from naruto_vision.records import Region
from naruto_vision.segmentation.sam import SamModel


def test_figures_are_counted_by_their_boxes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(tmp_path / "images" / "a.png", np.zeros((40, 50, 3), np.uint8))
    write_json(tmp_path / "gt.json", {"a.png": [{"bbox": [0, 0, 9, 9]}, {"bbox": [20, 20, 29, 29]}]})
    near, large = (Region((0, 0, s, s), np.ones((s + 1, s + 1), bool)) for s in (8, 39))
    monkeypatch.setattr(saliency, "ways", lambda _model: {"mine": lambda _image: (7, [near, large])})
    assert saliency.main([str(tmp_path)]) == 0
    row = capsys.readouterr().out.splitlines()[-1]
    assert row.startswith("| mine | 1/2 = 0.500 [0.095, 0.905] | 2/2 = 1.000 [0.342, 1.000] | 7.0 | 2.00 | ")
    coco = {"images": [{"id": 3, "file_name": "a.png"}], "annotations": [{"image_id": 3, "bbox": [0, 0, 10, 10]}]}
    write_json(tmp_path / "coco.json", coco)
    assert saliency.main([str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("| mine | 1/1 = 1.000 ")


def test_every_preset_is_compared() -> None:
    assert {"grid of 16 x 16", "boxes (general)", "many-small", "few-large", "maximum"} <= set(
        saliency.ways(SamModel(weights="tiny-sam"))
    )
