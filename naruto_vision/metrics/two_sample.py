"""A two-sample test whose units are scenes: whether the vectors of two groups of scenes have one distribution."""

import numpy as np

from naruto_vision.records import Vectors

_PERMUTATIONS = 2000  # the smallest p-value is 1/2001, which nine adjusted tests still find at 0.01


def mmd_test(first: list[Vectors], second: list[Vectors]) -> tuple[float, float]:
    """Test by the maximum mean discrepancy, permuting whole scenes, as the vectors of one are not independent.

    The kernel of two vectors is Gaussian with the median distance as its width (Gretton et al., JMLR 2012), that of two
    scenes its mean over their pairs of vectors.

    Args:
        first: The vectors of each scene: shape (R, D), float32, R of 1 or more; two scenes or more.
        second: Those of the other group.

    Returns:
        The unbiased estimate of the squared discrepancy, which may be below 0, and the p-value in (0, 1].
    """
    size, count, rows = len(first), len(first) + len(second), np.concatenate([*first, *second])
    numbers = np.array([len(each) for each in (*first, *second)])
    lengths = np.einsum("nd,nd->n", rows, rows)
    squared = np.maximum(lengths[:, None] + lengths - 2 * rows @ rows.T, 0)
    width = float(np.median(squared)) or 1.0  # 0 if most vectors are equal
    starts = numbers.cumsum() - numbers
    sums = np.add.reduceat(np.add.reduceat(np.exp(-squared / width), starts, axis=0), starts, axis=1)
    kernel = sums / np.outer(numbers, numbers)
    np.fill_diagonal(kernel, 0.0)
    ranks = np.random.default_rng(0).random((_PERMUTATIONS, count)).argsort(axis=1)
    chosen = np.concatenate([np.arange(count)[None], ranks]) < size  # (P + 1, S), the true groups first
    within = chosen @ kernel
    inside = np.where(chosen, within, 0).sum(axis=1)
    across = within.sum(axis=1) - inside
    outside, rest = kernel.sum() - inside - 2 * across, count - size
    found = inside / (size * (size - 1)) + outside / (rest * (rest - 1)) - 2 * across / (size * rest)
    return float(found[0]), float(np.mean(found >= found[0] - 1e-9))  # the true groups count as a permutation
