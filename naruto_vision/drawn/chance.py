"""Small seeded choices. Only steps that every machine computes alike: no normal deviates, no powers."""

import numpy as np

from naruto_vision.drawn.palette import Rgb


def between(rng: np.random.Generator, low: float, high: float) -> float:
    """Choose a number.

    Args:
        rng: Where it comes from; it moves on.
        low: The least.
        high: The bound, not reached itself.
    """
    return low + (high - low) * float(rng.random())


def any_colour(rng: np.random.Generator, low: int = 60, high: int = 245) -> Rgb:
    """Choose a colour, each channel by itself.

    Args:
        rng: Where it comes from; it moves on.
        low: The least value of a channel.
        high: The bound of a channel, not reached itself.
    """
    red, green, blue = (int(value) for value in rng.integers(low, high, 3))
    return (red, green, blue)
