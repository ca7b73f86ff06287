from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from naruto_vision.callbacks.figures import TuningFigures, confusion_figure, example_grid
from naruto_vision.data.class_data import ClassBatch
from naruto_vision.modules.contrastive_tuner import ContrastiveTuner


def test_each_cell_that_counts_carries_its_number() -> None:
    figure = confusion_figure(torch.tensor([[5, 0, 1], [0, 0, 0], [2, 0, 7]]), ("ann", "bob", "cy"))
    axes = figure.axes[0]
    assert sorted(text.get_text() for text in axes.texts) == ["1", "2", "5", "7"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["ann", "bob", "cy"]


def test_pictures_fill_the_whole_range_side_by_side() -> None:
    grid = example_grid(torch.randn(20, 3, 8, 8), count=10)
    assert grid.shape[0] == 3
    assert grid.min().item() == 0.0
    assert grid.max().item() == pytest.approx(1.0)
    assert grid.shape[1] < grid.shape[2]  # two rows of eight at most


def test_they_reach_the_event_file(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path)
    module = ContrastiveTuner.__new__(ContrastiveTuner)
    pl.LightningModule.__init__(module)
    module.confusion = torch.tensor([[3, 1], [0, 2]])
    trainer: Any = SimpleNamespace(
        logger=logger, global_step=0, sanity_checking=False, datamodule=SimpleNamespace(classes=("ann", "bob"))
    )
    module._trainer = trainer
    batch = ClassBatch(torch.randn(4, 3, 8, 8), torch.zeros(4, dtype=torch.int64), list("abcd"))
    callback = TuningFigures()
    callback.on_train_batch_start(trainer, module, batch, 0)
    callback.on_validation_end(trainer, module)
    logger.finalize("success")
    events = EventAccumulator(cast("str", logger.log_dir)).Reload()
    assert set(events.Tags()["images"]) == {"train/pictures", "valid/confusion"}
