"""``torch.compile`` for parts of a model: once a process, and for few sizes."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

BACKEND = "inductor"
"""Of ``torch.compile``: without CUDA graphs, whose outputs the next call overwrites."""


@cache
def compile_once(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function upon its first call with inputs of some sizes, and again for each further size.

    Args:
        function: A function of tensors and modules without a step on the host that depends on a tensor's values.

    Returns:
        The same function, compiled; asked for twice, the same object.
    """
    return torch.compile(function, backend=BACKEND, dynamic=False)


def few_sizes(count: int, most: int) -> int:
    """Choose a batch size for code that is compiled for each size: a power of two, or the most that may be.

    Args:
        count: How many rows there are, 1 or more.
        most: How many may go at once, 1 or more.

    Returns:
        A size that fills no more batches than ``most`` would, from 1 to ``most``.

    Example:
        >>> few_sizes(1024, 256), few_sizes(300, 256), few_sizes(25, 256), few_sizes(9, 6)
        (256, 256, 32, 6)
    """
    batches = -(-count // most)
    each = -(-count // batches)
    return min(most, 1 << (each - 1).bit_length())


def filled(rows: Tensor, count: int) -> Tensor:
    """Repeat the first of some rows until there are enough for code that was compiled for one size.

    Args:
        rows: Shape (N, ...), N from 1 to ``count``.
        count: How many are wanted.

    Returns:
        Shape (count, ...); ``rows`` itself where nothing is missing.
    """
    missing = count - len(rows)
    return torch.cat([rows, rows[:1].expand(missing, *rows.shape[1:])]) if missing else rows
