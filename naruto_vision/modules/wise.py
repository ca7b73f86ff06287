"""Weights between the untuned and the tuned ones (WiSE-FT, Wortsman et al. 2022, arXiv 2109.01903)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from naruto_vision.errors import InputError


@dataclass(frozen=True)
class WisePoint:
    """What one mixture of weights reaches.

    Args:
        alpha: Share of the tuned weights, in [0, 1].
        score: What decides on validation: the figure in [0, 1], then, where that is equal, minus the loss.
        named: Name to figure.
        retention: Share of the untuned model's zero-shot accuracy that is left, 0 or above.
    """

    alpha: float
    score: tuple[float, float]
    named: Mapping[str, float]
    retention: float


def interpolate(start: Mapping[str, Tensor], tuned: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """Mix two sets of weights: (1 - alpha) * start + alpha * tuned.

    Args:
        start: Name to tensor, any shape.
        tuned: The same names and shapes.
        alpha: Share of ``tuned``, in [0, 1].

    Returns:
        Name to tensor; what holds no fractions (a mask, a count) as in ``tuned``.

    Raises:
        InputError: If the names differ, or ``alpha`` is outside [0, 1].
    """
    if start.keys() != tuned.keys() or not 0.0 <= alpha <= 1.0:
        differing = sorted(start.keys() ^ tuned.keys())[:3]
        msg = f"weights cannot be mixed: alpha {alpha} (0 to 1 expected), names in one only: {differing or 'none'}"
        raise InputError(msg)
    mixed = {}
    for name, value in tuned.items():
        first = start[name].to(value.device)
        mixed[name] = first.float().lerp(value.float(), alpha) if value.is_floating_point() else value
    return mixed


def choose_point(points: Sequence[WisePoint], least_retention: float) -> WisePoint:
    """Choose the mixture with the best score among those that keep enough; of equals the one nearest the untuned one.

    Args:
        points: One or more mixtures; the untuned weights are expected among them, and always keep everything.
        least_retention: The share of the zero-shot accuracy that has to be left, in [0, 1].

    Raises:
        InputError: If no mixture keeps that much.
    """
    allowed = [point for point in points if point.retention >= least_retention]
    if not allowed:
        msg = f"no mixture keeps {least_retention:.0%} of the zero-shot accuracy; lower least_retention"
        raise InputError(msg)
    return max(allowed, key=lambda point: (*point.score, -point.alpha))
