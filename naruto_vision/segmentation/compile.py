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
    """Compile a function upon its first call with inputs of some sizes, and again for each further size."""
    return torch.compile(function, backend=BACKEND, dynamic=False)


def few_sizes(count: int, most: int) -> int:
    """Choose a batch size for code compiled for each size: a power of two that fills no more batches than ``most``.

    Example:
        >>> few_sizes(1024, 256), few_sizes(300, 256), few_sizes(25, 256), few_sizes(9, 6)
        (256, 256, 32, 6)
    """
    batches = -(-count // most)
    each = -(-count // batches)
    return min(most, 1 << (each - 1).bit_length())


def filled(rows: Tensor, count: int) -> Tensor:
    """Repeat the first of some rows (N, ...) until there are ``count``."""
    missing = count - len(rows)
    return torch.cat([rows, rows[:1].expand(missing, *rows.shape[1:])]) if missing else rows
