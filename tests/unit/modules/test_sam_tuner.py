import json
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch

from naruto_vision.data.masks import MaskData, MaskedImage, MaskSource
from naruto_vision.errors import InputError, TrainingStoppedError
from naruto_vision.modules.sam_tuner import SegmenterTuner
from naruto_vision.modules.tuning import PassFigures
from naruto_vision.segmentation.protocol import MaskThresholds, Prompts
from naruto_vision.segmentation.sam import SamModel


class Squares(MaskSource):
    """A bright square on a dark ground, elsewhere in each image."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> MaskedImage:
        mask = np.zeros((1, 64, 64), dtype=bool)
        mask[0, 8 + 6 * index : 30 + 6 * index, 10 : 40 + 4 * index] = True
        return MaskedImage(np.where(mask[0, ..., None], 230, 20).repeat(3, axis=2).astype(np.uint8), mask)


def _fit(
    folder: Path, tuner: SegmenterTuner, steps: int = 2, ckpt_path: str | None = None, **options: object
) -> pl.Trainer:
    trainer = pl.Trainer(
        default_root_dir=folder,
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **{"enable_checkpointing": False, **options},
    )
    trainer.fit(tuner, MaskData(Squares(), Squares(), batch_size=1), ckpt_path=ckpt_path, weights_only=True)
    return trainer


def _tuner(folder: Path) -> SegmenterTuner:
    torch.manual_seed(0)
    bar = MaskThresholds(predicted_iou=0.6)
    return SegmenterTuner(
        SamModel("tiny-sam"), thresholds=bar, bundle_dir=str(folder / "bundle"), facts={"licence": "x"}, resolution=64
    )


def test_a_fit_reports_and_leaves_a_bundle_that_loads(tmp_path: Path) -> None:
    tuner = _tuner(tmp_path)
    trainer = _fit(tmp_path, tuner)
    names = {"point_best", "point_chosen", "box_best", "box_chosen", "iou_calibration_error", "miou"}
    assert {f"valid/{name}" for name in names} <= set(trainer.callback_metrics)
    info = json.loads((tmp_path / "bundle" / "model.json").read_text())
    assert info["licence"] == "x"
    assert info["steps"] == 2
    assert set(info["figures"]) == names
    loaded = SamModel("tiny-sam", weights=tmp_path / "bundle")
    assert loaded.thresholds.predicted_iou == 0.6
    for name, value in tuner.model.sam.state_dict().items():
        assert torch.equal(loaded.sam.state_dict()[name], value)


def test_learning_to_refine_leaves_the_answers_to_points_and_boxes_as_they_are(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = SamModel("tiny-sam")
    embedding = model.embed(Squares()[0].image)
    box = (np.zeros((1, 0, 2), np.float32), np.zeros((1, 0), np.int64), np.array([[10, 8, 40, 30]], np.float32))
    asked, refined = Prompts(*box), Prompts(*box, masks=np.ones((1, 64, 64), np.float32))
    before = [model.predict_all(embedding, prompts).logits for prompts in (asked, refined)]
    tuner = SegmenterTuner(model, bundle_dir=str(tmp_path / "bundle"), refine=True)
    _fit(tmp_path, tuner)
    kept = SamModel("tiny-sam", weights=tmp_path / "bundle").eval()
    after = [kept.predict_all(kept.embed(Squares()[0].image), prompts).logits for prompts in (asked, refined)]
    assert torch.equal(before[0], after[0])
    assert not torch.allclose(before[1], after[1])


def test_a_worse_validation_does_not_replace_the_bundle(tmp_path: Path) -> None:
    tuner = _tuner(tmp_path)
    tuner.export.epoch, tuner.export.best = 0, PassFigures(2.0)
    _fit(tmp_path, tuner)
    assert not (tmp_path / "bundle").exists()


def test_a_resumed_run_remembers_how_good_its_bundle_is(tmp_path: Path) -> None:
    tuner = _tuner(tmp_path)
    trainer = _fit(tmp_path, tuner, steps=1, limit_train_batches=1)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    again = _tuner(tmp_path)
    _fit(tmp_path, again, steps=1, ckpt_path=str(tmp_path / "last.ckpt"))  # nothing is left to train
    assert again.export.best.score == tuner.export.best.score > 0


def test_a_finished_learning_rate_cycle_is_not_lengthened(tmp_path: Path) -> None:
    _fit(tmp_path, _tuner(tmp_path), steps=1).save_checkpoint(tmp_path / "last.ckpt")
    with pytest.raises(InputError, match=r"--ckpt_path: .* has 1 steps, found 2 .* or start a new fit"):
        _fit(tmp_path, _tuner(tmp_path), steps=2, ckpt_path=str(tmp_path / "last.ckpt"))


def test_a_run_without_validation_still_leaves_a_bundle(tmp_path: Path) -> None:
    _fit(tmp_path, _tuner(tmp_path), steps=1, limit_val_batches=0)
    assert (tmp_path / "bundle" / "model.json").is_file()


def test_test_measures_the_same_as_validation(tmp_path: Path) -> None:
    tuner = _tuner(tmp_path)
    trainer = _fit(tmp_path, tuner, steps=1)
    data = MaskData(Squares(), Squares(), batch_size=1)
    valid, test = trainer.validate(tuner, data, verbose=False)[0], trainer.test(tuner, data, verbose=False)[0]
    assert {name.split("/")[1]: value for name, value in valid.items()} == {
        name.split("/")[1]: value for name, value in test.items()
    }


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    tuner = _tuner(tmp_path)
    with torch.no_grad():
        tuner.model.sam.mask_decoder.iou_token.weight.fill_(float("nan"))
    with pytest.raises(TrainingStoppedError, match="step 0"):
        _fit(tmp_path, tuner)


def test_the_default_schedule_is_one_cycle_over_all_steps(tmp_path: Path) -> None:
    tuner = _tuner(tmp_path)
    trainer = _fit(tmp_path, tuner, steps=3)
    schedule = trainer.lr_scheduler_configs[0]
    assert schedule.interval == "step"
    assert schedule.scheduler.total_steps == 3
