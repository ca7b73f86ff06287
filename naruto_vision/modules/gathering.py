"""Bring what several processes hold together, whatever its length in each of them."""

from typing import TypeVar

import lightning.pytorch as pl
import torch
import torch.distributed as dist
from torch import Tensor

Item = TypeVar("Item")


def gather_lists(trainer: pl.Trainer, own: list[Item]) -> list[Item]:
    """Return the lists of all processes one after the other, in the order of their ranks.

    Args:
        trainer: Knows how many processes there are.
        own: This process's list of picklable values; its length may differ from the others'.
    """
    if trainer.world_size == 1:
        return list(own)
    parts: list[list[Item]] = [[] for _ in range(trainer.world_size)]
    dist.all_gather_object(parts, own)
    return [value for part in parts for value in part]


def gather_columns(trainer: pl.Trainer, own: list[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """Bring the batches of all processes together, column by column.

    Args:
        trainer: Knows how many processes there are.
        own: This process's batches, each a tuple of equally many tensors with the batch as their first dimension.

    Returns:
        The tensors, each of shape (N, ...), in the order of the ranks; nothing where no process saw a batch.
    """
    batches = gather_lists(trainer, own)
    return tuple(torch.cat(column) for column in zip(*batches, strict=True))


def take_from_first(value: Tensor) -> Tensor:
    """Return what the first process has, in every process.

    Args:
        value: Any shape, the same in all processes.
    """
    if dist.is_available() and dist.is_initialized():
        dist.broadcast(value, 0)
    return value
