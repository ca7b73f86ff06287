"""How often 95 % intervals hold the true rate, on simulated scenes whose objects are more or less alike."""

import numpy as np
import pytest
from numpy.typing import NDArray

from naruto_vision.metrics.stats import bootstrap_ratios, wilson_interval

RUNS = 1500


def simulated(scenes: int, rate: float, alike: float, seed: int) -> NDArray[np.float64]:
    """Draw runs of scenes with one to three objects: (S, 2, RUNS), right objects and all of them.

    ``alike`` is the correlation of two objects of a scene: its rate is drawn from a beta distribution.
    """
    random = np.random.default_rng(seed)
    objects = random.integers(1, 4, (scenes, RUNS))
    spread = (1 - alike) / alike if alike else 0.0
    rates = random.beta(rate * spread, (1 - rate) * spread, objects.shape) if alike else np.full(objects.shape, rate)
    return np.stack([random.binomial(objects, rates), objects], axis=1).astype(np.float64)


def covered(table: NDArray[np.float64], rate: float) -> float:
    intervals = bootstrap_ratios(table, 1000, seed=0)
    return float(np.mean([one is not None and one.low <= rate <= one.high for one in intervals]))


@pytest.mark.slow
@pytest.mark.parametrize("alike", [0.0, 0.1, 0.3])
@pytest.mark.parametrize(
    ("scenes", "rate"), [(20, 0.6), (31, 0.7), (31, 0.8), (40, 0.6), (40, 0.8), (40, 0.9), (80, 0.95)]
)
def test_the_bootstrap_over_scenes_covers_the_true_rate(scenes: int, rate: float, alike: float) -> None:
    assert 0.93 <= covered(simulated(scenes, rate, alike, seed=scenes), rate) <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("alike", [0.0, 0.3])
def test_with_hardly_a_miss_it_covers_more_and_never_less(alike: float) -> None:
    assert covered(simulated(20, 0.95, alike, seed=1), 0.95) >= 0.94


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.6, 0.8, 0.9])
def test_wilson_covers_where_a_scene_has_one_object(rate: float) -> None:
    held = [low <= rate <= high for low, high in (wilson_interval(count, 73) for count in range(74))]
    right = np.random.default_rng(2).binomial(73, rate, 4 * RUNS)
    assert 0.93 <= np.array(held)[right].mean() <= 0.97


@pytest.mark.slow
def test_wilson_covers_too_little_where_the_objects_of_a_scene_are_alike() -> None:
    table = simulated(40, 0.8, 0.3, seed=3)
    right, objects = table[..., :300].sum(axis=0).astype(int).tolist()
    held = [low <= 0.8 <= high for low, high in map(wilson_interval, right, objects)]
    assert np.mean(held) < 0.93 <= covered(table, 0.8)


@pytest.mark.slow
def test_the_interval_of_a_difference_covers_it() -> None:
    first, second = simulated(40, 0.8, 0.2, seed=4), simulated(40, 0.7, 0.2, seed=4)
    objects = np.maximum(first[:, 1], second[:, 1])
    apart = np.stack([first[:, 0] - second[:, 0], objects], axis=1)
    intervals = bootstrap_ratios(apart, 1000, seed=0, proportions=False)
    held = [one is not None and one.low <= 0.1 <= one.high for one in intervals]
    assert 0.93 <= np.mean(held) <= 0.97
