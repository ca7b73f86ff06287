"""Learning-rate schedules that are pure functions of the step."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def warm_up_cosine(optimizer: Optimizer, steps: int, warm_up: float, floor: float) -> LambdaLR:
    """Rise linearly to the optimiser's own rate, then fall along half a cosine.

    Args:
        optimizer: Its rates are the peaks.
        steps: Optimiser steps of the whole run.
        warm_up: Share of the steps in which the rate rises, in [0, 1).
        floor: Where the rate ends, as a share of its peak, in [0, 1].
    """
    rising = max(1, round(steps * warm_up))

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        done = min(1.0, (step - rising) / max(1, steps - rising))
        return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * done))

    return LambdaLR(optimizer, factor)
