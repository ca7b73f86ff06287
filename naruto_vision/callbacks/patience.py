"""Stops a tuning run that no longer gets better."""

import logging

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn

from naruto_vision.errors import InputError
from naruto_vision.modules.clip_tuner import ResumableModule

_LOG = logging.getLogger(__name__)


class Patience(Callback):
    """Stop after so many validations in a row that were no better than the best one.

    Better is what the module calls better: a higher figure or, where it is equal, a smaller loss. Lightning's own
    early stopping looks at one number, and would give up on a run whose accuracy stands still while its loss falls.
    The count is the module's, so an interrupted run goes on with it.

    Args:
        patience: How many validations, 1 or more.

    Raises:
        InputError: If it is below 1.
    """

    def __init__(self, patience: int = 5) -> None:
        if patience < 1:
            msg = f"Patience: expected at least 1 validation, found {patience}"
            raise InputError(msg)
        self.patience = patience

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop if it has been too long.

        Args:
            trainer: Is told to stop.
            pl_module: Keeps the best pass; a module that keeps none is passed over.
        """
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        if isinstance(pl_module, ResumableModule) and pl_module.best.passes_since >= self.patience:
            trainer.should_stop = True
            _LOG.info(
                "stopped after epoch %d: %d validations in a row were no better than that of epoch %d",
                trainer.current_epoch + 1,
                pl_module.best.passes_since,
                pl_module.best.epoch + 1,
            )
