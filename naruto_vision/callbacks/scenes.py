"""Write the files of each predicted scene, and the report of a test run."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import BasePredictionWriter, Callback
from lightning.pytorch.loggers import TensorBoardLogger
from rich.console import Console
from typing_extensions import override

from naruto_vision.data.gallery_data import GalleryDataModule
from naruto_vision.data.scenes import SceneItem
from naruto_vision.errors import InputError
from naruto_vision.io.atomic import write_json
from naruto_vision.metrics.report import report_table
from naruto_vision.modules.gathering import gather_lists
from naruto_vision.modules.scene_retriever import SceneRetriever
from naruto_vision.modules.trial import withheld
from naruto_vision.recognition.writer import (
    LOG,
    BackgroundWriter,
    SceneWriter,
    WriterConfig,
    forget_changed,
    software_versions,
)
from naruto_vision.records import ScenePrediction
from naruto_vision.viz.overlay import choose_for_overlay, draw_overlay, label_colours

_LOG = logging.getLogger(__name__)
_EXAMPLES = 12  # scenes in TensorBoard


class SceneWriterCallback(BasePredictionWriter):
    """Write the files of every predicted scene; a second run resumes where the first one stopped.

    Args:
        out: Output folder.
        settings: What is written for each scene.
        fail_fast: Stop at the first unreadable image instead of counting it.
    """

    stage = "predict"

    def __init__(self, out: str = "runs/scenes", settings: WriterConfig | None = None, fail_fast: bool = False) -> None:
        super().__init__(write_interval="batch")
        self.out = Path(out)
        self.settings = settings or WriterConfig()
        self.fail_fast = fail_fast
        self.run: dict[str, Any] = {}
        self._writer: SceneWriter | None = None
        self._behind: BackgroundWriter | None = None
        self._bad: list[tuple[str, str]] = []
        self._index = ""
        self._scenes: Sequence[str] = ()

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Open the folder before scenes are loaded, so that finished scenes are skipped."""
        if stage != "predict":
            return
        if getattr(trainer, "fast_dev_run", False):
            _LOG.info("nothing is written: %s", withheld(trainer, self.out))
            return
        data = getattr(trainer, "datamodule", None)
        if not isinstance(pl_module, SceneRetriever) or not isinstance(data, GalleryDataModule):
            msg = "SceneWriterCallback: expected SceneRetriever and GalleryDataModule; use configs/scenes.yaml"
            raise InputError(msg)
        dataset = data.dataset("predict")
        self._bad = []
        gallery = pl_module.analyzer.gallery
        self._index = gallery.index_kind
        if trainer.is_global_zero and (changed := forget_changed(self.out, dataset.images, LOG)):
            _LOG.info("%d scenes have changed since they were searched and are searched again", len(changed))
        trainer.strategy.barrier("changed scenes")
        self._writer = SceneWriter(
            self.out,
            dataset.scenes,
            gallery.labels,
            {"scenes": str(dataset.images.resolve()), **pl_module.run_identity(), "precision": trainer.precision},
            crop=pl_module.crop,
            overlay=pl_module.overlay,
            settings=self.settings,
            rank=trainer.global_rank,
            world=trainer.world_size,
        )
        self._behind = BackgroundWriter(self._writer, dataset.images)
        trainer.strategy.barrier("scene folder")  # all processes wait until leftovers are removed
        dataset.skip(self._writer.done)
        self._scenes = dataset.scenes
        if trainer.is_global_zero and (absent := len(self._writer.absent)):
            text = "%d scenes in %s are no longer in %s: their results are kept, and not counted"
            _LOG.info(text, absent, self.out, dataset.images)
        if trainer.is_global_zero and (done := self._count_done()):
            again = "use another --out to search them again" if done == len(self._scenes) else "the others are searched"
            _LOG.info("%d of %d scenes were already done (in %s); %s", done, len(self._scenes), self.out, again)

    @override
    def write_on_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        prediction: Sequence[tuple[SceneItem, ScenePrediction]],
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Write the scenes of one batch in the background, while the next one is searched."""
        self._write(prediction)

    def _write(self, found: Sequence[tuple[SceneItem, ScenePrediction]]) -> None:
        if self._writer is None or self._behind is None:
            return
        for item, prediction in found:
            if item.image is None and self.fail_fast:
                msg = f"{item.error}; stopped at the first bad image, because of fail_fast"
                raise InputError(msg)
            if item.image is None:
                self._bad.append((item.scene, item.error))
            elif item.scene not in self._writer.done:
                self._behind.write(item.image, prediction)

    @override
    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Gather from all processes and write ``run.json``."""
        if self._writer is None:
            return
        self._finish_writing()
        bad = gather_lists(trainer, self._bad)
        if trainer.is_global_zero:
            facts = {"versions": software_versions(), "index": self._index}
            self.run = self._writer.finish(bad, facts)
            _LOG.info("%s: %s", self.out, _summary(self.run["counts"]))
        trainer.strategy.barrier("scene files")

    @override
    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Write the scenes that are already searched, so that the next run resumes after them."""
        try:
            if isinstance(pl_module, SceneRetriever):
                self._write([found for found in pl_module.answered if found[0].image is not None])
            self._finish_writing()
        except OSError as error:  # the run already stops, most likely for this reason
            _LOG.warning("a scene could not be written: %s", error)
        stopped = not isinstance(exception, Exception)  # Ctrl-C or a signal, not an error
        if stopped and trainer.is_global_zero and self._writer is not None:
            message = "stopped with %d of %d scenes done (in %s); the same command again continues from there"
            _LOG.info(message, self._count_done(), len(self._scenes), self.out)

    def _count_done(self) -> int:
        return 0 if self._writer is None else len(self._writer.done.intersection(self._scenes))

    def _finish_writing(self) -> None:
        behind, self._behind = self._behind, None
        if behind is not None:
            behind.close()
        if self._writer is not None:
            self._writer.close()


def _summary(counts: Mapping[str, int]) -> str:
    return (
        f"{counts['ok']} of {counts['seen']} scenes searched, {counts['quarantined']} could not be read; "
        f"{counts['known']} of {counts['regions']} regions are known"
    )


class SceneReportCallback(Callback):
    """Print scene accuracy, write ``results.json``, and show the first scenes in TensorBoard.

    ``results.json`` scores all regions under their best label and, in ``shown``, the regions of the overlay.

    Args:
        out: The folder for ``results.json``.
    """

    stage = "test"

    def __init__(self, out: str = "runs/scenes") -> None:
        self.out = Path(out)
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
        """Show the first scenes in TensorBoard."""
        self._shown = 0 if batch_idx == 0 else self._shown
        if self._shown >= _EXAMPLES or not isinstance(pl_module, SceneRetriever):
            return
        if not isinstance(trainer.logger, TensorBoardLogger):
            return
        colours = label_colours(pl_module.analyzer.gallery.labels)
        for item, prediction in outputs["predictions"][: _EXAMPLES - self._shown]:
            self._shown += 1
            if item.image is not None:
                shown = choose_for_overlay(prediction, pl_module.overlay)
                overlay = draw_overlay(item.image, prediction, shown, colours)
                trainer.logger.experiment.add_image(f"scenes/{item.scene}", overlay, dataformats="HWC")

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the report of the test that just ended."""
        if not isinstance(pl_module, SceneRetriever) or not trainer.is_global_zero:
            return
        searched, shown = pl_module.reports["test"], pl_module.reports["test_shown"]
        if reason := withheld(trainer, self.out / "results.json"):
            _LOG.info("nothing was written: %s", reason)
        else:
            write_json(self.out / "results.json", {**searched.as_json(), "shown": shown.as_json()})
        Console().print(report_table(searched, title="Scenes: every region under its best label"))
        Console().print(report_table(shown, title="Scenes: what people are shown (NMS, threshold, unknown)"))
