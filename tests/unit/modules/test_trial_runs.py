"""Trial runs write nothing over what is there; whole runs do."""

import shutil
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader

from naruto_vision.callbacks.reports import TuningFiles
from naruto_vision.data.class_data import ClassBatch
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.encoders.tiny import TinySizes
from naruto_vision.errors import InputError
from naruto_vision.modules.clip_tuner import ContrastiveTuner

SIZES = TinySizes(
    embed_dim=16, image_size=24, patch_size=12, vision_width=32, vision_layers=2, text_width=32, text_layers=1
)


class Colours(pl.LightningDataModule):
    """One class for each channel."""

    def __init__(self, *classes: str) -> None:
        super().__init__()
        self.classes = classes or ("red", "green", "blue")

    def train_dataloader(self) -> "DataLoader[Any]":
        return self.val_dataloader()

    def val_dataloader(self) -> "DataLoader[Any]":
        labels = torch.arange(6) % len(self.classes)
        noise = torch.randn(6, 3, 24, 24, generator=torch.Generator().manual_seed(0))
        batch = ClassBatch(noise + torch.eye(3)[labels][:, :, None, None], labels, list("abcdef"))
        return DataLoader([batch] * 4, batch_size=None)  # type: ignore[arg-type]  # a list is a dataset


def fit(folder: Path, *classes: str, resume: str | None = None, **options: Any) -> ContrastiveTuner:
    torch.manual_seed(0)
    module = ContrastiveTuner(ClipEncoder("tiny-clip", "random", sizes=SIZES), bundle_dir=str(folder / "bundle"))
    best = ModelCheckpoint(folder / "checkpoints", monitor="valid/score", mode="max", save_last=True)
    callbacks = [best, TuningFiles(str(folder / "out"))]
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = pl.Trainer(default_root_dir=folder, callbacks=callbacks, **(quiet | options))
    trainer.fit(module, Colours(*classes), ckpt_path=resume, weights_only=True)
    return module


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("fast_dev_run", True),
        ("overfit_batches", 1),
        ("limit_train_batches", 1),
        ("limit_train_batches", 0.5),
        ("limit_val_batches", 1),
        ("max_steps", 1),
        ("max_epochs", 0),
        ("limit_train_batches", 0),
    ],
)
def test_a_trial_leaves_a_tuned_bundle_its_tables_and_checkpoints_alone(
    option: str, value: float, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fit(tmp_path, max_epochs=1)
    before = contents(tmp_path)
    caplog.set_level("INFO", logger="naruto_vision")
    fit(tmp_path, **{"max_epochs": 2, option: value})
    assert contents(tmp_path) == before
    assert [line for line in caplog.messages if "nothing was written" in line and f"trainer.{option}" in line] or (
        "no training step was done" in caplog.text
    )


@pytest.mark.parametrize("option", ["fast_dev_run", "overfit_batches"])
def test_a_run_that_is_only_meant_to_try_things_writes_nothing_anywhere(option: str, tmp_path: Path) -> None:
    fit(tmp_path, max_epochs=1, **{option: 1})
    assert contents(tmp_path) == {}


def test_a_part_of_the_data_is_enough_where_nothing_is_yet_and_the_run_can_go_on(tmp_path: Path) -> None:
    fit(tmp_path, max_epochs=1, limit_train_batches=2)
    before = contents(tmp_path)
    assert {"bundle/model.json", "out/metrics.json", "checkpoints/last.ckpt"} <= before.keys()
    last = str(tmp_path / "checkpoints" / "last.ckpt")
    assert fit(tmp_path, max_epochs=3, limit_train_batches=2, resume=last).global_step == 6
    assert contents(tmp_path)["out/metrics.json"] != before["out/metrics.json"]


def test_a_run_that_was_killed_after_its_last_step_is_finished(tmp_path: Path) -> None:
    fit(tmp_path, max_epochs=1)
    whole, last = contents(tmp_path), str(tmp_path / "checkpoints" / "last.ckpt")
    shutil.rmtree(tmp_path / "out")
    fit(tmp_path, max_epochs=1, resume=last)
    assert contents(tmp_path) == whole


@pytest.mark.parametrize("options", [{"max_epochs": 2}, {"max_steps": 8}, {"max_epochs": 1, "limit_val_batches": 0}])
def test_a_whole_run_replaces_the_bundle(options: dict[str, Any], tmp_path: Path) -> None:
    fit(tmp_path, max_epochs=1)
    before = contents(tmp_path)["out/metrics.json"]
    module = fit(tmp_path, **options)
    assert module.withheld == ""
    assert contents(tmp_path)["out/metrics.json"] != before


@pytest.mark.parametrize("every", [{}, {"check_val_every_n_epoch": None, "val_check_interval": 8}])
def test_the_last_checkpoint_is_of_the_last_epoch_also_if_no_later_one_is_better(
    every: dict[str, Any], tmp_path: Path
) -> None:
    class Worse(ContrastiveTuner):
        def measure(self) -> Any:
            found = super().measure()
            object.__setattr__(found, "score", -float(self.current_epoch))
            return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("test_trial_runs.ContrastiveTuner", Worse)
        fit(tmp_path, max_epochs=4, **every)
    last = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert (last["epoch"], last["global_step"]) == (3, 16)
    assert last["callbacks"]["ExportBundle"]["epoch"] <= 1
    resumed = fit(tmp_path, max_epochs=6, resume=str(tmp_path / "checkpoints" / "last.ckpt"), **every)
    assert resumed.global_step == 24
    assert sum(file.name.startswith("last") for file in (tmp_path / "checkpoints").iterdir()) == 1


@pytest.mark.parametrize(
    ("classes", "told"),
    [
        (("red", "green"), r"\(gone: blue\)"),
        (("red", "green", "azure"), r"\(new: azure; gone: blue\)"),
        (("red", "blue", "green"), r"\(in another order\)"),
    ],
)
def test_a_checkpoint_of_other_classes_is_refused_before_training(
    classes: tuple[str, ...], told: str, tmp_path: Path
) -> None:
    fit(tmp_path, max_epochs=1)
    before = contents(tmp_path)
    last = tmp_path / "checkpoints" / "last.ckpt"
    with pytest.raises(InputError, match=rf"last\.ckpt: .* other classes {told}; start a new fit without --ckpt_path"):
        fit(tmp_path, *classes, max_epochs=2, resume=str(last))
    assert contents(tmp_path) == before
    assert fit(tmp_path, max_epochs=2, resume=str(last)).global_step == 8
