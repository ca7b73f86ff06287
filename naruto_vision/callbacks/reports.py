"""Reports of a tuning run: tables, plots and metrics in one folder."""

import logging
import math
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn
from matplotlib.figure import Figure
from torch import Tensor
from typing_extensions import override

from naruto_vision.io.atomic import write_json, write_text
from naruto_vision.io.text import csv_text
from naruto_vision.modules.clip_tuner import ContrastiveTuner
from naruto_vision.modules.tuning import ExportBundle
from naruto_vision.viz.figures import Line, line_figure, save_figure
from naruto_vision.viz.fonts import letter

_LOG = logging.getLogger(__name__)
_SHARES = ("accuracy", "macro_accuracy", "macro_f1", "nearest_accuracy", "zero_shot", "recall_at_1")
_WIDEST = 16.0  # inches; beyond it names get smaller, as a larger plot takes seconds an epoch
_MOST_NUMBERS = 40  # classes; with more, numbers in the cells are illegible
_DARK = 0.6  # cells above this fraction of their row have white numbers


def confusion_csv(confusion: Tensor, classes: tuple[str, ...]) -> str:
    """Format a confusion matrix (C, C), rows are true classes, with names on both sides."""
    rows = [["truth", *classes], *([name, *row] for name, row in zip(classes, confusion.tolist(), strict=True))]
    return csv_text(rows)


def per_class_csv(confusion: Tensor, classes: tuple[str, ...]) -> str:
    """Format ``class,correct,total,accuracy``; a class without images has no accuracy."""
    rows: list[list[Any]] = [["class", "correct", "total", "accuracy"]]
    for index, name in enumerate(classes):
        right, total = int(confusion[index, index]), int(confusion[index].sum())
        rows.append([name, right, total, f"{right / total:.4f}" if total else ""])
    return csv_text(rows)


def confusion_figure(confusion: Tensor, classes: tuple[str, ...]) -> Figure:
    """Plot a confusion matrix (C, C): cells are coloured by fraction of the row and, up to 40 classes, show counts."""
    side = min(max(3.0, 0.55 * len(classes) + 1.5), _WIDEST)
    # Names of neighbouring rows must not touch; titles and names leave 0.7 of the side for the cells.
    letters = min(10.0, 72 * 0.7 * side / max(1, len(classes)))
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    shares = confusion.double() / confusion.sum(dim=1, keepdim=True).clamp(min=1)
    axes.imshow(shares.numpy(), cmap="Blues", vmin=0.0, vmax=1.0)
    names = [letter(name) for name in classes]
    axes.set_xticks(range(len(classes)), labels=[name.text for name in names], rotation=45, ha="right")
    axes.set_yticks(range(len(classes)), labels=[name.text for name in names])
    for axis in (axes.xaxis, axes.yaxis):
        for label, name in zip(axis.get_ticklabels(), names, strict=True):
            label.set_fontproperties(name.file)
            label.set_fontsize(letters)
    axes.set_xlabel("prediction")
    axes.set_ylabel("truth")
    for row, column in confusion.nonzero().tolist() if len(classes) <= _MOST_NUMBERS else ():
        colour = "white" if float(shares[row, column]) > _DARK else "black"
        axes.text(column, row, str(int(confusion[row, column])), ha="center", va="center", color=colour)
    return figure


