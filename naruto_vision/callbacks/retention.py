"""Says after each epoch how much of the untuned model's zero-shot skill is left."""

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn
from typing_extensions import override

from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.modules.contrastive_tuner import ContrastiveTuner
from naruto_vision.modules.retention import ZeroShotProbe, drawn_probe, folder_probe, kept_share


class ZeroShotRetention(Callback):
    """Log ``valid/zero_shot`` and ``valid/retention``, its share of what it was before tuning.

    Args:
        root: Class data that are not tuned on, whose valid split is named; None for drawn strangers and their captions.
        count: How many strangers are drawn.
        seed: Decides who they are.

    Attributes:
        start: Zero-shot accuracy before tuning; kept in checkpoints, so that an interrupted run still knows it.
    """

    def __init__(self, root: str | None = None, count: int = 64, seed: int = 0) -> None:
        self.root, self.count, self.seed = root, count, seed
        self.start: float | None = None
        self._probe: ZeroShotProbe | None = None

    def probe(self, encoder: ClipEncoder) -> ZeroShotProbe:
        """Return the pictures and texts, made once.

        Args:
            encoder: Prepares the pictures.
        """
        if self._probe is None:
            drawn = self.root is None
            self._probe = (
                drawn_probe(encoder, self.count, self.seed) if drawn else folder_probe(encoder, str(self.root))
            )
        return self._probe

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure the untuned model.

        Args:
            trainer: Not looked at.
            pl_module: Has to be a ``ContrastiveTuner``; any other module is passed over.
        """
        if isinstance(pl_module, ContrastiveTuner) and self.start is None:
            self.start = self.probe(pl_module.encoder).accuracy(pl_module.encoder)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure the model as it is now.

        Args:
            trainer: Only a fit is measured.
            pl_module: Has to be a ``ContrastiveTuner``; any other module is passed over.
        """
        fitting = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        if fitting and isinstance(pl_module, ContrastiveTuner) and self.start is not None:
            now = self.probe(pl_module.encoder).accuracy(pl_module.encoder)
            pl_module.log_dict({"valid/zero_shot": now, "valid/retention": kept_share(now, self.start)})

    def state_dict(self) -> dict[str, Any]:
        """Return what the untuned model reached."""
        return {"start": self.start}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what the untuned model reached.

        Args:
            state_dict: From ``state_dict``.
        """
        self.start = state_dict["start"]
