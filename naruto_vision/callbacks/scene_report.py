"""The callback behind ``test``: one table for people, ``results.json`` for programs, and pictures for TensorBoard."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from rich.console import Console

from naruto_vision.files.atomic import write_json
from naruto_vision.metrics.report import report_table
from naruto_vision.metrics.scene_counts import SceneReport
from naruto_vision.modules.scene_retriever import SceneRetriever


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
    """

    def __init__(self, out: str = "runs/scenes", table: bool = True) -> None:
        self.out = Path(out)
        self.table = table

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
