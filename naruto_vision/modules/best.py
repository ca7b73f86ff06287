"""Which pass of a tuning run was the best one, and how a run that was interrupted goes on from there."""

from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl

from naruto_vision.modules.randomness import random_state, restore_random_state
from naruto_vision.modules.tuning_figures import PassFigures


class Best:
    """The best pass so far, and how many passes ago it was.

    Attributes:
        figures: Its figures; their score is below 0 before the first pass.
        epoch: Its epoch, counted from 0; -1 before the first pass.
        passes_since: Passes after it.
        count: How many passes were better than all before them.
    """

    def __init__(self) -> None:
        self.figures = PassFigures((-1.0, 0.0), {})
        self.epoch = -1
        self.passes_since = 0
        self.count = 0

    def offer(self, figures: PassFigures, epoch: int) -> bool:
        """Take a pass if it is better than all before; return whether it is.

        Args:
            figures: The pass's figures.
            epoch: Its epoch, counted from 0.
        """
        self.passes_since += 1
        if not figures.score > self.figures.score:  # so that a loss of NaN is never better
            return False
        self.figures, self.epoch, self.passes_since = figures, epoch, 0
        self.count += 1
        return True

    def state_dict(self) -> dict[str, Any]:
        """Return everything, as values that need no trust to load."""
        figures = {**vars(self.figures), "score": list(self.figures.score)}
        return {"figures": figures, "epoch": self.epoch, "passes_since": self.passes_since, "count": self.count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up where another run stood.

        Args:
            state: From ``state_dict``.
        """
        figures = dict(state["figures"])
        score = (float(figures["score"][0]), float(figures["score"][1]))
        self.figures = PassFigures(score, dict(figures["named"]), figures["confusion"])
        self.epoch, self.passes_since = int(state["epoch"]), int(state["passes_since"])
        self.count = int(state["count"])


class ResumableModule(pl.LightningModule):
    """A module whose checkpoints also hold the best pass and the random states, which Lightning leaves out.

    Attributes:
        best: The best pass so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.best = Best()
        self._random: dict[str, Any] = {}

    def on_train_start(self) -> None:
        """Put the global random states back where the interrupted run had them."""
        if self._random:
            restore_random_state(self._random)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the best pass and the random states.

        Args:
            checkpoint: What Lightning is about to write.
        """
        checkpoint["best"] = self.best.state_dict()
        checkpoint["random_state"] = random_state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the best pass and the random states.

        Args:
            checkpoint: What Lightning has read.
        """
        self.best.load_state_dict(checkpoint["best"])
        self._random = checkpoint["random_state"]
