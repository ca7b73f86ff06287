"""The callback behind ``test``: one table for people, ``results.json`` for programs, and pictures for TensorBoard."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from rich.console import Console
from typing_extensions import override

from naruto_vision.files.atomic import write_json
from naruto_vision.metrics.report import report_table
from naruto_vision.metrics.scene_counts import SceneReport
from naruto_vision.modules.scene_retriever import SceneRetriever
from naruto_vision.scenes.overlay import draw_overlay, label_colours
from naruto_vision.scenes.picks import choose_for_overlay


def results_document(searched: SceneReport, shown: SceneReport) -> dict[str, Any]:
    """Return what ``results.json`` holds.

    Args:
        searched: Every region under its best label, unfiltered.
        shown: The regions that people are shown, under the names they are shown.

    Returns:
        The rates of ``searched`` at the top level with ``per_class``, and those of ``shown`` under that key.
    """
    return {**searched.as_json(), "shown": shown.as_json()}


class SceneReportCallback(Callback):
    """Print and write how well the scenes were named.

    Args:
        out: The folder for ``results.json``.
        table: Print the table.
        examples: How many scenes are shown in TensorBoard, named.
    """

    def __init__(self, out: str = "runs/scenes", table: bool = True, examples: int = 12) -> None:
        self.out = Path(out)
        self.table = table
        self.examples = examples
        self._shown = 0

    @override
    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Show the first scenes in TensorBoard.

        Args:
            trainer: Its logger is used if it writes to TensorBoard.
            pl_module: Has to be a ``SceneRetriever``; any other module is passed over.
            outputs: Every scene of the batch with its prediction.
            batch: Unused.
            batch_idx: Place in the epoch.
            dataloader_idx: Unused.
        """
        self._shown = 0 if batch_idx == 0 else self._shown
        if self._shown >= self.examples or not isinstance(pl_module, SceneRetriever):
            return
        if not isinstance(trainer.logger, TensorBoardLogger):
            return
        colours = label_colours(pl_module.analyzer.gallery.labels)
        for item, prediction in outputs["answers"][: self.examples - self._shown]:
            self._shown += 1
            if item.picture is not None:
                shown = choose_for_overlay(prediction, pl_module.overlay)
                drawn = draw_overlay(item.picture, prediction, shown, colours)
                trainer.logger.experiment.add_image(f"scenes/{item.scene}", drawn, dataformats="HWC")

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the report of the test that just ended.

        Args:
            trainer: Knows which process writes.
            pl_module: Has to be a ``SceneRetriever``; any other module is passed over.
        """
        if not isinstance(pl_module, SceneRetriever) or not trainer.is_global_zero:
            return
        searched, shown = pl_module.reports["test"], pl_module.reports["test_shown"]
        write_json(self.out / "results.json", results_document(searched, shown))
        if self.table:
            Console().print(report_table(searched, title="Scenes: every region under its best label"))
            Console().print(report_table(shown, title="Scenes: what people are shown (NMS, threshold, unknown)"))
