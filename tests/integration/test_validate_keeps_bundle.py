"""``validate`` only looks: the bundle that a ``fit`` left is as it was."""

from pathlib import Path

import lightning.pytorch as pl

from naruto_vision.data.masks import MaskData, SyntheticMasks
from naruto_vision.modules.sam_tuner import SegmenterTuner
from naruto_vision.segmentation.sam import SamModel


def test_validating_a_segmenter_writes_no_bundle(tmp_path: Path) -> None:
    tuner = SegmenterTuner(SamModel("tiny-sam"), bundle_dir=str(tmp_path / "bundle"))
    trainer = pl.Trainer(default_root_dir=tmp_path, accelerator="cpu", logger=False, enable_progress_bar=False)
    scenes = SyntheticMasks(seed=1, count=1, size=64)
    figures = trainer.validate(tuner, MaskData(scenes, scenes), verbose=False)
    assert "valid/miou" in figures[0]
    assert not (tmp_path / "bundle").exists()
