"""All-gather lists and columns of different lengths."""

from typing import TypeVar

import lightning.pytorch as pl
import torch
import torch.distributed as dist
from torch import Tensor

Item = TypeVar("Item")


def gather_lists(trainer: pl.Trainer, own: list[Item]) -> list[Item]:
    """Concatenate the lists of all processes in the order of their ranks."""
    if trainer.world_size == 1:
        return list(own)
    parts: list[list[Item]] = [[] for _ in range(trainer.world_size)]
    dist.all_gather_object(parts, own)
    return [value for part in parts for value in part]


def gather_columns(trainer: pl.Trainer, own: list[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """Concatenate the batches of all ranks, tuples of tensors (B, ...), by column: (N, ...); () if there is none."""
    batches = gather_lists(trainer, own)
    return tuple(torch.cat(column) for column in zip(*batches, strict=True))


def take_from_first(value: Tensor) -> Tensor:
    """Broadcast a tensor from rank 0 in place; all ranks have the same shape."""
    if dist.is_available() and dist.is_initialized():
        dist.broadcast(value, 0)
    return value
