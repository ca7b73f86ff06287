"""Intervals that know that the objects of one scene stand and fall together."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from naruto_vision.metrics.evaluation import Evaluation

_BLOCK = 256  # replicates at a time: the weights of 10,000 scenes then take 20 MB


@dataclass(frozen=True)
class Interval:
    """A two-sided 95 % interval.

    Args:
        low: Its lower end.
        high: Its upper end.
        replicates: How many resampled sets of scenes gave the figure a value.

    Raises:
        ValueError: If the ends are in the wrong order.
    """

    low: float
    high: float
    replicates: int

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            msg = f"interval: expected low <= high, found {self.low} and {self.high}"
            raise ValueError(msg)


def scene_table(evaluation: Evaluation) -> dict[str, NDArray[np.float64]]:
    """Lay out every figure as a ratio of sums over scenes.

    Args:
        evaluation: The scenes.

    Returns:
        Figure to shape (S, 2), float64: what each scene adds above and below the line.
    """
    counts = [scene.counts for scene in evaluation.scenes]
    columns = {
        "object_accuracy": [(c.right, c.objects) for c in counts],
        "honest_recall": [(c.matched, c.objects) for c in counts],
        "reference_recall": [(c.matched, c.objects_with_predictions) for c in counts],
        "class_given_matched": [(c.right, c.matched) for c in counts],
        "precision": [(c.right, c.predictions) for c in counts],
        "f1": [(2 * c.right, c.objects + c.predictions) for c in counts],
        "panoptic_quality": [(2 * s.right_iou, s.counts.objects + s.counts.predictions) for s in evaluation.scenes],
    }
    return {name: np.array(rows, dtype=np.float64).reshape(-1, 2) for name, rows in columns.items()}


def bootstrap_intervals(evaluation: Evaluation, replicates: int = 2000, seed: int = 0) -> dict[str, Interval]:
    """Draw whole scenes anew and see how much every figure moves.

    An interval over objects takes them as independent. Those of one scene are not: they share its light, its crowd
    and its failures. Drawing scenes with replacement keeps that.

    Args:
        evaluation: The scenes.
        replicates: How many sets of scenes are drawn, at least 1.
        seed: Decides them.

    Returns:
        Figure to its percentile interval; a figure that had a value in no replicate is left out, as is everything
        where there is no scene.

    Raises:
        ValueError: If there is no replicate.
    """
    table = scene_table(evaluation)
    stacked = np.stack(list(table.values()), axis=2)  # (S, 2, figures)
    sums = _resampled_sums(stacked, replicates, seed)  # (R, 2, figures)
    intervals = {}
    for place, name in enumerate(table):
        above, below = sums[:, 0, place], sums[:, 1, place]
        values = above[below > 0] / below[below > 0]
        if len(values):
            intervals[name] = _interval(values)
    return intervals


def bootstrap_difference(
    first: Evaluation, second: Evaluation, replicates: int = 2000, seed: int = 0
) -> Interval | None:
    """Draw scenes anew and see how much the difference in object accuracy of two runs moves.

    Args:
        first: One run.
        second: Another one over the same scenes, in the same order.
        replicates: How many sets of scenes are drawn, at least 1.
        seed: Decides them.

    Returns:
        Of the second's object accuracy minus the first's; None where no set of scenes has an object.

    Raises:
        ValueError: If the scenes differ, or there is no replicate.
    """
    if [scene.scene for scene in first.scenes] != [scene.scene for scene in second.scenes]:
        msg = "bootstrap_difference: expected two runs over the same scenes, found others"
        raise ValueError(msg)
    rows = [
        (late.counts.right - early.counts.right, early.counts.objects)
        for early, late in zip(first.scenes, second.scenes, strict=True)
    ]
    sums = _resampled_sums(np.array(rows, dtype=np.float64).reshape(-1, 2, 1), replicates, seed)
    counted = sums[sums[:, 1, 0] > 0]
    return _interval(counted[:, 0, 0] / counted[:, 1, 0]) if len(counted) else None


def _resampled_sums(table: NDArray[np.float64], replicates: int, seed: int) -> NDArray[np.float64]:
    """Sum a table of scenes (S, 2, F) over sets of S scenes drawn with replacement, into (R, 2, F)."""
    if replicates < 1:
        msg = f"bootstrap: expected at least 1 replicate, found {replicates}"
        raise ValueError(msg)
    scenes, *shape = table.shape
    if scenes == 0:
        return np.zeros((replicates, *shape))
    random = np.random.default_rng(seed)
    even = np.full(scenes, 1.0 / scenes)
    blocks = [
        random.multinomial(scenes, even, size=min(_BLOCK, replicates - start)) @ table.reshape(scenes, -1)
        for start in range(0, replicates, _BLOCK)
    ]
    return np.concatenate(blocks).reshape(-1, *shape)


def _interval(values: NDArray[np.float64]) -> Interval:
    low, high = np.percentile(values, (2.5, 97.5))
    return Interval(float(low), float(high), len(values))
