"""Learning-rate schedules that are pure functions of the step."""

import math
from dataclasses import dataclass

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from naruto_vision.errors import InputError


@dataclass(frozen=True)
class RateSchedule:
    """A linear rise to the optimiser's own rate, then half a cosine down to a floor.

    Args:
        warm_up: Share of the steps in which the rate rises, in [0, 1).
        warm_up_epochs: The same in epochs; if given, ``warm_up`` is not looked at.
        min_lr_factor: Where the rate ends, as a share of its peak, in [0, 1].

    Raises:
        InputError: If one of them is out of its range.
    """

    warm_up: float = 0.1
    warm_up_epochs: float | None = None
    min_lr_factor: float = 0.01

    def __post_init__(self) -> None:
        if not (0 <= self.warm_up < 1 and 0 <= self.min_lr_factor <= 1 and (self.warm_up_epochs or 0) >= 0):
            msg = f"rate: warm_up in [0, 1), warm_up_epochs >= 0 and min_lr_factor in [0, 1] expected, found {self}"
            raise InputError(msg)

    def build(self, optimizer: Optimizer, steps: int, epochs: int | None) -> LambdaLR:
        """Build the schedule, which is stepped after each optimiser step.

        Args:
            optimizer: Its rates are the peaks.
            steps: Optimiser steps of the whole run.
            epochs: Epochs of the whole run, if it is measured in epochs.

        Raises:
            InputError: If the warm-up is given in epochs and the run is not.
        """
        return warm_up_cosine(optimizer, steps, self.rising(steps, epochs), self.min_lr_factor)

    def rising(self, steps: int, epochs: int | None) -> int:
        """Count the steps in which the rate rises, at least one.

        Args:
            steps: Optimiser steps of the whole run.
            epochs: Epochs of the whole run, if it is measured in epochs.

        Raises:
            InputError: If the warm-up is given in epochs and the run is not.
        """
        if self.warm_up_epochs is None:
            return max(1, round(steps * self.warm_up))
        if not epochs or epochs < 0:
            msg = f"rate.warm_up_epochs={self.warm_up_epochs}: this run has no trainer.max_epochs; give rate.warm_up"
            raise InputError(msg)
        return max(1, round(steps * self.warm_up_epochs / epochs))


def warm_up_cosine(optimizer: Optimizer, steps: int, rising: int, floor: float) -> LambdaLR:
    """Rise linearly to the optimiser's own rate, then fall along half a cosine.

    Args:
        optimizer: Its rates are the peaks.
        steps: Optimiser steps of the whole run.
        rising: Steps in which the rate rises, 1 or more.
        floor: Where the rate ends, as a share of its peak, in [0, 1].
    """

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        done = min(1.0, (step - rising) / max(1, steps - rising))
        return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * done))

    return LambdaLR(optimizer, factor)