class TuningFiles(Callback):
    """Write ``metrics.json``, ``classes.json``, the confusion matrix, the accuracy of each class, and three plots.

    All describe the weights in the bundle: the confusion matrix is that of the best validation, not of the last, or of
    the weights that ``ChooseWeights`` kept instead. They are written when the run ends or is stopped; a resumed run
    continues its history.

    Args:
        out: Output folder.

    Attributes:
        epochs: Epoch, step and metrics of each validation.
        rates: Learning rate of the first group in each optimiser step.
    """

    def __init__(self, out: str = "runs/clip") -> None:
        self.out = Path(out)
        self.epochs: list[dict[str, float]] = []
        self.rates: list[float] = []
        self._losses: list[Tensor] = []
        self._validated = False  # in this process; a resumed run has the epochs of an earlier one

    @override
    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Record the learning rate of the next step."""
        if trainer.global_step == len(self.rates) and trainer.optimizers:
            self.rates.append(float(trainer.optimizers[0].param_groups[0]["lr"]))

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Record the loss, which Lightning divides by the number of batches a step."""
        if isinstance(outputs, dict) and "loss" in outputs:
            self._losses.append(outputs["loss"].detach() * trainer.accumulate_grad_batches)

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the metrics of this validation."""
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        self._validated = True
        row = {"epoch": float(trainer.current_epoch + 1), "step": float(trainer.global_step)}
        if self._losses:
            row["train_loss"] = float(sum(float(loss) for loss in self._losses)) / len(self._losses)
        self._losses = []
        for name, value in trainer.callback_metrics.items():
            if name.startswith("valid/") and math.isfinite(float(value)):
                row[name.removeprefix("valid/")] = float(value)
        self.epochs.append(row)

    @override
    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Write everything at the end of a fit, after the weights were chosen, unless the run is a trial."""
        if stage == "fit":
            self._finish(trainer, pl_module)

    def _finish(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if isinstance(pl_module, ContrastiveTuner) and trainer.is_global_zero and not pl_module.export.withheld:
            self._write(pl_module)
            kept = _describe(pl_module.export)
            stop = trainer.early_stopping_callback
            if stop is not None and stop.stopped_epoch:
                message = "stopped after epoch %d: %d validations in a row were no better than that of epoch %d"
                _LOG.info(message, stop.stopped_epoch + 1, stop.wait_count, pl_module.export.epoch + 1)
            _LOG.info("%s: %s; tables and curves are in %s", pl_module.bundle_dir, kept, self.out)

    @override
    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Write the files of a run that is stopped after its first validation, and log how to resume it."""
        if self._validated:
            self._finish(trainer, pl_module)
        last = getattr(trainer.checkpoint_callback, "last_model_path", "")
        stopped = not isinstance(exception, Exception)  # Ctrl-C or a signal, not an error
        if stopped and last and trainer.is_global_zero:
            _LOG.info("stopped; the same `fit` with --ckpt_path last continues from %s", last)

    @override
    def state_dict(self) -> dict[str, Any]:
        """Return the history."""
        return {"epochs": self.epochs, "rates": self.rates, "losses": [float(loss) for loss in self._losses]}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the history."""
        self.epochs, self.rates = list(state_dict["epochs"]), list(state_dict["rates"])
        self._losses = [torch.tensor(loss) for loss in state_dict["losses"]]

    def _write(self, module: ContrastiveTuner) -> None:
        best, epoch, classes, kept = module.export.best, module.export.epoch, module.classes, module.export.kept
        document: dict[str, Any] = {"best": {"epoch": epoch + 1, **best.named} if epoch >= 0 else None}
        if kept != 1.0:
            best = module.export.figures
            document["kept"] = {"alpha": kept, **best.named}
        write_json(self.out / "metrics.json", {**document, "bundle": module.bundle_dir, "epochs": self.epochs})
        if classes:
            write_json(self.out / "classes.json", list(classes))
        if best.confusion is not None:
            write_text(self.out / "confusion_matrix.csv", confusion_csv(best.confusion, classes))
            write_text(self.out / "per_class_accuracy.csv", per_class_csv(best.confusion, classes))
            save_figure(confusion_figure(best.confusion, classes), self.out / "confusion_matrix.png")
        mark = epoch + 1 if epoch >= 0 else None
        losses = {"training": self._line("train_loss"), "validation": self._line("loss")}
        shares = {name.replace("_", " "): self._line(name) for name in _SHARES}
        steps = {"rate": [(float(step + 1), rate) for step, rate in enumerate(self.rates)]}
        save_figure(line_figure(losses, "epoch", "loss", mark=mark, note="kept"), self.out / "curves_loss.png")
        save_figure(line_figure(shares, "epoch", "accuracy", mark=mark, note="kept"), self.out / "curves_acc.png")
        save_figure(line_figure(steps, "optimiser step", "learning rate"), self.out / "lr_schedule.png")

    def _line(self, name: str) -> Line:
        return [(row["epoch"], row[name]) for row in self.epochs if name in row]


def _describe(export: ExportBundle) -> str:
    """Describe which weights the bundle holds and how they were chosen."""
    if export.epoch < 0:
        return "the weights of the last step, because no validation chose any"
    kept, confusion = f"the weights of epoch {export.epoch + 1}", export.best.confusion
    if export.kept != 1.0:
        mixture = f"{export.kept:g} of {kept} and {1 - export.kept:g} of the untuned ones"
        kept = mixture if export.kept else "the untuned weights"
        confusion = export.figures.confusion
    if confusion is None:
        return f"{kept}, the best by validation"
    return (
        f"{kept}, by whose class texts {int(confusion.trace())} of {int(confusion.sum())} validation images are right"
    )
