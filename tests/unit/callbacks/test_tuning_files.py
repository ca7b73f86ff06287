"""The folder that a tuning run leaves: history, tables and plots of its best weights."""

import csv
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.trainer.states import TrainerFn

from naruto_vision.callbacks.reports import TuningFiles, confusion_csv, per_class_csv
from naruto_vision.modules.clip_tuner import ContrastiveTuner
from naruto_vision.modules.tuning import ExportBundle, PassFigures

MATRIX = torch.tensor([[3, 1, 0], [0, 0, 0], [0, 2, 2]])
NAMES = ("ann", "bob, jr", "cy")
PLOTS = {"curves_loss.png", "curves_acc.png", "lr_schedule.png"}
TABLES = {"confusion_matrix.csv", "per_class_accuracy.csv", "confusion_matrix.png"}


class Tuner(ContrastiveTuner):
    """A tuner that was never built, with what the callback looks at."""

    classes = NAMES
    bundle_dir = "runs/bundle"

    def __init__(self, figures: PassFigures | None = None) -> None:
        pl.LightningModule.__init__(self)
        self.export = ExportBundle()
        if figures is not None:
            self.export.epoch, self.export.best = 1, figures


def trainer_of(**changes: Any) -> Any:
    values = {
        "state": SimpleNamespace(fn=TrainerFn.FITTING),
        "sanity_checking": False,
        "current_epoch": 0,
        "global_step": 0,
        "optimizers": [SimpleNamespace(param_groups=[{"lr": 0.1}, {"lr": 9.0}])],
        "accumulate_grad_batches": 1,
        "callback_metrics": {},
        "is_global_zero": True,
        "checkpoint_callback": None,
        "early_stopping_callback": None,
    }
    return SimpleNamespace(**values | changes)


def test_a_confusion_matrix_has_names_on_both_sides() -> None:
    rows = list(csv.reader(confusion_csv(MATRIX, NAMES).splitlines()))
    assert rows[0] == ["truth", *NAMES]
    assert rows[3] == ["cy", "0", "2", "2"]


def test_a_class_without_images_has_no_accuracy() -> None:
    rows = list(csv.reader(per_class_csv(MATRIX, NAMES).splitlines()))
    assert rows == [
        ["class", "correct", "total", "accuracy"],
        ["ann", "3", "4", "0.7500"],
        ["bob, jr", "0", "0", ""],
        ["cy", "2", "4", "0.5000"],
    ]


def test_each_step_has_one_learning_rate_however_many_batches_it_takes() -> None:
    files, module = TuningFiles(), Tuner()
    for batch, step in enumerate((0, 0, 1, 1, 2)):  # two batches a step
        rate = SimpleNamespace(param_groups=[{"lr": 0.1 / (step + 1)}])
        files.on_train_batch_start(trainer_of(global_step=step, optimizers=[rate]), module, None, batch)
    assert files.rates == [pytest.approx(0.1), pytest.approx(0.05), pytest.approx(0.1 / 3)]
    files.on_train_batch_start(trainer_of(global_step=3, optimizers=[]), module, None, 0)
    assert len(files.rates) == 3


def test_an_epoch_has_its_mean_loss_and_what_validation_says() -> None:
    files, module = TuningFiles(), Tuner()
    for loss in (1.0, 2.0):  # Lightning gives a loss divided by the batches a step
        files.on_train_batch_end(trainer_of(accumulate_grad_batches=4), module, {"loss": torch.tensor(loss)}, None, 0)
    files.on_train_batch_end(trainer_of(), module, None, None, 0)  # a step that was left out
    figures = {"valid/accuracy": torch.tensor(0.5), "valid/odd": torch.tensor(math.nan), "train/x": torch.tensor(1.0)}
    files.on_validation_end(trainer_of(callback_metrics=figures, current_epoch=2, global_step=7), module)
    files.on_validation_end(trainer_of(current_epoch=3, global_step=9), module)
    assert files.epochs == [
        {"epoch": 3.0, "step": 7.0, "train_loss": 6.0, "accuracy": 0.5},
        {"epoch": 4.0, "step": 9.0},  # losses count once
    ]


@pytest.mark.parametrize(
    "changes", [{"sanity_checking": True}, {"state": SimpleNamespace(fn=TrainerFn.VALIDATING)}], ids=["sanity", "verb"]
)
def test_other_validations_are_no_history(changes: dict[str, Any]) -> None:
    files = TuningFiles()
    files.on_validation_end(trainer_of(**changes), Tuner())
    assert files.epochs == []


