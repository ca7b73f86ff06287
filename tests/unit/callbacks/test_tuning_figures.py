from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.trainer.states import TrainerFn
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from naruto_vision.callbacks.reports import TuningFigures, confusion_figure, example_grid
from naruto_vision.data.class_data import ClassBatch
from naruto_vision.modules.clip_tuner import ContrastiveTuner
from naruto_vision.modules.tuning import ExportBundle, PassFigures


def test_each_cell_that_counts_carries_its_number() -> None:
    figure = confusion_figure(torch.tensor([[5, 0, 1], [0, 0, 0], [2, 0, 7]]), ("ann", "bob", "cy"))
    axes = figure.axes[0]
    assert sorted(text.get_text() for text in axes.texts) == ["1", "2", "5", "7"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["ann", "bob", "cy"]


@pytest.mark.parametrize(("count", "numbers"), [(8, True), (40, True), (41, False), (120, False)])
def test_many_classes_make_smaller_names_and_no_larger_figure(count: int, numbers: bool) -> None:
    names = tuple(f"character {number}" for number in range(count))
    figure = confusion_figure(torch.eye(count, dtype=torch.int64), names)
    width, height = figure.get_size_inches()
    assert width == height <= 16
    assert len(figure.axes[0].texts) == (count if numbers else 0)
    labels = figure.axes[0].get_yticklabels()
    assert [label.get_text() for label in labels] == list(names)
    assert labels[0].get_fontsize() * count <= 72 * height


def test_images_fill_the_whole_range_side_by_side() -> None:
    grid = example_grid(torch.randn(20, 3, 8, 8), count=10)
    assert grid.shape[0] == 3
    assert grid.min().item() == 0.0
    assert grid.max().item() == pytest.approx(1.0)
    assert grid.shape[1] < grid.shape[2]  # two rows of eight at most


@pytest.mark.parametrize(
    ("state", "best", "drawn"),
    [(TrainerFn.FITTING, 0.5, True), (TrainerFn.FITTING, 0.6, False), (TrainerFn.VALIDATING, 0.6, True)],
)
def test_a_fit_draws_what_it_keeps_and_validate_always(
    state: TrainerFn, best: float, drawn: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ContrastiveTuner.__new__(ContrastiveTuner)
    pl.LightningModule.__init__(module)
    module.figures, module.export = PassFigures(0.5, {}, torch.tensor([[3, 1], [0, 2]])), ExportBundle()
    module.export.best = PassFigures(best)
    shown = list[str]()
    logger = TensorBoardLogger(tmp_path)
    monkeypatch.setattr(logger.experiment, "add_figure", lambda name, *_: shown.append(name))
    trainer: Any = SimpleNamespace(
        logger=logger,
        global_step=4,
        sanity_checking=False,
        state=SimpleNamespace(fn=state),
        datamodule=SimpleNamespace(classes=("ann", "bob")),
    )
    module._trainer = trainer
    TuningFigures().on_validation_end(trainer, module)
    assert shown == ["valid/confusion"] * drawn


def test_they_reach_the_event_file(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path)
    module = ContrastiveTuner.__new__(ContrastiveTuner)
    pl.LightningModule.__init__(module)
    module.figures, module.export = PassFigures(0.5, {}, torch.tensor([[3, 1], [0, 2]])), ExportBundle()
    trainer: Any = SimpleNamespace(
        logger=logger,
        global_step=0,
        sanity_checking=False,
        state=SimpleNamespace(fn=TrainerFn.FITTING),
        datamodule=SimpleNamespace(classes=("ann", "bob")),
    )
    module._trainer = trainer
    batch = ClassBatch(torch.randn(4, 3, 8, 8), torch.zeros(4, dtype=torch.int64), list("abcd"))
    callback = TuningFigures()
    callback.on_train_batch_start(trainer, module, batch, 0)
    callback.on_validation_end(trainer, module)
    logger.finalize("success")
    events = EventAccumulator(cast("str", logger.log_dir)).Reload()
    assert set(events.Tags()["images"]) == {"train/images", "valid/confusion"}
