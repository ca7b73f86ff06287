"""What a tuning run shows in TensorBoard beside its curves: the confusion matrix and pictures as training sees them."""

from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.trainer.states import TrainerFn
from matplotlib.figure import Figure
from torch import Tensor
from torchvision.utils import make_grid
from typing_extensions import override

from naruto_vision.files.fonts import letter
from naruto_vision.modules.contrastive_tuner import ContrastiveTuner

_WIDEST = 16.0  # inches; more classes get smaller names in place of a larger figure, which would take seconds an epoch
_MOST_NUMBERS = 40  # classes; of more the colours tell, and a number a cell could not be read
_INK = 0.6  # above this share of a row a cell is dark, and its number is written in white


def confusion_figure(confusion: Tensor, classes: tuple[str, ...]) -> Figure:
    """Draw a confusion matrix, each cell coloured by its share of the row and, up to 40 classes, with its count.

    Args:
        confusion: Shape (C, C), int64; rows are true classes, columns the answers.
        classes: C names.

    Returns:
        A figure that belongs to no window.
    """
    side = min(max(3.0, 0.55 * len(classes) + 1.5), _WIDEST)
    points_a_row = 72 * 0.7 * side / max(1, len(classes))  # 0.7: what titles and the names themselves leave
    letters = min(10.0, points_a_row)  # so that names of neighbouring rows do not touch
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
    axes.set_xlabel("answer")
    axes.set_ylabel("truth")
    for row, column in confusion.nonzero().tolist() if len(classes) <= _MOST_NUMBERS else ():
        colour = "white" if float(shares[row, column]) > _INK else "black"
        axes.text(column, row, str(int(confusion[row, column])), ha="center", va="center", color=colour)
    return figure


def example_grid(pixels: Tensor, count: int) -> Tensor:
    """Lay prepared pictures side by side, each stretched to the full range.

    Args:
        pixels: Shape (B, 3, S, S), float32, normalised.
        count: At most this many.

    Returns:
        Shape (3, H, W), float32, in [0, 1].
    """
    grid: Tensor = make_grid(pixels[:count].detach().cpu().float(), nrow=8, normalize=True, scale_each=True)
    return grid


class TuningFigures(Callback):
    """Write the confusion matrix after each validation that was better than before, and pictures of the first batch.

    Args:
        examples: How many pictures are shown.
    """

    def __init__(self, examples: int = 32) -> None:
        self.examples = examples

    @override
    def on_train_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Show what training sees, at the first step of a run.

        Args:
            trainer: Its logger is used if it writes to TensorBoard.
            pl_module: Not looked at.
            batch: Its pixels are shown: shape (B, 3, S, S), float32.
            batch_idx: Not looked at.
        """
        pixels = getattr(batch, "pixels", None)
        if trainer.global_step == 0 and isinstance(trainer.logger, TensorBoardLogger) and torch.is_tensor(pixels):
            trainer.logger.experiment.add_image("train/pictures", example_grid(pixels, self.examples), 0)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show what was taken for what; in a fit only for weights that are kept, as drawing takes as long as a step.

        Args:
            trainer: Its logger is used if it writes to TensorBoard.
            pl_module: Has to be a ``ContrastiveTuner``; any other module is passed over.
        """
        fitting = trainer.state.fn == TrainerFn.FITTING
        if not (fitting and isinstance(pl_module, ContrastiveTuner) and pl_module.best.passes_since):
            self._show(trainer, pl_module, "valid")

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show what was taken for what.

        Args:
            trainer: Its logger is used if it writes to TensorBoard.
            pl_module: Has to be a ``ContrastiveTuner``; any other module is passed over.
        """
        self._show(trainer, pl_module, "test")

    def _show(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str) -> None:
        if not isinstance(module, ContrastiveTuner) or module.confusion is None or trainer.sanity_checking:
            return
        if isinstance(trainer.logger, TensorBoardLogger):
            figure = confusion_figure(module.confusion, module.classes)
            trainer.logger.experiment.add_figure(f"{stage}/confusion", figure, trainer.global_step)
