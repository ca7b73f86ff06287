"""Cluster bootstrap over scenes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from naruto_vision.metrics.evaluation import Evaluation

_BLOCK = 256  # replicates at a time: the weights of 10,000 scenes then take 20 MB


@dataclass(frozen=True)
class Interval:
    """A two-sided 95 % percentile interval, and how many replicates gave the figure a value."""

    low: float
    high: float
    replicates: int

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            msg = f"interval: expected low <= high, found {self.low} and {self.high}"
            raise ValueError(msg)


def scene_table(evaluation: Evaluation) -> dict[str, NDArray[np.float64]]:
    """Return for each figure what each scene adds to its numerator and denominator: float64 (S, 2)."""
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
    """Compute the percentile interval of every figure by resampling whole scenes.

    An interval over objects takes them as independent. Those of one scene are not: they share its light, its crowd
    and its failures. Drawing scenes with replacement keeps that.
    """
    table = scene_table(evaluation)
    stacked = np.stack(list(table.values()), axis=2)  # (S, 2, figures)
    sums = _resampled_sums(stacked, replicates, seed)  # (R, 2, figures)
    intervals = {}
    for index, name in enumerate(table):
        above, below = sums[:, 0, index], sums[:, 1, index]
        values = above[below > 0] / below[below > 0]
        if len(values):
            intervals[name] = _interval(values)
    return intervals


def bootstrap_difference(
    first: Evaluation, second: Evaluation, replicates: int = 2000, seed: int = 0
) -> Interval | None:
    """Compute the interval of the second's object accuracy minus the first's; None where no scene has an object."""
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