def test_an_interrupted_run_goes_on_with_its_history() -> None:
    first, again = TuningFiles(), TuningFiles()
    first.epochs, first.rates, first._losses = [{"epoch": 1.0}], [0.1], [torch.tensor(3.0)]
    again.load_state_dict(first.state_dict())
    again.on_validation_end(trainer_of(current_epoch=1), Tuner())
    assert again.epochs == [{"epoch": 1.0}, {"epoch": 2.0, "step": 0.0, "train_loss": 3.0}]
    assert again.rates == [0.1]
    assert first.epochs == [{"epoch": 1.0}]  # not shared


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_everything_is_about_the_best_pass(tmp_path: Path) -> None:
    files = TuningFiles(str(tmp_path))
    files.epochs, files.rates = [{"epoch": 1.0, "train_loss": 2.0, "loss": 1.5, "accuracy": 0.5}], [0.1, 0.2]
    files.teardown(trainer_of(), Tuner(PassFigures(0.6, {"accuracy": 0.625}, MATRIX)), "fit")
    assert names(tmp_path) == {"metrics.json", "classes.json"} | PLOTS | TABLES
    told = json.loads((tmp_path / "metrics.json").read_text())
    assert told["best"] == {"epoch": 2, "accuracy": 0.625}
    assert told["epochs"] == files.epochs
    assert json.loads((tmp_path / "classes.json").read_text()) == list(NAMES)
    assert (tmp_path / "confusion_matrix.csv").read_text() == confusion_csv(MATRIX, NAMES)
    assert (tmp_path / "curves_loss.png").read_bytes().startswith(b"\x89PNG")


def test_other_weights_than_those_of_the_best_epoch_are_described_where_they_are_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    module = Tuner(PassFigures(0.6, {"accuracy": 0.625}, MATRIX))
    module.export.kept, module.export.figures = 0.25, PassFigures(0.7, {"accuracy": 0.75}, MATRIX.T)
    with caplog.at_level("INFO", logger="naruto_vision"):
        TuningFiles(str(tmp_path)).teardown(trainer_of(), module, "fit")
    told = json.loads((tmp_path / "metrics.json").read_text())
    assert told["best"] == {"epoch": 2, "accuracy": 0.625}
    assert told["kept"] == {"alpha": 0.25, "accuracy": 0.75}
    assert (tmp_path / "confusion_matrix.csv").read_text() == confusion_csv(MATRIX.T, NAMES)
    assert (
        "0.25 of the weights of epoch 2 and 0.75 of the untuned ones, by whose class texts 5 of 8" in caplog.messages[0]
    )
    module.export.kept = 0.0
    with caplog.at_level("INFO", logger="naruto_vision"):
        TuningFiles(str(tmp_path)).teardown(trainer_of(), module, "fit")
    assert ": the untuned weights, by whose class texts 5 of 8" in caplog.messages[1]


def test_a_run_that_never_validated_leaves_what_it_knows(tmp_path: Path) -> None:
    TuningFiles(str(tmp_path)).teardown(trainer_of(), Tuner(), "fit")
    assert names(tmp_path) == {"metrics.json", "classes.json"} | PLOTS
    assert json.loads((tmp_path / "metrics.json").read_text())["best"] is None


@pytest.mark.parametrize(
    ("figures", "told"),
    [
        (
            PassFigures(0.6, {}, MATRIX),
            "the weights of epoch 2, by whose class texts 5 of 8 validation images are right",
        ),
        (PassFigures(0.6, {}), "the weights of epoch 2, the best by validation"),
        (None, "the weights of the last step, because no validation chose any"),
    ],
)
def test_the_end_of_a_run_says_which_weights_are_kept_and_where(
    figures: PassFigures | None, told: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="naruto_vision"):
        TuningFiles(str(tmp_path)).teardown(trainer_of(), Tuner(figures), "fit")
    assert caplog.messages == [f"runs/bundle: {told}; tables and curves are in {tmp_path}"]


@pytest.mark.parametrize(
    ("trainer", "module"), [(trainer_of(is_global_zero=False), Tuner()), (trainer_of(), pl.LightningModule())]
)
def test_other_processes_and_modules_write_nothing(trainer: Any, module: pl.LightningModule, tmp_path: Path) -> None:
    TuningFiles(str(tmp_path)).teardown(trainer, module, "fit")
    assert names(tmp_path) == set()


def test_a_run_that_is_stopped_leaves_its_files_after_the_first_validation(tmp_path: Path) -> None:
    files = TuningFiles(str(tmp_path))
    files.on_exception(trainer_of(), Tuner(), KeyboardInterrupt())
    assert names(tmp_path) == set()
    files.on_validation_end(trainer_of(), Tuner())
    files.on_exception(trainer_of(), Tuner(), KeyboardInterrupt())
    assert "metrics.json" in names(tmp_path)


@pytest.mark.parametrize(
    ("stopped_by", "last", "told"),
    [
        (
            KeyboardInterrupt(),
            "c/last.ckpt",
            ["stopped; the same `fit` with --ckpt_path last continues from c/last.ckpt"],
        ),
        (KeyboardInterrupt(), "", []),
        (ValueError(), "c/last.ckpt", []),
    ],
)
def test_a_run_that_is_stopped_says_how_it_goes_on(
    stopped_by: BaseException, last: str, told: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = trainer_of(checkpoint_callback=SimpleNamespace(last_model_path=last))
    with caplog.at_level("INFO", logger="naruto_vision"):
        TuningFiles(str(tmp_path)).on_exception(trainer, Tuner(), stopped_by)
    assert caplog.messages == told
